import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from margipose.data import DATASETS
from margipose.data.h36m_sequences import BROKEN_VIDEOS
from margipose.evaluate import PAPERS, PROTOCOLS, get_protocol, labels, published, scored, select
from margipose.evaluate.protocols import TORSO
from margipose.evaluate.published import PUBLISHED
from margipose.evaluate.selection import differences, groups_of, sequences_of
from margipose.skeleton import CANONICAL, LSP, SKELETONS
from tests.evaluate.made import CAMERAS, h36m_records, mpii_records

DOCS = Path(__file__).parents[2] / "docs" / "protocols.md"


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_consistent(name):
    protocol = PROTOCOLS[name]
    assert protocol.name == name
    assert hash(protocol)  # data: nothing in it can change
    names = [m.name for m in protocol.metrics]
    assert len(set(names)) == len(names)
    joints = {*protocol.joints, *protocol.aligned_by, *([protocol.root] if protocol.root else [])}
    assert any(joints <= set(s.joints) for s in SKELETONS.values())
    for _, members in protocol.joint_groups:
        assert set(members) <= set(protocol.joints)
    for metric in protocol.metrics:
        assert (metric.kind == "error") == (not metric.thresholds)
        assert metric.strict == (protocol.dims == 3)
        if metric.kind == "auc":
            assert metric.thresholds == tuple(range(0, 151, 5))
    assert {key for key, _ in protocol.papers} <= set(PAPERS)


def test_only_two_protocols_allow_mirroring_and_both_say_so():
    mirroring = {n for n, p in PROTOCOLS.items() if any(m.reflection for m in p.metrics)}
    assert mirroring == {"h36m_original", "mpi3d_original"}
    for name in mirroring:
        for metric in PROTOCOLS[name].metrics:
            assert metric.reflection == ("mirroring allowed" in metric.heading)
            assert metric.reflection == (metric.alignment == "similarity")


def test_unknown_protocols_are_refused():
    with pytest.raises(ValueError, match="unknown protocol 'h36n'; did you mean 'h36m'"):
        get_protocol("h36n")


def test_published_rows_name_values_of_their_protocol():
    for row in PUBLISHED:
        metrics = {m.name: m for m in PROTOCOLS[row.protocol].metrics}
        assert set(row.values) <= set(metrics)
        for name, value in row.values.items():
            assert 20 < value < 200 if metrics[name].kind == "error" else 0.3 < value < 1
        assert row.source.title
    assert {r.name for r in published("mpi3d")} >= {"Nibali et al. 2019", "Kanazawa et al. 2018"}


def test_the_documentation_has_every_protocol_and_paper():
    text = DOCS.read_text()
    for name in PROTOCOLS:
        assert f"`{name}`" in text
    papers = {key for p in PROTOCOLS.values() for key, _ in p.papers} | {r.paper for r in PUBLISHED}
    for key in papers:
        assert PAPERS[key].title in text, PAPERS[key].short


