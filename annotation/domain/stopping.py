"""The stopping rule: a study pauses itself once the interval of its main quantity is narrow enough.

The quantity is pooled over the real items, and only the width of its interval is looked at: neither the share nor
anything by condition, block or dictionary is told. Answers cluster by feature and by annotator, so the variance is that
of two-way clustering (Cameron, Gelbach, Miller 2011): V = V_feature + V_annotator - V_both, never below the larger of
the first two.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext

from annotation.domain.priorities import INTERPRETABLE_FROM
from annotation.domain.protocols import Protocol, options_of, protocol_of
from annotation.domain.studies import StudyError, log_event
from annotation.models import Annotation, Condition, Study

Z = 1.959964
LEAST_ANNOTATORS = 2
LEAST_FEATURES = 10


class Outcome(NamedTuple):
    """One answer as a number from 0 to 1, with what it clusters by."""

    feature: int
    annotator: int
    value: float


def validate_stopping(rule: dict[str, Any]) -> dict[str, Any]:
    """The rule as it is kept; raises StudyError. Empty: none."""
    if not rule:
        return {}
    unknown = sorted(set(rule) - {"half_width", "min_judgements"})
    if unknown:
        raise StudyError(
            gettext("A stopping rule has half_width and min_judgements, not '%(unknown)s'.") % {"unknown": unknown[0]}
        )
    half_width, least = rule.get("half_width"), rule.get("min_judgements", 0)
    if not isinstance(half_width, int | float) or isinstance(half_width, bool) or not 0 < half_width < 0.5:
        raise StudyError(gettext("The half-width of the stopping rule must lie between 0 and 0.5."))
    if type(least) is not int or least < 0:
        raise StudyError(gettext("The judgements before a study may stop must be a whole number."))
    return {"half_width": float(half_width), "min_judgements": least}


def stop_if_reached(*, study: Study) -> bool:
    """Pause an open study whose rule is met; the event says so in a sentence."""
    rule = study.stopping
    if not rule or study.n_slots_done < rule.get("min_judgements", 0):
        return False
    width = half_width(outcomes(study))
    if width is None or width > rule["half_width"]:
        return False
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        if locked.state != Study.State.OPEN:
            return False
        locked.state = Study.State.PAUSED
        locked.save(update_fields=["state"])
        log_event(
            locked, None, "stopped itself", half_width=rule["half_width"], n_judgements=locked.n_slots_done
        )  # fmt: skip
    study.state = Study.State.PAUSED
    return True


def half_width(answers: Iterable[Outcome]) -> float | None:
    """Of the 95 % interval of the mean; None with too few annotators or features to say."""
    n, total = 0, 0.0
    clusters: list[dict[Any, list[float]]] = [defaultdict(lambda: [0.0, 0.0]) for _ in range(3)]
    for one in answers:
        n, total = n + 1, total + one.value
        for sums, key in zip(clusters, (one.feature, one.annotator, (one.feature, one.annotator)), strict=True):
            sums[key][0] += one.value
            sums[key][1] += 1
    if len(clusters[0]) < LEAST_FEATURES or len(clusters[1]) < LEAST_ANNOTATORS:
        return None
    mean = total / n
    by_feature, by_annotator, by_both = (clustered_variance(sums, mean, n) for sums in clusters)
    return Z * math.sqrt(max(by_feature + by_annotator - by_both, by_feature, by_annotator))


def clustered_variance(sums: dict[Any, list[float]], mean: float, n: int) -> float:
    """Of a mean over n values in these clusters, with the correction for few of them."""
    m = len(sums)
    residuals = sum((value - mean * count) ** 2 for value, count in sums.values())
    return residuals / n**2 * (m / (m - 1) if m > 1 else 1.0)


def outcomes(study: Study) -> Iterator[Outcome]:
    """The counted answers to real items, streamed."""
    rows = Annotation.objects.filter(
        study=study, is_current=True, is_late_extra=False, excluded_reason="", item__repeat_of=None,
        item__condition=Condition.REAL,
    )  # fmt: skip
    protocol, options = protocol_of(study), options_of(study)
    columns = ["item__feature_id", "annotator_id"]
    if protocol.has_truth:
        for feature, annotator, payload, truth in rows.values_list(*columns, "payload", "item__truth").iterator():
            value = protocol.score(payload, truth, options)
            if value is not None:
                yield Outcome(feature, annotator, float(value))
        return
    common = "" if is_rated(protocol, options) else commonest_choice(study)
    typed = rows.values_list(*columns, "patch_rating", "image_rating", "choice")
    for feature, annotator, patch_rating, image_rating, choice in typed.iterator():
        is_yes = choice == common if common else max(patch_rating or 0, image_rating or 0) >= INTERPRETABLE_FROM
        yield Outcome(feature, annotator, float(is_yes))


def is_rated(protocol: Protocol, options: dict[str, Any]) -> bool:
    return any(question.column in {"patch_rating", "image_rating"} for question in protocol.questions(options))


def commonest_choice(study: Study) -> str:
    """Where answers are neither right nor rated, the share that is followed is that of the commonest choice."""
    choices = Annotation.objects.filter(study=study, is_current=True).exclude(choice="")
    counted = Counter(choices.values_list("choice", flat=True)[:5000])
    return counted.most_common(1)[0][0] if counted else ""
