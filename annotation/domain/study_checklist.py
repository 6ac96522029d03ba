"""What a draft still lacks, and what it will ask of people once it is launched."""

from __future__ import annotations

from typing import NamedTuple

from annotation.domain.controls import Shares
from annotation.domain.launching import control_problems
from annotation.domain.sampling import SamplePreview, SamplingError, study_sample
from annotation.domain.studies import N_PRACTICE
from annotation.models import ReferenceItem, Study

SECONDS_PER_JUDGEMENT = 20  # a practised annotator; the study page shows the measured speed once there is one


class Check(NamedTuple):
    """One line of the checklist; page is the name of the address where it is settled."""

    title: str
    is_done: bool
    is_needed: bool
    words: str
    page: str


class Estimate(NamedTuple):
    n_features: int
    n_controls: int
    n_catch: int
    n_gold: int
    n_items: int
    n_judgements: int
    hours: float
    n_short: int


def checklist(study: Study, sample: SamplePreview | str) -> list[Check]:
    """The steps to a launch in their order; `sample` is a sentence where none can be drawn."""
    kinds = list(study.reference_items.values_list("kind", flat=True))
    n_practice, n_gold = kinds.count(ReferenceItem.Kind.PRACTICE), kinds.count(ReferenceItem.Kind.GOLD)
    guideline = study.guidelines.order_by("-version").first()
    n_categories = study.categories.count()
    n_drawn = 0 if isinstance(sample, str) else len(sample.drawn)
    sampled = sample if isinstance(sample, str) else f"{n_drawn} features drawn"
    trouble = " ".join(control_problems(study))
    return [
        Check("Features", n_drawn > 0, True, sampled, "study-edit"),
        Check("Controls", not trouble, True, trouble or control_words(study), "study-edit"),
        Check("Consent", bool(study.consent_text.strip()), True, f"version {study.consent_version}", "study-edit"),
        Check(
            "Guideline", guideline is not None, True,
            f"version {guideline.version}" if guideline else "not written yet", "study-guideline",
        ),
        Check("Categories", n_categories > 0, True, f"{n_categories} with their keys", "study-categories"),
        Check(
            "Practice items", n_practice >= N_PRACTICE, True, f"{n_practice} of at least {N_PRACTICE}",
            "study-reference",
        ),
        Check(
            "Gold items", n_gold > 0, False,
            f"{n_gold} of your own; catch items with known answers make up for what is missing", "study-reference",
        ),
    ]  # fmt: skip


def control_words(study: Study) -> str:
    if study.control_share <= 0:
        return "none: nothing to compare the features with"
    return f"{study.control_share:.0%} of the items, blind"


def try_sample(study: Study) -> SamplePreview | str:
    """What would be drawn, or the sentence that says why nothing can be."""
    try:
        return study_sample(study)
    except SamplingError as error:
        return str(error)


def launch_estimate(study: Study, sample: SamplePreview) -> Estimate:
    """Items and judgements as the launch will make them, catch and gold items all in the core."""
    n_features = len(sample.drawn)
    n_gold_there = study.reference_items.filter(kind=ReferenceItem.Kind.GOLD).count()
    shares = Shares(study.control_share, study.catch_share, study.gold_share)
    n_controls, n_catch, n_gold = shares.counts(n_features, n_gold_there)
    n_rated = n_features + n_controls
    n_core = round(study.core_share * n_rated) + n_catch + n_gold
    n_items = n_rated + n_catch + n_gold
    n_judgements = n_core * study.core_overlap + (n_items - n_core) * study.overlap
    hours = n_judgements * SECONDS_PER_JUDGEMENT / 3600
    return Estimate(n_features, n_controls, n_catch, n_gold, n_items, n_judgements, hours, sample.n_short)
