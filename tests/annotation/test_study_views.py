"""A study's pages: who may open them, and what becomes of what is typed there."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.test.utils import CaptureQueriesContext

from annotation.domain.categories import check_categories
from annotation.domain.launching import launch_study
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.studies import StudyError
from annotation.models import (
    Image,
    ImageReport,
    Participation,
    ReferenceItem,
    Remark,
    Role,
    Run,
    Study,
    User,
)
from tests.annotation.launchable_study import Launchable, finish_run, make_launchable
from tests.annotation.signing_in import signed_in
from tests.factories import OpenStudy, make_annotation, make_annotator, make_draft_study, make_open_study, make_person

pytestmark = pytest.mark.django_db
READ_PAGES = (
    "categories/",
    "vocabulary/",
    "review/",
    "",
    "guideline/",
    "reference/",
    "people/",
    "launch/",
    "progress/",
    "preview/",
    "remarks/",
)
EDIT_PAGES = ("edit/",)
FORM = {
    "name": "What they see", "description": "", "n_features": 6, "n_density_bands": 2, "blocks": "", "seed": 5,
    "feature_ids": "", "min_images": 16, "max_prefix_share": 50, "prefix_rule": "exclude", "overlap": 1,
    "core_overlap": 3, "core_share": 30, "control_share": 10, "control_kinds": ["shuffled"], "catch_share": 5,
    "gold_share": 5, "session_length": 40, "consent_text": "I agree.", "consent_version": "2",
    "protocol": "rate-describe-categorise", "queue_order": "breadth", "repeat_share": 3, "min_viewing_ms": 0,
    "pass_mark": 0, "practice_rounds": 3, "vocabulary_mode": "open",
}  # fmt: skip


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


@pytest.fixture
def researcher(launchable: Launchable) -> Client:
    return signed_in(launchable.researcher)


# ---- access


def statuses(address: str, people: dict[str, Client]) -> dict[str, int]:
    return {name: client.get(address).status_code for name, client in people.items()}


def people_around(study: Study) -> dict[str, Client]:
    reviewer = make_person("rosa")
    Participation.objects.create(study=study, user=reviewer, role=Role.REVIEWER)
    assert study.created_by is not None
    return {
        "owner": signed_in(study.created_by),
        "administrator": signed_in(make_person("admin", Role.ADMINISTRATOR)),
        "researcher": signed_in(make_person("other", Role.RESEARCHER)),
        "reviewer": signed_in(reviewer),
        "annotator": signed_in(make_annotator(study)),
        "stranger": signed_in(make_person("stranger")),
        "nobody": Client(),
    }


def test_a_study_is_read_by_researchers_and_its_reviewers(launchable: Launchable) -> None:
    people = people_around(launchable.study)
    outside = {"annotator": 403, "stranger": 404, "nobody": 302}
    for page in READ_PAGES:
        found = statuses(f"/studies/{launchable.study.slug}/{page}", people)
        works = 204 if page == "progress/" else 200
        assert found == dict.fromkeys(("owner", "administrator", "researcher", "reviewer"), works) | outside, page


def test_a_study_is_changed_by_its_owner_and_administrators(launchable: Launchable) -> None:
    people = people_around(launchable.study)
    refused = {"researcher": 403, "reviewer": 403, "annotator": 403, "stranger": 404, "nobody": 302}
    for page in EDIT_PAGES:
        found = statuses(f"/studies/{launchable.study.slug}/{page}", people)
        assert found == {"owner": 200, "administrator": 200} | refused, page
    for page in (
        *EDIT_PAGES,
        "guideline/",
        "reference/",
        "people/",
        "launch/",
        "state/",
        "reports/1/",
        "categories/change/",
    ):
        address = f"/studies/{launchable.study.slug}/{page}"
        assert {name: people[name].post(address).status_code for name in refused} == refused, page


def test_an_unknown_study_is_404_and_a_wrong_method_405(launchable: Launchable, researcher: Client) -> None:
    for page in READ_PAGES + EDIT_PAGES:
        assert researcher.get(f"/studies/nowhere/{page}").status_code == 404
        assert researcher.delete(f"/studies/{launchable.study.slug}/{page}").status_code == 405
    for act in ("state/", "preview/answers", "reference/1/", "reports/1/"):
        assert researcher.get(f"/studies/{launchable.study.slug}/{act}").status_code == 405
        assert researcher.post(f"/studies/nowhere/{act}").status_code == 404


@pytest.mark.parametrize("address", ["/studies/new/", "/studies/sampler/", "/studies/guideline-preview/"])
def test_making_a_study_is_for_researchers(address: str) -> None:
    method = "get" if address.endswith("new/") else "post"
    assert getattr(signed_in(make_person("rita", Role.RESEARCHER)), method)(address).status_code == 200
    assert getattr(signed_in(make_person("rosa", Role.REVIEWER)), method)(address).status_code == 403
    assert getattr(Client(), method)(address).status_code == 302
    assert signed_in(User.objects.get(username="rita")).delete(address).status_code == 405


def test_the_list_asks_as_many_queries_for_three_studies_as_for_one() -> None:
    from django.db import connection

    make_draft_study("one")
    client = signed_in(User.objects.get(username="rhea"))
    counts = []
    for slugs in ((), ("two", "three")):
        for slug in slugs:
            make_draft_study(slug)
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/studies/").status_code == 200
        counts.append(len(queries))
    assert counts[0] == counts[1]


def test_the_people_are_listed_with_their_speed_in_as_many_queries_for_three_as_for_one(artifact_root: Path) -> None:
    from django.db import connection

    here = make_open_study(n_items=4)
    client = signed_in(here.researcher)
    counts = []
    for names in (("ada",), ("bob", "cyd")):
        for name in names:
            person = make_annotator(here.study, name)
            for item, seconds in zip(here.items, (4, 6, 5, 9000), strict=True):
                make_annotation(item, person, visible_ms=1000 * seconds)
        with CaptureQueriesContext(connection) as queries:
            page = client.get(f"/studies/{here.study.slug}/people/")
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert [person.seconds_per_item for person in page.context["people"]] == [5.0, 5.0, 5.0]


# ---- making and changing


def form_for(launchable: Launchable, **changes: Any) -> dict[str, Any]:
    return FORM | {"dictionaries": [launchable.dictionary.pk]} | changes


def test_the_form_makes_a_draft_with_what_was_typed(launchable: Launchable, researcher: Client) -> None:
    response = researcher.post("/studies/new/", form_for(launchable))
    assert response["Location"] == "/studies/what-they-see/"
    study = Study.objects.get(slug="what-they-see")
    assert study.sampler == {
        "n_features": 6, "blocks": [], "n_density_bands": 2, "feature_ids": [], "classes": [],
        "dictionaries": [launchable.dictionary.pk],
    }  # fmt: skip
    assert study.exclusions == {"min_images": 16, "max_prefix_share": 0.5, "prefix_rule": "exclude"}
    assert (study.control_share, study.control_kinds, study.core_share) == (0.1, ["shuffled"], 0.3)
    assert (study.consent_version, study.session_length, study.seed) == ("2", 40, 5)
    assert study.categories.count() == 7
    page = researcher.get("/studies/what-they-see/edit/").content.decode()
    assert 'name="control_share" value="10"' in page
    assert 'name="max_prefix_share" value="50"' in page


WRONG_FORMS: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "This field is required."),
    ({"dictionaries": []}, "This field is required."),
    ({"gold_share": 30, "catch_share": 20}, "50% of all; 40% is the most."),
    ({"control_kinds": []}, "Choose a kind of control"),
    ({"blocks": "one"}, "is no whole number."),
]


def test_the_form_refuses_with_a_sentence(launchable: Launchable, researcher: Client) -> None:
    n_studies = Study.objects.count()
    for changes, sentence in WRONG_FORMS:
        assert sentence in researcher.post("/studies/new/", form_for(launchable, **changes)).content.decode()
    assert Study.objects.count() == n_studies


def test_the_sample_is_previewed_while_the_form_is_filled(launchable: Launchable, researcher: Client) -> None:
    sample = researcher.post("/studies/sampler/", form_for(launchable, name="", consent_text="")).context["sample"]
    assert len(sample.drawn) == 6
    assert sum(row.n_drawn for row in sample.rows) == 6
    short = researcher.post("/studies/sampler/", form_for(launchable, n_features=500)).content.decode()
    assert "There are not enough eligible features" in short
    wrong = researcher.post("/studies/sampler/", form_for(launchable, seed="x")).content.decode()
    assert "Seed: Enter a whole number." in wrong
    listed = researcher.post("/studies/sampler/", form_for(launchable, feature_ids="999999")).content.decode()
    assert "Feature 999999 is not in the chosen dictionaries" in listed


def test_a_guideline_is_written_in_versions(launchable: Launchable, researcher: Client) -> None:
    address = f"/studies/{launchable.study.slug}/guideline/"
    for text in ("# Second", "# Second", "# Third"):
        researcher.post(address, {"text": text})
    assert list(launchable.study.guidelines.values_list("version", flat=True)) == [3, 2, 1]
    assert "<h2>Third</h2>" in researcher.get(address).content.decode()
    shown = researcher.post("/studies/guideline-preview/", {"text": "**bold** <b>"}).content.decode()
    assert shown == "<p><strong>bold</strong> &lt;b&gt;</p>"


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([("sky", "s")], "The key 's' of 'sky' is the player's own; choose another letter."),
        ([("a", "o"), ("b", "o")], "The key 'o' is given to two categories; every category needs its own."),
        ([("Sky", "o"), ("sky", "p")], "There are two categories 'Sky'."),
        ([("sky", "1")], "The key of 'sky' is '1'; it must be one letter from a to z."),
        ([("sky", "é")], "The key of 'sky' is 'é'; it must be one letter from a to z."),
    ],
)
def test_categories_with_clashing_keys_are_refused(rows: list[tuple[str, str]], sentence: str) -> None:
    with pytest.raises(StudyError) as refusal:
        check_categories(rows, PROTOCOLS["rate-describe-categorise"])
    assert str(refusal.value) == sentence


def test_practice_items_are_added_changed_moved_and_removed(launchable: Launchable, researcher: Client) -> None:
    study = launchable.study
    study.reference_items.all().delete()
    address = f"/studies/{study.slug}/reference/"
    features = [one.feature.pk for one in researcher.get(address).context["candidates"][:2]]
    for feature in features:
        body = {"kind": "practice", "feature": feature, "accepted__patch_rating": ["3", "null"], "reason": "All red."}
        assert researcher.post(address, body)["Location"] == address
    first, second = study.reference_items.order_by("position")
    assert (first.feature_id, first.accepted) == (features[0], {"patch_rating": [3, None]})
    changed = {"kind": "practice", "feature": features[0], "accepted__category": ["texture"], "reason": "Striped."}
    researcher.post(address, changed)
    first.refresh_from_db()
    assert (first.accepted, first.reason) == ({"category": ["texture"]}, "Striped.")
    researcher.post(f"{address}{second.pk}/", {"act": "up"})
    assert list(study.reference_items.values_list("pk", flat=True)) == [second.pk, first.pk]
    researcher.post(f"{address}{second.pk}/", {"act": "remove"})
    assert list(study.reference_items.values_list("pk", flat=True)) == [first.pk]
    assert researcher.post(f"{address}{second.pk}/", {"act": "remove"}).status_code == 404


WRONG_ITEMS: list[tuple[dict[str, Any], str]] = [
    ({"accepted__patch_rating": []}, "Tick the accepted answers of at least one question."),
    ({"feature": 10**9}, "There is no feature of this number."),
    ({"reason": ""}, "Say why: it is what people learn from."),
]


def test_a_practice_item_without_feature_answer_or_reason_is_refused(
    launchable: Launchable, researcher: Client
) -> None:
    feature = launchable.study.reference_items.all()[0].feature_id
    n_items = ReferenceItem.objects.count()
    for changes, sentence in WRONG_ITEMS:
        body = {"kind": "practice", "feature": feature, "accepted__patch_rating": ["3"], "reason": "All red."} | changes
        page = researcher.post(f"/studies/{launchable.study.slug}/reference/", body).content.decode()
        assert sentence in page
    assert ReferenceItem.objects.count() == n_items


def test_the_preview_shows_the_items_and_stores_nothing(launchable: Launchable, researcher: Client) -> None:
    address = f"/studies/{launchable.study.slug}/preview/"
    items = researcher.get(address).context["config"]["items"]
    assert len(items) == 12
    cell = items[0]["stimulus"]["panels"][1]["cells"][0]
    assert researcher.get(cell["src"]).status_code == 200
    payload = {"patch_rating": 1, "image_rating": None}
    body = json.dumps({"reference": items[0]["item"], "payload": payload})
    reply = researcher.post(f"{address}answers", body, content_type="application/json").json()
    assert reply["questions"] == [{"name": "patch_rating", "given": 1, "accepted": [3, 4], "is_right": False}]
    for wrong, status in (("{", 400), ('{"payload": 1}', 400), ('{"reference": 999999, "payload": {}}', 422)):
        assert researcher.post(f"{address}answers", wrong, content_type="application/json").status_code == status
    assert Participation.objects.filter(study=launchable.study).exclude(role=Role.RESEARCHER).count() == 0


def test_roles_in_a_study_are_given_by_name(launchable: Launchable, researcher: Client) -> None:
    make_person("rosa")
    address = f"/studies/{launchable.study.slug}/people/"
    researcher.post(address, {"username": "Rosa", "role": "reviewer"})
    assert Participation.objects.get(user__username="rosa").role == Role.REVIEWER
    page = researcher.post(address, {"username": "nobody", "role": "reviewer"}).content.decode()
    assert "There is nobody called &#x27;nobody&#x27;" in page
    Participation.objects.filter(user__username="rosa").update(role="annotator", n_done=3)
    page = researcher.post(address, {"username": "rosa", "role": "reviewer"}).content.decode()
    assert "stays an annotator of this study" in page


# ---- launch, work, end


def test_launch_refuses_until_nothing_is_missing(launchable: Launchable, researcher: Client) -> None:
    ReferenceItem.objects.filter(position__gte=5).delete()
    address = f"/studies/{launchable.study.slug}/launch/"
    page = researcher.get(address)
    assert [check.title for check in page.context["checks"] if not check.is_done] == ["Practice items", "Gold items"]
    assert "Add practice items: there are 5, and 10 are needed." in page.content.decode()
    assert researcher.post(address).status_code == 200
    assert Run.objects.count() == 0


def test_launch_freezes_opens_and_shows_the_link(launchable: Launchable, researcher: Client, broker: object) -> None:
    address = f"/studies/{launchable.study.slug}/"
    estimate = researcher.get(f"{address}launch/").context["estimate"]
    assert researcher.post(f"{address}launch/")["Location"] == address
    assert "Freezing what people will see" in researcher.get(address).content.decode()
    assert "Beginning…".encode() in researcher.get(f"{address}progress/").content
    finish_run(Run.objects.get())
    assert researcher.get(f"{address}progress/")["HX-Refresh"] == "true"
    study = Study.objects.get(pk=launchable.study.pk)
    assert (study.n_items, study.n_slots) == (estimate.n_items, estimate.n_judgements)
    page = researcher.get(address).content.decode()
    assert f"http://testserver/join/{study.join_token}/" in page
    assert researcher.get(f"{address}launch/")["Location"] == address
    assert "locked" in researcher.post(f"{address}edit/", form_for(launchable)).content.decode()


def test_an_open_study_shows_nothing_by_condition_block_or_dictionary(artifact_root: Path) -> None:
    here = make_open_study()
    make_annotator(here.study)
    page = signed_in(here.researcher).get(f"/studies/{here.study.slug}/").content.decode()
    for secret in ("random directions", "blocks.0", "blocks.1", "sae discs", "interpretable"):
        assert secret not in page


def test_remarks_and_reports_are_read_by_item_and_code(artifact_root: Path) -> None:
    here = make_open_study()
    ada, client = make_annotator(here.study), signed_in(here.researcher)
    for kind, text in (("flag", ""), ("comment", "two shapes")):
        Remark.objects.create(uuid=uuid.uuid4(), kind=kind, item=here.items[0], author=ada, text=text)
    image = Image.objects.all()[0]
    report = ImageReport.objects.create(
        uuid=uuid.uuid4(), image=image, study=here.study, reporter=ada, reason="Disturbing"
    )
    address = f"/studies/{here.study.slug}/remarks/"
    assert [remark.kind for remark in client.get(address).context["page"].object_list] == ["comment", "flag"]
    assert [remark.text for remark in client.get(address, {"kind": "comment"}).context["page"].object_list] == [
        "two shapes"
    ]
    page = client.get(address).content.decode()
    assert (ada.annotator_code in page, "Disturbing" in page, ">ada<" in page, "blocks." in page) == (
        True, True, False, False,
    )  # fmt: skip
    client.post(f"/studies/{here.study.slug}/reports/{report.pk}/")
    report.refresh_from_db()
    assert report.resolved_at is not None
    assert client.post(f"/studies/{here.study.slug}/reports/999/").status_code == 404


def test_pause_resume_and_a_confirmed_close(artifact_root: Path) -> None:
    here: OpenStudy = make_open_study()
    client = signed_in(here.researcher)
    address = f"/studies/{here.study.slug}/state/"
    seen = []
    for act in (
        {"act": "pause"},
        {"act": "resume"},
        {"act": "close"},
        {"act": "close", "confirmed": "yes"},
        {"act": "x"},
    ):
        client.post(address, act)
        seen.append(Study.objects.get(pk=here.study.pk).state)
    assert seen == ["paused", "open", "open", "closed", "closed"]
    page = client.get(f"/studies/{here.study.slug}/").content.decode()
    assert "Nobody has seen results by condition" in page
    assert list(here.study.events.order_by("id").values_list("kind", flat=True)) == ["paused", "resumed", "closed"]


def test_a_launch_that_failed_leaves_a_draft_and_its_reason(launchable: Launchable, researcher: Client) -> None:
    run = launch_study(study=launchable.study, user=launchable.researcher)
    Run.objects.filter(pk=run.pk).update(state=Run.State.FAILED, error="An image is missing.")
    page = researcher.get(f"/studies/{launchable.study.slug}/").content.decode()
    assert "The launch failed, and the study is a draft again. An image is missing." in page
    assert Study.objects.get(pk=launchable.study.pk).state == Study.State.DRAFT