def test_the_documentation_runs(capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    exec(compile(code, DOCS.name, "exec"), {})
    assert "shoulders" in capsys.readouterr().out


# --- Which records --------------------------------------------------------------------------------


def test_every_64th_frame_is_selected_by_number():
    dense = h36m_records(range(1, 140))
    chosen = select(dense, get_protocol("h36m"))
    assert np.unique(chosen.ids["frame"]).tolist() == [1, 65, 129]
    assert np.unique(chosen.ids["subject"]).tolist() == [9, 11]
    assert len(chosen) == 3 * 32
    assert np.unique(select(dense, get_protocol("h36m_every5")).ids["frame"])[:3].tolist() == [1, 6, 11]
    assert select(dense, get_protocol("h36m_all")) is dense


def test_other_subjects_and_cameras_are_left_out():
    records = h36m_records((1, 65, 129))
    eleven = select(records, get_protocol("h36m_s11"))
    assert np.unique(eleven.ids["subject"]).tolist() == [11]
    assert len(eleven) == 48
    frontal = select(h36m_records(range(1, 30)), get_protocol("h36m_frontal"))
    assert np.unique(frontal.ids["camera"]).tolist() == [60457274]
    training = dataclasses.replace(records, ids={**records.ids, "subject": np.full(len(records), 5)})
    with pytest.raises(ValueError, match="protocol h36m scores subject 9, 11, of which there is none"):
        select(training, get_protocol("h36m"))


def test_a_training_is_evaluated_on_what_there_is():
    protocol = get_protocol("h36m")
    test = {"name": "h36m/test"}
    dense = dataclasses.replace(h36m_records(range(1, 140)), **test)
    chosen, same = scored(dense, protocol)
    assert np.unique(chosen.ids["frame"]).tolist() == [1, 65, 129]
    assert same is protocol
    for records in (
        dataclasses.replace(h36m_records(range(1, 700, 5)), **test),  # of the frames, each fifth
        dataclasses.replace(dense, name="h36m/trainval"),
    ):
        chosen, other = scored(records, protocol)
        assert chosen is records
        assert select(records, other) is records
        assert f"but of all of {records.name}" in other.about
    flat = get_protocol("mpii")
    records = dataclasses.replace(dense, name="mpii/val")
    assert scored(records, flat) == (records, flat)


def test_metrics_of_one_alignment_mirror_alike():
    protocol = get_protocol("h36m")
    mirrored = dataclasses.replace(protocol.metric("p_mpjpe"), name="mirrored", reflection=True)
    with pytest.raises(ValueError, match="h36m: expected metrics of alignment 'similarity' that all allow"):
        dataclasses.replace(protocol, metrics=(*protocol.metrics, mirrored))


def test_missing_frames_are_noticed():
    thinned = h36m_records((1, 65, 129, 193, 257, 321, 385))
    for name in ("h36m_every5", "h36m_all"):
        with pytest.raises(ValueError, match=r"there are frames 1, 65, 129, 193, \.\.\. \(64 apart\)"):
            select(thinned, get_protocol(name))
    with pytest.raises(ValueError, match="protocol h36m_all scores every frame; there"):
        select(thinned, get_protocol("h36m_all"))
    with pytest.raises(ValueError, match=r"1 more than a multiple of 64; .*most of them are missing"):
        select(h36m_records((2, 66)), get_protocol("h36m"))
    nameless = dataclasses.replace(thinned, ids={"subject": thinned.ids["subject"]})
    with pytest.raises(ValueError, match="selects by frame, which is not known"):
        select(nameless, get_protocol("h36m"))


def test_records_that_are_not_the_protocols_are_named():
    records = h36m_records((1, 65))
    protocol = get_protocol("h36m")
    assert differences(records, protocol) == ["8 of the protocol's 60 sequences are there."]
    other = dataclasses.replace(records.select(records.ids["subject"] == 9), name="h36m/trainval")
    assert differences(other, protocol) == [
        "These are poses of h36m/trainval; the protocol's are those of h36m/test.",
        "The protocol's subjects 11 are missing.",
        "4 of the protocol's 60 sequences are there.",
    ]


def h36m_videos(stride=64):
    """One row for each video of the test subjects, as the prepared set has them, and a second frame of it."""
    videos = np.array(
        [
            (subject, action, take, camera, frame)
            for subject in (9, 11)
            for action in range(2, 17)
            for take in (1, 2)
            for camera in CAMERAS
            for frame in (1, 1 + stride)
            if (subject, action, take, camera) not in BROKEN_VIDEOS
        ]
    )
    few = h36m_records((1,))
    ids = dict(zip(("subject", "action", "subaction", "camera", "frame"), videos.T))
    return dataclasses.replace(few.select(np.zeros(len(videos), int)), ids=ids)


def test_missing_cameras_and_videos_are_named():
    records, protocol = h36m_videos(), get_protocol("h36m")
    camera, subject = records.ids["camera"], records.ids["subject"]
    assert differences(records, protocol) == []
    two = records.select(np.isin(camera, CAMERAS[:2]))
    assert differences(two, protocol) == ["The protocol's cameras 58860488, 60457274 are missing."]
    assert differences(records.select(camera != CAMERAS[2]), protocol) == [
        "The protocol's camera 58860488 is missing."
    ]
    some = (subject == 11) & (records.ids["action"] == 16) & (camera == CAMERAS[3])
    assert differences(records.select(~some), protocol) == ["237 of the protocol's 239 videos are there."]
    row = np.flatnonzero(~some)[[0]]
    mended = records.select(np.concatenate([np.flatnonzero(~some), row]))
    for column, value in zip(("subject", "action", "subaction", "camera"), min(BROKEN_VIDEOS)):
        mended.ids[column][-1] = value
    assert differences(mended, protocol) == ["237 of the protocol's 239 videos are there."]
    eleven = records.select(~some & (subject == 11) & (camera != CAMERAS[1]))
    assert differences(eleven, get_protocol("h36m_s11")) == [
        "The protocol's camera 55011271 is missing.",
        "87 of the protocol's 119 videos are there.",
    ]
    nameless = {c: v for c, v in records.ids.items() if c != "camera"}
    assert differences(dataclasses.replace(records, ids=nameless), protocol) == []


def test_cameras_that_a_protocol_does_not_score_are_not_missing():
    """Nor the video that is damaged as it is published, whether it is there or not."""
    for name in ("h36m_frontal", "h36m_every5", "h36m_s11", "h36m_original"):
        protocol = get_protocol(name)
        assert differences(select(h36m_videos(protocol.stride), protocol), protocol) == []
    frontal = get_protocol("h36m_frontal")
    records = select(h36m_videos(5), frontal)
    assert differences(records.select(records.ids["action"] != 16), frontal) == [
        "56 of the protocol's 60 sequences are there."
    ]
    own = dataclasses.replace(get_protocol("h36m"), name="mine", cameras=CAMERAS[:2])
    assert differences(select(h36m_videos(), own), own) == []
    records = h36m_videos()
    some = (records.ids["action"] == 16) & (records.ids["camera"] == CAMERAS[0])
    gone = select(records.select(~some), own)
    assert differences(gone, own) == ["115 of the protocol's 119 videos are there."]
    _, whatever = scored(dataclasses.replace(h36m_records((1, 2)), name="h36m/trainval"), own)
    assert not whatever.filmed_by


def test_a_sequence_is_one_performance_seen_by_all_cameras():
    records = h36m_records((1, 65))
    sequence = sequences_of(records, get_protocol("h36m"))
    assert len(np.unique(sequence)) == 8
    columns = zip(*(records.ids[c].tolist() for c in ("subject", "action", "subaction")))
    assert len(set(zip(columns, sequence.tolist()))) == 8
    assert len(np.unique(sequences_of(records, get_protocol("lsp")))) == len(records)


def test_settings_follow_from_the_names_of_test_sequences():
    records = h36m_records((1,))
    subject = np.arange(len(records)) % 6 + 1
    names = {i: f"TS{i}" for i in range(1, 7)}
    test = dataclasses.replace(records, ids={"subject": subject}, id_names={"subject": names})
    values, found = groups_of(test, "setting")
    by_subject = {s: found[v] for s, v in zip(subject.tolist(), values.tolist())}
    assert by_subject[1] == by_subject[2] == "studio, green screen"
    assert by_subject[3] == by_subject[4] == "studio, no green screen"
    assert by_subject[5] == by_subject[6] == "outdoor"
    # Training subjects have numbers, too, but other settings.
    assert groups_of(dataclasses.replace(test, id_names={}), "setting") is None
    assert groups_of(records, "weather") is None


# --- Labels ---------------------------------------------------------------------------------------


def test_labels_without_depth_do_not_count_in_3d():
    records = h36m_records((1,))
    depth_valid = torch.ones(len(records), 17, dtype=torch.bool)
    depth_valid[3] = False
    _, valid, reference = labels(dataclasses.replace(records, depth_valid=depth_valid), get_protocol("h36m"))
    assert reference is None
    assert not valid[3].any()
    assert valid.sum() == (len(records) - 1) * 17


def test_labels_in_the_image_come_with_lengths():
    records = mpii_records()
    joints, valid, reference = labels(records, get_protocol("mpii"))
    assert joints.shape == (30, 16, 2)
    assert reference.tolist() == [40] * 30
    assert valid.sum() == 30 * 16 - 1
    people = h36m_records((1,)).converted(CANONICAL)
    ends = [CANONICAL.index(j) for j in TORSO]
    valid = people.valid.clone()
    valid[2, ends[0]] = False
    torso = dataclasses.replace(people, valid=valid, has_depth=False)
    joints, _, reference = labels(torso, get_protocol("lsp"))
    plain = (joints[:, ends[0]] - joints[:, ends[1]]).norm(dim=-1)
    np.testing.assert_allclose(reference, np.where(np.arange(len(people)) == 2, np.nan, plain))
    assert set(get_protocol("lsp").joints) == set(LSP.joints)


def test_every_data_set_has_a_protocol_of_its_name():
    for name in DATASETS:
        assert get_protocol(name).dataset == name
