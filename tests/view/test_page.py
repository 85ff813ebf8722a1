import http.client
import json
import threading

import numpy as np
import pytest

pytest.importorskip("dash")
pytest.importorskip("plotly")

import dataclasses

from margipose import checkpoint
from margipose.cli import main
from margipose.data import load_records
from margipose.evaluate import get_protocol
from margipose.view import Examples, serve
from tests.browsers import browser, messages  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def examples(people, tiny_weights):
    protocol = dataclasses.replace(get_protocol("mpi3d"), subjects=(), cameras=(), stride=0)
    records = load_records("mpi3d", people, "train").select(np.arange(0, 60, 5))
    examples = Examples(records, protocol, checkpoint.load(tiny_weights))
    examples.evaluate()
    return examples


@pytest.fixture(scope="module")
def port(examples):
    """A server for the page in another thread."""
    server = serve(examples, port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server.port
    server.shutdown()
    server.server_close()
    thread.join(10)


def ask(port, path, method="GET", body=None, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {"Host": host or f"127.0.0.1:{port}", "Content-Type": "application/json"}
    connection.request(method, path, json.dumps(body) if body is not None else None, headers)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, content.decode("utf-8", "replace")


def update(port, **values):
    """What the page gets back for its controls' values."""
    order = ("column", "value", "order", "position", "joint", "stage", "shown")
    defaults = {"column": "all", "value": "all", "order": "stored", "position": 1, "joint": "all joints"}
    values = {**defaults, "stage": "stage 1", "shown": ["ground truth", "prediction"], **values}
    _, dependencies = ask(port, "/_dash-dependencies")
    output = next(d["output"] for d in json.loads(dependencies) if "about.children" in d["output"])
    outputs = [dict(zip(("id", "property"), part.rsplit(".", 1))) for part in output.strip(".").split("...")]
    body = {
        "output": output,
        "outputs": outputs,
        "inputs": [{"id": k, "property": "value", "value": values[k]} for k in order],
        "changedPropIds": ["position.value"],
        "state": [],
    }
    status, text = ask(port, "/_dash-update-component", "POST", body)
    return status, json.loads(text)["response"] if status == 200 else text


def test_the_page_shows_the_row_that_it_is_asked_for(port, examples):
    status, found = update(port, position=4)
    assert status == 200
    assert found["about"]["children"].startswith("row 3: ")
    assert found["image"]["src"].startswith("data:image/png;base64,")
    worst = int(examples.rows(order="worst mpjpe")[0])
    _, found = update(port, order="worst mpjpe")
    assert found["about"]["children"].startswith(f"row {worst}: ")
    assert f"MPJPE mm {examples.evaluation.values['mpjpe'][worst]:.1f}" in found["scores"]["children"]
    assert len(found["errors"]["children"]["props"]["children"][1]["props"]["children"]) == 17


@pytest.mark.parametrize(
    "values",
    [
        {"position": 10**30},
        {"position": -5},
        {"position": None},
        {"position": "../../etc/passwd"},
        {"position": [1]},
        {"column": "../..", "value": "/etc/passwd"},
        {"order": "worst ../x"},
        {"joint": "tail", "stage": "/etc/passwd", "shown": None},
        {"shown": [{"a": 1}]},
    ],
)
def test_whatever_is_asked_gets_a_row_of_the_set(port, values):
    status, found = update(port, **values)
    assert status == 200
    assert found["about"]["children"].startswith("row ")
    assert "etc" not in found["about"]["children"]


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/_dash-component-suites/../../../../etc/passwd",
        "/_dash-component-suites/dash/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd",
        "/assets/setup.cfg",
        "//etc/passwd",
    ],
)
def test_no_path_reaches_the_file_system(port, path):
    status, content = ask(port, path)
    assert "root:" not in content
    assert "[metadata]" not in content
    assert status != 200 or "<!DOCTYPE html>" in content


def test_a_name_that_was_pointed_at_this_machine_is_refused(port):
    status, content = ask(port, "/", host="evil.example")
    assert status == 403
    assert "localhost only" in content
    assert ask(port, "/", host=f"localhost:{port}")[0] == 200


def test_an_address_that_cannot_be_had_is_one_line(examples, port, people, capsys):
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: the page cannot be served there"):
        serve(examples, port=port)
    words = ["view", "mpi3d", str(people), "--split", "val", "--port", str(port)]
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mpi4d", "."], "unknown data set 'mpi4d'; did you mean 'mpi3d'?"),
        (["mpi3d", "nowhere"], "no such folder"),
        (["mpi3d", ".", "--limit", "-1"], "--limit: expected 0 or more"),
        (["mpi3d", ".", "--port", "70000"], "--port: expected 0 to 65535"),
    ],
)
def test_the_command_refuses(words, message, capsys):
    assert main(["view", *words]) == 2
    assert message in capsys.readouterr().err


def choose(page, name, text):
    page.click(f"#{name}")
    page.locator("[role=option], .dash-dropdown-option, .dash-options-list-option").filter(
        has_text=text
    ).first.click()


def test_a_browser_clicks_through(port, examples, browser, tmp_path):  # noqa: F811
    page = browser.new_page(viewport={"width": 1300, "height": 1000})
    told = messages(page)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://127.0.0.1:{port}/")
    page.wait_for_selector("#cube .gl-container canvas", timeout=60_000)
    page.wait_for_function("document.querySelector('#about').textContent.startsWith('row 0:')")
    page.click("#forward")
    page.wait_for_function("document.querySelector('#about').textContent.startsWith('row 1:')")
    page.click("#back")
    page.wait_for_function("document.querySelector('#about').textContent.startsWith('row 0:')")
    heading = examples.protocol.metrics[0].heading
    first = examples.protocol.metrics[0].name
    choose(page, "order", f"worst {heading} first")
    worst = int(examples.rows(order=f"worst {first}")[0])
    page.wait_for_function(f"document.querySelector('#about').textContent.startsWith('row {worst}:')")
    choose(page, "joint", "left wrist")
    page.wait_for_function("document.querySelector('tr.chosen')?.textContent.startsWith('left wrist')")
    choose(page, "stage", "target")
    guides = "document.querySelector('#cube .js-plotly-plot').data.find(t => t.name == 'coordinates')"
    page.wait_for_function(f"{guides}.x.length > 1 || {guides}.x.bdata?.length > 12")
    page.get_by_text("aligned prediction", exact=True).click()
    names = "Array.from(document.querySelector('#poses .js-plotly-plot').data, t => t.name)"
    page.wait_for_function(f"{names}.includes('aligned prediction')")
    column, values = next(iter(examples.filters().items()))
    choose(page, "column", column)
    choose(page, "value", values[-1])
    kept = examples.rows(column, values[-1], f"worst {first}")
    page.wait_for_function(f"document.querySelector('#count').textContent == 'of {len(kept)} examples'")
    page.wait_for_function(f"document.querySelector('#about').textContent.startsWith('row {kept[0]}:')")
    picture = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert len(picture) > 50_000
    assert told == []
    outside = [u for u in asked if not u.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:"))]
    assert outside == [], "nothing is loaded from elsewhere"
    page.close()
