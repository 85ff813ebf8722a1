"""The notebooks run from top to bottom, one after the other, and are stored with what they show."""

import json
import re
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LARGEST = 1_000_000


def cells(path):
    document = json.loads(path.read_text(encoding="utf-8"))
    return [c for c in document["cells"] if c["cell_type"] == "code"]


def kinds(outputs):
    """What a cell puts out: pictures, text, ...; warnings depend on the machine."""
    found = {kind for o in outputs for kind in o.get("data", (o.get("name", o["output_type"]),))}
    return found - {"stderr"}


def test_there_are_four():
    assert [p.name[:2] for p in NOTEBOOKS] == ["01", "02", "03", "04"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_stored_outputs_are_those_of_one_run(path):
    found = cells(path)
    assert [c["execution_count"] for c in found] == list(range(1, len(found) + 1))
    outputs = [o for c in found for o in c["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs), "pictures are part of it"
    assert path.stat().st_size < LARGEST
    texts = json.dumps([o.get("text", o.get("data", {}).get("text/plain", "")) for o in outputs])
    assert not re.search(r"/(home|root|tmp|work|Users)/", texts), "whose machine it was is nobody's business"


@pytest.mark.slow
def test_they_run_one_after_the_other(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    for library in ("ipykernel", "matplotlib", "plotly", "dash", "numba"):
        pytest.importorskip(library)
    folder = shutil.copytree(FOLDER, tmp_path / "notebooks", ignore=shutil.ignore_patterns("work"))
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        for cell in notebook.cells:
            cell.get("outputs", []).clear()
        resources = {"metadata": {"path": str(folder)}}
        client = nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources)
        client.execute()  # raises what a cell raises
        run = [c for c in notebook.cells if c.cell_type == "code"]
        for old, new in zip(cells(path), run, strict=True):
            assert kinds(new.outputs) == kinds(old["outputs"]), old["source"]
