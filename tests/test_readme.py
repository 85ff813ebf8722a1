"""What the README and the pages beside it show works."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from experiments import average, dsnt2d, graft, landmarks, lift, normalise, pack
from experiments.ship import Card, ship
from margipose import weights
from margipose.backbones import build_backbone
from margipose.cli import build_parser, main
from margipose.cli.training import parse_updates
from margipose.config import combine
from margipose.data import DATASETS
from margipose.weights import shipped

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHIPPED = {"lite", "lite-synthetic"}
"""Weights that the pages name."""

SCRIPTS = (average, graft, landmarks, lift, normalise, pack)
PARSERS = {f"experiments.{m.__name__.rpartition('.')[2]}": m.build_parser for m in SCRIPTS}
"""Of the scripts that are run as modules."""

PAGES = {p: p.read_text() for p in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))}


def blocks(language, text=README):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(program):
    """Words of every command of a program, without those that occur twice."""
    text = "\n".join(PAGES.values())
    whole = (block.replace("\\\n", " ") for block in blocks("sh", text))
    lines = (line.split(" #")[0] for block in whole for line in block.splitlines())
    return [shlex.split(line)[1:] for line in dict.fromkeys(lines) if line.startswith(f"{program} ")]


@pytest.fixture
def folder(tiny_weights, tmp_path, monkeypatch):
    """A folder with the files that the README's examples name."""
    monkeypatch.chdir(tmp_path)
    if not set(weights.names()) >= SHIPPED:  # before there are any, a tiny network stands in
        monkeypatch.setattr(shipped, "FOLDER", tmp_path / "shipped")
        for name in SHIPPED:
            ship(tiny_weights, name, Card("tiny", "nothing", "tests"), tmp_path / "shipped")
    shutil.copy(tiny_weights, "model.safetensors")
    image = np.random.default_rng(0).integers(0, 255, (240, 240, 3), np.uint8)
    cv2.imwrite("photo.jpg", image)
    cv2.imwrite("handstand.jpg", image[::-1])
    # What the page about inference names.
    Path("photos").mkdir()
    cv2.imwrite("photos/1.png", image)
    video = cv2.VideoWriter("walk.mp4", cv2.VideoWriter.fourcc(*"mp4v"), 25, (240, 240))
    for _ in range(3):
        video.write(image)
    video.release()
    Path("boxes.csv").write_text("frame,left,top,width,height\n0,20,20,150,150\n1,22,20,150,150\n")
    Path("cameras.json").write_text(json.dumps({"cameras": {"left": {"intrinsics": [310, 310, 120, 120]}}}))
    # The data set that the page about custom data shows.
    (tmp_path / "mydata" / "images").mkdir(parents=True)
    custom = PAGES[ROOT / "docs" / "custom_data.md"]
    (tmp_path / "mydata" / "annotations.json").write_text(blocks("json", custom)[0])
    for name in ("0001.jpg", "0002.jpg"):
        cv2.imwrite(f"mydata/images/{name}", image)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "code"),
    [(page.name, code) for page, text in PAGES.items() for code in blocks("python", text)],
    ids=lambda c: c.splitlines()[-1][:40],
)
def test_python_runs(page, code, folder):
    if "from timm" in code:
        # Where the installed torchvision belongs to another torch, only the package knows how to import timm.
        build_backbone("resnet18")
    known = dict(DATASETS)
    try:
        exec(compile(code, page, "exec"), {"__name__": "__main__"})
    finally:  # an example adds one
        DATASETS.clear()
        DATASETS.update(known)


@pytest.mark.parametrize("words", commands("margipose"), ids=" ".join)
def test_commands_are_valid(words, folder):
    args = build_parser().parse_args(words)
    if args.command in ("infer", "describe", "models"):
        assert main(words) == 0
    if args.command == "train" and args.words and not args.config:
        assert combine(*parse_updates(args.words)).train_sets


def test_experiment_commands_are_valid():
    found = commands("python")
    assert found
    for script, *words in found:
        if script == "-m":
            assert PARSERS[words[0]]().parse_args(words[1:])
            continue
        assert (ROOT / script).is_file()
        if Path(script).name == "dsnt2d.py":
            dsnt2d_is_valid(words)
            continue
        at = words.index("with")
        assert at in (0, 2)  # after one of Sacred's flags
        names = [word for word in words[at + 1 :] if not word.endswith(".json")]
        assert combine(*parse_updates(names)).train_sets or names == []


def dsnt2d_is_valid(words):
    if words == ["--list"]:
        return
    name, option, data, *keys = words
    assert option == "--data"
    for row in dsnt2d.rows_of(name):
        assert dsnt2d.config_of(row, data, parse_updates(keys)[1]).train_sets


def test_make_targets_exist():
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert commands("make")
    for words in commands("make"):
        assert words[0] in targets


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_linked_files_and_headings_exist(page):
    text = PAGES[page]
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (page.parent / target).exists(), target
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}
    for target in re.findall(r"\]\(#([^)]+)\)", text):
        assert target in anchors, target


def test_modules_are_in_the_map():
    for path in (ROOT / "margipose").iterdir():
        if path.stem.startswith("_") or path.suffix not in ("", ".py"):
            continue
        assert re.search(rf"`{path.stem}/?`", README), f"{path.name} is missing from the README's map"
