"""The study form by protocol: options, needs, and a preview that draws what the study will draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.domain.study_samples import study_sample
from annotation.forms.study import StudyForm
from annotation.models import ReferenceItem, Study
from tests.annotation.launchable_study import Launchable, make_launchable

pytestmark = pytest.mark.django_db


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


def typed(launchable: Launchable, **changes: Any) -> dict[str, Any]:
    """What the browser sends for a new study with the usual values."""
    form = StudyForm()
    values = {name: form.get_initial_for_field(field, name) for name, field in form.fields.items()}
    sent = {name: value for name, value in values.items() if value not in (None, "")}
    return (
        sent | {"name": "A study", "dictionaries": [launchable.dictionary.pk], "control_kinds": ["shuffled"]} | changes
    )


def test_every_protocol_makes_a_draft_with_its_options(client: Client, launchable: Launchable) -> None:
    client.force_login(launchable.researcher)
    sent = typed(
        launchable, protocol="intruder", intruder__n_images="4", intruder__items_per_feature="3", pass_mark="80",
        control_kinds=["random_directions"], gold_schedule="0: 20, 40: 5", half_width="5", min_judgements="200",
    )  # fmt: skip
    assert client.post(reverse("study-new"), sent).status_code == 302
    study = Study.objects.get(name="A study")
    assert (study.protocol, study.protocol_options) == ("intruder", {"n_images": 4, "items_per_feature": 3})
    assert (study.gold_schedule, study.pass_mark) == ([[0, 0.2], [40, 0.05]], 0.8)
    assert study.stopping == {"half_width": 0.05, "min_judgements": 200}
    form = StudyForm.of(study)
    assert form["intruder__n_images"].value() == 4
    assert form["gold_schedule"].value() == "0: 20, 40: 5"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": "adjudication"}, "Select a valid choice"),
        ({"protocol": "intruder", "intruder__n_images": "9"}, "Select a valid choice"),
        ({"protocol": "intruder", "control_kinds": ["shuffled"]}, "Choose a kind of control"),
        ({"gold_schedule": "20"}, "must be a number of answers, a colon and a percentage"),
        ({"gold_schedule": "10: 20"}, "Begin at 0"),
        ({"min_judgements": "20"}, "Say at which half-width to stop."),
        ({"overlap": "3", "core_overlap": "1"}, "The core needs at least as many judgements as the rest."),
        ({"half_width": "60"}, "It must be below 50%."),
        ({"catch_share": "30", "gold_share": "30"}, "Catch and gold items are 60% of all; 40% is the most."),
        ({"control_share": "70"}, "60% is the most."),
    ],
)
def test_a_wrong_value_is_answered_beside_it(
    client: Client, launchable: Launchable, changes: dict[str, Any], sentence: str
) -> None:
    client.force_login(launchable.researcher)
    page = client.post(reverse("study-new"), typed(launchable, **changes)).content.decode()
    assert sentence in page
    assert not Study.objects.filter(name="A study").exists()


def test_the_preview_of_a_saved_draft_leaves_out_its_practice_and_gold(client: Client, launchable: Launchable) -> None:
    client.force_login(launchable.researcher)
    study = launchable.study
    study.sampler |= {"n_features": 500}
    study.save()
    sent = typed(launchable, n_features="500", n_density_bands="2")
    shown = client.post(f"{reverse('study-sampler')}?study={study.slug}", sent).content.decode()
    fresh = client.post(reverse("study-sampler"), sent).content.decode()
    n_drawn = len(study_sample(study).drawn)
    assert f"<strong>{n_drawn}</strong> features drawn" in shown
    assert f"<strong>{n_drawn + study.reference_items.count()}</strong> features drawn" in fresh


@pytest.mark.parametrize(
    ("protocol", "sentence"),
    [
        ("verification", "Choose the explanations that are verified."),
        ("pairwise", "Choose at least two dictionaries"),
        ("alignment", "Choose the alignment whose pairs are judged"),
    ],
)
def test_the_preview_says_what_a_protocol_needs(
    client: Client, launchable: Launchable, protocol: str, sentence: str
) -> None:
    client.force_login(launchable.researcher)
    page = client.post(reverse("study-sampler"), typed(launchable, protocol=protocol)).content.decode()
    assert sentence in page


def test_the_checklist_links_to_what_makes_what_is_missing(client: Client, launchable: Launchable) -> None:
    client.force_login(launchable.researcher)
    study = launchable.study
    study.protocol = "two-alternative"
    study.save()
    page = client.get(reverse("study-launch", args=[study.slug])).content.decode()
    assert f"{reverse('run-new')}?stage=embed-images" in page
    study.protocol = "verification"
    study.save()
    page = client.get(reverse("study-launch", args=[study.slug])).content.decode()
    assert f'href="{reverse("explanations")}"' in page
    assert "Hard contrasts" not in page


def test_practice_of_a_pair_names_both_features(client: Client, launchable: Launchable) -> None:
    client.force_login(launchable.researcher)
    study = launchable.study
    study.protocol = "pairwise"
    study.save()
    study.reference_items.all().delete()
    one, other = launchable.dictionary.features.filter(n_images_active__gte=16)[:2]
    sent = {"kind": "practice", "feature": one.pk, "accepted__easier": ["left", "tie"], "reason": "Plain."}
    address = reverse("study-reference", args=[study.slug])
    assert "Name the second feature" in client.post(address, sent).content.decode()
    client.post(address, sent | {"other_feature": other.pk})
    made = ReferenceItem.objects.get(study=study)
    assert (made.other_feature, made.accepted) == (other, {"easier": ["left", "tie"]})
    assert f"number {other.pk}" in client.get(address).content.decode()


def test_practice_whose_answer_follows_from_the_stimulus_has_nothing_to_tick(
    client: Client, launchable: Launchable
) -> None:
    client.force_login(launchable.researcher)
    study = launchable.study
    study.protocol = "intruder"
    study.save()
    study.reference_items.all().delete()
    feature = launchable.dictionary.features.filter(n_images_active__gte=16)[0]
    address = reverse("study-reference", args=[study.slug])
    assert "there is nothing to tick" in client.get(address).content.decode()
    client.post(address, {"kind": "gold", "feature": feature.pk})
    assert ReferenceItem.objects.get(study=study).accepted == {}


def test_the_page_of_protocols_shows_all_ten(client: Client, launchable: Launchable) -> None:
    client.force_login(launchable.researcher)
    page = client.get(reverse("protocols")).content.decode()
    assert page.count('class="protocol-sheet"') == 10
    assert page.count("<summary>Guidance</summary>") == 10
