"""The guideline page: a first text for every protocol, and a version of the study once people work."""

from __future__ import annotations

import pytest
from django.test import Client

from annotation.domain.protocols import PROTOCOLS
from annotation.models import Role, Study, StudyVersion
from annotation.views.study_guideline import first_guideline
from tests.annotation.small_study import SmallStudy, make_person, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small() -> SmallStudy:
    return make_study(n_items=2)


@pytest.fixture
def editor(small: SmallStudy, client: Client) -> Client:
    person = make_person("rhea", Role.RESEARCHER)
    Study.objects.update(created_by=person, consent_text="You may stop at any time.")
    client.force_login(person)
    return client


def test_every_protocol_has_a_first_guideline_that_names_its_keys() -> None:
    for name, protocol in PROTOCOLS.items():
        text = first_guideline(name)
        assert text.startswith("# What this is about")
        questions = protocol.questions(protocol.settle_options({}))
        letters = [choice.hint for question in questions for choice in question.choices if choice.hint.isalpha()]
        if protocol.layout != "sheet" or name == "spurious":
            assert all(f"`{letter}`" in text for letter in letters), name


def test_a_live_guideline_says_what_kind_of_change_it_is(small: SmallStudy, editor: Client) -> None:
    address = f"/studies/{small.study.slug}/guideline/"
    assert b"what is asked for" in editor.get(address).content
    refused = editor.post(address, {"text": "Only shapes.", "kind": "major", "reason": ""})
    assert "reason" in refused.context["form"].errors
    editor.post(address, {"text": "Only\r\nshapes.", "kind": "major", "reason": "A new aim"})
    version = StudyVersion.objects.get()
    assert (version.version, version.reason) == ("2.0", "A new aim")
    assert small.study.guidelines.get(version=2).text == "Only\nshapes."
    same = editor.post(address, {"text": "Only\nshapes.", "kind": "minor", "reason": "Again"})
    assert "the same as the version in force" in same.content.decode()


def test_a_draft_is_written_freely_and_a_closed_study_not_at_all(small: SmallStudy, editor: Client) -> None:
    address = f"/studies/{small.study.slug}/guideline/"
    Study.objects.update(state=Study.State.DRAFT)
    editor.post(address, {"text": "Anything."})
    assert small.study.guidelines.count() == 2
    assert not StudyVersion.objects.exists()
    Study.objects.update(state=Study.State.CLOSED)
    assert b"<textarea" not in editor.get(address).content


def test_the_pages_of_versions_and_registration(small: SmallStudy, editor: Client) -> None:
    address = f"/studies/{small.study.slug}/versions/"
    page = editor.get(address)
    shown = page.context["form"]
    assert shown["repeat_share"].value() == "3"  # percent, as typed in the study form
    values = shown.initial | {"session_length": 20, "repeat_share": "5", "reason": "Shorter", "max_per_person": ""}
    planned = editor.post(address, values)
    assert planned.context["plan"].version == "1.1"
    assert not StudyVersion.objects.exists()
    editor.post(address, values | {"confirmed": "yes"})
    assert (Study.objects.get().session_length, Study.objects.get().repeat_share) == (20, 0.05)
    text = editor.get(address).content.decode()
    for words in ("Shorter", "Items in a session: 60 → 20", "Share of own items repeated on a return: 3 % → 5 %"):
        assert words in text
    register = f"/studies/{small.study.slug}/preregistration/"
    assert b"Nothing was registered" in editor.get(register).content
    Study.objects.update(state=Study.State.DRAFT)
    lines = {"hypotheses": "Real above control", "n_judgements": 2, "stopping": "All judged", "min_gold_share": "80"}
    editor.post(register, lines)
    assert Study.objects.get().preregistration["min_gold_share"] == 0.8
    assert editor.get(register).context["form"]["min_gold_share"].value() == "80"
    Study.objects.update(state=Study.State.OPEN)
    text = editor.get(register).content.decode()
    assert ("Real above control" in text, "<dd>80 %</dd>" in text) == (True, True)
    file = editor.get(f"/studies/{small.study.slug}/preregistration.json")
    assert file.json()["preregistration"]["n_judgements"] == 2
