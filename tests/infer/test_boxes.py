from pathlib import Path

import numpy as np
import pytest

from margipose.infer import boxes as B
from margipose.infer.tracking import Tracker, match_boxes


def test_boxes_grow_about_their_middles():
    np.testing.assert_allclose(B.grow(np.array([[10.0, 20, 4, 8]]), 1.5), [[9, 18, 6, 12]])


def test_overlaps_are_intersection_over_union():
    a = np.array([[0.0, 0, 10, 10], [100, 100, 5, 5]])
    b = np.array([[5.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 5, 5]])
    np.testing.assert_allclose(B.overlaps(a, b), [[50 / 150, 1, 0.25], [0, 0, 0]])
    assert B.overlaps(a, np.zeros((0, 4))).shape == (2, 0)


def test_boxes_from_json(tmp_path):
    path = tmp_path / "boxes.json"
    path.write_text('{"a.jpg": [[1, 2, 3, 4], [5, 6, 7, 8]], "7": [1, 1, 2, 2], "none.png": []}')
    table = B.read_boxes(path)
    np.testing.assert_array_equal(table.of_image(tmp_path / "a.jpg"), [[1, 2, 3, 4], [5, 6, 7, 8]])
    np.testing.assert_array_equal(table.of_frame(7), [[1, 1, 2, 2]])
    assert table.of_frame(8).shape == table.of_image(tmp_path / "none.png").shape == (0, 4)
    assert table.of_image(tmp_path / "b.jpg") is None
    assert table.has_frames


def test_boxes_from_csv(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("frame, left, top, width, height\n0,1,2,3,4\n0,5,6,7,8\n12,1,1,2,2\n")
    table = B.read_boxes(path)
    assert len(table.of_frame(0)) == 2
    np.testing.assert_array_equal(table.of_frame(12), [[1, 1, 2, 2]])


def test_numbers_of_frames_may_have_zeros_before_them():
    box = np.array([[1.0, 2, 3, 4]])
    table = B.BoxTable({"0007": box, "a": box, "1" * 5000: box}, "t")
    assert table.of_frame(7) is box
    assert table.of_image(Path("0007.jpg")) is box
    assert not B.BoxTable({"a.jpg": box}, "t").has_frames


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "not valid JSON"),
        ("a.json", "[]", 'expected {"<image>"'),
        ("a.json", '{"x.jpg": 5}', "x.jpg: expected a list of boxes, got int"),
        ("a.json", '{"x.jpg": [[1, 2, 3]]}', "x.jpg: box: expected left, top, width, height"),
        ("a.json", '{"x.jpg": [[1, 2, 3, "a"]]}', "x.jpg: box: expected"),
        ("a.json", '{"x.jpg": [[1, 2, 0, 4]]}', "positive size"),
        ("a.csv", "image,left,top\nx.jpg,1,2\n", "expected the columns image, left, top, width, height"),
        ("a.csv", "image,left,top,width,height\nx.jpg,1,2,3\n", "line 2: box"),
        ("a.csv", "", "expected the columns"),
    ],
)
def test_tables_that_do_not_fit_are_named(name, text, message, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        B.read_boxes(tmp_path / name)
    assert name in str(error.value)


def test_a_table_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        B.read_boxes(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match="expected a text file"):
        B.read_boxes(tmp_path / "bytes.csv")


def test_matching_takes_the_best_pairs_and_none_that_hardly_overlap():
    a = np.array([[0.0, 0, 10, 10], [6, 0, 10, 10]])
    b = np.array([[5.0, 0, 10, 10], [1, 0, 10, 10], [50, 50, 10, 10]])
    assert sorted(match_boxes(a, b)) == [(0, 1), (1, 0)]
    assert match_boxes(a, b[2:]) == match_boxes(a, np.zeros((0, 4))) == []


def test_people_keep_their_numbers():
    tracker = Tracker(patience=2)
    left, right = np.array([0.0, 0, 20, 20]), np.array([100.0, 0, 20, 20])
    assert tracker(np.array([left, right])) == [0, 1]
    assert tracker(np.array([right + (3, 0, 0, 0), left + (2, 0, 0, 0)])) == [1, 0]
    assert tracker(np.array([right])) == [1]
    assert tracker(np.zeros((0, 4))) == []
    assert tracker(np.array([left])) == [0]  # missed twice
    for _ in range(4):
        tracker(np.zeros((0, 4)))
    assert tracker(np.array([left])) == [2]  # forgotten
