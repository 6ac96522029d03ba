"""Runs: started with an estimate, cancelled, retried and cloned; their chunks, numbers and logs to look at."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.translation import gettext_lazy as _

from annotation.admin.base import RecordAdmin, Rows, user_of
from annotation.domain.runs import cancel_run, clone_run, retry_run, run_progress
from annotation.models import Chunk, Run, RunLogLine, RunMetric, Worker
from annotation.views.runs import STARTABLE, cost_of, filled_form, started_run
from config.wakeup import wake_workers


@admin.register(Run)
class RunAdmin(RecordAdmin):
    list_display = ("__str__", "stage", "state", "share_done", "created_by", "created_at", "live_page")
    list_select_related = ("created_by",)
    list_filter = ("state", "stage")
    actions = ("cancel", "retry", "clone")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # a run says where artefacts come from

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        """Choose a stage, fill in its settings, see the estimate, start."""
        stage = request.GET.get("stage", "")
        context = {**self.admin_site.each_context(request), "title": _("Start a run"), "stages": STARTABLE.values()}
        if stage in STARTABLE:
            form = filled_form(request, stage, None)
            run = started_run(request, form, None) if form.is_bound else None
            if run is not None:
                return HttpResponseRedirect(reverse("admin:annotation_run_change", args=[run.pk]))
            context |= {"stage": STARTABLE[stage], "form": form, "cost": cost_of(form)}
        return TemplateResponse(request, "admin/annotation/run/start.html", context)

    @admin.display(description="done")
    def share_done(self, run: Run) -> str:
        return f"{100 * run_progress(run).share:.0f} %"

    @admin.display(description=_("live page"))
    def live_page(self, run: Run) -> str:
        return format_html('<a href="{}">look</a>', reverse("run", args=[run.pk]))

    @admin.action(description=_("Cancel: stop within seconds, keep what is done"))
    def cancel(self, request: HttpRequest, queryset: Rows) -> None:
        self.each(request, queryset, lambda run: cancel_run(run=run), "cancelled")

    @admin.action(description=_("Retry: compute only what is not done"))
    def retry(self, request: HttpRequest, queryset: Rows) -> None:
        self.each(request, queryset, lambda run: self.wake(retry_run(run=run)), "queued again")

    @admin.action(description=_("Clone: the same config again"))
    def clone(self, request: HttpRequest, queryset: Rows) -> None:
        def act(run: Run) -> None:
            self.wake(clone_run(run=run, user=user_of(request), changes={}))

        self.each(request, queryset, act, "cloned")

    def wake(self, run: Run) -> None:
        if not run.is_over:
            transaction.on_commit(lambda: wake_workers(run.queue))


@admin.register(Chunk)
class ChunkAdmin(RecordAdmin):
    list_display = ("__str__", "phase", "state", "attempt", "owner", "lease_until", "started_at", "finished_at")
    list_filter = ("state", "kind")
    ordering = ("-id",)


@admin.register(RunMetric)
class RunMetricAdmin(RecordAdmin):
    list_display = ("run_id", "name", "step", "value")
    ordering = ("-id",)


@admin.register(RunLogLine)
class RunLogLineAdmin(RecordAdmin):
    list_display = ("at", "run_id", "text")
    ordering = ("-id",)


@admin.register(Worker)
class WorkerAdmin(RecordAdmin):
    list_display = ("name", "queue", "seen_at")
    ordering = ("-seen_at",)
