"""Review: the queue of disagreements, one item with its answers side by side, and adjudication by the keyboard."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.adjudication import (
    Judgement,
    adjudication_queue,
    judged_questions,
    settle_item,
)
from annotation.domain.answer_message import AnswerError, parse_id, parse_uuid
from annotation.domain.answer_words import words_of
from annotation.domain.protocols import protocol_of, questions_of
from annotation.domain.review import SHOWN, AnswerCard, Dispute, answer_cards, disputes
from annotation.domain.stimuli import StimulusError, stimulus_for_player
from annotation.domain.threads import ThreadError, open_thread, remarks_of, reply_to
from annotation.forms.verdict import VerdictForm
from annotation.models import Item, Remark, Study, Verdict
from annotation.views.access import signed_in_user
from annotation.views.player_config import base_config
from annotation.views.study_access import READERS, role_in, study_reader
from annotation.views.work import render_player
from annotation.views.work_access import RequestError, body_of, ids_in, problem

PER_PAGE = 24
AT_ONCE = 30
NOT_A_REVIEWER = gettext("Reviewers and researchers of this study settle its items; ask its owner for the role.")
HASTY = gettext("You settled that one in less than two seconds; have another look at it on its page.")


def may_settle(request: HttpRequest, study: Study) -> bool:
    """Reading is for every researcher; settling for those who have a part in the study."""
    return role_in(study, signed_in_user(request)) in READERS


@require_GET
@study_reader
def study_review(request: HttpRequest, study: Study) -> HttpResponseBase:
    shown = request.GET.get("show", "open")
    shown = shown if shown in SHOWN else "open"
    rows = disputes(study, shown=shown)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    _, progress = adjudication_queue(study)
    context = {
        "study": study,
        "tab": "review",
        "page": page,
        "cards": [dispute_card(study, row) for row in page.object_list],
        "shown": SHOWN,
        "show": shown,
        "progress": progress,
        "may_settle": may_settle(request, study),
    }
    return render(request, "annotation/review/queue.html", context)


def dispute_card(study: Study, row: Dispute) -> dict[str, Any]:
    return {"row": row, "stimulus": stimulus_or_none(study, row.stimulus_id)}


def stimulus_or_none(study: Study, stimulus_id: str) -> dict[str, Any] | None:
    """None where the pictures are gone: the answers can still be read."""
    try:
        return stimulus_for_player(study=study, stimulus_id=stimulus_id)
    except StimulusError:
        return None


@require_http_methods(["GET", "POST"])
@study_reader
def review_item(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """The pictures, the answers side by side, what was remarked, and the verdict."""
    item = get_object_or_404(Item, pk=pk, study=study)
    verdicts = list(item.verdicts.select_related("judge").order_by("-id"))
    current = next((verdict for verdict in verdicts if verdict.is_current), None)
    form = VerdictForm(request.POST or None, study=study, verdict=current)
    if request.method == "POST":
        if not may_settle(request, study):
            return HttpResponse(NOT_A_REVIEWER, status=403)
        if keep(request, study, item, form):
            return redirect("review-item", slug=study.slug, pk=pk)
    cards = answer_cards(study, item)
    context = {
        "study": study,
        "tab": "review",
        "item": item,
        "stimulus": stimulus_or_none(study, item.stimulus_id),
        "titles": {panel.name: str(panel.title) for panel in protocol_of(study).panels},
        "cards": cards,
        "verdict": current,
        "verdict_words": words_of(questions_of(study), current.payload) if current else [],
        "earlier": [verdict for verdict in verdicts if not verdict.is_current],
        "form": form,
        "threads": remarks_of(study).filter(item=item),
        "may_settle": may_settle(request, study),
    }
    return render(request, "annotation/review/item.html", context)


def keep(request: HttpRequest, study: Study, item: Item, form: VerdictForm) -> bool:
    """Stores a verdict, a remark or an answer to one; False where the form has to be shown again."""
    user, act = signed_in_user(request), request.POST.get("act", "verdict")
    try:
        if act == "remark":
            open_thread(item=item, author=user, text=request.POST.get("text", ""))
        elif act == "reply":
            remark = get_object_or_404(Remark, pk=request.POST.get("remark"), item=item)
            reply_to(remark=remark, author=user, text=request.POST.get("text", ""))
        elif not form.is_valid():
            return False
        else:
            judgement = Judgement(form.uuid, item.pk, form.payload, form.visible_ms)
            warn_if_hasty(request, settle_item(study=study, judge=user, judgement=judgement).verdict)
    except (AnswerError, ThreadError) as error:
        form.add_error(None, str(error))
        return False
    return True


def warn_if_hasty(request: HttpRequest, verdict: Verdict) -> None:
    if verdict.is_hasty:
        messages.warning(request, HASTY)
    else:
        messages.success(request, gettext("Settled."))


@ensure_csrf_cookie
@require_GET
@study_reader
def adjudicate(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The player over the disagreements that are left, answers beside the pictures; comes back where it was left."""
    if not may_settle(request, study):
        return HttpResponse(NOT_A_REVIEWER, status=403)
    left, progress = adjudication_queue(study)
    items = [entry for row in left[:AT_ONCE] if (entry := player_item(study, row.item_id)) is not None]
    if not items:
        messages.success(request, gettext("Nothing is left to settle."))
        return redirect("study-review", slug=study.slug)
    questions = judged_questions(study)
    config = base_config(study, signed_in_user(request), "review", questions=questions, layout="adjudication") | {
        "layout": protocol_of(study).layout,  # the board of the judged protocol, with the answers beneath it
        "urls": {"answers": reverse("adjudicate-answers", args=[study.slug])},
        "items": items,
        "done": progress.done,
        "session_length": progress.of,
    }
    page = reverse("study-review", args=[study.slug])
    again = reverse("adjudicate", args=[study.slug]) if len(left) > len(items) else page
    return render_player(request, study, config, finish_url=again, leave_url=page)


