import cv2
import numpy as np
import pytest
import torch

from margipose.infer import Predictor
from margipose.infer import search as S
from margipose.infer.boxes import overlaps
from margipose.spec import InputSpec
from tests.infer import made

PERSON = np.array([[420.0, 200.0, 150.0, 150.0]])
IMAGE = np.zeros((480, 640, 3), np.uint8)


def inside(outer, inner):
    low, high = (
        outer[:, :2] <= inner[0, :2],
        (outer + np.roll(outer, 2, -1))[:, 2:] >= (inner[0, :2] + inner[0, 2:]),
    )
    return low.all(-1) & high.all(-1)


def somewhere(boxes, seed=0):
    """An answer for each window that lies anywhere within it."""
    rng = np.random.default_rng(seed)
    side = boxes[:, 2:] * rng.uniform(0.3, 0.9, (len(boxes), 1))
    return np.concatenate((boxes[:, :2] + rng.uniform(size=side.shape) * (boxes[:, 2:] - side), side), -1)


@pytest.mark.parametrize("size", [(640, 480), (480, 640), (300, 300), (2000, 100), (1, 1), (1, 50)])
def test_windows_cover_the_image_at_every_size(size):
    boxes = S.windows(*size)
    assert (boxes[:, 2] == boxes[:, 3]).all()
    for side in S.SIDES:
        mine = boxes[np.isclose(boxes[:, 2], side * max(size))]
        for axis in (0, 1):
            starts = np.unique(mine[:, axis])
            assert starts[0] <= 1e-9
            assert starts[-1] + mine[0, 2] >= size[axis] - 1e-9
            assert (np.diff(starts) <= mine[0, 2] / 2 + 1e-9).all()
        assert len(mine) == np.prod([len(np.unique(mine[:, a])) for a in (0, 1)])


def test_a_window_that_is_larger_than_the_image_lies_about_its_middle():
    np.testing.assert_allclose(S.windows(100, 60)[0], (0, -20, 100, 100))


def test_windows_that_show_the_person_outvote_the_others():
    rng = np.random.default_rng(1)

    def look(image, boxes):
        sees = inside(boxes, PERSON) | (overlaps(boxes, PERSON)[:, 0] > 0.5)
        assert sees.sum() > 1
        found = np.where(sees[:, None], PERSON + rng.normal(0, 3, (len(boxes), 4)), somewhere(boxes))
        # A little surer where it is seen; the surest one of all is wrong.
        confidence = np.where(sees, 0.5, 0.3)
        confidence[np.flatnonzero(~sees)[:1]] = 0.6
        return S.Answers(found, confidence)

    found = S.NetworkSearch(look, 1000)(IMAGE)
    assert found.boxes_px.shape == (1, 4)
    assert overlaps(found.boxes_px, PERSON) > 0.8
    assert 0.1 < found.scores[0] < 1


def test_a_confident_answer_wins_where_none_agree():
    def look(image, boxes):
        found = np.array([(10.0 * i, 0, 9, 9) for i in range(len(boxes))])
        return S.Answers(found, np.where(found[:, 0] == 30, 0.4, 0.2))

    found = S.NetworkSearch(look, 1000)(IMAGE)
    np.testing.assert_array_equal(found.boxes_px, [[30, 0, 9, 9]])


def test_the_best_boxes_and_the_whole_image_s_are_looked_at_again():
    shown = []

    def look(image, boxes):
        shown.append(boxes)
        found = np.array([(10.0 * i, 0, 9, 9) for i in range(len(boxes))])
        if len(shown) == 2:
            return S.Answers(found + (0, 100, 0, 0), np.array([0.1, 0.1, 0.3, 0.1, 0.1]))
        return S.Answers(found, np.linspace(0.1, 0.6, len(boxes)))

    found = S.NetworkSearch(look, 1000)(IMAGE)
    first, second = shown
    last = 10.0 * len(first)
    np.testing.assert_array_equal(second[:, 0], [0, last - 40, last - 30, last - 20, last - 10])
    np.testing.assert_array_equal(found.boxes_px, [[20, 100, 9, 9]])
    np.testing.assert_allclose(found.scores, 0.09 / 0.13)


def test_what_was_found_first_stays_where_a_second_look_sees_nobody():
    shown = []

    def look(image, boxes):
        shown.append(boxes)
        return S.Answers(np.tile(PERSON, (len(boxes), 1)), np.full(len(boxes), 0.5 if len(shown) == 1 else 0))

    np.testing.assert_array_equal(S.NetworkSearch(look, 1000)(IMAGE).boxes_px, PERSON)
    assert len(shown) == 2


