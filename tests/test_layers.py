"""The package's imports point one way: from the verbs down to what knows nothing of the rest."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "margipose"

LAYERS = [
    {"dsnt", "geometry", "skeleton", "backbones", "spec", "schedule", "files"},
    {"camera", "metrics", "losses", "heads", "jobs", "textures"},
    {"crops", "augment", "appearance", "composite", "model", "mirrored", "data", "checkpoint"}
    | {"legacy", "chatterbox", "headed", "weights"},
    {"config", "train", "evaluate", "infer", "draw", "export", "synthetic", "page", "prepare", "check"},
    {"view"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
LEVEL = {module: level for level, layer in enumerate(LAYERS) for module in layer}

ONLY_IN = {
    "matplotlib": {"draw"},
    "plotly": {"draw"},
    "dash": {"view"},
    "onnx": {"export"},
    "onnxruntime": {"export", "infer"},
    "sacred": set(),
    "argparse": {"cli"},
    "pickle": set(),
}
"""Libraries that are used in one place only."""


def files():
    return sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """Top-level module of a file: margipose/data/h36m.py belongs to `data`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imports(path):
    """Dotted names of everything a file imports."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def ours(path):
    """Top-level modules of the package that a file imports."""
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "margipose" and len(parts) > 1 and parts[1] in LEVEL:
            yield parts[1]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_downwards(path):
    module = module_of(path)
    if module == "__init__":
        assert not list(ours(path)), "importing the package must not import its modules"
        return
    assert module in LEVEL, f"give {module} a layer"
    for other in set(ours(path)) - {module}:
        assert LEVEL[other] <= LEVEL[module], f"{module} is below {other}"
        if LEVEL[module] == 0:
            pytest.fail(f"{module} is in the lowest layer, but imports {other}")
        assert {module, other} != {"model", "data"}, "model and data do not know each other"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_special_libraries_are_used_in_their_place_only(path):
    for name in imports(path):
        library = name.split(".")[0]
        assert module_of(path) in ONLY_IN.get(library, {module_of(path)}), f"{path.name} imports {library}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_only_the_command_line_reads_arguments_and_environment(path):
    if module_of(path) == "cli":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            used = f"{node.value.id}.{node.attr}"
            assert used not in {"sys.argv", "os.environ", "os.getenv"}, f"{path.name} reads {used}"


def test_no_module_cycles_within_a_layer():
    graph = {m: set() for m in LEVEL}
    for path in files():
        if module_of(path) != "__init__":
            graph[module_of(path)] |= set(ours(path)) - {module_of(path)}

    def reach(start, seen):
        for nxt in graph[start]:
            if nxt not in seen:
                seen.add(nxt)
                reach(nxt, seen)
        return seen

    cycles = [m for m in graph if m in reach(m, set())]
    assert set(cycles) <= {"model", "chatterbox", "headed"}, cycles
