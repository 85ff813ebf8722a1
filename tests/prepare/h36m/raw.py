"""Human3.6M as it is downloaded, the files of two short sequences; preparing them, and what comes of it."""

import tarfile

import av
import cdflib.cdfwrite
import cv2
import h5py
import numpy as np

from margipose import jobs
from margipose.cli import main
from margipose.data.h36m_sequences import BASE_NAMES, CAMERAS
from margipose.prepare import h36m
from margipose.skeleton import H36M

SIZE = 160  # px; the cameras are those of the real set, scaled to it
KINDS = ("D2_Positions", "D3_Positions_mono", "D3_Positions_mono_universal")
UNIVERSAL = 0.9


def intrinsics(camera):
    """fx, cx, fy, cy."""
    i = CAMERAS.index(camera)
    return np.array([1145 + i, 512.5 - i, 1143 + 2 * i, 515.5]) * SIZE / 1000


def world_poses(n, seed, speed=30.0):
    """N x 32 x 3 mm: someone who stands, with a right wrist that moves `speed` mm per frame, to and fro."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-1, 1, (32, 3)) * (300, 800, 300)
    poses = np.repeat(pose[None], n, 0)
    poses[:, H36M.index("right_wrist"), 0] += speed * (70 - np.abs(np.arange(n) % 140 - 70))
    return poses


def seen_by(poses, camera):
    """In camera space: a rigid motion."""
    angle = np.radians(90 * CAMERAS.index(camera))
    turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
    return poses @ turn.T + (0, 0, 5000)


def projected(poses, camera):
    fx, cx, fy, cy = intrinsics(camera)
    return poses[..., :2] / poses[..., 2:] * (fx, fy) + (cx, cy)


def write_cdf(path, values, dtype="float32"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    values = np.asarray(values, dtype)
    kind = {"float32": 44, "float64": 45}[dtype]  # CDF_FLOAT, CDF_DOUBLE
    spec = {
        "Variable": "Pose",
        "Data_Type": kind,
        "Num_Elements": 1,
        "Rec_Vary": True,
        "Dim_Sizes": list(values.shape[1:]),
        "Compress": 6,
    }
    with cdflib.cdfwrite.CDF(str(path), {"Compressed": 0}) as cdf:
        cdf.write_var(spec, var_data=values)


def picture(camera, i):
    """A brightness for the camera, a bar that moves with the frame."""
    image = np.full((SIZE, SIZE, 3), 40 + 40 * CAMERAS.index(camera), np.uint8)
    image[:, 2 * (i % 70) : 2 * (i % 70) + 16] = (250, 60, 20)
    return image


def write_video(path, camera, n):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("mpeg4", rate=50)
        stream.width = stream.height = SIZE
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        for i in range(n):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(camera, i), format="rgb24")))
        container.mux(stream.encode())


def write_sequence(root, key, n, video_frames=None, cameras=CAMERAS):
    """The raw files of a sequence, unpacked."""
    subject, base = key[0], BASE_NAMES[key]
    world = world_poses(n, sum(key))
    for camera in cameras:
        poses = seen_by(world, camera)
        for kind, values in zip(KINDS, (projected(poses, camera), poses, poses * UNIVERSAL)):
            path = root / f"S{subject}/MyPoseFeatures/{kind}/{base}.{camera}.cdf"
            write_cdf(path, values.reshape(1, n, -1))
        video = root / f"S{subject}/Videos/{base}.{camera}.mp4"
        write_video(video, camera, n if video_frames is None else video_frames)


TRAIN, TEST = (1, 2, 1), (11, 6, 2)  # "Directions 1" and "Phoning 2"
CALIBRATION = "S1/Videos/_ALL.54138969.mp4"


def pack(tree, root, subjects=(1, 11)):
    """The official archives of what a tree holds."""
    root.mkdir(exist_ok=True)
    for s in subjects:
        for kind in KINDS:
            with tarfile.open(root / f"Poses_{kind}_S{s}.tgz", "w:gz") as archive:
                archive.add(tree / f"S{s}/MyPoseFeatures/{kind}", f"S{s}/MyPoseFeatures/{kind}")
        with tarfile.open(root / f"Videos_S{s}.tgz", "w:gz") as archive:
            archive.add(tree / f"S{s}/Videos", f"S{s}/Videos")
    return root


def prepare(src, dest, workers=1, **options):
    return jobs.run(h36m.plan(src, dest, **options), dest, workers, kind="h36m")


def contents(dest):
    """Every image, decoded, and every array of the labels, by name; of a set or a subject's folder."""
    found = {}
    for path in sorted(dest.rglob("*")):
        name = str(path.relative_to(dest))
        if path.suffix == ".jpg":
            found[name] = cv2.imread(str(path))
        elif path.suffix == ".h5":
            with h5py.File(path) as file:
                file.visititems(
                    lambda key, node, name=name: found.__setitem__(
                        f"{name}:{key}", node[()] if isinstance(node, h5py.Dataset) else None
                    )
                )
        elif path.is_file() and path.suffix != ".json":  # notes of runs
            found[name] = path.read_bytes()
    return found


def assert_same(a, b):
    a, b = contents(a), contents(b)
    assert list(a) == list(b) != []
    for key, value in a.items():
        np.testing.assert_array_equal(value, b[key], key)


def failed(report):
    """The only thing that failed, as one line."""
    assert len(report.failed) == 1
    note = report.failed[0]
    assert "\n" not in note.reason
    return f"{note.name}: {note.reason}"


def command(src, dest, *options):
    return main(["prepare", "h36m", str(src), str(dest), "--workers", "1", *options])
