"""The section of a results file that says what became of the claims."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from experiments.claims.findings import table_text
from margipose.files import replacing

__all__ = ["TRAININGS", "write_section"]

TRAININGS = "trainings"
"""Folder of the trainings, in that of the claims' JSON files and plots."""

BEGIN, END = "<!-- claims: written by make claims -->", "<!-- end of claims -->"


def write_section(results: Path, found: Path, size: str) -> list[str]:
    """Rewrite what stands between the markers, or append it; everything else stays as it is.

    The plots go to a folder `claims` beside the file. What was measured elsewhere cannot be made anew from
    the Markdown, so a section that tells of claims that are not in `found` is left as it is.

    Args:
        results: a Markdown file.
        found: the folder with the claims' JSON files and plots, and with the trainings.

    Returns:
        The letters of claims that would have been lost; if there are any, nothing was written.

    Raises:
        ValueError: if only one of the markers is there.
    """
    text = results.read_text() if results.exists() else ""
    if (BEGIN in text) != (END in text):
        raise ValueError(f"{results}: expected both {BEGIN!r} and {END!r}, or neither")
    paths = sorted(found.glob("?.json"))
    told = text.partition(BEGIN)[2].partition(END)[0]
    lost = sorted(set(re.findall(r"^### (\w)\. ", told, re.MULTILINE)) - {p.stem for p in paths})
    if lost:
        return lost
    parts = [_heading(found, size)]
    for path in paths:
        document = json.loads(path.read_text())
        plot = found / f"{path.stem}.png"
        if plot.exists():
            with replacing(results.parent / "claims" / "plots" / plot.name) as temporary:
                temporary.write_bytes(plot.read_bytes())
        parts.append(_claim(path.stem, document, plot.exists()))
    section = f"{BEGIN}\n" + "\n".join(parts) + END
    if BEGIN in text:
        before, rest = text.split(BEGIN, 1)
        text = before + section + rest.split(END, 1)[1]
    else:
        text = f"{text.rstrip()}\n\n{section}\n" if text else f"{section}\n"
    with replacing(results) as temporary:
        temporary.write_text(text)
    return []


def _heading(found: Path, size: str) -> str:
    documents = {p.stem: json.loads(p.read_text()) for p in sorted(found.glob("?.json"))}
    minutes = sum(d["minutes"] for d in documents.values())
    where: dict[str, list[str]] = {}
    for document in documents.values():
        commits = where.setdefault(document["environment"]["processor"], [])
        commits += {document["environment"]["commit"][:7]} - set(commits)
    hosts = "; ".join(f"{host}, commit {', '.join(commits)}" for host, commits in where.items())
    known = {d["environment"]["commit"] for d in documents.values()}
    older = sorted(c[:7] for c in _commits(found / TRAININGS) - known)
    kept = f" Among the trainings are some of commits {', '.join(older)}." if older else ""
    packages = next(iter(documents.values()))["environment"] if documents else None
    versions = f", Python {packages['python']}, PyTorch {packages['packages']['torch']}" if packages else ""
    rows = [[letter, d["claim"], d["holds"]] for letter, d in documents.items()]
    return (
        "## Claims\n\n"
        "What the abstracts of both papers claim, measured small: networks of minutes on drawn people, "
        "whose joints are "
        "known exactly (`experiments/claims/`). That a claim holds or does not hold *here* says little "
        "about photos.\n\n"
        f"`make claims` ({'size `' + size + '`'}), {minutes:.0f} minutes on {hosts}{versions}. "
        "± is the 95 % interval over seeds (Student's t), for differences over pairs of equal seed. Seeds "
        f"change the initial weights; the pictures are the same for all networks.{kept}\n\n"
        f"{table_text(['', 'claim', 'holds here'], rows)}\n"
    )


def _commits(trainings: Path) -> set[str]:
    """Commits that trainings were made at; those that do not say are left out."""
    made = (json.loads(path.read_text()).get("commit", "") for path in trainings.glob("*.json"))
    return {commit for commit in made if commit}


def _claim(letter: str, document: dict[str, Any], plot: bool) -> str:
    picture = f"\n![Plot of claim {letter}](claims/plots/{letter}.png)\n" if plot else ""
    changed = " Measured with uncommitted changes." if document["environment"].get("changed") else ""
    return (
        f"### {letter}. {document['claim']}\n\n"
        f"**Holds here: {document['holds']}.** {document['says']}\n\n"
        f"{table_text(document['headers'], document['rows'])}\n\n"
        f"{document['setup']}{changed}\n"
        f"{picture}"
    )
