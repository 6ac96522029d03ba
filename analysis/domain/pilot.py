"""What a pilot tells about the study to come: time per item, agreement, spread, confusing items.

Features and controls are pooled: nothing here tells how either was judged. Answers of a pilot stay the pilot's.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from django.utils.translation import gettext as _

from analysis.statistics.agreement import Scale, agreement
from analysis.statistics.components import Components, components
from analysis.statistics.figures import Figure
from analysis.statistics.measured import make_measured
from analysis.statistics.ratings import make_ratings
from analysis.statistics.wording import Words
from annotation.domain.protocols import PROTOCOLS, options_of
from annotation.domain.protocols.base import Payload
from annotation.domain.protocols.rate_describe import INTERPRETABLE_FROM
from annotation.models import Annotation, Condition, Study

SEED = 0
N_CONFUSING = 8
SLOWEST_MS = 600_000
CHECKS = (Condition.CATCH, Condition.GOLD)


class ConfusingItem(NamedTuple):
    """An item on which the answers part, with what people said of it."""

    item: int
    n_answers: int
    spread: float
    seconds: float
    n_remarks: int
    words: list[str]


class PilotReport(NamedTuple):
    n_answers: int
    n_people: int
    n_items: int
    seconds: float | None
    seconds_low: float | None
    seconds_high: float | None
    share: float | None
    parts: Components | None
    agreement: list[Figure]
    confusing: list[ConfusingItem]
    problem: str


def verdict(protocol: str, payload: Payload, truth: dict[str, Any], options: dict[str, Any]) -> float | None:
    """One answer as one number from 0 to 1: right, or yes, or interpretable; None where it says neither."""
    score = PROTOCOLS[protocol].score(payload, truth, options)
    if score is not None:
        return score
    if protocol == "rate-describe-categorise":
        return float(max(payload["patch_rating"] or 0, payload["image_rating"] or 0) >= INTERPRETABLE_FROM)
    if protocol == "nature-origin":
        return float(payload["nature"] != "uninterpretable")
    if protocol == "pairwise":
        return {"left": 0.0, "tie": 0.5, "right": 1.0}[payload["easier"]]
    said = payload.get("same" if protocol == "alignment" else "spurious")
    return {"yes": 1.0, "no": 0.0}.get(said) if isinstance(said, str) else None


class Answer(NamedTuple):
    item: int
    annotator: int
    value: float
    visible_ms: int | None
    words: str


def answers_in(study: Study) -> list[Answer]:
    """The answers in force on features and controls; a pilot is small."""
    rows = (
        Annotation.objects.filter(
            study=study, is_current=True, is_late_extra=False, excluded_reason="", item__repeat_of=None
        )
        .exclude(item__condition__in=CHECKS)
        .order_by("id")
        .values_list("item_id", "annotator_id", "payload", "item__truth", "visible_ms", "label")
    )
    options = options_of(study)
    valued = (
        (item, annotator, verdict(study.protocol, payload, truth, options), visible_ms, label)
        for item, annotator, payload, truth, visible_ms, label in rows
    )
    return [
        Answer(item, annotator, value, ms, words) for item, annotator, value, ms, words in valued if value is not None
    ]


def report_of_pilot(study: Study) -> PilotReport:
    answers = answers_in(study)
    seconds = sorted(a.visible_ms / 1000 for a in answers if a.visible_ms is not None and a.visible_ms < SLOWEST_MS)
    parts, problem = settled_components(answers)
    quartiles = statistics.quantiles(seconds, n=4) if len(seconds) >= 4 else [None, None, None]
    return PilotReport(
        len(answers), len({a.annotator for a in answers}), len({a.item for a in answers}), quartiles[1], quartiles[0],
        quartiles[2], statistics.fmean(a.value for a in answers) if answers else None, parts,
        pooled_agreement(answers), confusing_items(study, answers), problem,
    )  # fmt: skip


def settled_components(answers: list[Answer]) -> tuple[Components | None, str]:
    if not answers:
        return None, _("Nobody has answered yet.")
    measured = make_measured(
        [a.item for a in answers], [a.annotator for a in answers], np.array([a.value for a in answers])
    )
    try:
        return components(measured), ""
    except ValueError as error:
        return None, _(str(error))


def pooled_agreement(answers: list[Answer]) -> list[Figure]:
    """Raw agreement, alpha and AC1 on the two sides of one half, each with its interval."""
    if not answers:
        return []
    values = np.array([1 + (a.value > 0.5) for a in answers], dtype=np.int8)
    ratings = make_ratings([a.item for a in answers], [a.annotator for a in answers], values)
    rng = np.random.default_rng(SEED)
    return list(agreement(ratings, rng, n_categories=2, scale=Scale.NOMINAL, of=Words("all items of the pilot"))[:3])


def confusing_items(study: Study, answers: list[Answer]) -> list[ConfusingItem]:
    """The items on which answers part most; of equal ones those that took longest."""
    by_item: dict[int, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_item[answer.item].append(answer)
    remarks = dict(count_remarks(study))
    found = [
        ConfusingItem(
            item, len(given), statistics.pvariance([a.value for a in given]),
            statistics.median([a.visible_ms / 1000 for a in given if a.visible_ms is not None] or [0.0]),
            remarks.get(item, 0), sorted({a.words for a in given if a.words})[:4],
        )
        for item, given in by_item.items()
        if len(given) >= 2
    ]  # fmt: skip
    ordered = sorted(found, key=lambda one: (-one.spread, -one.n_remarks, -one.seconds, one.item))
    return [one for one in ordered if one.spread > 0 or one.n_remarks][:N_CONFUSING]


def count_remarks(study: Study) -> list[tuple[int, int]]:
    from django.db.models import Count

    return list(study.items.filter(remarks__isnull=False).values_list("pk").annotate(n=Count("remarks")))
