"""The preview of a draft shows what its launch will freeze, by every builder, with the truth that follows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from annotation.domain.launching import launch_study
from annotation.domain.preview_board import preview_of
from annotation.domain.stimuli import stimulus_record
from annotation.models import ReferenceItem, Study
from tests.annotation.launchable_study import Launchable, finish_run, make_launchable
from tests.annotation.test_launching_protocols import ANYTHING, explained, second_dictionary

pytestmark = pytest.mark.django_db
OPTIONS: dict[str, dict[str, Any]] = {
    "two-alternative": {"variants": ["easy"], "n_references": 4},
    "intruder": {"n_images": 4},
    "verification": {"n_images": 1},
    "patch-marking": {"n_images": 2},
    "nature-origin": {},
    "pairwise": {},
}
SEEN = ("map", "value")


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


def drafted(launchable: Launchable, protocol: str) -> Study:
    study = launchable.study
    study.protocol, study.protocol_options = protocol, OPTIONS[protocol]
    if protocol == "verification":
        study.explanations, study.control_share = explained(launchable), 0
    if protocol == "pairwise":
        other = second_dictionary(launchable)
        study.sampler |= {"dictionaries": [launchable.dictionary.pk, other.pk]}
        for item, feature in zip(study.reference_items.all(), other.features.order_by("-id"), strict=False):
            item.other_feature = feature
            item.save()
    study.save()
    study.reference_items.update(accepted=ANYTHING.get(protocol, {}))
    return study


@pytest.mark.parametrize("protocol", OPTIONS)
def test_the_preview_of_a_draft_is_what_its_launch_freezes(launchable: Launchable, protocol: str) -> None:
    study = drafted(launchable, protocol)
    previewed = {one.reference: one for one in preview_of(study, 12).items}
    finish_run(launch_study(study=study, user=launchable.researcher))
    study.refresh_from_db()
    frozen = ReferenceItem.objects.filter(pk__in=previewed).exclude(stimulus_id="")
    assert frozen.count() == len(previewed) > 0
    for reference in frozen:
        record, shown = stimulus_record(study.stimuli_digest, reference.stimulus_id), previewed[reference.pk]
        assert record["truth"] == json.loads(json.dumps(dict(shown.truth)))
        assert (record["grid"], record["text"]) == (shown.stimulus["grid"], shown.stimulus["text"])
        for panel, other in zip(record["panels"], shown.stimulus["panels"], strict=True):
            assert (panel["name"], panel["kind"]) == (other["name"], other["kind"])
            told = [{name: cell[name] for name in SEEN if name in cell} for cell in panel["cells"]]
            assert told == [{name: cell[name] for name in SEEN if name in cell} for cell in other["cells"]]
            assert ["box" in cell for cell in panel["cells"]] == ["box" in cell for cell in other["cells"]]


def test_the_player_previews_a_board_and_tells_what_was_right(launchable: Launchable) -> None:
    study = drafted(launchable, "intruder")
    client = Client()
    client.force_login(launchable.researcher)
    items = client.get(f"/studies/{study.slug}/preview/").context["config"]["items"]
    shown = {one.reference: one for one in preview_of(study, 12).items}
    first = items[0]
    cells = first["stimulus"]["panels"][0]["cells"]
    assert client.get(cells[0]["src"]).status_code == 200
    assert not any("image_index" in cell or "patch_index" in cell for cell in cells)
    body = json.dumps({"reference": first["item"], "payload": {"intruder": 0}})
    reply = client.post(f"/studies/{study.slug}/preview/answers", body, content_type="application/json").json()
    right = shown[first["item"]].truth["intruder"]
    assert [one["accepted"] for one in reply["questions"] if one["name"] == "intruder"] == [[right]]
    assert reply["is_right"] is (right == 0)


def test_a_draft_of_which_nothing_can_be_built_says_why(launchable: Launchable) -> None:
    study = drafted(launchable, "two-alternative")
    study.protocol_options = {"variants": ["hard"]}
    study.save()
    client = Client()
    client.force_login(launchable.researcher)
    page = client.get(f"/studies/{study.slug}/preview/", follow=True).content.decode()
    assert "needed" in page or "need embeddings" in page
