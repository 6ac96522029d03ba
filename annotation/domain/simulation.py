"""Simulated annotators: programs that answer by a stated rule with stated error rates, marked as simulated everywhere.

They work through the same queue and the same submit as people do; they are for demos, tests and planning, never
evidence. In rate-describe-categorise they see what annotation.domain.simulated_sight finds in the frozen stimulus, add
their own bias, and rate by fixed thresholds; then, at their error rate, the rating is moved by one step, and at their
lapse rate it is anything. Everywhere else, and where the images are not at hand, annotation.domain.simulated_judgements
says what they answer, with an accuracy and a separation that are known.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.answer_message import Answer
from annotation.domain.answers import submit_answer
from annotation.domain.errands import ErrandError, Progress
from annotation.domain.participation import current_guideline, new_annotator
from annotation.domain.protocols import Protocol, options_of, protocol_of
from annotation.domain.queue import claim_slots
from annotation.domain.simulated_judgements import JUDGES, Skill, judge_payload
from annotation.domain.simulated_sight import Finding, Sight, known_images_of, look
from annotation.domain.storage import ImageMissingError
from annotation.domain.studies import StudyError, log_event
from annotation.models import Errand, Item, Participation, Slot, Study, User
from annotation.models.catalog import ELSEWHERE

THRESHOLDS = ((0.8, 4), (0.55, 3), (0.4, 2))
CLAIM = 5
RATED_BY_SIGHT = "rate-describe-categorise"
CATEGORY_OF = {
    "row": "position", "column": "position", "region": "position", "edge": "shape or edge", "class": "object",
    "curvature": "shape", "size": "shape",
}  # fmt: skip


@dataclass(frozen=True)
class SimulatedAnnotator:
    """How one of them errs; `bias` is added to what they perceive, `seconds` is the median time per item.

    `error_rate` is of ratings by sight; `accuracy` and `separation` are of everything else (see Skill).
    """

    name: str
    error_rate: float = 0.1
    lapse_rate: float = 0.02
    bias: float = 0.0
    seconds: float = 12.0
    accuracy: float = 0.85
    separation: float = 1.5

    def __post_init__(self) -> None:
        for name in ("error_rate", "lapse_rate", "accuracy"):
            if not 0 <= getattr(self, name) <= 1:
                raise StudyError(
                    _("The %(setting)s of '%(name)s' is %(value)s; it lies between 0 and 1.")
                    % {"setting": name, "name": self.name, "value": getattr(self, name)}
                )
        if not (0 < self.seconds <= 3600 and 0 <= self.separation <= 10 and -10 <= self.bias <= 10):
            raise StudyError(_("The seconds, separation or bias of '%(name)s' is out of range.") % {"name": self.name})

    @property
    def skill(self) -> Skill:
        return Skill(self.accuracy, self.separation, self.bias, self.lapse_rate)


DEFAULT_ANNOTATORS = (
    SimulatedAnnotator("careful", error_rate=0.05, lapse_rate=0.0, seconds=21, accuracy=0.95),
    SimulatedAnnotator("steady", error_rate=0.10, lapse_rate=0.01, seconds=14, accuracy=0.9),
    SimulatedAnnotator("lenient", error_rate=0.10, lapse_rate=0.02, bias=0.10, seconds=11),
    SimulatedAnnotator("strict", error_rate=0.10, lapse_rate=0.02, bias=-0.10, seconds=16),
    SimulatedAnnotator("quick", error_rate=0.18, lapse_rate=0.05, seconds=6, accuracy=0.75),
    SimulatedAnnotator("tired", error_rate=0.25, lapse_rate=0.10, bias=-0.03, seconds=9, accuracy=0.65),
)


MOST_ANNOTATORS = 200


def annotators_from(rows: Sequence[Mapping[str, Any]]) -> list[SimulatedAnnotator]:
    """Simulated annotators as a YAML file or a form describes them; raises StudyError naming what is wrong."""
    known = {field.name for field in fields(SimulatedAnnotator)}
    if not isinstance(rows, list) or not 1 <= len(rows) <= MOST_ANNOTATORS:
        raise StudyError(
            _("List 1 to %(most_annotators)s simulated annotators.") % {"most_annotators": MOST_ANNOTATORS}
        )
    for row in rows:
        if not isinstance(row, Mapping) or not str(row.get("name", "")).strip():
            raise StudyError(_("Each simulated annotator needs a name."))
        unknown = sorted(set(row) - known)
        if unknown:
            raise StudyError(
                _("'%(name)s' has no property '%(unknown)s'; it can have %(values)s.")
                % {"name": row["name"], "unknown": unknown[0], "values": ", ".join(sorted(known))}
            )
        if not all(type(value) in (int, float) for name, value in row.items() if name != "name"):
            raise StudyError(_("The properties of '%(name)s' must be numbers.") % {"name": row["name"]})
    names = [str(row["name"]) for row in rows]
    if len(set(names)) != len(names):
        raise StudyError(_("Two simulated annotators have the same name."))
    return [SimulatedAnnotator(**(dict(row) | {"name": str(row["name"])[:60]})) for row in rows]


def alike(n: int, **properties: float) -> list[SimulatedAnnotator]:
    """n annotators with the same properties."""
    return annotators_from([{"name": f"bot {number}"} | properties for number in range(1, n + 1)])


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    if errand.study is None:
        raise ErrandError(_("The study is gone."))
    rows, limit = errand.options.get("annotators"), errand.options.get("limit")
    try:
        annotators = annotators_from(rows) if rows else DEFAULT_ANNOTATORS
        n = simulate_annotators(
            study=errand.study, annotators=annotators, limit=limit, progress=progress,
            by_sight=bool(errand.options.get("by_sight")),
        )  # fmt: skip
    except StudyError as error:
        raise ErrandError(str(error)) from error
    return {"n_answers": n, "n_annotators": len(annotators)}


def simulate_annotators(
    *,
    study: Study,
    annotators: Sequence[SimulatedAnnotator] = DEFAULT_ANNOTATORS,
    limit: int | None = None,
    by_sight: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Let them work until nothing is left for any of them, or `limit` answers are given; returns how many were.

    `by_sight`: where they can, they rate what is in the pictures; else their accuracy and separation are all there is.
    Raises StudyError if the study is not one that is marked as simulated, or is not open.
    """
    require_simulated(study)
    people = [(one, simulated_user(study, one)) for one in annotators]
    how = Answering(study, by_sight=by_sight)
    n_done, n_before = 0, -1
    while n_done != n_before and (limit is None or n_done < limit):
        n_before = n_done
        for one, user in people:
            wanted = CLAIM if limit is None else min(CLAIM, limit - n_done)
            for slot in claim_slots(study=study, annotator=user, n=wanted) if wanted > 0 else []:
                answer_slot(study, one, user, slot, how)
                n_done += 1
        if progress is not None:
            progress(n_done, study.n_slots if limit is None else limit)
    log_event(study, None, "simulated", n_answers=n_done, annotators=[asdict(one) for one in annotators])
    return n_done


