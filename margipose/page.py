"""Reports as one HTML file that needs nothing else: no server, no scripts, no other files.

Images are inlined, and the page forbids itself to load anything. It is readable on a phone, on paper, in
light and dark, and by a screen reader. All text is escaped; there is no way to pass HTML.

    page = Page("Evaluation", "12 images of MPI-INF-3DHP's test set.")
    page.section("Scores").table(("joint", "error (mm)"), [("left wrist", 93.1), ("head", None)])
    page.section("Poses").picture(figure_to_png(figure), "Frame 1", "Two plots of a walking person")
    page.write("report.html")
"""

from __future__ import annotations

import base64
import html
import math
import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from margipose.files import replacing

__all__ = ["Cell", "Page", "Picture"]

Cell = str | float | None
"""What a table holds: text, a number (Python's or NumPy's), or None where there is nothing to tell."""

NOTHING = "–"

FORMATS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
"""Media types by the first bytes of a file."""

STYLE = """
:root { color-scheme: light dark; --text: #1c1e21; --quiet: #5a6067; --ground: #ffffff; --line: #d5d9de;
  --band: #f4f6f8; --accent: #1f6fb5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e8ea; --quiet: #a3aab2; --ground: #16181b;
  --line: #3a3f45; --band: #202327; --accent: #6fb4ee; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; color: var(--text);
  background: var(--ground); font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 0.6rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.8rem; padding-top: 0.8rem; border-top: 1px solid var(--line); }
p { max-width: 44rem; margin: 0 0 0.9rem; }
.intro { font-size: 1.08rem; color: var(--quiet); }
pre { background: var(--band); padding: 0.7rem 0.9rem; border-radius: 6px; overflow-x: auto;
  font-size: 0.87rem; line-height: 1.45; }
figure { margin: 0 0 1.4rem; }
figcaption, caption { color: var(--quiet); font-size: 0.9rem; }
figcaption { margin-top: 0.35rem; }
img { display: block; max-width: 100%; height: auto; border-radius: 6px; background: #ffffff; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1rem; }
.grid figure { margin: 0; }
.grid img { width: 100%; }
.grid + * { margin-top: 1.2rem; }
.scroll { overflow-x: auto; margin: 0 0 1.4rem; }
table { border-collapse: collapse; font-size: 0.94rem; }
caption { text-align: left; padding-bottom: 0.4rem; }
th, td { padding: 0.32rem 0.8rem; text-align: left; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody th { font-weight: 500; white-space: nowrap; }
tbody tr:nth-child(even) { background: var(--band); }
td:not(.number) { min-width: 8rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Picture:
    """An image for a page.

    Attributes:
        data: a PNG or JPEG file's bytes.
        caption: shown below it; may be empty.
        alt: what it shows, in words, for those who cannot see it.

    Raises:
        ValueError: if the data is of neither kind or there is no `alt`.
    """

    data: bytes
    caption: str
    alt: str

    def __post_init__(self) -> None:
        _media_type(self.data)
        if not self.alt.strip():
            raise ValueError("Picture.alt: say in words what the picture shows")


def _media_type(data: bytes) -> str:
    if isinstance(data, (bytes, bytearray, memoryview)):
        for start, media_type in FORMATS.items():
            if bytes(data[: len(start)]) == start:
                return media_type
    raise ValueError("Picture.data: expected the bytes of a PNG or JPEG file")


def _escape(text: str) -> str:
    return html.escape(str(text), quote=True)


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.data).decode("ascii")
    uri = f"data:{_media_type(picture.data)};base64,{data}"
    caption = f"<figcaption>{_escape(picture.caption)}</figcaption>" if picture.caption else ""
    return f'<figure><img src="{uri}" alt="{_escape(picture.alt)}">{caption}</figure>'


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, numbers.Real) and not isinstance(cell, bool)


def _cell_text(cell: Cell, digits: int) -> str:
    """A cell's text: integers as they are, other numbers with fixed digits."""
    if cell is None:
        return NOTHING
    if not _is_number(cell):
        return str(cell)
    if isinstance(cell, numbers.Integral):
        return f"{int(cell)}".replace("-", "−")
    value = round(float(cell), digits) + 0.0 if math.isfinite(cell) else None  # + 0.0: there is no -0
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


