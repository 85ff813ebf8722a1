"""From files to files: one thread decodes, one predicts, one draws and writes, side by side.

Whatever is wrong with one source ends that source alone: its trouble is reported, the others go on. Outputs
of a video that cannot be decoded to its end hold what came before, and say so.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from margipose.camera import project
from margipose.infer.boxes import BoxTable, grow
from margipose.infer.following import ALWAYS_ONE, Follower, tight_box
from margipose.infer.intrinsics import CameraRule, ImageCamera, assumed_camera, read_exif_camera
from margipose.infer.media import Frame, Source
from margipose.infer.prediction import Prediction
from margipose.infer.predictor import Predictor, Target
from margipose.infer.recording import Recorder, Report
from margipose.infer.smoothing import JointSmoother, Smoothing
from margipose.infer.streaming import QUEUED_FRAMES, QUEUED_PIXELS, Event, Reader, Stopped, told
from margipose.infer.tracking import Tracker
from margipose.infer.writers import DESCRIBED, Description, Format, Outputs, output_paths, read_about

__all__ = ["Report", "Settings", "run"]


@dataclass(frozen=True)
class Settings:
    """What `run` does with its sources.

    Attributes:
        folder: for the outputs.
        formats: of the outputs; see `margipose.infer.writers`.
        camera: of all sources; if None, that of an image's EXIF data, or the assumed one.
        boxes_px: of people, N x 4, in every image, and in the first frame of every video.
        table: boxes by image or frame, instead.
        margin: by which given boxes are made larger.
        follow: whether people in videos are looked for where the last frame showed them, rather than in
            each frame anew.
        detect_every: see `Follower`.
        smoothing: of joints in videos; None to leave them as they are.
        most_frames: of a video or webcam.
        resume: leave out sources whose outputs are all there, and no older than they are. Of those in
            `DESCRIBED` formats, whose results say that they are complete, of this source, and made by the
            same network with the same settings.
    """

    folder: Path
    formats: Sequence[Format] = ("json", "overlay")
    camera: CameraRule | None = None
    boxes_px: Any = None
    table: BoxTable | None = None
    margin: float = 1.0
    follow: bool = True
    detect_every: int = 30
    smoothing: Smoothing | None = None
    most_frames: int | None = None
    resume: bool = False


def run(
    predictor: Predictor, sources: Sequence[Source], settings: Settings, *, progress: bool = True
) -> Report:
    """Predict images, videos and webcams and write what was found.

    Ctrl-C ends a webcam's recording, which is then written; otherwise it stops everything, and outputs that
    are not finished are removed.

    Args:
        predictor: predicts, and finds people.
        sources: from `find_sources`.
        settings: what to do with them.
        progress: whether to show a bar on standard error, if that is a terminal.

    Raises:
        ValueError: for settings that no source can have.
    """
    _check(predictor, sources, settings)
    report = Report()
    names = _names(sources)
    wanted = [s for s in sources if not _done_before(s, names[s], predictor, settings)]
    report.skipped = len(sources) - len(wanted)
    started = time.monotonic()
    stop = threading.Event()
    reader = Reader(wanted, settings.most_frames, stop)
    recorder = Recorder(lambda event: _open_outputs(event, names, predictor, settings), report, stop)
    with tqdm(unit="frame", disable=None if progress else True) as bar:
        main = _Main(predictor, settings, reader, recorder, report, bar)
        reader.start()
        recorder.start()
        try:
            try:
                main.take_all()
            except KeyboardInterrupt:
                if not main.live:
                    raise
                reader.finish()
                main.take_all()
            recorder.events.put(None)
            recorder.join()
        except Stopped:
            pass  # the recorder gave up: its error follows
        finally:
            stop.set()
            reader.join()
            recorder.join()
    if recorder.error is not None:
        raise recorder.error
    report.seconds = time.monotonic() - started
    return report


def _check(predictor: Predictor, sources: Sequence[Source], settings: Settings) -> None:
    if settings.smoothing is not None and predictor.ready.dims == 2:
        raise ValueError("smooth: is done in space; this network predicts positions in the image")
    videos = sum(source.kind != "image" for source in sources)
    if settings.table is not None and settings.table.has_frames and videos > 1:
        raise ValueError(f"{settings.table.source}: boxes by frame are those of one video, got {videos}")


def _done_before(source: Source, name: str, predictor: Predictor, settings: Settings) -> bool:
    """Whether all outputs are there, and none says that it is another's, made otherwise, or cut short."""
    if not settings.resume or source.kind == "webcam":
        return False
    paths = output_paths(settings.folder, name, source.kind, settings.formats)
    if not all(path.exists() for path in paths.values()):
        return False
    if source.path.exists() and source.path.stat().st_mtime > min(p.stat().st_mtime for p in paths.values()):
        return False  # it is another one by now
    for about in (read_about(paths[f]) for f in DESCRIBED if f in paths):
        if "problem" in about or Path(str(about.get(source.kind))).absolute() != source.path.absolute():
            return False
        try:
            words = _words(source, (about["width"], about["height"]), predictor, settings)
        except (KeyError, ValueError):  # it does not say its size, or the camera is of another one
            return False
        if (about.get("model"), about.get("settings")) != (predictor.ready.name, words):
            return False
    return True


