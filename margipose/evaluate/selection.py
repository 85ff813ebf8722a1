"""Which records a protocol scores, and how they are divided into groups and sequences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from margipose.data import Records
from margipose.evaluate.protocols import SETTINGS, Protocol

__all__ = ["differences", "groups_of", "scored", "select", "sequences_of"]


def select(records: Records, protocol: Protocol) -> Records:
    """The records that a protocol scores: its subjects, cameras and frames.

    Raises:
        ValueError: if a column that this takes is missing, nothing is left, or frames are missing: when
            those there are lie farther apart than the protocol's.
    """
    chosen = np.ones(len(records), bool)
    for column, wanted in (("subject", protocol.subjects), ("camera", protocol.cameras)):
        if wanted:
            chosen &= np.isin(_column(records, protocol, column), wanted)
            if not chosen.any():
                raise ValueError(
                    f"{records.name}: protocol {protocol.name} scores {column} "
                    f"{', '.join(map(str, wanted))}, of which there is none"
                )
    if protocol.stride:
        frames = _column(records, protocol, "frame")
        chosen &= (frames - 1) % protocol.stride == 0
        _check_gaps(records, protocol, chosen, frames)
    return records if chosen.all() else records.select(chosen)


def scored(records: Records, protocol: Protocol) -> tuple[Records, Protocol]:
    """The records that a protocol scores; if some are not there, all records, by a protocol that says so.

    For the evaluation of a training, which is to compare networks with each other on whatever there is.
    """
    if records.name == f"{protocol.dataset}/{protocol.split}":
        try:
            return select(records, protocol), protocol
        except ValueError:
            pass
    elif not (protocol.subjects or protocol.cameras or protocol.stride):
        return records, protocol
    about = f"{protocol.about}; but of all of {records.name}, whatever subjects, cameras and frames it has"
    return records, replace(protocol, subjects=(), cameras=(), filmed_by=(), stride=0, about=about)


def _column(records: Records, protocol: Protocol, column: str) -> NDArray[np.integer]:
    if column not in records.ids:
        raise ValueError(f"{records.name}: protocol {protocol.name} selects by {column}, which is not known")
    return records.ids[column]


def _check_gaps(
    records: Records, protocol: Protocol, chosen: NDArray[np.bool_], frames: NDArray[np.integer]
) -> None:
    sequence = sequences_of(records, protocol)
    camera = records.ids.get("camera", np.zeros(len(records), np.int64))
    order = np.lexsort((frames, camera, sequence))
    order = order[chosen[order]]
    same = (sequence[order][1:] == sequence[order][:-1]) & (camera[order][1:] == camera[order][:-1])
    gaps = np.diff(frames[order].astype(np.int64))[same]
    if not chosen.any() or ((gaps > 0).any() and np.median(gaps[gaps > 0]) != protocol.stride):
        found = np.unique(frames)
        apart = int(np.median(np.diff(found))) if len(found) > 1 else 0
        scored = (
            f" whose number is 1 more than a multiple of {protocol.stride}" if protocol.stride > 1 else ""
        )
        raise ValueError(
            f"{records.name}: protocol {protocol.name} scores every frame{scored}; there are frames "
            f"{', '.join(map(str, found[:4]))}, ... ({apart} apart), so most of them are missing"
        )


def differences(records: Records, protocol: Protocol) -> list[str]:
    """Sentences on how some records differ from all that a protocol scores; none if nothing is known to."""
    found = []
    whole = f"{protocol.dataset}/{protocol.split}"
    if records.name != whole:
        found.append(f"These are poses of {records.name}; the protocol's are those of {whole}.")
    missing = [s for s in protocol.subjects if s not in records.ids.get("subject", ())]
    if missing:
        found.append(f"The protocol's subjects {', '.join(map(str, missing))} are missing.")
    count = len(np.unique(sequences_of(records, protocol)))
    if count < protocol.sequences:
        there = "is" if count == 1 else "are"
        found.append(f"{count} of the protocol's {protocol.sequences} sequences {there} there.")
    return found + _missing_videos(records, protocol)


def _missing_videos(records: Records, protocol: Protocol) -> list[str]:
    """What to say of cameras that are missing, and of single videos that those there lack of the sequences
    there."""
    cameras = protocol.cameras or protocol.filmed_by
    columns = (*protocol.sequence, "camera")
    if not cameras or any(c not in records.ids for c in columns):
        return []
    found = []
    rows = np.unique(np.stack([records.ids[c] for c in columns], 1), axis=0)
    videos = {tuple(row) for row in rows[np.isin(rows[:, -1], cameras)].tolist()}
    present = {camera for *_, camera in videos}
    missing = [str(c) for c in cameras if c not in present]
    if missing:
        some = "cameras {} are" if len(missing) > 1 else "camera {} is"
        found.append(f"The protocol's {some.format(', '.join(missing))} missing.")
    sequences = {tuple(sequence) for *sequence, _ in videos}
    expected = {(*sequence, camera) for sequence in sequences for camera in present}
    videos -= set(protocol.left_out)  # of which somebody may have a mended one
    if expected - videos - set(protocol.left_out):
        left_out = [v for v in protocol.left_out if _scores_video(protocol, v)]
        whole = protocol.sequences * len(cameras) - len(left_out)
        there = "is" if len(videos) == 1 else "are"
        found.append(f"{len(videos)} of the protocol's {whole} videos {there} there.")
    return found


def _scores_video(protocol: Protocol, video: tuple[int, ...]) -> bool:
    values = dict(zip((*protocol.sequence, "camera"), video))
    chosen = (("subject", protocol.subjects), ("camera", protocol.cameras))
    return all(not wanted or values[column] in wanted for column, wanted in chosen)


def sequences_of(records: Records, protocol: Protocol) -> NDArray[np.int64]:
    """N numbers, equal for rows of one sequence; those of all cameras are one. Rows that no column tells
    apart are sequences of their own."""
    columns = [records.ids[c] for c in protocol.sequence if c in records.ids]
    if not columns:
        return np.arange(len(records))
    return np.unique(np.stack(columns, 1), axis=0, return_inverse=True)[1].reshape(-1)


def groups_of(records: Records, column: str) -> tuple[NDArray[np.integer], Mapping[int, str]] | None:
    """N values of a column that results are reported by, and the names of values; None if it is not known.

    `"setting"` is where a test sequence of MPI-INF-3DHP was filmed.
    """
    if column in records.ids:
        values = records.ids[column]
        named = records.id_names.get(column, {})
        return values, {int(v): named.get(int(v), f"{column} {v}") for v in np.unique(values)}
    if column != "setting" or "subject" not in records.ids:
        return None
    names = records.id_names.get("subject", {})
    present = {int(v): SETTINGS.get(names.get(int(v), "")) for v in np.unique(records.ids["subject"])}
    if None in present.values():
        return None
    order = list(dict.fromkeys(SETTINGS.values()))
    number = {subject: order.index(setting) for subject, setting in present.items()}  # type: ignore[arg-type]
    values = np.array([number[int(v)] for v in sorted(present)])
    _, row = np.unique(records.ids["subject"], return_inverse=True)
    return values[row.reshape(-1)], dict(enumerate(order))
