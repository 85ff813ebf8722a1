"""Writes small downloads of MPI-INF-3DHP in their true formats, with libraries only.

People are boxes of one colour per joint, at the joint; the world is grey, its brightness the frame's number.
Labels are those of videos of 2048 x 2048 (or 1920 x 1080) pixels, as in the real data, the videos smaller.
"""

from dataclasses import dataclass

import av
import cv2
import h5py
import numpy as np
import scipy.io

from margipose.skeleton import CANONICAL, MPI3D

FULL = 2048
SIDE = 128
FRAMES = 6416  # S1/Seq1 has that many
MOVING = 24

FX, FY, CX, CY = 1500.0, 1490.0, 1030.0, 1010.0


@dataclass
class Person:
    """Labels of one sequence: C x N x J x 3 and C x N x J x 2, by the rows of `cameras`."""

    cameras: tuple
    own: np.ndarray
    univ: np.ndarray
    px: np.ndarray
    scale: float
    flashes: tuple


def intrinsics(camera):
    return FX + 10 * camera, FY + 10 * camera, CX - camera, CY + camera


def project(joints, camera):
    fx, fy, cx, cy = intrinsics(camera)
    return joints[..., :2] / joints[..., 2:] * (fx, fy) + (cx, cy)


def person(seed=0, cameras=(0, 2, 3), frames=FRAMES, scale=1.07, moving=MOVING, flashes=(), outside=()):
    """Someone who takes a new pose at every other frame while `moving` lasts, then stands still."""
    rng = np.random.default_rng(seed)
    pose = rng.uniform(-500, 500, (len(MPI3D), 3)) * (1, 1.2, 0.6)
    pose = pose + np.repeat(rng.uniform(-200, 200, (moving // 2, len(MPI3D), 3)), 2, 0)
    pose[:, MPI3D.index("pelvis")] = 0
    body = np.concatenate([pose, np.repeat(pose[-1:], frames - moving, 0)])
    own = []
    for camera in cameras:
        angle = 0.7 * camera
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        own.append((body * scale) @ turn.T + (0, 0, 4500 + 20 * camera))
        own[-1][list(outside), :, 0] += 3000
    px = np.array([project(joints, camera) for joints, camera in zip(own, cameras)])
    own = np.array(own)
    root = own[:, :, [MPI3D.index("pelvis")]]
    return Person(tuple(cameras), own, (own - root) / scale + root, px, scale, tuple(flashes))


def write_calibration(path, cameras):
    lines = ["Skeletool Camera Calibration File V1.0"]
    for c in cameras:
        fx, fy, cx, cy = intrinsics(c)
        lines += [
            f"name          {c}",
            "  sensor      10 10",
            f"  size        {FULL} {FULL}",
            "  animated    0",
            f"  intrinsic   {fx} 0 {cx} 0 0 {fy} {cy} 0 0 0 1 0 0 0 0 1 ",
            "  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1 ",
            "  radial      0",
        ]
    path.write_text("\n".join(lines) + "\n")


def write_annot(path, who, dtype=np.float32, **changed):
    """`annot.mat`: cell arrays of C x 1, each cell N x 56 or N x 84."""

    def cells(values):
        out = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            out[i, 0] = value.reshape(len(value), -1).astype(dtype)
        return out

    mat = {
        "annot2": cells(who.px),
        "annot3": cells(who.own),
        "cameras": np.array(who.cameras, np.uint8)[None],
        "frames": np.arange(who.own.shape[1], dtype=np.int32)[:, None],
        "univ_annot3": cells(who.univ),
    }
    mat |= changed
    scipy.io.savemat(path, {k: v for k, v in mat.items() if v is not None}, do_compression=True)


COLOURS = np.random.default_rng(5).integers(0, 2, (len(MPI3D), 3)) * 200 + 40


def picture(px, frame, side=SIDE, flash=False):
    """A frame of a video, RGB."""
    image = np.full((side, side, 3), 255 if flash else 60 + 4 * (frame % 30), np.uint8)
    for (x, y), colour in zip(px * side / FULL, COLOURS):
        cv2.rectangle(image, (int(x) - 3, int(y) - 3), (int(x) + 4, int(y) + 4), colour.tolist(), -1)
    return image


def mask_picture(px, side=SIDE):
    """A frame of a mask video: dark where set; red foreground, green upper and blue lower body."""
    image = np.full((side, side, 3), 255, np.uint8)
    (left, top), (right, bottom) = px.min(0) * side / FULL, px.max(0) * side / FULL
    middle = (top + bottom) / 2
    image[int(top) : int(bottom), int(left) : int(right), 0] = 0
    image[int(top) : int(middle), int(left) : int(right), 1] = 0
    image[int(middle) : int(bottom), int(left) : int(right), 2] = 0
    image[:3, :3] = 0  # somebody else
    return image


def write_video(path, pictures, codec="mpeg4"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.pix_fmt = "yuvj444p" if codec == "mjpeg" else "yuv420p"
        stream.bit_rate = 8_000_000
        stream.height, stream.width = pictures[0].shape[:2]
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


def write_train(folder, who, side=SIDE, length=MOVING, masks=True):
    """`S<n>/Seq<m>` as unpacked."""
    folder.mkdir(parents=True, exist_ok=True)
    write_calibration(folder / "camera.calibration", who.cameras)
    write_annot(folder / "annot.mat", who)
    for row, camera in enumerate(who.cameras):
        shown = [picture(who.px[row, f], f, side, f in who.flashes) for f in range(length)]
        write_video(folder / f"imageSequence/video_{camera}.avi", shown)
        if masks:
            shown = [mask_picture(who.px[row, f], side) for f in range(length)]
            write_video(folder / f"FGmasks/video_{camera}.avi", shown, "mjpeg")


@dataclass
class Benchmark:
    """Labels of a test video: N x 17 x 3, N x 17 x 2 and N."""

    own: np.ndarray
    univ: np.ndarray
    px: np.ndarray
    valid: np.ndarray
    scale: float
    camera: tuple


def benchmark(seed=0, frames=6, size=(FULL, FULL), scale=0.93):
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-450, 450, (frames, len(CANONICAL), 3)) + (100, 50, 4200)
    root = joints[:, [CANONICAL.index("pelvis")]]
    univ = (joints - root) / scale + root
    univ[:, CANONICAL.index("left_knee")] += 40  # revised in one of them only
    camera = (1500.0, 1490.0, size[0] / 2 - 20, size[1] / 2 + 15)
    px = joints[..., :2] / joints[..., 2:] * camera[:2] + camera[2:]
    valid = np.ones(frames, bool)
    valid[2] = False
    return Benchmark(joints, univ, px, valid, scale, camera)


def write_annot_data(path, labels, **changed):
    """`annot_data.mat`, MATLAB 7.3: HDF5 with the axes reversed, 2|3 x 17 x 1 x N as N x 1 x 17 x 2|3."""
    count = len(labels.own)
    arrays = {
        "activity_annotation": np.arange(count)[:, None] % 7 + 1.0,
        "annot2": labels.px[:, None],
        "annot3": labels.own[:, None],
        "bb_crop": np.zeros((count, 4)),
        "univ_annot3": labels.univ[:, None],
        "valid_frame": labels.valid[:, None].astype(np.float64),
    }
    arrays |= changed
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in arrays.items():
            if value is not None:
                file[key] = value
                file[key].attrs["MATLAB_class"] = np.bytes_("double")
        # MATLAB keeps what cells refer to in a group of its own.
        refs = file.create_group("#refs#")
        refs["a"] = np.zeros(2, np.uint64)
        references = file.create_dataset("frames_of", (1, 1), dtype=h5py.ref_dtype)
        references[0, 0] = refs["a"].ref
        references.attrs["MATLAB_class"] = np.bytes_("cell")
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64, HDF5 schema 1.00 .".ljust(124) + b"\x00\x02IM")


def write_test(folder, labels, shape=(SIDE, SIDE)):
    """`TS<n>` as unpacked."""
    write_annot_data(folder / "annot_data.mat", labels)
    (folder / "imageSequence").mkdir()
    for frame in range(len(labels.own)):
        image = np.full((*shape, 3), 40 + 30 * frame, np.uint8)
        image[: shape[0] // 2, : shape[1] // 2] = (200, 30, 30)
        path = folder / f"imageSequence/img_{frame + 1:06d}.jpg"
        cv2.imwrite(str(path), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 97])