def require_simulated(study: Study) -> None:
    if not study.is_simulated:
        raise StudyError(
            _("'%(name)s' is for people; only a study marked as simulated takes simulated answers.")
            % {"name": study.name}
        )
    if study.state != Study.State.OPEN:
        raise StudyError(
            _("'%(name)s' is %(state)s; simulated annotators work in an open study.")
            % {"name": study.name, "state": study.get_state_display()}
        )
    if protocol_of(study).name not in JUDGES:
        raise StudyError(
            _("The protocol %(protocol)s has no items of its own to judge.") % {"protocol": study.protocol}
        )


class Answering:
    """How answers to one study are made: by sight where there is a picture to see, else by known skill."""

    def __init__(self, study: Study, *, by_sight: bool) -> None:
        self.study = study
        self.protocol: Protocol = protocol_of(study)
        self.options = options_of(study)
        self.categories = list(study.categories.order_by("position", "id").values_list("name", flat=True))
        guideline = current_guideline(study)
        self.guideline_version = guideline.version if guideline else 0
        self.see = self.sight() if by_sight else None

    def sight(self) -> Callable[[Item], Sight] | None:
        """None where the protocol is judged otherwise, or the images are not on this site."""
        rows = Item.objects.filter(study=self.study)
        if self.protocol.name != RATED_BY_SIGHT or rows.filter(feature__hookpoint=ELSEWHERE).exists():
            return None
        try:
            return sight_of(self.study)
        except ImageMissingError:
            return None

    def payload(self, one: SimulatedAnnotator, item: Item, rng: random.Random) -> dict[str, Any]:
        if self.see is not None:
            return judge(self.see(item), one, self.categories, rng)
        return judge_payload(self.protocol, self.options, item, one.skill, rng, categories=self.categories)


