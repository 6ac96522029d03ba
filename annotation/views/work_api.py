"""The player's endpoints: JSON in, one domain call, JSON out."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotation.domain.answer_message import parse_answer, parse_id, parse_uuid
from annotation.domain.answers import submit_answer
from annotation.domain.own_progress import own_progress
from annotation.domain.participation import items_left, progress_after, session_progress
from annotation.domain.practice import Feedback, check_practice
from annotation.domain.queue import claim_slots, extend_leases, release_slots
from annotation.domain.recent_answers import recent_answers
from annotation.domain.remarks import RemarkText, add_remark, report_image
from annotation.domain.row_numbers import numbers_of
from annotation.domain.stimuli import StimulusError, stimulus_file, stimulus_for_player, stimulus_json
from annotation.models import Participation, ReferenceItem, Slot, Study
from annotation.views.access import signed_in_user
from annotation.views.work_access import RequestError, annotator_endpoint, ids_in, problem, text_in

MOST_CLAIMED = 10
A_YEAR = 365 * 24 * 3600


@require_POST
@annotator_endpoint
def claim(participation: Participation, body: dict[str, Any]) -> HttpResponse:
    """The next items, with everything the player needs to show them."""
    n = body.get("n", 5)
    if isinstance(n, bool) or not isinstance(n, int) or not 1 <= n <= MOST_CLAIMED:
        raise RequestError(_("'n' must be a number from 1 to %(most)s.") % {"most": MOST_CLAIMED})
    study = participation.study
    have = slots_in(body, "have", study)
    left = items_left(participation, n_held=len(have))
    wanted = n if left is None else min(n, left)
    slots = (
        claim_slots(study=study, annotator=participation.user, n=wanted, have=have, place=participation)
        if wanted
        else []
    )
    done, of = session_progress(participation)
    rest = {"done": done, "of": of, "lease_seconds": settings.LEASE_SECONDS, "study_state": study.state}
    items = ", ".join(text for _number, text in sorted(work_json(slot, study) for slot in slots))
    return HttpResponse(f'{{"items": [{items}], {json.dumps(rest)[1:]}', content_type="application/json")


def work_json(slot: Slot, study: Study) -> tuple[int, str]:
    """One item as JSON, its stimulus as it was written once, and its number.

    In the order of numbers: whoever claims the same items twice sees them alike, with or without a check among them.
    """
    stimulus, numbers = stimulus_json(study.stimuli_digest, slot.item.stimulus_id), numbers_of(study)
    number, item = numbers.slots.number(slot.pk), numbers.items.number(slot.item_id)
    return number, f'{{"slot": {number}, "item": {item}, "stimulus": {stimulus}, "previous": null}}'


def slots_in(body: dict[str, Any], name: str, study: Study) -> list[int]:
    """The ids of the slots that a list of numbers names."""
    slots = numbers_of(study).slots
    return [slots.row_id(number) for number in ids_in(body, name)]


def item_in(body: dict[str, Any], study: Study) -> int:
    return numbers_of(study).items.row_id(parse_id(body.get("item"), "item"))


@require_POST
@annotator_endpoint
def answers(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    sent, numbers = parse_answer(body), numbers_of(participation.study)
    slot = None if sent.slot is None else numbers.slots.row_id(sent.slot)
    answer = replace(sent, item=numbers.items.row_id(sent.item), slot=slot)
    result = submit_answer(annotator=participation.user, study=participation.study, answer=answer)
    done, of = progress_after(participation, result.stored)
    return {"uuid": str(answer.uuid), "stored": result.stored, "done": done, "of": of}


@require_GET
@annotator_endpoint
def history(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """The last answers with their items, to go back to after the page was closed."""
    numbers = numbers_of(participation.study)
    return {
        "answers": [
            {
                "slot": None if answer.slot_id is None else numbers.slots.number(answer.slot_id),
                "item": numbers.items.number(answer.item_id),
                "stimulus": stimulus_for_player(study=participation.study, stimulus_id=answer.stimulus_id),
                "uuid": str(answer.uuid),
                "payload": answer.payload,
            }
            for answer in recent_answers(participation)
        ]
    }


@require_POST
@annotator_endpoint
def remarks(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    remark = RemarkText(
        uuid=parse_uuid(body.get("uuid"), "uuid"),
        item=item_in(body, participation.study),
        kind=text_in(body, "kind"),
        text=text_in(body, "text"),
    )
    add_remark(annotator=participation.user, study=participation.study, remark=remark)
    return {"uuid": str(remark.uuid), "stored": remark.kind}


@require_POST
@annotator_endpoint
def reports(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    report = RemarkText(
        uuid=parse_uuid(body.get("uuid"), "uuid"),
        item=item_in(body, participation.study),
        kind="flag",
        text=text_in(body, "reason"),
    )
    panel, cell = text_in(body, "panel"), parse_id(body.get("cell"), "cell")
    report_image(annotator=participation.user, study=participation.study, report=report, panel=panel, cell=cell)
    return {"uuid": str(report.uuid), "stored": "report"}


@require_POST
@annotator_endpoint
def heartbeat(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    n_held = extend_leases(annotator=participation.user, slot_ids=slots_in(body, "slots", participation.study))
    return {"held": n_held, "study_state": participation.study.state}


@require_POST
@annotator_endpoint
def release(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    slots = slots_in(body, "slots", participation.study)
    return {"released": release_slots(annotator=participation.user, slot_ids=slots)}


@require_POST
@annotator_endpoint
def practice_answers(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    asked = numbers_of(participation.study).practice.row_id(parse_id(body.get("reference"), "reference"))
    reference = ReferenceItem.objects.filter(pk=asked, study=participation.study).first()
    payload = body.get("payload")
    if reference is None or not isinstance(payload, dict):
        raise RequestError(_("The answer names no practice item of this study, or has no payload."))
    feedback = check_practice(participation=participation, reference=reference, payload=payload)
    return feedback_reply(payload, feedback)


def feedback_reply(given: dict[str, Any], feedback: Feedback) -> dict[str, Any]:
    """What the player shows after a practice answer, and what comes next."""
    questions = [
        {"name": name, "given": given.get(name), "accepted": feedback.accepted[name], "is_right": is_right}
        for name, is_right in feedback.right_by_question.items()
    ]
    standing = feedback.standing
    return {
        "is_right": feedback.is_right, "questions": questions, "reason": feedback.reason, "outcome": standing.outcome,
        "round": standing.practice_round, "n_rounds": standing.n_rounds, "n_answered": standing.n_answered,
        "n_items": standing.n_items, "sentence": standing.sentence,
    }  # fmt: skip


@require_GET
@annotator_endpoint
def me(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """The person's own progress, and from five checks on how many they had right."""
    return own_progress(participation)._asdict()


