"""From a draft to an open study: the checklist, the launch, the freezing run's progress, and the preview before it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path, reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import ensure_csrf_cookie
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.answer_message import AnswerError, parse_id
from annotation.domain.launch_problems import launch_problems
from annotation.domain.launching import launch_study, settle_failed_launch
from annotation.domain.practice import Feedback, Standing
from annotation.domain.preview_board import preview_of
from annotation.domain.preview_stimulus import preview_stimulus
from annotation.domain.protocols import options_of, protocol_of, questions_of, questions_right, validate
from annotation.domain.runs import is_served, run_progress
from annotation.domain.sampling import SamplingError
from annotation.domain.stimuli import StimulusError, stimulus_for_player
from annotation.domain.studies import StudyError, close_study, pause_study, resume_study
from annotation.domain.study_checklist import checklist, launch_estimate, try_sample
from annotation.models import Feature, ReferenceItem, Run, Study
from annotation.views.access import signed_in_user
from annotation.views.player_config import base_config
from annotation.views.study_access import may_edit, require_editor, study_editor, study_reader
from annotation.views.work import render_player
from annotation.views.work_access import RequestError, body_of, problem
from annotation.views.work_api import feedback_reply
from config.wakeup import wake_workers
from workers.artifacts import ArtifactError

N_PREVIEWED = 12
NOTHING_TO_PREVIEW = _("There is nothing to preview yet: choose dictionaries or add practice items.")
STATE_ACTS = {"pause": pause_study, "resume": resume_study, "close": close_study}


@require_http_methods(["GET", "POST"])
@study_reader
def study_launch(request: HttpRequest, study: Study) -> HttpResponseBase:
    user = signed_in_user(request)
    is_editor = may_edit(study, user)
    if request.method == "POST":
        require_editor(study, user)
        try:
            wake_workers(launch_study(study=study, user=user).queue)
            return redirect("study", slug=study.slug)
        except StudyError as error:
            messages.error(request, str(error))
    if study.state != Study.State.DRAFT:
        return redirect("study", slug=study.slug)
    sample = try_sample(study)
    context: dict[str, Any] = {"study": study, "checks": checklist(study, sample), "is_editor": is_editor}
    context |= {"problems": launch_problems(study), "protocol": protocol_of(study), "tab": "launch"}
    if not isinstance(sample, str):
        context |= {"estimate": launch_estimate(study, sample), "sample": sample}
    return render(request, "annotation/studies/launch.html", context)


@require_GET
@study_reader
def study_progress(request: HttpRequest, study: Study) -> HttpResponse:
    """The freezing run, asked for every two seconds; once it is over the page is loaded anew."""
    reason = settle_failed_launch(study=study)
    if study.state == Study.State.LAUNCHING and study.launch_run is not None and reason is None:
        context = {"study": study} | freezing_context(study.launch_run)
        return render(request, "annotation/studies/progress.html", context)
    if reason:
        messages.error(request, _("The launch failed, and the study is a draft again. %(reason)s") % {"reason": reason})
    response = HttpResponse(status=204)
    response["HX-Refresh"] = "true"
    return response


def freezing_context(run: Run) -> dict[str, Any]:
    return {"run": run, "progress": run_progress(run), "is_served": is_served(run.queue)}


@ensure_csrf_cookie
@require_GET
@study_reader
def study_preview(request: HttpRequest, study: Study) -> HttpResponseBase:
    """The player as an annotator has it, over the practice and gold items; nothing is stored."""
    try:
        items = previewed(study)
    except (ArtifactError, StimulusError, StudyError, SamplingError) as error:
        messages.error(request, str(error))
        return redirect("study", slug=study.slug)
    if not items:
        messages.warning(request, NOTHING_TO_PREVIEW)
        return redirect("study", slug=study.slug)
    config = base_config(study, signed_in_user(request), "preview") | {
        "urls": {"answers": reverse("preview-answers", args=[study.slug])},
        "items": items,
        "session_length": len(items),
    }
    page = reverse("study", args=[study.slug])
    return render_player(request, study, config, finish_url=page, leave_url=page)


def previewed(study: Study) -> list[dict[str, Any]]:
    """Practice and gold items; a study without any shows the first features of its sample.

    Before the launch sheets are made from the exemplars alone; other boards need the plan of the study.
    """
    if not study.stimuli_digest and protocol_of(study).builder != "sheet":
        found = preview_of(study, N_PREVIEWED)
        if found.reasons and not found.items:
            raise StudyError(found.reasons[0])
        return [{"slot": None, "item": one.reference, "stimulus": one.stimulus} for one in found.items]
    references = list(
        study.reference_items.select_related(
            "feature__dictionary__vision_model", "feature__exemplar_set", "study"
        ).order_by("-kind", "position", "id")[:N_PREVIEWED]
    )
    if study.stimuli_digest:
        references = [one for one in references if one.stimulus_id]
    if references or study.stimuli_digest:
        return [{"slot": None, "item": one.pk, "stimulus": stimulus_of(one)} for one in references]
    sample = try_sample(study)
    ids = [] if isinstance(sample, str) else [one.feature_id for one in sample.drawn[:N_PREVIEWED]]
    features = Feature.objects.select_related("dictionary__vision_model", "exemplar_set").in_bulk(ids)
    return [{"slot": None, "item": 0, "stimulus": preview_stimulus(features[pk])} for pk in ids]


def stimulus_of(reference: ReferenceItem) -> dict[str, Any]:
    if reference.stimulus_id:
        return stimulus_for_player(study=reference.study, stimulus_id=reference.stimulus_id)
    return preview_stimulus(reference.feature)


def previewed_accepted(study: Study, reference: ReferenceItem) -> dict[str, list[Any]]:
    """What the researcher accepts, or what follows from the truth of what the preview shows."""
    if reference.accepted or study.stimuli_digest:
        return dict(reference.accepted)
    found = next((one for one in preview_of(study, N_PREVIEWED).items if one.reference == reference.pk), None)
    return protocol_of(study).accepted(found.truth, options_of(study)) if found else {}


def previewed_feedback(right: dict[str, bool], accepted: dict[str, list[Any]], reason: str) -> Feedback:
    """What an annotator would be told; a preview has no rounds."""
    return Feedback(all(right.values()), right, accepted, reason, Standing("continue", 0, 0, 1, 0))


@require_POST
@study_reader
def preview_answers(request: HttpRequest, study: Study) -> HttpResponse:
    """The feedback an annotator would get."""
    try:
        body = body_of(request)
        payload = body.get("payload")
        if not isinstance(payload, dict):
            raise RequestError(_("The answer has no payload."))
        names = set(study.categories.values_list("name", flat=True))
        answer = validate(questions_of(study), payload, categories=names)
        pk = parse_id(body.get("reference"), "reference")
        if pk == 0:
            return JsonResponse(feedback_reply(payload, previewed_feedback({}, {}, _("It has no accepted answers."))))
        reference = study.reference_items.filter(pk=pk).first()
        if reference is None:
            raise Http404(_("There is no such item in this study."))
        accepted = previewed_accepted(study, reference)
        right = questions_right(answer, accepted)
        return JsonResponse(feedback_reply(payload, previewed_feedback(right, accepted, reference.reason)))
    except RequestError as error:
        return problem(400, str(error))
    except Http404 as error:
        return problem(404, str(error))
    except AnswerError as error:
        return problem(422, str(error))


@require_POST
@study_editor
def study_state(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Pause, resume, close. Closing must be confirmed: it ends the data taking and cannot be undone."""
    act = request.POST.get("act", "")
    if act not in STATE_ACTS or (act == "close" and request.POST.get("confirmed") != "yes"):
        messages.error(request, _("Tick the box to confirm that the study shall be closed."))
        return redirect("study", slug=study.slug)
    try:
        STATE_ACTS[act](study=study, user=signed_in_user(request))
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study", slug=study.slug)


urlpatterns = [
    path("studies/<slug:slug>/launch/", study_launch, name="study-launch"),
    path("studies/<slug:slug>/progress/", study_progress, name="study-progress"),
    path("studies/<slug:slug>/preview/", study_preview, name="study-preview"),
    path("studies/<slug:slug>/preview/answers", preview_answers, name="preview-answers"),
    path("studies/<slug:slug>/state/", study_state, name="study-state"),
]