NOWHERE = [(np.nan,) * 4, (0, 0, 0, 5), (0, 0, -3, -3), (9000, 0, 5, 5), (0, -50, 9, 9)]


@pytest.mark.parametrize("box", NOWHERE)
def test_the_whole_image_is_taken_where_no_answer_lies_in_it(box):
    def look(image, boxes):
        return S.Answers(np.tile(np.array(box, float), (len(boxes), 1)), np.ones(len(boxes)))

    boxes, scores = S.NetworkSearch(look, 100)(IMAGE)
    np.testing.assert_array_equal(boxes, [[0, 0, 640, 480]])
    np.testing.assert_array_equal(scores, [0])


def test_no_confidence_at_all_is_no_answer():
    found = S.NetworkSearch(lambda i, b: S.Answers(b, np.zeros(len(b))), 100)(IMAGE)
    np.testing.assert_array_equal(found.boxes_px, [[0, 0, 640, 480]])


def test_large_images_are_looked_at_smaller():
    shown = []

    def look(image, boxes):
        shown.append((image.shape, boxes))
        return S.Answers(np.tile(np.array([[10.0, 20, 30, 30]]), (len(boxes), 1)), np.ones(len(boxes)))

    found = S.NetworkSearch(look, 70)(np.zeros((1000, 2000, 3), np.uint8))
    (shape, boxes), (again, _) = shown
    assert again == shape
    assert shape == (100, 200, 3)
    np.testing.assert_allclose(boxes, S.windows(200, 100))
    np.testing.assert_allclose(found.boxes_px, [[100, 200, 300, 300]])


class Disc:
    """Sees a person as large as a bright disc; where it is cut off or tiny, the joints are vague."""

    input_spec = InputSpec(128, 128, centre="exact")

    def __init__(self):
        self.seen = 0

    def __call__(self, images):
        self.seen += len(images)
        coords, sigmas = [], []
        for image in images:
            y, x = torch.nonzero(image.mean(0) > 0, as_tuple=True)
            clear = len(x) > 300 and min(x.min(), y.min()) > 1 and max(x.max(), y.max()) < 126
            sigmas.append(0.8 if clear else 5.0)
            middle = torch.stack((x, y)).float().mean(1) if len(x) else torch.tensor([20.0, 90.0])
            radius = (len(x) / np.pi) ** 0.5 if clear else 40
            angles = torch.arange(17) * 2 * np.pi / 17
            around = middle + radius * torch.stack((angles.cos(), angles.sin()), -1)
            coords.append(torch.cat(((2 * around + 1) / 128 - 1, torch.zeros(17, 1)), -1))
        coords = torch.stack(coords)
        parts = [made.output(c[None], s) for c, s in zip(coords, sigmas)]
        maps = type(parts[0].stages[0])(*(torch.cat(m) for m in zip(*(p.stages[0] for p in parts))))
        return parts[0]._replace(coords_norm=coords, stages=(maps,))


@pytest.mark.parametrize("size", [(640, 480), (1920, 1080)])
def test_a_predictor_finds_a_small_person_far_from_the_middle(size):
    scale = size[0] / 640
    image = np.zeros((size[1], size[0], 3), np.uint8)
    middle, radius = np.array([520.0, 110.0]) * scale, 60 * scale
    cv2.circle(image, tuple(middle.astype(int).tolist()), int(radius), (255, 255, 255), -1)
    network = Disc()
    (person,) = Predictor(network, detector="search", crop="affine")(image)
    np.testing.assert_allclose(person.joints_px.mean(0), middle, atol=3 * scale)
    np.testing.assert_allclose(np.linalg.norm(person.joints_px - middle, axis=-1), radius, rtol=0.07)
    assert person.box == "searched with the network, refined"
    assert 0 < person.score <= 1
    # A second look at the best, and the person's own two.
    assert 2 <= network.seen - len(S.windows(*size)) - 2 <= S.CANDIDATES + 1
    (whole,) = Predictor(network, detector="image", refine=0, crop="affine")(image)
    assert whole.box == "the whole image"


@pytest.mark.parametrize("shape", [(6000, 1, 3), (1, 6000, 3)])
def test_a_strip_stays_an_image_when_it_is_made_smaller(shape):
    def look(image, boxes):
        assert min(image.shape[:2]) == 1
        return S.Answers(boxes, np.ones(len(boxes)))

    found = S.NetworkSearch(look, 64)(np.zeros(shape, np.uint8))
    assert np.isfinite(found.boxes_px).all()