@require_GET
def stimulus_picture(request: HttpRequest, digest: str, name: str) -> HttpResponseBase:
    """A frozen picture: its name is its content, so a browser may keep it for good."""
    if not request.user.is_authenticated:
        return problem(401, _("Sign in to see the pictures of a study."))
    try:
        picture = stimulus_file(user=signed_in_user(request), digest=digest, name=name)
    except StimulusError as error:
        raise Http404(str(error)) from error
    response = FileResponse(picture.open("rb"), content_type="image/webp")
    response["Cache-Control"] = f"private, max-age={A_YEAR}, immutable"
    return response


urlpatterns = [
    path("work/<slug:slug>/claim", claim, name="work-claim"),
    path("work/<slug:slug>/answers", answers, name="work-answers"),
    path("work/<slug:slug>/history", history, name="work-history"),
    path("work/<slug:slug>/me", me, name="work-me"),
    path("work/<slug:slug>/remarks", remarks, name="work-remarks"),
    path("work/<slug:slug>/reports", reports, name="work-reports"),
    path("work/<slug:slug>/heartbeat", heartbeat, name="work-heartbeat"),
    path("work/<slug:slug>/release", release, name="work-release"),
    path("work/<slug:slug>/practice/answers", practice_answers, name="practice-answers"),
    path("stimuli/<str:digest>/<str:name>", stimulus_picture, name="stimulus-picture"),
]
