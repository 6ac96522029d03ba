"""What reviewers look at: the items whose answers disagree most, and the answers to one item side by side.

Only items of the core are compared, because only they are judged by several. No condition, block, dictionary or person
is told: answers are lettered within their item, so that a person cannot be followed from item to item.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from django.db.models import Count, Q
from django.utils.translation import gettext_noop as _

from annotation.domain.answer_words import Said, words_of
from annotation.domain.disagreement import Disagreement, Spread, compared, disagreement
from annotation.domain.protocols import Question, questions_of
from annotation.models import Annotation, Item, Remark, Study, Verdict

LEAST_ANSWERS = 2
SHOWN = {"open": _("to settle"), "settled": _("settled"), "flagged": _("flagged"), "all": _("all")}


class Dispute(NamedTuple):
    """One item of the core with several answers."""

    item_id: int
    stimulus_id: str
    n_answers: int
    found: Disagreement
    verdict_id: int | None
    n_remarks: int

    @property
    def spreads(self) -> tuple[Spread, ...]:
        return self.found.spreads

    @property
    def is_disputed(self) -> bool:
        return self.found.largest > 0 or self.found.mean > 0


class AnswerCard(NamedTuple):
    """An answer without its author; `differs` names the questions on which the answers are not alike."""

    letter: str
    said: list[Said]
    differs: frozenset[str]
    payload: dict[str, Any]
    is_simulated: bool


def disputes(study: Study, *, shown: str = "open") -> list[Dispute]:
    """The items, the largest disagreement first."""
    answers = answers_by_item(study, list(questions_of(study)))
    settled = dict(Verdict.objects.filter(study=study, is_current=True).values_list("item_id", "id"))
    remarks = dict(
        Remark.objects.filter(item__study=study, resolved_at=None)
        .exclude(kind=Remark.Kind.SKIP)
        .values_list("item_id")
        .annotate(n=Count("id"))
    )
    items = Item.objects.filter(study=study, is_core=True, repeat_of=None).values_list("id", "stimulus_id")
    questions = questions_of(study)
    rows = [
        Dispute(
            pk, stimulus_id, len(answers[pk]), disagreement(questions, answers[pk]), settled.get(pk), remarks.get(pk, 0)
        )
        for pk, stimulus_id in items
        if len(answers.get(pk, ())) >= LEAST_ANSWERS
    ]
    chosen = [row for row in rows if is_shown(row, shown)]
    return sorted(chosen, key=lambda row: (-row.found.largest, -row.found.mean, -row.n_answers, row.item_id))


def is_shown(row: Dispute, shown: str) -> bool:
    match shown:
        case "open":
            return row.verdict_id is None and row.is_disputed
        case "settled":
            return row.verdict_id is not None
        case "flagged":
            return row.n_remarks > 0
    return True


def counted_answers(study: Study) -> Q:
    """Current answers that fill a slot and are not excluded."""
    return Q(study=study, is_current=True, is_late_extra=False, excluded_reason="")


def answers_by_item(study: Study, questions: Sequence[Question]) -> Mapping[int, list[dict[str, Any]]]:
    """Payloads by item, of the core only; from the typed columns where they hold all that is compared."""
    asked = compared(questions)
    by_column = all(question.column and question.column != "choice" for question in asked)
    fields = [question.column for question in asked] if by_column else ["payload"]
    rows = (
        Annotation.objects.filter(counted_answers(study), item__is_core=True)
        .order_by("item_id", "id")
        .values_list("item_id", *fields)
    )
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    names = [question.name for question in asked]
    for item_id, *values in rows.iterator(chunk_size=5000):
        found[item_id].append(dict(zip(names, values, strict=True)) if by_column else values[0])
    return found


def answer_cards(study: Study, item: Item) -> list[AnswerCard]:
    """The answers to one item, lettered in an order that is the item's own."""
    answers = list(
        Annotation.objects.filter(counted_answers(study), item=item).only(
            "id", "annotator_id", "payload", "is_simulated"
        )
    )
    answers.sort(key=lambda answer: hashlib.sha256(f"{study.pk}/{item.pk}/{answer.annotator_id}".encode()).digest())
    questions = questions_of(study)
    found = disagreement(questions, [answer.payload for answer in answers])
    differs = frozenset(one.question.name for one in found.spreads if one.amount > 0)
    return [
        AnswerCard(letter(index), words_of(questions, answer.payload), differs, answer.payload, answer.is_simulated)
        for index, answer in enumerate(answers)
    ]


def letter(index: int) -> str:
    """A to Z, then A2 to Z2."""
    turn, place = divmod(index, 26)
    return chr(ord("A") + place) + (str(turn + 1) if turn else "")