class Page:
    """A page that is built from top to bottom; every method returns the page, so that calls chain.

    Args:
        title: of the window, and the first heading.
        intro: paragraphs below it, separated by blank lines.
        language: of the text, as an HTML language code.

    Raises:
        ValueError: for an empty title.
    """

    def __init__(self, title: str, intro: str = "", language: str = "en") -> None:
        if not title.strip():
            raise ValueError("Page: the title is empty")
        self.title = title
        self.language = language
        self._parts: list[str] = []
        self._in_section = False
        self._paragraphs(intro, ' class="intro"')

    def _paragraphs(self, text: str, attributes: str = "") -> None:
        for paragraph in text.split("\n\n"):
            if paragraph.strip():
                self._parts.append(f"<p{attributes}>{_escape(paragraph.strip())}</p>")

    def section(self, heading: str) -> Page:
        """Begin a section; what follows belongs to it."""
        if not heading.strip():
            raise ValueError("section: the heading is empty")
        if self._in_section:
            self._parts.append("</section>")
        self._in_section = True
        self._parts.append(f"<section>\n<h2>{_escape(heading)}</h2>")
        return self

    def text(self, text: str) -> Page:
        """Paragraphs, separated by blank lines."""
        self._paragraphs(text)
        return self

    def code(self, text: str) -> Page:
        """Text as it is, such as a command: in a typewriter's letters, with its line breaks."""
        self._parts.append(f'<pre tabindex="0"><code>{_escape(text)}</code></pre>')
        return self

    def picture(self, data: bytes, caption: str, alt: str) -> Page:
        """One image, as large as it is or as the page is wide; see `Picture`."""
        self._parts.append(_figure(Picture(data, caption, alt)))
        return self

    def pictures(self, pictures: Iterable[Picture]) -> Page:
        """Images of equal width side by side, as many as fit."""
        figures = [_figure(p) for p in pictures]
        if figures:
            self._parts.append('<div class="grid">\n' + "\n".join(figures) + "\n</div>")
        return self

    def table(
        self, headers: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = "", digits: int = 1
    ) -> Page:
        """A table whose first column names its rows.

        Columns of numbers are aligned to the right. None, NaN and infinity are shown as a dash.

        Args:
            headers: names of the columns, with units.
            rows: of as many cells as there are headers.
            caption: above the table.
            digits: decimals of numbers that are not integers.

        Raises:
            ValueError: for a row of another length, or no headers.
        """
        rows = [tuple(row) for row in rows]
        if not headers:
            raise ValueError("table: there are no headers")
        for i, row in enumerate(rows):
            if len(row) != len(headers):
                raise ValueError(f"table: row {i} has {len(row)} cells, but there are {len(headers)} headers")
        numeric = [
            any(map(_is_number, column)) and all(_is_number(c) or c is None for c in column)
            for column in ([row[k] for row in rows] for k in range(len(headers)))
        ]
        marks = [' class="number"' if n else "" for n in numeric]
        head = "".join(f'<th scope="col"{m}>{_escape(h)}</th>' for h, m in zip(headers, marks))
        body = []
        for row in rows:
            texts = [_escape(_cell_text(cell, digits)) for cell in row]
            cells = "".join(f"<td{m}>{t}</td>" for t, m in zip(texts[1:], marks[1:]))
            body.append(f'<tr><th scope="row"{marks[0]}>{texts[0]}</th>{cells}</tr>')
        title = f"<caption>{_escape(caption)}</caption>" if caption else ""
        label = _escape(caption or "Table")
        self._parts.append(
            f'<div class="scroll" role="region" aria-label="{label}" tabindex="0">\n'
            f"<table>{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n"
            + "\n".join(body)
            + "\n</tbody></table>\n</div>"
        )
        return self

    def html(self) -> str:
        """The whole file; the page can still grow afterwards."""
        body = "\n".join([*self._parts, *(["</section>"] if self._in_section else [])])
        policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
        return (
            f'<!DOCTYPE html>\n<html lang="{_escape(self.language)}">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{_escape(self.title)}</title>\n<style>{STYLE}</style>\n</head>\n"
            f"<body>\n<main>\n<h1>{_escape(self.title)}</h1>\n{body}\n</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Write the file, whole or not at all, and return its path."""
        path = Path(path)
        data = self.html().encode("utf-8")
        with replacing(path) as temporary:
            temporary.write_bytes(data)
        return path
