"""Runs: the list, the form of a new one with its estimate, the live page, and cancel, retry, clone."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from annotation.domain.keyset import CursorError, Order, Page, keyset_page
from annotation.domain.run_estimates import Estimate, estimate, readable_bytes
from annotation.domain.run_limits import Room, refuse_unfit, room_here, warnings_of
from annotation.domain.run_pages import (
    artifacts_made,
    chunk_strip,
    filtered_runs,
    log_tail,
    metric_plots,
    run_row,
    runs_by_state,
    shown_config,
)
from annotation.domain.runs import RunError, cancel_run, create_run, is_served, retry_run
from annotation.forms.run import StageForm
from annotation.forms.run_values import is_from_form, plain_values
from annotation.models import Run
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.line_plots import line_plot
from annotation.views.measure_grid import measure_grid
from config.wakeup import wake_workers
from workers.artifacts import ArtifactError
from workers.stages.configs import STAGES, ConfigError

RUNS_PER_PAGE = 30
STARTABLE = {name: stage for name, stage in STAGES.items() if stage.is_started_by_hand}


@require_safe
@researcher_required
def runs(request: HttpRequest) -> HttpResponse:
    query = request.GET
    state = query.get("state", "") if query.get("state") in Run.State.values else ""
    stage = query.get("stage", "") if query.get("stage") in STAGES else ""
    try:
        page = keyset_page(
            filtered_runs(state=state, stage=stage),
            Order("id", True),
            after=query.get("after", ""),
            before=query.get("before", ""),
            size=RUNS_PER_PAGE,
        )
        problem = ""
    except CursorError as error:
        page, problem = Page([], "", ""), str(error)
    counts = runs_by_state()
    context = {
        "rows": [run_row(run) for run in page.rows],
        "page": page,
        "problem": problem,
        "is_live": any(not run.is_over for run in page.rows),
        "state": state,
        "stage": stage,
        "states": [(value, label, counts.get(value, 0)) for value, label in Run.State.choices],
        "stages": list(STAGES),
        "n_runs": sum(counts.values()),
    }
    return render(request, "annotation/runs/runs.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@researcher_required
def run_new(request: HttpRequest) -> HttpResponse:
    origin = get_object_or_404(Run, pk=request.GET["clone"]) if request.GET.get("clone", "").isdecimal() else None
    stage = origin.stage if origin else request.GET.get("stage", "")
    if not stage:
        return render(request, "annotation/runs/stages.html", {"stages": STARTABLE.values()})
    if stage not in STARTABLE:
        raise Http404(_("There is no stage '%(stage)s' that is started here.") % {"stage": stage})
    form = filled_form(request, stage, origin)
    run = started_run(request, form, origin) if form.is_bound else None
    if run is not None:
        return redirect("run", pk=run.pk)
    context = {
        "form": form,
        "stage": STAGES[stage],
        "origin": origin,
        "cost": cost_of(form),
        "is_served": is_served(STAGES[stage].queue),
    }
    return render(request, "annotation/runs/new.html", context)


def filled_form(request: HttpRequest, stage: str, origin: Run | None) -> StageForm:
    """Bound where the run is to be started; else as it follows from what is chosen so far."""
    user, cloned = signed_in_user(request), origin.config if origin else {}
    if request.method != "POST":
        return StageForm(stage, user, given_values(request, origin), cloned=cloned)
    form = StageForm(stage, user, data=request.POST, cloned=cloned)
    if form.is_stale and "refresh" not in request.POST:
        messages.info(request, _("A choice was changed: look at the settings that follow from it, then start the run."))
    if form.is_stale or "refresh" in request.POST:
        return StageForm(stage, user, plain_values(request.POST), cloned=cloned)
    return form


def given_values(request: HttpRequest, origin: Run | None) -> dict[str, Any]:
    """What the form has sent to follow a choice; else what the address says, over what the cloned run had."""
    came = plain_values(request.GET)
    if is_from_form(came) or origin is None:
        return came
    return dict(origin.config) | {"title": origin.title} | came


@dataclass(frozen=True)
class Cost:
    """What the form says of the run as it is filled in so far: nothing while something is missing."""

    estimate: Estimate | None = None
    room: Room | None = None
    problems: Sequence[str] = ()
    warnings: Sequence[str] = ()

    @property
    def memory_here(self) -> str:
        return _("This machine has %(size)s.") % {"size": readable_bytes(self.room.memory)} if self.room else ""

    @property
    def disk_free(self) -> str:
        return _("%(size)s are free.") % {"size": readable_bytes(self.room.disk_free)} if self.room else ""


def cost_of(form: StageForm) -> Cost:
    filled = form if form.is_bound else StageForm(form.stage, form.user, data=form.as_sent(), cloned=form.cloned)
    if not filled.is_valid():
        return Cost(problems=[] if form.is_bound else [str(one) for one in filled.non_field_errors()])
    found, room, queue = estimate(form.stage, filled.config()), room_here(), STAGES[form.stage].queue
    try:
        refuse_unfit(filled.config(), found, room, queue=queue)
    except ConfigError as error:
        return Cost(found, room, [str(error)])
    return Cost(found, room, warnings=warnings_of(found, room, queue=queue))


def started_run(request: HttpRequest, form: StageForm, origin: Run | None) -> Run | None:
    if not form.is_valid():
        return None
    config = {name: value for name, value in form.cleaned_data.items() if name != "title"}
    try:
        run = create_run(
            stage=form.stage,
            config=config,
            user=signed_in_user(request),
            title=form.cleaned_data["title"],
            cloned_from=origin,
        )
    except (ConfigError, ArtifactError) as error:
        form.refuse(error)
        return None
    wake_on_commit(request, run)
    return run


def wake_on_commit(request: HttpRequest, run: Run) -> None:
    """Wake a worker once the row is there; a broker that is down costs seconds, and the page says so."""
    if not run.is_over:
        transaction.on_commit(partial(wake_or_say, request, run.queue))


def wake_or_say(request: HttpRequest, queue: str) -> None:
    if not wake_workers(queue):
        messages.warning(
            request, _("The message broker does not answer. The run is queued; it starts once the broker is back.")
        )


@require_safe
@researcher_required
def run_page(request: HttpRequest, pk: int) -> HttpResponse:
    run = get_object_or_404(Run.objects.select_related("created_by", "cloned_from"), pk=pk)
    row = run_row(run)
    plots = metric_plots(run)
    grid = measure_grid(plots)
    context = {
        "run": run,
        "row": row,
        "strip": chunk_strip(run),
        "grid": grid,
        "plots": [] if grid else [line_plot(title, series) for title, series in plots.items()],
        "log": log_tail(run),
        "made": artifacts_made(run),
        "config": shown_config(run),
        "peak_memory": readable_bytes(run.peak_memory_bytes) if run.peak_memory_bytes else "",
        "is_served": run.is_over or is_served(run.queue),
        "can_clone": run.stage in STARTABLE,
    }
    return render(request, "annotation/runs/run.html", context)


@require_POST
@researcher_required
def run_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    return acted(request, pk, cancel_run)


@require_POST
@researcher_required
def run_retry(request: HttpRequest, pk: int) -> HttpResponse:
    return acted(request, pk, retry_run)


def acted(request: HttpRequest, pk: int, act: Callable[..., Run]) -> HttpResponse:
    run = get_object_or_404(Run, pk=pk)
    try:
        run = act(run=run)
    except RunError as error:
        messages.error(request, str(error))
    else:
        wake_on_commit(request, run)
    return redirect("run", pk=pk)


class Echo:
    """A file that hands back what is written, for the csv module."""

    def write(self, text: str) -> str:
        return text


@require_safe
@researcher_required
def run_metrics(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    run = get_object_or_404(Run, pk=pk)
    writer = csv.writer(Echo())
    rows = run.metrics.order_by("name", "step").values_list("name", "step", "value").iterator(2000)
    response = StreamingHttpResponse(chain([writer.writerow(("name", "step", "value"))], map(writer.writerow, rows)))
    response["Content-Type"] = "text/csv; charset=utf-8"
    response["Content-Disposition"] = f'attachment; filename="run-{run.pk}-metrics.csv"'
    return response


@require_safe
@researcher_required
def run_log(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    run = get_object_or_404(Run, pk=pk)
    lines = (f"{at:%Y-%m-%d %H:%M:%S} {text}\n" for at, text in run.log_lines.values_list("at", "text").iterator(2000))
    tail = [f"\n{run.traceback}"] if run.traceback else []
    response = StreamingHttpResponse(chain(lines, tail))
    response["Content-Type"] = "text/plain; charset=utf-8"
    return response


urlpatterns = [
    path("runs/", runs, name="runs"),
    path("runs/new/", run_new, name="run-new"),
    path("runs/<int:pk>/", run_page, name="run"),
    path("runs/<int:pk>/cancel/", run_cancel, name="run-cancel"),
    path("runs/<int:pk>/retry/", run_retry, name="run-retry"),
    path("runs/<int:pk>/metrics.csv", run_metrics, name="run-metrics"),
    path("runs/<int:pk>/log.txt", run_log, name="run-log"),
]
