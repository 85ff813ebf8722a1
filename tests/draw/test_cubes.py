import base64
import json
import re

import numpy as np
import pytest

pytest.importorskip("plotly")

from margipose.draw import cube, write_cubes
from margipose.dsnt import Marginals, marginals_to_covariance, normalized_linspace
from margipose.skeleton import CANONICAL
from tests.browsers import browser, messages  # noqa: F401  (fixture)

J = len(CANONICAL)
ZY_IS = """expected => {
  const plot = document.querySelector(".js-plotly-plot");
  const shown = plot._fullData.find(trace => trace.name == "ZY").surfacecolor;
  return JSON.stringify(Array.from(shown, row => Array.from(row))) == JSON.stringify(expected);
}"""


@pytest.fixture
def person():
    """Image, heatmaps on planes of 8 x 10 x 6 (rows, columns, depths) cells, and coordinates."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 80, 3), np.uint8)
    planes = [rng.random((J, *size)) ** 6 for size in ((8, 10), (8, 6), (6, 10))]
    marginals = Marginals(*(p / p.sum((1, 2), keepdims=True) for p in planes))
    return image, marginals, rng.uniform(-0.8, 0.8, (J, 3))


def traces(figure, kind):
    return [t for t in figure.data if t.type == kind]


def points(trace):
    """x, y, z of the field's axes, of a trace: plotly's vertical axis is its third."""
    return np.stack([np.ravel(v) for v in (trace.x, trace.z, trace.y)], -1)


def test_faces_show_the_heatmaps_where_their_cells_are(person):
    image, marginals, coords = person
    xy, zy, xz = traces(cube(image, marginals, coords, CANONICAL, "left_wrist"), "surface")
    row = CANONICAL.index("left_wrist")
    assert (xy.y == 1).all(), "XY is on the far face"
    assert (zy.x == -1).all(), "ZY is on the left"
    assert (xz.z == 1).all(), "XZ is on the floor, and y points down"
    inner = (slice(1, -1),) * 2
    for face, plane, columns, rows in (
        (xy, marginals.xy, xy.x, xy.z),
        (zy, marginals.zy, zy.y, zy.z),
        (xz, marginals.xz, xz.x, xz.y),
    ):
        shown = face.surfacecolor[inner] / 255
        np.testing.assert_allclose(shown, plane[row] / plane[row].max(), atol=0.5 / 255 + 1e-9)
        h, w = plane.shape[1:]
        np.testing.assert_allclose(columns[inner], np.tile(normalized_linspace(w).numpy(), (h, 1)), atol=1e-6)
        np.testing.assert_allclose(rows[inner].T, np.tile(normalized_linspace(h).numpy(), (w, 1)), atol=1e-6)
        assert columns.min() == rows.min() == -1
        assert columns.max() == rows.max() == 1


def test_the_menu_has_every_joint_and_changes_what_it_should(person):
    image, marginals, coords = person
    figure = cube(image, marginals, coords, CANONICAL)
    buttons = figure.layout.updatemenus[0].buttons
    assert [b.label for b in buttons] == ["all joints", *(j.replace("_", " ") for j in CANONICAL.joints)]
    assert [b.args[0] for b in buttons] == [(f.name,) for f in figure.frames]
    assert figure.layout.updatemenus[0].active == 0
    for frame in figure.frames:
        targets = [figure.data[i] for i in frame.traces]
        assert [t.type for t in targets] == [t.type for t in frame.data]
        assert [t.name for t in targets] == [t.name for t in frame.data]
        rows = [CANONICAL.index(frame.name)] if frame.name in CANONICAL else range(J)
        expected = marginals.zy[list(rows)].max(0)
        shown = frame.data[1].surfacecolor[1:-1, 1:-1]
        np.testing.assert_allclose(shown / 255, expected / expected.max(), atol=0.5 / 255 + 1e-9)
    started = cube(image, marginals, coords, CANONICAL, "neck")
    assert buttons[started.layout.updatemenus[0].active].label == "neck"


def test_ellipsoids_have_the_heatmaps_covariance(person):
    import torch

    image, marginals, coords = person
    figure = cube(image, marginals, coords, CANONICAL, "pelvis")
    mesh = next(t for t in traces(figure, "mesh3d") if t.name == "one standard deviation")
    row = CANONICAL.index("pelvis")
    spread = marginals_to_covariance([torch.from_numpy(p[row]) for p in marginals]).numpy()
    offset = points(mesh) - coords[row]
    values, axes = np.linalg.eigh(spread)
    whitened = offset @ axes / np.sqrt(np.maximum(values, 1e-6))
    np.testing.assert_allclose(np.linalg.norm(whitened, axis=1), 1, atol=1e-5)
    triangles = np.stack((mesh.i, mesh.j, mesh.k), -1)
    assert set(triangles.ravel()) == set(range(len(offset))), "the surface is closed over all points"


def test_lines_lead_from_the_joint_to_its_place_on_each_face(person):
    image, marginals, coords = person
    figure = cube(image, marginals, coords, CANONICAL, "head_top")
    guide = next(t for t in figure.data if t.name == "coordinates")
    x, y, z = coords[CANONICAL.index("head_top")]
    ends = points(guide).reshape(-1)[3:].reshape(3, 3, 3)
    np.testing.assert_allclose(ends[:, 0], [(x, y, z)] * 3, atol=1e-6)
    np.testing.assert_allclose(ends[:, 1], [(x, y, 1), (-1, y, z), (x, 1, z)], atol=1e-6)


def test_bones_have_the_persons_sides_and_truth_is_another_pose(person):
    _, _, coords = person
    truth = coords + 0.1
    truth[CANONICAL.index("left_ankle")] = np.nan
    figure = cube(None, None, coords, CANONICAL, reference_norm=truth)
    assert not traces(figure, "surface")
    left = next(t for t in figure.data if t.name == "person's left")
    pairs = points(left).reshape(-1, 3, 3)
    expected = [
        coords[CANONICAL.indices((parent, joint))]
        for joint, parent in CANONICAL.bones
        if joint.startswith("left_")
    ]
    np.testing.assert_allclose(pairs[:, :2], expected, atol=1e-6)
    assert np.isnan(pairs[:, 2]).all(), "bones are not joined to each other"
    markers = [t for t in figure.data if t.mode == "markers"]
    assert [len(t.x) for t in markers] == [J, J - 1]
    hover = markers[0].text[CANONICAL.index("neck")]
    assert "from the ground truth 0.173" in hover
    assert hover.startswith("<b>neck</b>")


def test_people_who_reach_beyond_the_cube_are_shown_whole(person):
    coords = person[2].copy()
    coords[0] = (1.9, -1.4, 0)
    scene = cube(None, None, coords, CANONICAL).layout.scene
    assert scene.xaxis.range[0] < -1 < 1.9 < scene.xaxis.range[1]
    assert scene.zaxis.range[0] > 1, "y points down"
    assert scene.zaxis.range[1] < -1.4
    assert scene.aspectmode == "data"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coords_norm": np.zeros((3, 3))}, "coords_norm: expected 17 x 3"),
        ({"joint": "tail"}, "has no joint 'tail'"),
        ({"marginals": [np.zeros((J, 8, 8))]}, "expected XY, ZY and XZ, got 1"),
        ({"marginals": [np.zeros((J, 8, 8)), np.zeros((J, 7, 8)), np.zeros((J, 8, 8))]}, r"marginals\.zy"),
        ({"marginals": [np.full((J, 8, 8), np.nan)] * 3}, "not finite"),
        ({"crop_image": np.zeros((5, 5))}, "crop_image: expected H x W x 3 uint8"),
        ({"reference_norm": np.zeros((2, 3))}, "reference_norm: expected 17 x 3"),
    ],
)
def test_cube_refuses(person, change, message):
    image, marginals, coords = person
    arguments = {"crop_image": image, "marginals": marginals, "coords_norm": coords, **change}
    with pytest.raises(ValueError, match=message):
        cube(**arguments, skeleton=CANONICAL)


def test_the_page_is_whole_and_loads_nothing(person, tmp_path):
    image, marginals, coords = person
    evil = '</script><script>alert("x")</script>'
    path = write_cubes(
        tmp_path / "new" / "a.html", {evil: cube(image, marginals, coords, CANONICAL, title=evil)}
    )
    text = path.read_text(encoding="utf-8")
    assert evil not in text, "names and titles cannot end an element"
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", text)
    assert "default-src 'none'" in text
    assert [p.name for p in path.parent.iterdir()] == ["a.html"]
    with pytest.raises(ValueError, match="no poses"):
        write_cubes(tmp_path / "b.html", {})


def test_a_browser_shows_the_page_and_the_menu_works(person, tmp_path, browser):  # noqa: F811
    image, marginals, coords = person
    cubes = {f"Person {i}": cube(image, marginals, coords - 0.1 * i, CANONICAL) for i in range(2)}
    path = write_cubes(tmp_path / "a.html", cubes)
    page = browser.new_page(viewport={"width": 900, "height": 800})
    told = messages(page)
    page.goto(path.as_uri())
    page.wait_for_selector(".gl-container canvas")
    page.locator(".updatemenu-header").click()
    page.locator(".updatemenu-dropdown-button", has_text="left wrist").click()
    row = CANONICAL.index("left_wrist")
    expected = np.pad(np.rint(255 * marginals.zy[row] / marginals.zy[row].max()), 1, mode="edge")
    page.wait_for_function(ZY_IS, arg=expected.tolist(), timeout=20_000)
    assert page.locator(".updatemenu-header").text_content().startswith("left wrist")
    picture = page.screenshot(path=tmp_path / "a.png")
    assert len(picture) > 20_000, "an empty scene would be small"
    page.select_option("#person", label="Person 1")
    first = "document.querySelector('.js-plotly-plot').data.find(t => t.mode == 'markers').x"
    expected = float(np.float32(coords[0, 0] - 0.1))
    page.wait_for_function(f"Math.abs(({first}._inputArray ?? {first})[0] - {expected}) < 1e-6")
    assert told == []
    page.close()


def test_numbers_travel_exactly(person):
    """What a browser reads are the numbers that were drawn: plotly packs arrays in base64."""
    image, marginals, coords = person
    document = json.loads(cube(image, marginals, coords, CANONICAL, "neck").to_json())
    markers = next(t for t in document["data"] if t.get("mode") == "markers")
    packed = markers["x"]
    assert packed["dtype"] == "f4"
    values = np.frombuffer(base64.b64decode(packed["bdata"]), np.float32)
    np.testing.assert_array_equal(values, coords[:, 0].astype(np.float32))
