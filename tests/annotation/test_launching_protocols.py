"""Every protocol from a draft to an open study, its stimuli frozen by the real stage from the small catalog."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.domain.features import load_features
from annotation.domain.launch_problems import ADJUDICATION, launch_problems
from annotation.domain.launching import launch_study
from annotation.domain.pilots import copy_study
from annotation.domain.protocols import options_of, protocol_of
from annotation.domain.stimuli import stimulus_record
from annotation.domain.storage import artifact_store
from annotation.domain.studies import StudyError
from annotation.models import Condition, Dictionary, Explanation, ExplanationSet, Feature, Item, ReferenceItem, Study
from tests.annotation.launchable_study import PLAN, Launchable, finish_run, make_launchable
from tests.exemplar_factory import draw, make_dictionary, write_exemplars

pytestmark = pytest.mark.django_db
WITHOUT_ACCEPTED = {"two-alternative", "intruder", "verification", "patch-marking"}
ANYTHING: dict[str, Any] = {
    "pairwise": {"easier": ["left"]},
    "nature-origin": {"nature": ["superficial"]},
    "alignment": {"same": ["yes"]},
    "spurious": {"spurious": ["yes", None]},
}


@pytest.fixture
def launchable(artifact_root: Path, tmp_path: Path) -> Launchable:
    return make_launchable(tmp_path)


def opened(launchable: Launchable, protocol: str, **fields: Any) -> Study:
    """The study launched as this protocol; its practice and gold items made to fit."""
    study = launchable.study
    study.protocol = protocol
    for name, value in fields.items():
        setattr(study, name, value)
    study.save()
    study.reference_items.update(accepted=ANYTHING.get(protocol, {}))
    finish_run(launch_study(study=study, user=launchable.researcher))
    study.refresh_from_db()
    assert study.state == Study.State.OPEN
    return study


def conditions(study: Study) -> Counter[str]:
    return Counter(study.items.values_list("condition", flat=True))


def record_of(study: Study, item: Item | ReferenceItem) -> dict[str, Any]:
    return stimulus_record(study.stimuli_digest, item.stimulus_id)


def second_dictionary(launchable: Launchable) -> Dictionary:
    """Another dictionary on the same images, with exemplars of its own."""
    plan = replace(PLAN, kind="transcoder", seed=2)
    rng = np.random.default_rng(PLAN.seed)
    drawn = [draw(rng) for _ in range(PLAN.n_images)]
    one = launchable.dictionary
    dictionary = make_dictionary(plan, one.vision_model, one.image_set)
    load_features(artifact=write_exemplars(artifact_store(), plan, drawn, dictionary), run=None)
    return dictionary


def explained(launchable: Launchable, n_sentences: int = 7) -> ExplanationSet:
    made = ExplanationSet.objects.create(name="by hand")
    features = Feature.objects.filter(dictionary=launchable.dictionary, n_images_active__gte=16)
    Explanation.objects.bulk_create(
        Explanation(explanation_set=made, feature=one, text=f"sentence {one.pk % n_sentences} about it")
        for one in features
    )
    return made


def check_truths(study: Study) -> None:
    """What is right is known to the server for every item, and accepted of checks and practice."""
    protocol, options = protocol_of(study), options_of(study)
    for item in study.items.all():
        derived = protocol.accepted(item.truth, options)
        is_check = item.condition in {Condition.CATCH, Condition.GOLD}
        assert item.truth
        assert item.accepted == (derived if is_check else {})
    for reference in study.reference_items.exclude(stimulus_id=""):
        assert reference.accepted == protocol.accepted(reference.truth, options)


def test_two_alternatives_come_in_equal_parts_and_catch_items_ask_for_a_reference(launchable: Launchable) -> None:
    options = {"variants": ["easy", "graded", "no-reference"], "n_references": 4}
    study = opened(launchable, "two-alternative", protocol_options=options, catch_share=0.2)
    variants = Counter(study.items.filter(condition=Condition.REAL).values_list("variant", flat=True))
    reasons = {row["reason"] for row in study.ineligible}
    assert sum(variants.values()) + len(study.ineligible) >= 16, reasons
    assert set(variants) <= {"easy", "graded", "no-reference"}
    check_truths(study)
    catch = study.items.filter(condition=Condition.CATCH)[0]
    panels = {panel["name"]: panel["cells"] for panel in record_of(study, catch)["panels"]}
    shown = {cell["image_index"] for cell in panels["reference"]}
    assert panels["queries"][catch.truth["query"]]["image_index"] in shown
    real = study.items.filter(condition=Condition.REAL, variant="easy")[0]
    panels = {panel["name"]: panel["cells"] for panel in record_of(study, real)["panels"]}
    assert not {c["image_index"] for c in panels["queries"]} & {c["image_index"] for c in panels["reference"]}


def test_an_intruder_study_has_several_items_per_feature(launchable: Launchable) -> None:
    options = {"n_images": 4, "items_per_feature": 2}
    study = opened(launchable, "intruder", protocol_options=options, catch_share=0.1, control_share=0.25)
    real = study.items.filter(condition=Condition.REAL)
    n_missing = sum(1 for row in study.ineligible)
    assert real.count() + 2 * n_missing >= 32
    assert conditions(study)[Condition.RANDOM_DIRECTIONS] + n_missing > 0
    check_truths(study)
    gold = set(study.reference_items.filter(kind="gold").values_list("feature_id", flat=True))
    assert set(study.items.filter(condition=Condition.CATCH).values_list("feature_id", flat=True)) <= gold


@pytest.mark.parametrize("n_images", [1, 8])
def test_a_shuffled_explanation_stands_over_other_images_of_its_feature(launchable: Launchable, n_images: int) -> None:
    study = opened(
        launchable, "verification", explanations=explained(launchable), protocol_options={"n_images": n_images},
        control_kinds=["shuffled_explanation"], control_share=0.3,
    )  # fmt: skip
    texts = dict(Explanation.objects.values_list("feature_id", "text"))
    shuffled = list(study.items.filter(condition=Condition.SHUFFLED_EXPLANATION))
    assert len(shuffled) >= 4
    n_shared = []
    for item in shuffled:
        assert item.text != texts[item.feature_id]
        assert item.text in texts.values()
        twin = study.items.get(condition=Condition.REAL, feature=item.feature)
        assert (twin.text, twin.matched_feature) == (texts[item.feature_id], None)
        ours, theirs = (images_shown(study, one) for one in (item, twin))
        assert (len(ours), len(theirs)) == (n_images, n_images)
        n_shared.append(len(ours & theirs))
    # few images of a small set are kept for verification: how many come again is tested with the builder
    assert sum(n_shared) < n_images * len(n_shared)
    check_truths(study)


def images_shown(study: Study, item: Item) -> set[int]:
    return {cell["image_index"] for panel in record_of(study, item)["panels"] for cell in panel["cells"]}


def test_no_sentence_is_met_twice_where_there_are_others(launchable: Launchable) -> None:
    study = opened(
        launchable, "verification", explanations=explained(launchable, 10**6), control_share=0.2,
        control_kinds=["shuffled_explanation"],
    )  # fmt: skip
    used = Counter(study.items.values_list("text", flat=True))
    assert study.items.filter(condition=Condition.SHUFFLED_EXPLANATION).count() >= 3
    assert set(used.values()) == {1}


def test_a_study_of_which_nothing_can_be_shown_is_a_draft_again_and_says_why(launchable: Launchable) -> None:
    study = launchable.study
    without_contrast = launchable.dictionary.features.filter(latent=PLAN.n_latents - 1)
    study.reference_items.filter(feature__in=without_contrast).delete()
    spare = launchable.dictionary.features.filter(latent=4, hookpoint="blocks.0").get()
    ReferenceItem.objects.create(study=study, kind="practice", position=20, feature=spare, reason="x")
    study.protocol, study.control_share, study.protocol_options = "two-alternative", 0.0, {"variants": ["easy"]}
    study.sampler |= {"feature_ids": [one.pk for one in without_contrast]}
    study.catch_share = study.gold_share = 0.0
    study.save()
    finish_run(launch_study(study=study, user=launchable.researcher))
    study.refresh_from_db()
    assert (study.state, study.locked_hash, study.items.count()) == (Study.State.DRAFT, "", 0)
    reasons = {row["feature"]: row["reason"] for row in study.ineligible}
    assert ["no contrast images" in reasons[one.pk] for one in without_contrast] == [True, True]
    assert study.events.order_by("-id")[0].kind == "launch-failed"


def test_marking_keeps_the_maps_on_the_server(launchable: Launchable) -> None:
    study = opened(launchable, "patch-marking", protocol_options={"n_images": 1}, control_share=0.2)
    item = study.items.filter(condition=Condition.REAL)[0]
    assert len(item.truth["maps"]) == 1
    panels = {panel["name"]: panel["cells"] for panel in record_of(study, item)["panels"]}
    assert all("map" not in cell for cell in panels["queries"])
    assert conditions(study)[Condition.CATCH] == 0


def test_pairs_are_of_two_dictionaries_in_one_block_and_density_band(launchable: Launchable) -> None:
    other = second_dictionary(launchable)
    sampler = {"dictionaries": [launchable.dictionary.pk, other.pk], "n_features": 24, "n_density_bands": 2}
    partner = Feature.objects.filter(dictionary=other, n_images_active__gte=16).order_by("-id").first()
    launchable.study.reference_items.update(other_feature=partner)
    study = opened(launchable, "pairwise", sampler=sampler)
    real = study.items.filter(condition=Condition.REAL).select_related("feature", "other_feature")
    assert real.count() >= 6
    for item in real:
        assert item.other_feature is not None
        assert {item.feature.dictionary_id, item.other_feature.dictionary_id} == {launchable.dictionary.pk, other.pk}
        assert item.feature.block == item.other_feature.block
        assert set(item.truth) == {"left"}
    for reference in study.reference_items.exclude(stimulus_id=""):
        assert reference.accepted == {"easier": ["left" if reference.truth["left"] == "feature" else "right"]}
    copied = copy_study(source=study, user=launchable.researcher, name="Again").reference_items.all()
    assert {str(one.accepted) for one in copied} == {"{'easier': ['left']}"}
    assert {one.other_feature for one in copied} == {partner}


def test_alignment_pairs_come_from_the_artefact_in_equal_parts_from_its_bins(launchable: Launchable) -> None:
    other = second_dictionary(launchable)
    lines = [
        {"hookpoint": "blocks.0", "latent_a": latent, "latent_b": latent + 1, "mcs": latent / 40,
         "null_percentile": 0.5, "bin": latent % 4} | ({"hookpoint_b": "blocks.1"} if latent % 2 else {})
        for latent in range(2, 30)
    ]  # fmt: skip
    with artifact_store().write("alignment", config={}) as writer:
        writer.write_json(
            "alignment.json", {"dictionary_a": launchable.dictionary.digest, "dictionary_b": other.digest}
        )
        (writer.folder / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    launchable.study.reference_items.update(
        other_feature=Feature.objects.get(dictionary=other, hookpoint="blocks.1", latent=9)
    )
    sampler = {"dictionaries": [launchable.dictionary.pk, other.pk], "n_features": 8}
    study = opened(launchable, "alignment", sampler=sampler, alignment_digest=writer.digest)
    real = study.items.filter(condition=Condition.REAL)
    assert Counter(real.values_list("variant", flat=True)) == {f"bin {n}": 2 for n in range(4)}
    for item in real.select_related("feature", "other_feature"):
        assert item.other_feature is not None
        assert item.other_feature.latent == item.feature.latent + 1
        assert item.other_feature.hookpoint == f"blocks.{item.feature.latent % 2}"
        assert item.truth["mcs"] == item.feature.latent / 40


def test_a_class_is_shown_with_what_may_be_spurious_for_it(launchable: Launchable) -> None:
    sampler = launchable.study.sampler | {"classes": ["disc"], "n_features": 8}
    study = opened(launchable, "spurious", sampler=sampler, control_share=0.2)
    for item in study.items.filter(condition=Condition.REAL).select_related("feature"):
        assert (item.text, item.truth) == (item.feature.promoted_class, {"class": "disc"})
        assert record_of(study, item)["text"] == "disc"


def test_nature_and_origin_stands_half_on_controls(launchable: Launchable) -> None:
    study = opened(launchable, "nature-origin", control_share=0.5)
    found = conditions(study)
    assert found[Condition.REAL] == found[Condition.RANDOM_DIRECTIONS] + found[Condition.SHUFFLED] == 16
    catch = study.items.filter(condition=Condition.CATCH)
    assert all(item.accepted == {"nature": ["uninterpretable"]} for item in catch)


def test_what_a_protocol_needs_is_named_before_the_launch(launchable: Launchable) -> None:
    study = launchable.study
    found = {}
    for protocol in ("verification", "pairwise", "alignment", "two-alternative", "adjudication"):
        study.protocol = protocol
        found[protocol] = launch_problems(study)[0]
    assert found == {
        "verification": "Choose the explanations that are verified; a file of them can be imported.",
        "pairwise": "Choose at least two dictionaries: their features are compared.",
        "alignment": "Choose the alignment whose pairs are judged; the stage align-dictionaries makes one.",
        "two-alternative": "Hard contrasts need image embeddings; the stage embed-images makes them.",
        "adjudication": ADJUDICATION,
    }
    Feature.objects.update(promoted_class="")
    study.protocol = "spurious"
    assert launch_problems(study)[0] == "No feature promotes a class; collect exemplars with a readout."
    with pytest.raises(StudyError, match="No feature promotes"):
        launch_study(study=study, user=launchable.researcher)


def test_features_that_cannot_be_shown_are_listed_with_the_reason(launchable: Launchable) -> None:
    study = opened(launchable, "intruder", protocol_options={"n_images": 5})
    shown = set(study.items.values_list("feature_id", flat=True))
    for row in study.ineligible:
        assert set(row) == {"feature", "reason"}
        assert row["reason"].endswith(".")
    sampled = {row["feature"] for row in study.ineligible} | shown
    assert len(sampled) >= 16
