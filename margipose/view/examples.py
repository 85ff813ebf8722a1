"""What the page shows, without the page: rows by filter and order, and everything about one row."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from margipose.camera import LEANING_DEG, lean_deg, project
from margipose.checkpoint import Loaded
from margipose.crops import crop_camera, point_map
from margipose.data import PoseDataset, Records, Sample
from margipose.data.dataset import tensor_image
from margipose.dsnt import Marginals, make_gauss, marginals_to_coords
from margipose.evaluate import Evaluation, Protocol, joints_in_camera, predict_joints, score_records
from margipose.evaluate.matching import describe_row
from margipose.evaluate.protocols import Depth
from margipose.geometry import align
from margipose.model import PoseOutput
from margipose.skeleton import Skeleton
from margipose.spec import InputSpec

__all__ = ["ANY", "STORED", "TARGET", "Example", "Examples"]

ANY, STORED, TARGET = "all", "stored", "target"
"""Choices that are always there: every row; the data set's order; heatmaps as training wants them."""

_MOST_VALUES = 400
_REMEMBERED = 32
_TARGET_CELLS = 32


@dataclass(frozen=True, eq=False)
class Example:
    """One person, as the page shows them.

    Attributes:
        row: of the records.
        about: the row's ids, or its image, in words.
        crop: what the network sees, `h x w x 3` uint8 RGB.
        skeleton: of the joints.
        heatmaps: of the stage that was asked for, arrays `J x rows x columns`.
        truth_norm, truth_px, truth_mm: `J x 3`, `J x 2` and `J x 3`: labels in normalised space, in pixels of
            the crop, and in mm in camera space relative to the root; NaN where they are not known.
        found_norm, found_px, found_mm: the same of the prediction; None without a network.
        aligned_mm: the prediction moved, turned and scaled onto the label; None where either is not known.
        errors_mm, aligned_errors_mm: `J`, distances from the label, relative to the root and after alignment.
        flat: whether the data set has no depths; labels then lie at z = 0.
    """

    row: int
    about: str
    crop: NDArray[np.uint8]
    skeleton: Skeleton
    heatmaps: Marginals
    truth_norm: NDArray[np.float64]
    truth_px: NDArray[np.float64]
    truth_mm: NDArray[np.float64] | None
    found_norm: NDArray[np.float64] | None
    found_px: NDArray[np.float64] | None
    found_mm: NDArray[np.float64] | None
    aligned_mm: NDArray[np.float64] | None
    errors_mm: NDArray[np.float64] | None
    aligned_errors_mm: NDArray[np.float64] | None
    flat: bool