def player_item(study: Study, item_id: int) -> dict[str, Any] | None:
    """An item as the player gets it, with the answers given to it; None where its pictures are gone."""
    item = Item.objects.get(pk=item_id)
    stimulus = stimulus_or_none(study, item.stimulus_id)
    if stimulus is None:
        return None
    earlier = [earlier_row(card) for card in answer_cards(study, item)]
    return {"slot": None, "item": item.pk, "stimulus": stimulus, "earlier": earlier}


def earlier_row(card: AnswerCard) -> dict[str, Any]:
    words = [{"question": one.question, "words": one.words} for one in card.said]
    return {"letter": card.letter, "payload": card.payload, "words": words}


@require_POST
@study_reader
def adjudicate_next(request: HttpRequest, study: Study) -> HttpResponse:
    """The next items to settle, besides those the page has."""
    try:
        have = set(ids_in(body_of(request), "have"))
    except RequestError as error:
        return problem(400, str(error))
    left, progress = adjudication_queue(study)
    rows = [row for row in left if row.item_id not in have][:5]
    items = [entry for row in rows if (entry := player_item(study, row.item_id)) is not None]
    return JsonResponse({"items": items, "done": progress.done, "of": progress.of})


@require_POST
@study_reader
def adjudicate_answers(request: HttpRequest, study: Study) -> HttpResponse:
    if not may_settle(request, study):
        return problem(403, NOT_A_REVIEWER)
    try:
        settled = settle_item(study=study, judge=signed_in_user(request), judgement=judgement_in(body_of(request)))
    except RequestError as error:
        return problem(400, str(error))
    except AnswerError as error:
        return problem(422, str(error))
    warning = HASTY if settled.verdict.is_hasty else ""
    return JsonResponse({"uuid": str(settled.verdict.uuid), "stored": settled.stored, "warning": warning})


def judgement_in(body: dict[str, Any]) -> Judgement:
    payload, timing = body.get("payload"), body.get("timing")
    if not isinstance(payload, dict):
        raise RequestError(gettext("The verdict has no payload."))
    looked = timing.get("visible_ms") if isinstance(timing, dict) else None
    is_time = isinstance(looked, int) and not isinstance(looked, bool) and 0 <= looked < 2**31
    return Judgement(
        parse_uuid(body.get("uuid"), "uuid"), parse_id(body.get("item"), "item"), payload, looked if is_time else None
    )


urlpatterns = [
    path("studies/<slug:slug>/review/", study_review, name="study-review"),
    path("studies/<slug:slug>/review/<int:pk>/", review_item, name="review-item"),
    path("studies/<slug:slug>/adjudicate/", adjudicate, name="adjudicate"),
    path("studies/<slug:slug>/adjudicate/next", adjudicate_next, name="adjudicate-next"),
    path("studies/<slug:slug>/adjudicate/answers", adjudicate_answers, name="adjudicate-answers"),
]
