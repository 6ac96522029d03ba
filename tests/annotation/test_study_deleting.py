"""Deleting a draft: what goes is said before, nothing else goes, and what was launched stays."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client

from annotation.domain.crowd_settings import change_recruitment
from annotation.domain.invitations import invite
from annotation.domain.pilots import make_pilot
from annotation.domain.studies import StudyError
from annotation.domain.study_deleting import delete_draft, deletion_of
from annotation.domain.study_editing import set_role
from annotation.models import Feature, Guideline, Participation, ReferenceItem, Role, Study, StudyEvent
from tests.annotation.launchable_study import Launchable, make_launchable
from tests.annotation.signing_in import signed_in
from tests.factories import make_annotator, make_open_study, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def draft(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


def test_a_draft_says_what_goes_and_takes_it_along(draft: Launchable) -> None:
    study, rhea = draft.study, draft.researcher
    make_person("rosa")
    set_role(study=study, user=rhea, username="rosa", role=Role.REVIEWER)
    change_recruitment(study=study, user=rhea, values={"contact": "rhea@example.org"})
    invite(study=study, user=rhea, n_anonymous=2)
    Study.objects.filter(pk=study.pk).update(preregistration={"hypotheses": "Some."})
    study.refresh_from_db()
    n_practice = study.reference_items.filter(kind="practice").count()
    goes = deletion_of(study).goes
    assert goes[:4] == [
        "the settings and the sample",
        "the pre-registration",
        "1 version of the guideline",
        f"{study.categories.count()} categories",
    ]
    assert f"{n_practice} practice items" in goes
    assert "the role of 1 person in it" in goes
    assert "2 invitations; their links stop working" in goes
    assert goes[-1] == f"{study.events.count()} lines of its log"
    n_features = Feature.objects.count()
    page = signed_in(rhea).post(f"/studies/{study.slug}/delete/", {"confirmed": "yes"}, follow=True)
    assert f"The draft &#x27;{study.name}&#x27; was deleted." in page.content.decode()
    left = [model.objects.count() for model in (Study, StudyEvent, Guideline, ReferenceItem, Participation)]
    assert (left, Feature.objects.count()) == ([0] * 5, n_features)


def test_other_studies_keep_what_is_theirs(draft: Launchable) -> None:
    other = make_open_study("other")
    before = (other.study.events.count(), other.study.items.count(), other.study.guidelines.count())
    delete_draft(study=draft.study, user=draft.researcher)
    assert (other.study.events.count(), other.study.items.count(), other.study.guidelines.count()) == before
    assert list(Study.objects.all()) == [other.study]


def test_nothing_goes_without_the_box(draft: Launchable) -> None:
    address = f"/studies/{draft.study.slug}/delete/"
    client = signed_in(draft.researcher)
    assert "With it go, for good:" in client.get(address).content.decode()
    assert "Tick the box" in client.post(address).content.decode()
    assert Study.objects.filter(pk=draft.study.pk).exists()


@pytest.mark.parametrize(
    ("state", "sentence", "may_close"),
    [
        ("launching", "is being launched", False), ("open", "was launched", True),
        ("paused", "was launched", True), ("closed", "was launched", False),
    ],
)  # fmt: skip
def test_what_was_launched_stays_and_is_closed_instead(
    draft: Launchable, state: str, sentence: str, may_close: bool
) -> None:
    Study.objects.update(state=state)
    study = Study.objects.get()
    with pytest.raises(StudyError, match=sentence):
        delete_draft(study=study, user=draft.researcher)
    client, address = signed_in(draft.researcher), f"/studies/{study.slug}/delete/"
    page = client.post(address, {"confirmed": "yes"}).content.decode()
    assert (sentence in page, "Close it instead" in page, "With it go" in page) == (True, may_close, False)
    assert Study.objects.count() == 1


def test_a_draft_with_a_pilot_waits_for_it(draft: Launchable) -> None:
    pilot = make_pilot(study=draft.study, user=draft.researcher)
    with pytest.raises(StudyError, match="is a pilot of this draft"):
        delete_draft(study=draft.study, user=draft.researcher)
    for study in (pilot, draft.study):
        delete_draft(study=study, user=draft.researcher)
    assert not Study.objects.exists()


def test_a_draft_that_holds_items_stays(draft: Launchable) -> None:
    other = make_open_study("other")
    Study.objects.filter(pk=other.study.pk).update(state="draft")
    with pytest.raises(StudyError, match="holds items or answers"):
        delete_draft(study=other.study, user=other.researcher)


def test_only_those_who_change_a_study_delete_it(draft: Launchable) -> None:
    address = f"/studies/{draft.study.slug}/delete/"
    reviewer = make_person("rosa")
    Participation.objects.create(study=draft.study, user=reviewer, role=Role.REVIEWER)
    refused = {
        reviewer: 403, make_person("olga", Role.RESEARCHER): 403, make_annotator(draft.study): 403,
        make_person("stranger"): 404,
    }  # fmt: skip
    for user, status in refused.items():
        client = signed_in(user)
        assert (client.get(address).status_code, client.post(address, {"confirmed": "yes"}).status_code) == (
            status, status,
        )  # fmt: skip
    assert Client().get(address)["Location"].startswith("/login/")
    owner = signed_in(draft.researcher)
    assert (owner.put(address).status_code, owner.get("/studies/none/delete/").status_code) == (405, 404)
    assert signed_in(make_person("admin", Role.ADMINISTRATOR)).get(address).status_code == 200
    assert Study.objects.filter(pk=draft.study.pk).exists()


def test_the_page_of_a_study_leads_there(draft: Launchable) -> None:
    client, page = signed_in(draft.researcher), f"/studies/{draft.study.slug}/"
    assert f'href="{page}delete/"' in client.get(page).content.decode()
    assert "Delete the draft" not in signed_in(make_person("olga", Role.RESEARCHER)).get(page).content.decode()
    opened = make_open_study("other")
    page = f"/studies/{opened.study.slug}/"
    assert f'href="{page}delete/"' in signed_in(opened.researcher).get(page).content.decode()
