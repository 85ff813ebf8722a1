"""A headless Chromium for tests of pages; they skip where there is none."""

import shutil

import pytest

# Three dimensions without a graphics card; as root, Chromium only starts without its sandbox.
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
HARMLESS = ("Canvas2D: Multiple readback", "GPU stall due to ReadPixels", "GL Driver Message")


@pytest.fixture(scope="module")  # two at a time would be in each other's way
def browser():
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium")
    with api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield chromium
        chromium.close()


def messages(page):
    """What a page complains about: a list that grows."""
    told = []
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("requestfailed", lambda request: told.append(f"could not load {request.url[:100]}"))
    page.on(
        "console",
        lambda m: (
            m.type in ("error", "warning") and not any(h in m.text for h in HARMLESS) and told.append(m.text)
        ),
    )
    return told
