"""What MkDocs does not know by itself: pages that lie beside docs/, their order, and the reference.

Links in the Markdown files are those that a repository's pages need (`../README.md`). The site has the same
pages elsewhere, so links are rewritten; what is no page of the site, such as code, is named without a link.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "margipose"

BESIDE = {
    "README.md": "index.md",
    "docker/README.md": "docker.md",
    "experiments/RESULTS.md": "results.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""Files of the repository that are pages of the site, by their place there."""

PICTURES = {"experiments/claims/plots": "claims"}
"""Folders of pictures that these pages show, by their place in the site."""

SECTIONS: dict[str, tuple[str, ...]] = {
    "Start": ("index.md", "quickstart.md", "frames.md", "faq.md"),
    "Data": ("datasets.md", "custom_data.md", "synthetic.md"),
    "Use": (
        "training.md",
        "inference.md",
        "viewing.md",
        "protocols.md",
        "predictions.md",
        "model_cards.md",
        "results.md",
    ),
    "Hosts": ("distributed.md", "docker.md", "scaling.md", "security.md"),
    "Develop": ("architecture.md", "contributing.md", "changelog.md"),
}
"""The order of pages. One that is not listed comes under "Use", one that does not exist is left out."""

_NAME = re.compile(r"`(\w+)/?`")
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```.*?^```)", re.DOTALL | re.MULTILINE)


def modules() -> list[str]:
    """Top-level modules in the order of the README's map, each once."""
    table = re.search(r"\| module of `margipose` \|.*?\n\n", (ROOT / "README.md").read_text(), re.DOTALL)
    rows = [line for line in table[0].splitlines() if line.startswith("| `")] if table else []
    found = [name for row in rows for name in _NAME.findall(row.split("|")[1])]
    return [n for n in dict.fromkeys(found) if (PACKAGE / n).is_dir() or (PACKAGE / f"{n}.py").is_file()]


def parts(module: str) -> list[str]:
    """Dotted names of a module and, for a package, of the modules in it that have something public."""
    folder = PACKAGE / module
    if not folder.is_dir():
        return [f"margipose.{module}"]
    inner = sorted(p for p in folder.rglob("*.py") if _is_public(p))
    names = [".".join(p.relative_to(ROOT).with_suffix("").parts) for p in inner]
    return [n.removesuffix(".__init__") for n in names]


def _is_public(path: Path) -> bool:
    if path.name.startswith("_") and path.name != "__init__.py":
        return False
    tree = ast.parse(path.read_text())
    return any(
        isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "__all__" for t in node.targets)
        for node in tree.body
    )


# --- Events of MkDocs -----------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    there = {p.name for p in (ROOT / "docs").glob("*.md")} | {
        page for source, page in BESIDE.items() if (ROOT / source).is_file()
    }
    listed = {page for pages in SECTIONS.values() for page in pages}
    nav: list[dict[str, Any]] = []
    for title, pages in SECTIONS.items():
        more = sorted(there - listed) if title == "Use" else []
        nav.append({title: [page for page in (*pages, *more) if page in there]})
    nav.append({"Reference": ["reference/index.md", *(f"reference/{m}.md" for m in modules())]})
    config.nav = nav
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in BESIDE.items():
        if (ROOT / source).is_file():
            files.append(File.generated(config, page, content=(ROOT / source).read_text()))
    for source, folder in PICTURES.items():
        for path in sorted((ROOT / source).glob("*.png")):
            files.append(File.generated(config, f"{folder}/{path.name}", content=path.read_bytes()))
    lines = ["# Reference", "", "From the docstrings, in the order of the layers, lowest first.", ""]
    for module in modules():
        text = f"# {module}\n\n" + "\n\n".join(f"::: {name}" for name in parts(module)) + "\n"
        files.append(File.generated(config, f"reference/{module}.md", content=text))
        lines.append(f"* [{module}]({module}.md)")
    files.append(File.generated(config, "reference/index.md", content="\n".join(lines) + "\n"))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    source = next((s for s, p in BESIDE.items() if p == here), f"docs/{here}")

    def link(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        if re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        folder, name = posixpath.split(inside)
        if inside in BESIDE:
            inside = BESIDE[inside]
        elif folder in PICTURES:
            inside = posixpath.join(PICTURES[folder], name)
        elif inside.startswith("docs/"):
            inside = inside.removeprefix("docs/")
        elif (ROOT / inside).exists() and not image:
            return text if text.startswith("`") else f"{text} (`{inside}`)"
        # A file that does not exist keeps its link, so that the build complains.
        relative = posixpath.relpath(inside, posixpath.dirname(here) or ".")
        return f"{image}[{text}]({relative}{hash_}{anchor})"

    pieces = _FENCE.split(markdown)
    return "".join(p if p.startswith("```") else _LINK.sub(link, p) for p in pieces)