def _words(source: Source, size: tuple[int, int], predictor: Predictor, settings: Settings) -> dict[str, Any]:
    """What a source's numbers depend on, as its outputs say it: what JSON can hold.

    Args:
        size: (width, height) of its frames.

    Raises:
        ValueError: if there is no camera for that size.
    """
    words: dict[str, Any] = {
        "weights_sha256": predictor.ready.digest[:16] or None,
        "crop": predictor.crop,
        "zoom": predictor.spec.zoom,
        "refine": predictor.refine,
        "flip": predictor.flip,
        "any_way_up": predictor.any_way_up,
        "distance": predictor.depth,
    }
    if settings.camera is not None:
        words["camera"] = list(settings.camera(size).intrinsics)
    boxes = _given(source, settings)
    if boxes is None or (source.kind != "image" and settings.table is None):
        words["detector"] = predictor.detector_name
    if boxes is not None:
        digest = sha256(repr(boxes).encode()).hexdigest()[:16]
        words["boxes"] = f"given, times {settings.margin:g}, sha256 {digest}"
    if source.kind != "image":
        follows = settings.follow and settings.table is None
        words["smoothing"] = str(settings.smoothing) if settings.smoothing else "none"
        words["max_frames"] = settings.most_frames
        words["followed"] = follows
        looks = follows and not isinstance(predictor.detector, ALWAYS_ONE)
        words["detect_every"] = settings.detect_every if looks else None
    return words


def _given(source: Source, settings: Settings) -> list[Any] | None:
    """All boxes that are given for a source."""
    boxes, table = settings.boxes_px, settings.table
    if table is not None:
        if source.kind != "image":
            return table.frames
        boxes = table.of_image(source.path)
    return None if boxes is None else np.asarray(boxes, np.float64).tolist()


def _open_outputs(
    event: Event, names: Mapping[Source, str], predictor: Predictor, settings: Settings
) -> Outputs:
    assert event.frame is not None and event.stream is not None
    source, (height, width) = event.source, event.frame.image.shape[:2]
    about = Description(
        source=source.name,
        kind=source.kind,
        size=(width, height),
        fps=event.stream.fps,
        skeleton=predictor.skeleton,
        model=predictor.ready.name,
        settings=_words(source, (width, height), predictor, settings),
    )
    return Outputs(output_paths(settings.folder, names[source], source.kind, settings.formats), about)


def _names(sources: Sequence[Source]) -> dict[Source, str]:
    """What outputs are called: the file's name without its suffix.

    Where two would be the same, with the suffix; where they still are, with as many of their folders as it
    takes. So a name does not depend on the order of the sources.
    """
    names: dict[Source, str] = {s: s.path.stem for s in sources}
    parts = {s: [p for p in s.path.absolute().parts if p != s.path.anchor] for s in sources}
    for depth in range(1, max(map(len, parts.values()), default=0) + 1):
        counts = Counter(names.values())
        if max(counts.values(), default=1) == 1:
            break
        for source in sources:
            if counts[names[source]] > 1:
                names[source] = "_".join(parts[source][-depth:]).replace(".", "_")
    taken: set[str] = set()
    for source, name in names.items():  # a/b.png and a_b.png
        number = 2
        while names[source] in taken:
            names[source], number = f"{name}-{number}", number + 1
        taken.add(names[source])
    return names


