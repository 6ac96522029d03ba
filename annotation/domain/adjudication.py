"""Adjudication: a reviewer settles an item by the study's own questions and says why (append-only).

The verdict stands beside the answers, never in place of them: after unblinding it is an item's first label, and figures
say how often it overturned the majority.
"""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from django.db import transaction
from django.utils.translation import gettext

from annotation.domain.answer_message import AnswerError
from annotation.domain.protocols import Kind, Question, protocol_of, questions_of, validate
from annotation.domain.protocols.adjudication import questions_about
from annotation.domain.protocols.rate_describe import is_interpretable
from annotation.domain.review import Dispute, counted_answers, disputes
from annotation.domain.vocabulary import check_label
from annotation.models import Annotation, Item, Study, User, Verdict

HASTY_MS = 2000
RATIONALE = "rationale"
Stored = Literal["new", "replayed", "revision"]


@dataclass(frozen=True)
class Judgement:
    """A verdict as the client sent it."""

    uuid: uuid.UUID
    item: int
    payload: Mapping[str, Any]
    visible_ms: int | None = None
    n_answers: int = field(default=0)


class Settled(NamedTuple):
    verdict: Verdict
    stored: Stored


class SettledItem(NamedTuple):
    """A verdict and the majority that it confirms or overturns; both None where they cannot be said in one value."""

    item_id: int
    feature_id: int
    judge: str
    verdict: Any
    majority: Any
    n_answers: int
    answers: list[tuple[str, Any]]  # annotator and the value of the answer, where it has one


def judged_questions(study: Study) -> tuple[Question, ...]:
    """The study's questions and the rationale."""
    return questions_about(questions_of(study))


def settle_item(*, study: Study, judge: User, judgement: Judgement) -> Settled:
    """Store a verdict once; another one on the same item revises the last. Raises AnswerError for a wrong one."""
    categories = set(study.categories.values_list("name", flat=True))
    payload = validate(judged_questions(study), judgement.payload, categories=categories)
    check_label(study, str(payload.get("label", "")))
    with transaction.atomic():
        item = Item.objects.select_for_update().filter(pk=judgement.item, study=study).first()
        if item is None:
            raise AnswerError(gettext("The verdict names an item that is not in this study."))
        sent = Verdict.objects.filter(uuid=judgement.uuid).first()
        if sent is not None:
            return Settled(replayed(sent, judge, item), "replayed")
        n_answers = Annotation.objects.filter(counted_answers(study), item=item).count()
        if not n_answers:
            raise AnswerError(gettext("Nobody has answered this item yet; there is nothing to settle."))
        last = Verdict.objects.filter(item=item, is_current=True).first()
        if last is not None:
            Verdict.objects.filter(pk=last.pk).update(is_current=False)
        verdict = write(study, judge, item, payload, judgement, n_answers=n_answers, last=last)
    return Settled(verdict, "new" if last is None else "revision")


def replayed(sent: Verdict, judge: User, item: Item) -> Verdict:
    if sent.judge_id != judge.pk or sent.item_id != item.pk:
        raise AnswerError(gettext("The UUID of this verdict is already another verdict's; make a new one."))
    return sent


def write(
    study: Study, judge: User, item: Item, payload: dict[str, Any], judgement: Judgement, *,
    n_answers: int, last: Verdict | None,
) -> Verdict:  # fmt: skip
    rationale = str(payload.pop(RATIONALE))
    looked = judgement.visible_ms
    return Verdict.objects.create(
        uuid=judgement.uuid, study=study, item=item, judge=judge, payload=payload, rationale=rationale,
        category=str(payload.get("category") or ""), label=str(payload.get("label") or ""), revision_of=last,
        n_answers=n_answers, visible_ms=looked, is_hasty=looked is not None and looked < HASTY_MS,
        stimulus_id=item.stimulus_id, protocol_version=study.protocol_version, study_version=study.version,
        vocabulary_version=study.vocabulary_version,
    )  # fmt: skip


class Progress(NamedTuple):
    """Of the items whose answers disagree."""

    done: int
    of: int


def adjudication_queue(study: Study) -> tuple[list[Dispute], Progress]:
    """What is left to settle, the largest disagreement first, and how far it has come."""
    everything = disputes(study, shown="all")
    left = [row for row in everything if row.is_disputed and row.verdict_id is None]
    n_settled = sum(row.verdict_id is not None for row in everything)
    return left, Progress(n_settled, n_settled + len(left))


def as_given(verdict: Verdict) -> dict[str, Any]:
    """The payload as the form had it, rationale included."""
    return {**verdict.payload, RATIONALE: verdict.rationale}


def value_of(study: Study, payload: Mapping[str, Any]) -> Any:
    """What an answer says in one value: whether it is interpretable, or its main choice; None where there is none."""
    if "image_rating" in payload:
        return is_interpretable(payload["image_rating"])
    main = next((one for one in questions_of(study) if one.kind in {Kind.CHOICE, Kind.CELL, Kind.CELLS}), None)
    value = payload.get(main.name) if main is not None else None
    return json.dumps(value) if isinstance(value, list) else value


def majority_of(values: list[Any]) -> Any:
    """The value of more than half; None where there is none."""
    counts = Counter(value for value in values if value is not None)
    if not counts:
        return None
    value, n = counts.most_common(1)[0]
    return value if 2 * n > len(values) else None


def settled_items(study: Study) -> list[SettledItem]:
    """Current verdicts beside the majority of the answers, for the report of the judged study."""
    protocol_of(study)
    answers: dict[int, list[tuple[str, Any]]] = {}
    verdicts = list(Verdict.objects.filter(study=study, is_current=True).select_related("judge", "item").order_by("id"))
    rows = Annotation.objects.filter(counted_answers(study), item__in=[verdict.item_id for verdict in verdicts])
    for item_id, code, payload in rows.order_by("id").values_list("item_id", "annotator__annotator_code", "payload"):
        answers.setdefault(item_id, []).append((code, value_of(study, payload)))
    return [
        SettledItem(
            one.item_id, one.item.feature_id, one.judge.annotator_code, value_of(study, one.payload),
            majority_of([value for _, value in answers.get(one.item_id, [])]), one.n_answers,
            [(code, value) for code, value in answers.get(one.item_id, []) if value is not None],
        )
        for one in verdicts
    ]  # fmt: skip
