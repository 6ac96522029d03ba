"""The quality of a study's answers, annotator by annotator, without a word on what any of them says of a condition.

Everything is recomputed from the answers; a table is kept for as long as no answer and no exclusion comes to it. Beyond
a limit the newest answers are looked at, and the page says so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from django.core.cache import cache
from django.db.models import Max

from annotation.domain.priorities import verdict
from annotation.domain.protocols import questions_of
from annotation.domain.quality_measures import Measures, pair_agreement
from annotation.models import Annotation, Condition, Exclusion, Participation, Role, Study, User

MOST_ANSWERS = 200_000
KEPT_SECONDS = 3600
MOST_LISTED = 200
LEAST_OTHERS = 2  # a majority of the others needs two


class AnswerRow(NamedTuple):
    """What is looked at of one answer."""

    id: int
    annotator_id: int
    item_id: int
    visible_ms: int | None
    patch_rating: int | None
    image_rating: int | None
    category: str
    choice: str
    is_gold_right: bool | None
    is_too_quick: bool
    is_late_extra: bool
    excluded_reason: str
    condition: str
    is_core: bool
    repeat_of_id: int | None

    @property
    def verdict(self) -> str:
        return verdict(self.patch_rating, self.image_rating, self.choice)

    @property
    def whole(self) -> str:
        return f"{self.patch_rating}/{self.image_rating}/{self.category}/{self.choice}"


class AnnotatorQuality(NamedTuple):
    """One annotator's row of the page."""

    participation: Participation
    measures: Measures


class StudyQuality(NamedTuple):
    """The table, the agreement of all pairs of counted answers on core items, and how many answers it rests on."""

    annotators: list[AnnotatorQuality]
    agreement: float | None
    n_answers: int
    is_cut: bool


def study_quality(study: Study) -> StudyQuality:
    measures, agreement, n = measured(study)
    people = Participation.objects.filter(study=study, role=Role.ANNOTATOR).select_related("user").order_by("-n_done")
    rows = [AnnotatorQuality(one, measures.get(one.user_id, Measures())) for one in people]
    return StudyQuality(rows, agreement, n, n >= MOST_ANSWERS)


def measured(study: Study) -> tuple[dict[int, Measures], float | None, int]:
    newest = Annotation.objects.filter(study=study).aggregate(newest=Max("id"))["newest"]
    exclusions = Exclusion.objects.filter(study=study)
    version = f"{newest}-{exclusions.count()}-{exclusions.exclude(undone_at=None).count()}"
    key = f"quality:{study.pk}:{version}"
    kept: tuple[dict[int, Measures], float | None, int] | None = cache.get(key)
    if kept is None:
        kept = measure(answer_rows(study), has_verdicts=asks_for_verdicts(study))
        cache.set(key, kept, KEPT_SECONDS)
    return kept


def answer_rows(study: Study) -> Iterator[AnswerRow]:
    """The study's newest answers, oldest first; no payloads."""
    names = [*AnswerRow._fields[:12], "item__condition", "item__is_core", "item__repeat_of_id"]
    answers = Annotation.objects.filter(study=study, is_current=True)
    oldest = answers.order_by("-id").values_list("id", flat=True)[MOST_ANSWERS - 1 : MOST_ANSWERS].first()
    if oldest is not None:
        answers = answers.filter(id__gte=oldest)
    for row in answers.order_by("id").values_list(*names).iterator(chunk_size=5000):
        yield AnswerRow(*row)


def asks_for_verdicts(study: Study) -> bool:
    """Whether an answer has a rating or a main choice that two people can agree on."""
    columns = {"patch_rating", "image_rating", "choice"}
    return any(question.column in columns for question in questions_of(study))


def measure(rows: Iterable[AnswerRow], *, has_verdicts: bool) -> tuple[dict[int, Measures], float | None, int]:
    """Measures by annotator, the agreement of all, and the number of answers."""
    measures: dict[int, Measures] = defaultdict(Measures)
    core: dict[int, dict[int, str]] = defaultdict(dict)
    verdicts: dict[tuple[int, int], str] = {}
    n = 0
    for row in rows:
        n += 1
        add(measures[row.annotator_id], row)
        if row.excluded_reason or row.is_late_extra or not has_verdicts:
            continue
        verdicts[row.annotator_id, row.item_id] = row.verdict
        if row.repeat_of_id is not None:
            compare_repeat(measures[row.annotator_id], row, verdicts)
        elif row.is_core and row.condition not in {Condition.GOLD, Condition.CATCH}:
            core[row.item_id][row.annotator_id] = row.verdict
    for by_annotator in core.values():
        compare_with_others(measures, by_annotator)
    return dict(measures), pair_agreement(Counter(one.values()) for one in core.values()), n


def add(one: Measures, row: AnswerRow) -> None:
    """What an answer adds to its annotator's measures; left out answers are counted and looked at all the same."""
    one.n += 1
    one.n_too_quick += row.is_too_quick
    one.n_excluded += bool(row.excluded_reason)
    one.n_late += row.is_late_extra
    one.answers[row.whole] += 1
    if row.visible_ms is not None:
        one.visible_ms.append(row.visible_ms)
    if row.is_gold_right is not None:
        one.checks.append(row.is_gold_right)
        (one.gold if row.condition == Condition.GOLD else one.catch).append(row.is_gold_right)


def compare_repeat(one: Measures, row: AnswerRow, verdicts: dict[tuple[int, int], str]) -> None:
    first = verdicts.get((row.annotator_id, row.repeat_of_id or 0))
    if first is not None:
        one.n_repeats += 1
        one.n_repeats_same += first == row.verdict


def compare_with_others(measures: dict[int, Measures], by_annotator: dict[int, str]) -> None:
    """Each answer to a core item against the majority of the others; ties say nothing."""
    counts = Counter(by_annotator.values())
    for annotator, own in by_annotator.items():
        others = counts - Counter([own])
        ranked = others.most_common(2)
        if others.total() < LEAST_OTHERS or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
            continue
        measures[annotator].n_compared += 1
        measures[annotator].n_agreeing += ranked[0][0] == own


def latest_answers(study: Study, annotator: User) -> list[Annotation]:
    """The last answers of one person, the newest first; what they say is left out."""
    answers = Annotation.objects.filter(study=study, annotator=annotator, is_current=True).select_related("item")
    return list(answers.defer("payload", "timing").order_by("-id")[:MOST_LISTED])