class _Main:
    """Predicts, many people at a time where frames do not depend on each other."""

    def __init__(
        self,
        predictor: Predictor,
        settings: Settings,
        reader: Reader,
        recorder: Recorder,
        report: Report,
        bar: tqdm,
    ) -> None:
        self._predictor, self._settings = predictor, settings
        self._reader, self._recorder = reader, recorder
        self._report, self._bar = report, bar
        self._waiting: list[tuple[Event, list[Target]]] = []
        self._video: _Video | None = None
        self._failed: dict[Source, str] = {}
        self._expected = 0
        self._opened: set[Source] = set()
        self.live = False

    def take_all(self) -> None:
        """Predict what the reader still has to give."""
        for event in self._reader.events:
            self._take(event)
        self.flush()

    def _take(self, event: Event) -> None:
        source = event.source
        self.live = source.kind == "webcam"
        if event.stream is not None and source not in self._opened:
            self._opened.add(source)
            self._expected += event.stream.count
            self._bar.total = self._expected or None
        if event.frame is None:
            if source.kind != "image":
                self.flush()
                self._video = None
            self._pass_on_end(event)
        elif source in self._failed or self._recorder.has_failed(source):
            self._reader.drop(source)  # the rest of a video would be decoded for nothing
        else:
            try:
                self._predict(event, event.frame)
            except Exception as error:  # as in the reader
                self._failed[source] = told(error, source)

    def _pass_on_end(self, event: Event) -> None:
        if any(waiting.source == event.source for waiting, _ in self._waiting):
            self._waiting.append((event, []))
        else:
            self._recorder.events.put(
                replace(event, problem=self._failed.pop(event.source, None) or event.problem)
            )

    def _predict(self, event: Event, frame: Frame) -> None:
        source = event.source
        camera = self._camera(source, frame)
        self._report.cameras.setdefault(camera, source.name)
        if source.kind == "image":
            boxes = self._boxes(source, frame)
            self._gather(event, self._predictor.targets(frame.image, boxes, camera))
            return
        first = self._video is None  # its number need not be 0: webcams do not wait
        if self._video is None:
            self.flush()  # images that wait are no part of the video
            self._video = _Video(self._predictor, self._settings)
        boxes = self._boxes(source, frame) if first or self._settings.table is not None else None
        if self._settings.table is None and self._settings.follow:
            self._done(event, self._video.follower(frame.image, camera, boxes))
        else:
            self._gather(event, self._predictor.targets(frame.image, boxes, camera))

    def _camera(self, source: Source, frame: Frame) -> ImageCamera:
        size = (frame.image.shape[1], frame.image.shape[0])
        if self._settings.camera is not None:
            return self._settings.camera(size)
        exif = read_exif_camera(source.path, size) if source.kind == "image" else None
        return exif or assumed_camera(size)

    def _boxes(self, source: Source, frame: Frame) -> Any:
        settings = self._settings
        boxes = settings.boxes_px
        if settings.table is not None:
            table = settings.table
            if source.kind == "image":
                boxes = table.of_image(source.path)
            else:  # where it knows no frame at all it is not about a video
                boxes = table.of_frame(frame.index) if table.has_frames else None
                if boxes is not None and not len(boxes):
                    self._report.without_boxes[source.name] += 1
            if boxes is None:
                what = "this image" if source.kind == "image" else "any frame, by its number from 0"
                raise ValueError(f"{source.name}: {table.source} has no boxes for {what}")
        return None if boxes is None else grow(np.asarray(boxes, np.float64), settings.margin)

    def _gather(self, event: Event, targets: list[Target]) -> None:
        self._waiting.append((event, targets))
        people = sum(len(t) for _, t in self._waiting)
        pixels = sum(e.pixels for e, _ in self._waiting)
        if (
            people >= self._predictor.batch_size
            or pixels > QUEUED_PIXELS
            or len(self._waiting) >= 4 * QUEUED_FRAMES
        ):
            self.flush()

    def flush(self) -> None:
        """Predict whoever waits."""
        waiting, self._waiting = self._waiting, []
        try:
            found = iter(self._predictor.predict([t for _, targets in waiting for t in targets]))
        except Exception:  # of whom? Each frame on its own will tell
            found = None
        for event, targets in waiting:
            if event.frame is None:
                self._pass_on_end(event)
                continue
            try:
                people = [next(found) for _ in targets] if found else self._predictor.predict(targets)
            except Exception as error:  # as in the reader
                self._failed.setdefault(event.source, told(error, event.source))
            else:
                self._done(event, self._video.named(people) if self._video else people)

    def _done(self, event: Event, people: Sequence[Prediction]) -> None:
        assert event.frame is not None
        if self._video is not None:
            people = self._video.smooth(people, event.frame.time_s)
        self._report.frames += 1
        self._report.people += len(people)
        self._bar.update()
        self._recorder.events.put(replace(event, people=people))


class _Video:
    """What is known about a video so far."""

    def __init__(self, predictor: Predictor, settings: Settings) -> None:
        self.follower = Follower(predictor, settings.detect_every)
        self._tracker = Tracker()
        self._smoothing, self._root = settings.smoothing, predictor.skeleton.index(predictor.skeleton.root)
        self._smoothers: dict[int | None, JointSmoother] = {}

    def named(self, people: list[Prediction]) -> list[Prediction]:
        boxes = np.array([tight_box(p.joints_px) for p in people]).reshape(-1, 4)
        return [replace(p, track=n) for p, n in zip(people, self._tracker(np.nan_to_num(boxes)))]

    def smooth(self, people: Sequence[Prediction], time_s: float) -> Sequence[Prediction]:
        if self._smoothing is None:
            return people
        return [self._smoothed(p, self._smoothing, time_s) for p in people]

    def _smoothed(self, person: Prediction, smoothing: Smoothing, time_s: float) -> Prediction:
        if np.isnan(person.joints_cam_mm).all():  # smoothing is done in space
            return person
        smoother = self._smoothers.setdefault(person.track, JointSmoother(smoothing, self._root))
        joints = smoother(person.joints_cam_mm, time_s)
        pixels = project(
            torch.from_numpy(joints), torch.tensor(person.intrinsics, dtype=torch.float64)
        ).numpy()
        return replace(person, joints_cam_mm=joints, joints_px=np.where(joints[:, 2:] > 0, pixels, np.nan))
