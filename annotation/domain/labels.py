"""What people called a feature, from studies that were closed and unblinded; the labels of all others stay hidden.

A label beside its dictionary and block is a result: were it shown while answers still come in, it would lead them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from django.db.models import Count, Q, QuerySet

from annotation.domain.unblinding import UNBLINDED
from annotation.domain.vocabulary import TERM_LENGTH, canonical_labels
from annotation.models import Annotation, Condition, Feature, Study, Term, Verdict


class LabelCount(NamedTuple):
    """One wording in one study, and how many annotators chose it."""

    label: str
    category: str
    n: int
    study_name: str
    study_slug: str
    is_simulated: bool
    is_adjudicated: bool = False


def open_to_all() -> QuerySet[Study]:
    return Study.objects.filter(state=Study.State.CLOSED, events__kind=UNBLINDED)


def shown_annotations() -> QuerySet[Annotation]:
    """Current answers about real features that may be shown beside their feature."""
    return Annotation.objects.filter(
        study__in=open_to_all(), item__condition=Condition.REAL, is_current=True, excluded_reason=""
    )


def shown_verdicts() -> QuerySet[Verdict]:
    """What reviewers called real features."""
    return Verdict.objects.filter(study__in=open_to_all(), item__condition=Condition.REAL, is_current=True).exclude(
        label=""
    )


def labels_of(feature: Feature) -> list[LabelCount]:
    """The labels given to a feature, in the words they were merged into: a reviewer's first, then the most frequent."""
    fields = ("label", "category", "study_id", "study__name", "study__slug", "is_simulated")
    given = shown_annotations().filter(item__feature=feature).exclude(label="")
    standing = standing_labels(given.values_list("study_id", "label").distinct())
    counts: Counter[LabelCount] = Counter()
    for label, category, study_id, name, slug, is_simulated, n in given.values_list(*fields).annotate(n=Count("id")):
        words = standing.get((study_id, label), label)
        counts[LabelCount(words, category, 0, name, slug, is_simulated)] += n
    people = [row._replace(n=n) for row, n in counts.items()]
    return settled_labels(feature) + sorted(people, key=lambda row: (-row.n, row.label))


def settled_labels(feature: Feature) -> list[LabelCount]:
    verdicts = shown_verdicts().filter(item__feature=feature).select_related("study", "judge").order_by("-id")
    return [
        LabelCount(one.label, one.category, 1, one.study.name, one.study.slug, one.judge.is_simulated, True)
        for one in verdicts
    ]


def standing_labels(given: Iterable[tuple[int, str]]) -> dict[tuple[int, str], str]:
    """For (study, label) pairs whose label was merged: the words it stands for."""
    pairs = set(given)
    merged = Term.objects.filter(
        study__in={study for study, _ in pairs}, text__in={label[:TERM_LENGTH] for _, label in pairs},
        merged_into__isnull=False,
    )  # fmt: skip
    studies = set(merged.values_list("study_id", flat=True)) if pairs else set()
    canonical = {pk: canonical_labels(Study(pk=pk)) for pk in studies}
    return {(study, label): canonical[study](label) for study, label in pairs if study in canonical}


def studies_of(feature: Feature) -> list[Study]:
    """The studies, closed and unblinded, in which the feature was judged."""
    return list(open_to_all().filter(items__feature=feature, items__condition=Condition.REAL).distinct())


class FirstLabel(NamedTuple):
    """What a feature is called in a list."""

    text: str
    is_simulated: bool


def first_labels(features: Iterable[Feature]) -> dict[int, FirstLabel]:
    """What each feature with a label is called: a reviewer's word, else the most frequent; people before programs."""
    ids = [feature.pk for feature in features]
    rows = list(
        shown_annotations()
        .filter(item__feature__in=ids)
        .exclude(label="")
        .values_list("item__feature_id", "study_id", "label", "is_simulated")
        .annotate(n=Count("id"))
    )
    standing = standing_labels((study, label) for _, study, label, _, _ in rows)
    counts: Counter[tuple[int, FirstLabel]] = Counter()
    for feature_id, study, label, is_simulated, n in rows:
        counts[feature_id, FirstLabel(standing.get((study, label), label), is_simulated)] += n
    last_wins = sorted(counts.items(), key=lambda entry: (not entry[0][1].is_simulated, entry[1]))
    found = {feature_id: label for (feature_id, label), _ in last_wins}
    settled = shown_verdicts().filter(item__feature__in=ids).order_by("id")
    return found | {
        feature_id: FirstLabel(label, is_simulated)
        for feature_id, label, is_simulated in settled.values_list("item__feature_id", "label", "judge__is_simulated")
    }


def has_label() -> Q:
    """The condition that a feature has a label to show."""
    given = shown_annotations().exclude(label="").values("item__feature_id")
    return Q(pk__in=given) | Q(pk__in=shown_verdicts().values("item__feature_id"))
