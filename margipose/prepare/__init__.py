"""From data sets as they are downloaded to the prepared layouts that `margipose.data` reads.

Each preparer is a module with a line `ABOUT` it, `EXAMPLES` of its command, its `OPTIONS`, and
`plan(src, dest, **options) -> Plan`, which looks at both folders and changes neither. `margipose.jobs.run`
does what a plan lists.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Any, Literal

__all__ = ["NEEDS", "PREPARERS", "Option", "check_libraries", "get_preparer", "settings_of"]


@dataclass(frozen=True)
class Option:
    """A keyword of a preparer's `plan`, and an option of the command line.

    Attributes:
        name: of the keyword; on the command line its underscores are dashes.
        kind: what it takes; "flag" takes nothing and gives True, "names" takes words with commas between
            them and gives a tuple of them (let its default be a tuple, too).
        help: what it does, for the command line.
        default: without it.
        fixed: whether the files depend on it, so that a folder must be finished with the value with which
            it was begun. What only chooses parts is not.
        newer: than folders that should still be gone on with: it is noted in them only where it is used.
    """

    name: str
    kind: Literal["flag", "int", "float", "text", "names", "path"]
    help: str
    default: Any = None
    fixed: bool = True
    newer: bool = False


PREPARERS: Mapping[str, str] = MappingProxyType(
    {
        "h36m": "margipose.prepare.h36m",
        "mpi3d": "margipose.prepare.mpi3d",
        "mpii": "margipose.prepare.mpii",
        "lsp": "margipose.prepare.lsp",
    }
)
"""The module of each data set."""

NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType({"h36m": ("cdflib", "av"), "mpi3d": ("av",)})
"""Libraries that come with the extra `prepare`, by the data sets that need them."""


def get_preparer(name: str) -> ModuleType:
    """The module that prepares a data set.

    Raises:
        ValueError: if there is none.
    """
    if name not in PREPARERS:
        raise ValueError(f"cannot prepare {name!r}; valid: {', '.join(PREPARERS)}")
    return importlib.import_module(PREPARERS[name])


def check_libraries(name: str) -> None:
    """Raise ImportError if a library that preparing a data set needs is not installed."""
    absent = [library for library in NEEDS.get(name, ()) if importlib.util.find_spec(library) is None]
    if absent:
        raise ImportError(f'preparing {name} needs {" and ".join(absent)}: pip install "margipose[prepare]"')


def settings_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """What the files of a prepared set depend on, for `margipose.jobs.claim`.

    Args:
        options: keywords of its `plan`; of those that are left out, the defaults count.
    """
    values = {o: options.get(o.name, o.default) for o in get_preparer(name).OPTIONS if o.fixed}
    noted = {o.name: v for o, v in values.items() if not o.newer or v != o.default}
    return {"prepared": name, **noted}
