import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess

import pytest
import torch

from margipose import evaluate as E
from margipose.evaluate.formats import FORMATS, Column, Table, aligned, render
from tests.evaluate.made import h36m_records, mpii_records, noise


@pytest.fixture(scope="module")
def evaluation():
    records = h36m_records((1, 65, 129))
    joints = records.joints_cam_mm + torch.from_numpy(noise(len(records), 50))
    return E.score_records(joints, records, E.get_protocol("h36m"))


@pytest.fixture(scope="module")
def in_2d():
    records, protocol = mpii_records(), E.get_protocol("mpii")
    expected = E.labels(records, protocol)[0]
    return E.score_records(expected + 12 * torch.randn_like(expected), records, protocol)


def test_text_has_rounded_values_with_intervals_and_sections(evaluation):
    table = E.results_table(evaluation, ["mpjpe", "pck"])
    text = render(table, "text")
    row = evaluation.overall(intervals=True)
    low, high = row.intervals["mpjpe"]
    assert f"{row.values['mpjpe']:.1f} [{low:.1f}, {high:.1f}]" in text
    low, high = row.intervals["pck"]
    assert f"{100 * row.values['pck']:.1f} [{100 * low:.1f}, {100 * high:.1f}]" in text
    lines = text.splitlines()
    assert lines[0] == "h36m/test, protocol h36m"
    assert re.match(r" +poses +MPJPE mm +PCK@150 %$", lines[2])
    after = lines.index("")
    blocks = "\n".join(lines[after + 1 :]).split("\n\n")
    assert [len(b.splitlines()) for b in blocks[:3]] == [4, 3, 1]
    assert "8 of the protocol's 60 sequences are there." in text
    assert "95 % intervals from 1000 resamples of whole sequences, of which there are 8." in text


def test_csv_and_json_hold_what_is_in_the_rows(evaluation):
    table = E.results_table(evaluation)
    lines = list(csv.DictReader(io.StringIO(render(table, "csv"))))
    rows = json.loads(render(table, "json"))["rows"]
    for line, row, expected in zip(lines, rows, evaluation.rows(intervals=True), strict=True):
        assert line["group"] == row["group"] == expected.group
        assert int(line["poses"]) == row["poses"] == expected.count
        for metric, value in expected.values.items():
            assert float(line[metric]) == row[metric] == value
            assert (row[f"{metric}_low"], row[f"{metric}_high"]) == expected.intervals[metric]


def test_markdown_is_a_table(evaluation):
    text = render(E.results_table(evaluation, ["mpjpe"]), "markdown")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {4}
    assert lines[1] == "| :-- | --: | --: |"
    assert len(lines) == 2 + len(evaluation.rows())
    odd = Table("t", (Column("a", "a|b"),), ({"a": "c|d"},))
    assert "| c\\|d |" in render(odd, "markdown")


def test_latex_escapes_what_it_must(evaluation, tmp_path):
    odd = Table(
        "50 % & more", (Column("a", "x_1 %"), Column("n", "n", count=True)), ({"a": r"\&{}~^<", "n": 3},)
    )
    text = render(odd, "latex")
    assert r"x\_1 \% & n \\" in text
    assert r"\textbackslash{}\&\{\}\textasciitilde{}\textasciicircum{}\textless{} & 3 \\" in text
    assert text.startswith("% 50 % & more\n")
    text = render(E.results_table(evaluation), "latex")
    assert text.count(r"\midrule") == 3
    assert {line.count(" & ") for line in text.splitlines() if line.endswith(r"\\")} == {9}
    if shutil.which("pdflatex"):
        page = r"\documentclass{article}\usepackage{booktabs}\begin{document}" + text + r"\end{document}"
        (tmp_path / "t.tex").write_text(page)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_what_has_no_value_is_shown_as_missing():
    metric = E.get_protocol("h36m").metric("mpjpe")
    columns = (Column("a", ""), Column("x", "X", metric), Column("note", "note"))
    table = Table("t", columns, ({"a": "one", "x": float("nan")}, {"a": "two", "note": "n"}))
    assert [row[1:] for row in table.shown()[1:]] == [["–", ""], ["–", "n"]]
    assert json.loads(render(table, "json"))["rows"][0]["x"] is None
    assert "one & -- &" in render(table, "latex")
    with pytest.raises(ValueError, match="unknown format 'html'; valid: text, markdown, latex, csv, json"):
        render(table, "html")


