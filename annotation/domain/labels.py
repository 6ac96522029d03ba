"""What people called a feature, from studies that were closed and unblinded; the labels of all others stay hidden.

A label beside its dictionary and block is a result: were it shown while answers still come in, it would lead them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from django.db.models import Count, Q, QuerySet

from annotation.domain.unblinding import UNBLINDED
from annotation.models import Annotation, Condition, Feature, Study


class LabelCount(NamedTuple):
    """One wording in one study, and how many annotators chose it."""

    label: str
    category: str
    n: int
    study_name: str
    study_slug: str
    is_simulated: bool


def open_to_all() -> QuerySet[Study]:
    return Study.objects.filter(state=Study.State.CLOSED, events__kind=UNBLINDED)


def shown_annotations() -> QuerySet[Annotation]:
    """Current answers about real features that may be shown beside their feature."""
    return Annotation.objects.filter(
        study__in=open_to_all(), item__condition=Condition.REAL, is_current=True, excluded_reason=""
    )


def labels_of(feature: Feature) -> list[LabelCount]:
    """The labels given to a feature, the most frequent first."""
    grouped = (
        shown_annotations()
        .filter(item__feature=feature)
        .exclude(label="")
        .values("label", "category", "study__name", "study__slug", "is_simulated")
        .annotate(n=Count("id"))
        .order_by("-n", "label")
    )
    return [
        LabelCount(row["label"], row["category"], row["n"], row["study__name"], row["study__slug"], row["is_simulated"])
        for row in grouped
    ]


def studies_of(feature: Feature) -> list[Study]:
    """The studies, closed and unblinded, in which the feature was judged."""
    return list(open_to_all().filter(items__feature=feature, items__condition=Condition.REAL).distinct())


class FirstLabel(NamedTuple):
    """What a feature is called in a list."""

    text: str
    is_simulated: bool


def first_labels(features: Iterable[Feature]) -> dict[int, FirstLabel]:
    """The most frequent label of each feature that has one, by feature id, in one query; people before programs."""
    rows = (
        shown_annotations()
        .filter(item__feature__in=[feature.pk for feature in features])
        .exclude(label="")
        .values_list("item__feature_id", "label", "is_simulated")
        .annotate(n=Count("id"))
        .order_by("-is_simulated", "n", "-label")
    )
    return {feature_id: FirstLabel(label, is_simulated) for feature_id, label, is_simulated, _ in rows}


def has_label() -> Q:
    """The condition that a feature has a label to show."""
    return Q(pk__in=shown_annotations().exclude(label="").values("item__feature_id"))