def simulated_user(study: Study, one: SimulatedAnnotator) -> User:
    """The account of a simulated annotator in this study, made once; it needs no consent and no practice."""
    with transaction.atomic():
        participation = Participation.objects.filter(study=study, user__first_name=f"simulated {one.name}").first()
        if participation is not None:
            return participation.user
        user = new_annotator(is_simulated=True)
        User.objects.filter(pk=user.pk).update(first_name=f"simulated {one.name}")
        now = timezone.now()
        guideline = current_guideline(study)
        Participation.objects.create(
            study=study, user=user, consented_at=now, consent_version=study.consent_version, practised_at=now,
            guideline_version=guideline.version if guideline else 0,
        )  # fmt: skip
        return user


def sight_of(study: Study) -> Callable[[Item], Sight]:
    """A function item -> what is to be seen in it, looked at once per stimulus."""
    known = known_images_of(study)
    seen: dict[str, Sight] = {}

    def see(item: Item) -> Sight:
        if item.stimulus_id not in seen:
            seen[item.stimulus_id] = look(study, item.stimulus_id, known)
        return seen[item.stimulus_id]

    return see


def answer_slot(study: Study, one: SimulatedAnnotator, user: User, slot: Slot, answering: Answering) -> None:
    item = Item.objects.get(pk=slot.item_id)
    rng = random.Random(f"{study.seed}/{one.name}/{item.pk}/{item.seed}/{item.stimulus_id}")
    now = timezone.now()
    visible_ms = round(1000 * one.seconds * rng.lognormvariate(0, 0.4))
    shown_at = now - timedelta(milliseconds=visible_ms)
    answer = Answer(
        uuid=uuid.UUID(int=rng.getrandbits(128), version=4),
        item=item.pk,
        slot=slot.pk,
        payload=answering.payload(one, item, rng),
        submitted_at=now,
        stimulus_id=item.stimulus_id,
        protocol_version=study.protocol_version,
        guideline_version=answering.guideline_version,
        timing={"shown_at": shown_at.isoformat(), "visible_ms": visible_ms, "is_simulated": True},
    )
    submit_answer(annotator=user, study=study, answer=answer)


def judge(sight: Sight, one: SimulatedAnnotator, categories: Sequence[str], rng: random.Random) -> dict[str, Any]:
    """Ratings by the thresholds with the annotator's errors; category and label of the better finding."""
    patch_rating = rate(sight.patches, one, rng)
    image_rating = rate(sight.images, one, rng)
    finding = max(sight.patches, sight.images, key=lambda found: found.score)
    is_named = max(patch_rating or 0, image_rating or 0) >= 2
    return {
        "patch_rating": patch_rating,
        "image_rating": image_rating,
        "category": category_of(finding, categories) if is_named else "",
        "label": label_of(finding) if is_named else "",
    }


def rate(finding: Finding, one: SimulatedAnnotator, rng: random.Random) -> int | None:
    if rng.random() < one.lapse_rate:
        return rng.choice([1, 2, 3, 4, None])
    score = finding.score + one.bias
    rating = next((rating for threshold, rating in THRESHOLDS if score >= threshold), 1)
    if rng.random() < one.error_rate:
        rating += rng.choice([-1, 1])
    return min(4, max(1, rating))


def category_of(finding: Finding, categories: Sequence[str]) -> str:
    """The category named like the attribute, else like its kind, else the last one ('other')."""
    for wanted in (finding.attribute, CATEGORY_OF.get(finding.attribute, "")):
        for category in categories:
            if wanted and (wanted.lower() in category.lower() or category.lower() in wanted.lower()):
                return category
    return categories[-1] if categories else ""


def label_of(finding: Finding) -> str:
    if finding.attribute in ("class", "region"):
        return finding.value
    return f"{finding.value} {finding.attribute}".strip()