def test_joints_are_listed_with_their_groups(evaluation, in_2d):
    table = E.joints_table(evaluation, ["mpjpe"])
    names = [row["joint"] for row in table.rows]
    assert names[:3] == ["head", "neck", "shoulders"]
    assert set(evaluation.protocol.joints) <= {*names, "head"}
    found = {row["joint"]: row["mpjpe"] for row in table.rows}
    joints = evaluation.per_joint_mm()
    assert found["wrists"] == pytest.approx((joints["left_wrist"] + joints["right_wrist"]) / 2)
    assert found["pelvis"] == 0
    assert "PCKh@0.5 %" in render(E.joints_table(in_2d), "text")


def test_published_rows_stand_beside_ours(evaluation, in_2d):
    table = E.published_table(evaluation, "mine")
    assert table.rows[-1]["method"] == "mine"
    assert table.rows[-1]["mpjpe"] == evaluation.headline().values["mpjpe"]
    found = {row["method"]: row for row in table.rows}
    assert found["Nibali et al. 2019"]["mpjpe"] == 57.0
    assert any("arXiv:1806.01484" in note for note in table.notes)
    assert "89.5" in render(E.published_table(in_2d), "text")


@pytest.mark.parametrize(("name", "said"), [("h36m", False), ("h36m_original", True)])
def test_tables_say_that_mirroring_was_allowed(evaluation, name, said):
    found = E.score_records(evaluation.joints, evaluation.records, E.get_protocol(name))
    for how in FORMATS:
        text = render(E.results_table(found), how)
        assert ("Alignments may mirror poses" in text) == (said and how != "csv")
        if how in ("text", "markdown", "latex"):
            assert ("(mirroring allowed)" in text) == said
    assert ("without reflection" in render(E.results_table(found), "text")) != said


def test_tables_say_what_auc_can_reach_and_what_was_left_out(in_2d, evaluation):
    assert "at most 96.8 %" in render(E.results_table(evaluation), "text")
    text = render(E.results_table(in_2d), "text")
    assert "AUC" not in text
    lengths = in_2d.records.head_length_px.clone()
    lengths[:4] = float("nan")
    fewer = E.score_records(
        in_2d.joints, dataclasses.replace(in_2d.records, head_length_px=lengths), in_2d.protocol
    )
    assert "4 of 30 poses lack the labels to be scored." in render(E.results_table(fewer), "text")


def test_missing_cameras_are_noted(evaluation):
    records = evaluation.records.select(evaluation.records.ids["camera"] != 60457274)
    fewer = E.score_records(records.joints_cam_mm, records, evaluation.protocol)
    note = "The protocol's camera 60457274 is missing."
    assert note in E.results_table(fewer).notes
    assert note in E.document(fewer)["notes"]


def test_a_document_holds_everything(evaluation):
    found = json.loads(json.dumps(E.document(evaluation, model="m.safetensors"), allow_nan=False))
    assert found["model"] == "m.safetensors"
    assert found["protocol"]["metrics"][0]["name"] == "mpjpe"
    assert found["protocol"]["stride"] == 64
    assert found["quoted"]["mpjpe"] == evaluation.headline().values["mpjpe"]
    assert len(found["rows"]) == len(evaluation.rows())
    assert {"joints", "published", "notes", "records"} <= set(found)


def test_every_protocol_is_listed_with_its_papers():
    table = E.protocols_table(E.PROTOCOLS)
    assert [row["protocol"] for row in table.rows if row["protocol"]] == list(E.PROTOCOLS)
    text = render(table, "text")
    assert '"protocol #1" is MPJPE' in text
    assert "Pavllo et al. 2019" in text


def test_brief_tables_are_aligned(evaluation, in_2d):
    text = E.format_table(evaluation.rows())
    assert len({len(line) for line in text.splitlines()}) == 1
    assert text.splitlines()[-1].startswith("all")
    assert "P-MPJPE mm" in text
    assert "PCKh@0.5" in E.format_table(in_2d.rows())
    assert aligned([["a", "b"], ["ccc", "1"]], [False, True]) == ["a    b", "ccc  1"]
