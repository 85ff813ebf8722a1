import dataclasses

import numpy as np
import pytest
import torch

from margipose.camera import project
from margipose.infer import Detections, Predictor, assumed_camera
from margipose.infer.following import Follower, crop_box, tight_box
from margipose.infer.views import make_view, normalise_in_view
from margipose.skeleton import CANONICAL
from margipose.spec import InputSpec
from tests.infer import made

SIZE = (640, 480)
CAMERA = assumed_camera(SIZE)
SPEC = InputSpec(128, 128, centre="exact")
BLANK = np.zeros((480, 640, 3), np.uint8)


def at(x, y, seed=0):
    """Somebody of 0.9 m whose pelvis is at a pixel, 4 m away."""
    joints = made.person(seed)
    joints = (joints - joints[made.ROOT]) * 0.5
    f_x, f_y, c_x, c_y = CAMERA.intrinsics
    return joints + torch.tensor([(x - c_x) / f_x * 4000, (y - c_y) / f_y * 4000, 4000.0])


class World:
    """People whom a network and a detector see: the network answers for whoever is nearest to its box."""

    def __init__(self, vague=False, spec=SPEC):
        self.people, self.boxes, self.detected, self.sigma = [], [], 0, 8.0 if vague else 1.0
        self.turns_deg, self.input_spec = [], spec

    def __call__(self, images):
        coords = []
        for box, turn in zip(self.boxes[: len(images)], self.turns_deg[-len(images) :]):
            middle = torch.tensor([box[0] + box[2] / 2, box[1] + box[3] / 2])
            k = torch.tensor(CAMERA.intrinsics).double()
            roots = [project(p, k)[made.ROOT] for p in self.people]
            joints = self.people[int(np.argmin([(r - middle).norm() for r in roots]))]
            size = torch.tensor(SIZE).double()
            view = make_view("perspective", torch.tensor(box).double(), k, size, self.input_spec, turn)
            coords.append(normalise_in_view(joints, view, CANONICAL, SPEC))
        self.boxes = self.boxes[len(images) :]
        return made.output(torch.stack(coords), self.sigma)

    def detect(self, image):
        self.detected += 1
        k = torch.tensor(CAMERA.intrinsics).double()
        boxes = [tight_box(project(p, k).numpy()) for p in self.people]
        return Detections(np.array(boxes).reshape(-1, 4), np.ones(len(boxes)))


@pytest.fixture
def world(monkeypatch):
    return make(monkeypatch)


def make(monkeypatch, vague=False, spec=SPEC):
    world = World(vague, spec)
    world.predictor = Predictor(world, detector=world.detect, refine=0, height_mm=500)
    look = world.predictor._look

    def noting(targets):
        world.boxes += [t.box_px for t in targets]
        world.turns_deg += [t.turn_deg for t in targets]
        return look(targets)

    monkeypatch.setattr(world.predictor, "_look", noting)
    return world


def test_people_who_lean_are_followed_as_they_lean(monkeypatch):
    """In the first frame they are looked at twice, then once, as the frame before showed them."""
    world = make(monkeypatch, spec=dataclasses.replace(SPEC, upright=True))
    follow = Follower(world.predictor, detect_every=10)
    joints = at(320, 240, 3)
    for part, y in (("shoulder", -200.0), ("hip", 0.0)):
        for side, x in (("left", 60.0), ("right", -60.0)):
            joints[CANONICAL.index(f"{side}_{part}")] = torch.tensor([x, y, 4000.0]).double()
    middle = joints[made.ROOT].clone()
    for angle, looks in ((100.0, 2), (104.0, 1), (110.0, 1), (150.0, 2), (2.0, 2), (1.0, 1)):
        turn = np.deg2rad(angle)
        about = torch.tensor(
            [[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1.0]]
        ).double()
        world.people = [(joints - middle) @ about + middle]
        before = len(world.turns_deg)
        (person,) = follow(BLANK, CAMERA)
        assert len(world.turns_deg) - before == looks, angle
        off = (person.turn_deg - (angle if angle > 15 else 0) + 180) % 360 - 180
        assert abs(off) < 15 + 5


def test_people_are_followed_without_looking_for_them(world):
    follow = Follower(world.predictor, detect_every=10)
    for i in range(9):
        world.people = [at(150 + 8 * i, 240, 1), at(480 - 8 * i, 200, 2)]
        found = follow(BLANK, CAMERA)
        assert [p.track for p in found] == [0, 1]
        for person, joints in zip(found, world.people):
            px = project(joints, torch.tensor(CAMERA.intrinsics).double()).numpy()
            np.testing.assert_allclose(person.joints_px, px, atol=0.01)
    assert world.detected == 1
    assert found[0].box == "where the last frame showed the person"


def test_new_people_are_found_in_time(world):
    follow = Follower(world.predictor, detect_every=4)
    world.people = [at(150, 240, 1)]
    counts = []
    for i in range(9):
        if i == 2:
            world.people = [*world.people, at(480, 200, 2)]
        counts.append([p.track for p in follow(BLANK, CAMERA)])
    assert counts == [[0]] * 4 + [[0, 1]] * 5


def test_someone_who_leaves_is_given_up(world):
    follow = Follower(world.predictor)
    for i in range(12):
        world.people = [at(600 + 10 * i, 240, 1)]
        found = follow(BLANK, CAMERA)
        if 600 + 10 * i > 760:
            assert not found
    world.people = [at(300, 240, 1)]
    follow(BLANK, CAMERA)
    assert [p.track for p in follow(BLANK, CAMERA)] != [0]


def test_someone_whom_the_detector_no_longer_sees_is_given_up(world):
    follow = Follower(world.predictor, detect_every=1, patience=3)
    world.people = [at(200, 240, 1), at(450, 240, 2)]
    follow(BLANK, CAMERA)
    detect = world.predictor.detector
    world.predictor.detector = lambda image: Detections(*(x[:1] for x in detect(image)))
    tracks = [[p.track for p in follow(BLANK, CAMERA)] for _ in range(6)]
    assert tracks == [[0, 1]] * 3 + [[0]] * 3


def test_vague_heatmaps_end_a_track(monkeypatch):
    world = make(monkeypatch, vague=True)
    follow = Follower(world.predictor, detect_every=0, patience=2)
    world.people = [at(200, 240, 1)]
    counts = [len(follow(BLANK, CAMERA)) for _ in range(3)]
    assert counts == [1, 1, 0]


def test_two_tracks_that_become_one_person_leave_the_older(world):
    follow = Follower(world.predictor, detect_every=0)
    world.people = [at(200, 240, 1), at(450, 240, 2)]
    assert len(follow(BLANK, CAMERA)) == 2
    world.people = world.people[:1]
    assert [p.track for p in follow(BLANK, CAMERA)] == [0]


def test_given_boxes_are_all_that_is_looked_at(world):
    follow = Follower(world.predictor)
    world.people = [at(200, 240, 1), at(450, 240, 2)]
    k = torch.tensor(CAMERA.intrinsics).double()
    boxes = [crop_box(tight_box(project(p, k).numpy())) for p in reversed(world.people)]
    assert [p.track for p in follow(BLANK, CAMERA, boxes[:1])] == [0]
    assert [p.track for p in follow(BLANK, CAMERA, boxes)] == [0, 1]
    assert world.detected == 0


def test_the_box_of_nobody():
    assert np.isnan(tight_box(np.full((17, 2), np.nan))).all()