class Examples:
    """A data set to be looked through.

    Args:
        records: its rows, at the protocol's scale.
        protocol: how errors are computed, and what a sequence is.
        loaded: a network, whose predictions are shown beside the labels.
        spec: what crops are like where there is no network.

    Raises:
        ValueError: if there are no rows, or the network has not the three planes.
    """

    def __init__(
        self,
        records: Records,
        protocol: Protocol,
        loaded: Loaded | None = None,
        spec: InputSpec | None = None,
    ) -> None:
        if len(records) == 0:
            raise ValueError(f"{records.name}: there are no examples to look at")
        self.loaded, self.protocol = loaded, protocol
        if loaded is not None and loaded.model.spec.headed:
            raise ValueError(f"the viewer shows networks of three planes, not a {loaded.model.spec.type}")
        self.spec = loaded.input_spec if loaded is not None else spec or InputSpec()
        self.dataset = PoseDataset(records, self.spec)
        self.records = self.dataset.records
        self.evaluation: Evaluation | None = None
        self._seen: OrderedDict[int, tuple[Sample, PoseOutput]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.records)

    def evaluate(self, workers: int = 0, progress: bool = False) -> None:
        """Predict all rows once, so that they can be sorted by error; nothing to do without a network."""
        if self.loaded is not None:
            joints = predict_joints(
                self.loaded.model,
                self.dataset,
                self.protocol,
                workers=workers,
                device=self._device,
                progress=progress,
            )
            labelled = self.dataset.labelled(self.protocol.skeleton)
            self.evaluation = score_records(joints, labelled, self.protocol, self.dataset.skeleton)

    # --- Which rows ---------------------------------------------------------------------------------

    @property
    def stages(self) -> list[str]:
        """Heatmaps to choose from."""
        if self.loaded is None:
            return [TARGET]
        names = [f"stage {k + 1}" for k in range(self.loaded.model.spec.n_stages)]
        # Exported networks may give fewer.
        given = {"none": [], "last": names[-1:]}
        return [TARGET, *given.get(getattr(self.loaded.model, "heatmaps", "all"), names)]

    @property
    def orders(self) -> dict[str, str]:
        """Orders to choose from, and their headings."""
        orders = {STORED: "as stored"}
        if self.evaluation is not None:
            for metric in self.protocol.metrics:
                orders[f"worst {metric.name}"] = f"worst {metric.heading} first"
                orders[f"best {metric.name}"] = f"best {metric.heading} first"
        return orders

    def filters(self) -> dict[str, list[str]]:
        """Columns to filter by, and the values of each."""
        return {column: list(dict.fromkeys(names)) for column, names in self._columns.items()}

    @cached_property
    def _columns(self) -> Mapping[str, NDArray]:
        r, found = self.records, {}
        for column, values in r.ids.items():
            different, where = np.unique(values, return_inverse=True)
            if 1 < len(different) <= _MOST_VALUES:
                named = r.id_names.get(column, {})
                texts = np.array([named.get(int(v), f"{column} {v}") for v in different])
                found[column] = texts[where.reshape(-1)]
        parts = [c for c in self.protocol.sequence if c in r.ids]
        if len(parts) > 1:
            rows, where = np.unique(np.stack([r.ids[c] for c in parts], 1), axis=0, return_inverse=True)
            if 1 < len(rows) <= _MOST_VALUES:
                texts = np.array(
                    [
                        ", ".join(r.id_names.get(c, {}).get(int(v), f"{c} {v}") for c, v in zip(parts, row))
                        for row in rows
                    ]
                )
                found["whole sequence"] = texts[where.reshape(-1)]
        return found

    def rows(self, column: str = ANY, value: str = ANY, order: str = STORED) -> NDArray[np.int64]:
        """Rows that have a value in a column, in an order.

        Raises:
            ValueError: for a column, value or order that there is not.
        """
        if column == ANY or value == ANY:
            kept = np.arange(len(self))
        elif column not in self._columns:
            raise ValueError(f"there is no column {column!r} to filter by")
        else:
            kept = np.flatnonzero(self._columns[column] == value)
            if not len(kept):
                raise ValueError(f"no example has the {column} {value!r}")
        if order not in self.orders:
            raise ValueError(f"there is no order {order!r}")
        if order == STORED or self.evaluation is None:
            return kept
        which, name = order.split(" ", 1)
        values = self.evaluation.values[name][kept]
        rising = self.protocol.metric(name).larger_is_better == (which == "worst")
        # What has no value is last either way.
        return kept[np.lexsort((np.where(rising, values, -values), np.isnan(values)))]

    def scores(self, row: int) -> dict[str, str]:
        """The row's values of the protocol's metrics, by heading."""
        if self.evaluation is None:
            return {}
        values = ((m, float(self.evaluation.values[m.name][row])) for m in self.protocol.metrics)
        return {m.heading: m.format(v) if np.isfinite(v) else "–" for m, v in values}

    # --- One row ------------------------------------------------------------------------------------

    def example(self, row: int, stage: str = TARGET) -> Example:
        """Everything about a row.

        Args:
            stage: one of `stages`: whose heatmaps, and whose coordinates are the prediction; with the target,
                those of the last stage.

        Raises:
            ValueError: for a row or stage that there is not, or an image that cannot be read.
        """
        if not 0 <= row < len(self):
            raise ValueError(f"there is no row {row}; the last is {len(self) - 1}")
        if stage not in self.stages:
            raise ValueError(f"there is no stage {stage!r}")
        skeleton = self.dataset.skeleton
        sample, out = (self.dataset[row], None) if self.loaded is None else self._look(row)
        flat = not bool(sample.depth_valid.any())
        truth = sample.target_norm.double()
        if flat:
            truth[:, 2] = 0
        else:
            truth[~sample.depth_valid] = torch.nan
        truth[~sample.valid] = torch.nan
        to_crop = point_map(sample.crop, sample.intrinsics)
        camera = crop_camera(sample.crop, sample.intrinsics)

        def pixels(joints_mm: torch.Tensor) -> NDArray[np.float64]:
            return project(joints_mm @ to_crop.T, camera).numpy()

        labels = sample.joints_cam_mm.clone()
        labels[~self.records.valid[row]] = torch.nan
        root = skeleton.index(skeleton.root)
        shown = Example(
            row=row,
            about=describe_row(self.records, row),
            crop=tensor_image(sample.image, self.spec),
            skeleton=skeleton,
            heatmaps=_target(truth),
            truth_norm=truth.numpy(),
            truth_px=pixels(labels),
            truth_mm=None if flat else (labels - labels[root]).numpy(),
            found_norm=None,
            found_px=None,
            found_mm=None,
            aligned_mm=None,
            errors_mm=None,
            aligned_errors_mm=None,
            flat=flat,
        )
        if out is None:
            return shown
        if out.stages:
            shown_stage = out.stages[-1 if stage == TARGET else self.stages.index(stage) - 1]
            coords = marginals_to_coords(shown_stage)[0].double()
            if stage != TARGET:
                shown = replace(shown, heatmaps=Marginals(*(h[0].double().numpy() for h in shown_stage)))
        else:
            coords = out.coords_norm[0].double()
        joints = joints_in_camera(coords, sample, self.spec, self._depth)
        relative = joints - joints[root]
        shown = replace(shown, found_norm=coords.numpy(), found_px=pixels(joints), found_mm=relative.numpy())
        if shown.truth_mm is None:
            return shown
        truth_mm = torch.from_numpy(shown.truth_mm)
        known = truth_mm.isfinite().all(-1)
        aligned = torch.full_like(relative, torch.nan)
        aligned[known] = align(relative[known], truth_mm[known], "similarity")
        return replace(
            shown,
            aligned_mm=aligned.numpy(),
            errors_mm=(relative - truth_mm).norm(dim=-1).numpy(),
            aligned_errors_mm=(aligned - truth_mm).norm(dim=-1).numpy(),
        )

    @property
    def _device(self) -> torch.device:
        assert self.loaded is not None
        return next(self.loaded.model.parameters()).device

    @property
    def _depth(self) -> Depth:
        return "height" if self.protocol.depth == "none" else self.protocol.depth

    def _look(self, row: int) -> tuple[Sample, PoseOutput]:
        """What the network is shown of a row, and its answer, on the CPU; the last few are remembered.

        Of people who lean, that is the second look, as in `predict_joints`.
        """
        with self._lock:
            if row not in self._seen:
                sample = self.dataset[row]
                out = self._output(sample)
                if self.spec.upright:
                    joints = joints_in_camera(out.coords_norm[0], sample, self.spec, self._depth)
                    turn = float(lean_deg(project(joints, sample.intrinsics), self.dataset.skeleton))
                    if abs(turn) >= LEANING_DEG:
                        sample = self.dataset.multi_crop(row, (0,), turn)[0]
                        out = self._output(sample)
                self._seen[row] = sample, out
                while len(self._seen) > _REMEMBERED:
                    self._seen.popitem(last=False)
            self._seen.move_to_end(row)
            return self._seen[row]

    @torch.inference_mode()
    def _output(self, sample: Sample) -> PoseOutput:
        assert self.loaded is not None
        out = self.loaded.model(sample.image[None].to(self._device))
        stages = tuple(Marginals(*(h.cpu() for h in stage)) for stage in out.stages)
        return PoseOutput(out.coords_norm.cpu(), stages)


def _target(truth: torch.Tensor) -> Marginals:
    """Heatmaps as training wants them, of one cell's deviation; of what is not labelled, nothing."""
    known = truth.isfinite().all(-1)
    x, y, z = torch.where(known[:, None], truth, 0).split(1, -1)
    planes = (torch.cat(pair, -1) for pair in ((x, y), (z, y), (x, z)))
    size = (_TARGET_CELLS, _TARGET_CELLS)
    return Marginals(*((make_gauss(p, size, 1.0) * known[:, None, None]).numpy() for p in planes))
