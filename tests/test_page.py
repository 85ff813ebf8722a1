import base64
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from margipose.draw import encode_jpeg, encode_png
from margipose.page import Page, Picture

IMAGE = np.zeros((4, 6, 3), np.uint8)
IMAGE[:, :3] = (255, 0, 0)
PNG = encode_png(IMAGE)
VOID = {"meta", "img"}


class Parsed(HTMLParser):
    """A strict reading: every element is closed in order, and attributes and texts are kept by element."""

    def __init__(self, source):
        super().__init__()
        self.open, self.elements = [], []
        self.feed(source)
        self.close()
        assert not self.open, f"not closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute of {tag} is there twice"
        element = {"tag": tag, "text": "", "path": [e["tag"] for e in self.open], **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag):
        return [e for e in self.elements if e["tag"] == tag]

    def texts(self, tag):
        return [e["text"] for e in self.all(tag)]


def decoded(uri, media_type):
    head, _, data = uri.partition(",")
    assert head == f"data:{media_type};base64"
    return base64.b64decode(data, validate=True)


def test_an_empty_page():
    page = Parsed(Page("A title").html())
    assert page.texts("title") == page.texts("h1") == ["A title"]
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("meta")[0]["charset"] == "utf-8"
    assert any(m.get("name") == "viewport" for m in page.all("meta"))
    assert "prefers-color-scheme: dark" in page.texts("style")[0]


def test_sections_and_texts():
    page = Page("T", "First.\n\nSecond.").section("One").text("a\n\n\n\nb").section("Two").code("x \\\n  < y")
    parsed = Parsed(page.html())
    assert parsed.texts("p") == ["First.", "Second.", "a", "b"]
    assert parsed.texts("h2") == ["One", "Two"]
    assert parsed.texts("code") == ["x \\\n  < y"]
    assert all(h["path"] == ["html", "body", "main", "section"] for h in parsed.all("h2"))
    assert Parsed(page.text("c").html()).texts("p")[-1] == "c", "a page can grow after it was read"


def test_everything_is_escaped():
    evil = '<script>alert("x")</script> & \'"><img src=http://x>'
    page = Page(evil, evil, evil).section(evil).text(evil).code(evil)
    page.picture(PNG, evil, evil).pictures([Picture(PNG, evil, evil)]).table([evil], [[evil]], evil)
    source = page.html()
    parsed = Parsed(source)
    assert "<script" not in source
    for tag, count in {
        "title": 1,
        "h1": 1,
        "h2": 1,
        "p": 2,
        "code": 1,
        "figcaption": 2,
        "caption": 1,
    }.items():
        assert parsed.texts(tag) == [evil] * count
    assert parsed.texts("th") == [evil] * 2
    assert [e["alt"] for e in parsed.all("img")] == [evil] * 2
    assert parsed.all("html")[0]["lang"] == evil


def test_images_are_inlined_and_nothing_is_loaded():
    jpeg = encode_jpeg(IMAGE)
    page = Page("T").picture(PNG, "", "Red and black").pictures(Picture(d, "c", "a") for d in (PNG, jpeg))
    parsed = Parsed(page.html())
    sources = [e["src"] for e in parsed.all("img")]
    assert [decoded(s, "image/png") for s in sources[:2]] == [PNG, PNG]
    image = cv2.imdecode(np.frombuffer(decoded(sources[0], "image/png"), np.uint8), cv2.IMREAD_COLOR)
    assert (image[..., ::-1] == IMAGE).all()
    assert decoded(sources[2], "image/jpeg") == jpeg
    assert parsed.texts("figcaption") == ["c", "c"], "an empty caption is left out"
    grid = [e for e in parsed.all("div") if e.get("class") == "grid"]
    assert len(grid) == 1
    assert sum("div" in e["path"] for e in parsed.all("img")) == 2
    assert {e["tag"] for e in parsed.elements}.isdisjoint({"script", "link", "iframe"})
    assert not re.search(r"https?:|url\(|@import", page.html())
    policy = next(m["content"] for m in parsed.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'")
    assert Page("T").pictures([]).html() == Page("T").html()


def test_tables():
    rows = [
        ("left wrist", 93.14, np.float32(51.25), np.int64(-12), "seen", 1),
        ("head", None, float("nan"), 7, "", "n/a"),
        ("pelvis", -0.04, -12345.6, 0, "root", None),
    ]
    parsed = Parsed(Page("T").table(("joint", "mm", "auc", "n", "remark", "mixed"), rows, "Scores").html())
    assert parsed.texts("caption") == ["Scores"]
    columns = [e for e in parsed.all("th") if e["scope"] == "col"]
    names = [e for e in parsed.all("th") if e["scope"] == "row"]
    assert [e["text"] for e in columns] == ["joint", "mm", "auc", "n", "remark", "mixed"]
    assert [e.get("class") for e in columns] == [None, "number", "number", "number", None, None]
    assert [e["text"] for e in names] == ["left wrist", "head", "pelvis"]
    cells = np.array(parsed.texts("td")).reshape(3, 5).tolist()
    assert cells == [
        ["93.1", "51.2", "−12", "seen", "1"],
        ["–", "–", "7", "", "n/a"],
        ["0.0", "−12345.6", "0", "root", "–"],
    ]
    assert [e.get("class") for e in parsed.all("td")[:5]] == ["number"] * 3 + [None] * 2
    region = next(e for e in parsed.all("div"))
    assert (region["role"], region["aria-label"], region["tabindex"]) == ("region", "Scores", "0")
    assert Parsed(Page("T").table(["a"], [[1.23456]], digits=3).html()).texts("th") == ["a", "1.235"]
    assert Parsed(Page("T").table(["a"], []).html()).texts("td") == []


def test_pages_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "report.html"
    page = Page("Größe – “x”").picture(PNG, "c", "a")
    assert page.write(path) == path
    assert path.read_text(encoding="utf-8") == page.html()
    assert page.write(str(path)) == path
    with pytest.raises(UnicodeEncodeError):
        page.text("\ud800").write(path)
    assert Parsed(path.read_text(encoding="utf-8")).texts("h1") == ["Größe – “x”"]
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Page(" "), "the title is empty"),
        (lambda: Page("T").section(""), "the heading is empty"),
        (lambda: Page("T").picture(b"GIF89a", "", "a"), "bytes of a PNG or JPEG"),
        (lambda: Page("T").picture(IMAGE, "", "a"), "bytes of a PNG or JPEG"),
        (lambda: Page("T").picture("a.png", "", "a"), "bytes of a PNG or JPEG"),
        (lambda: Picture(PNG, "caption", " "), "say in words what the picture shows"),
        (lambda: Page("T").table([], []), "no headers"),
        (lambda: Page("T").table(["a", "b"], [[1, 2], [3]]), "row 1 has 1 cells, but there are 2 headers"),
    ],
)
def test_pages_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()
