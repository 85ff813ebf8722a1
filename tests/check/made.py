"""Sequences of synthetic people, and what a check finds in them."""

from margipose.data.mpi3d_files import list_sequences, read_metadata, write_metadata


def first(data, split="train"):
    return list_sequences(data, split)[0]


def shown(directory):
    """The frames of a sequence that each of its cameras has images of."""
    frames = read_metadata(directory / "metadata.h5").interesting_frames.values()
    (common,) = {tuple(f) for f in frames}
    return list(common)


def image_name(frame):
    return f"img_{frame + 1:06d}.jpg"


def images_of(directory):
    return sorted(directory.glob("imageSequence/*/*.jpg"))


def spoil(directory, change):
    """Rewrite a sequence's metadata; `change` gets and gives it."""
    path = directory / "metadata.h5"
    write_metadata(path, change(read_metadata(path)))


def found(report, text):
    """The errors that say so; there have to be some."""
    named = [f for f in report.errors if text in f.what]
    assert named, report.lines()
    return named
