"""The documentation builds without a warning, and its pages are what they say."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(
    find_spec("mkdocs") is None or find_spec("mkdocstrings") is None, reason="needs the extra 'docs'"
)


def build(folder, config="mkdocs.yml"):
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder, "--config-file", config],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(folder)
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_every_page_is_there_and_can_be_found(site):
    index = (site / "index.html").read_text()
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    for page in {*pages, "docker", "changelog", "contributing", "results"}:
        assert (site / f"{page}.html").is_file()
        assert f'href="{page}.html"' in index, f"{page} is not in the navigation"


def test_links_between_pages_end_at_pages_of_the_site(site):
    faq = (site / "faq.html").read_text()
    assert 'href="index.html#your-own-images-and-videos"' in faq  # ../README.md in the repository
    assert 'href="frames.html"' in faq
    for page in site.rglob("*.html"):
        assert not re.search(r'href="(?!https?:)[^"]*\.md[#"]', page.read_text()), page.name


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("dsnt", ["margipose.dsnt.flat_softmax", "margipose.dsnt.js_reg_losses"]),
        ("checkpoint", ["margipose.checkpoint.load"]),
        ("data", ["margipose.data.records.Records", "margipose.data.dataset.PoseDataset"]),
        ("evaluate", ["margipose.evaluate.protocols.Protocol"]),
    ],
)
def test_the_reference_has_what_is_public(site, page, names):
    text = (site / "reference" / f"{page}.html").read_text()
    for name in names:
        assert f'id="{name}"' in text
    assert "margipose.checkpoint._fill" not in text


def test_readers_fetch_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        for address in re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="([^"]+)"', page.read_text()
        ):
            assert not re.match(r"(https?:)?//", address), f"{page.name}: {address}"


def test_a_broken_link_fails_the_build(tmp_path):
    """The build as configured, of a page that links to nothing."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "index.md").write_text("# One\n\n[nothing](gone.md)\n")
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    kept = {k: settings[k] for k in ("site_name", "strict", "validation")}
    (tmp_path / "mkdocs.yml").write_text(yaml.safe_dump(kept))
    done = build(tmp_path / "site", tmp_path / "mkdocs.yml")
    assert done.returncode != 0
    assert "gone.md" in done.stderr
