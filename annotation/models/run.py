"""Runs and their chunks: rows are the truth, messages are wake-ups (docs/decisions)."""

from __future__ import annotations

import secrets

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

PLAN_PHASE = -1
N_ATTEMPTS = 5  # a chunk whose worker died this often is given up: it would kill the next worker too


def new_token() -> str:
    return secrets.token_hex(4)


class Run(models.Model):
    """One execution of a stage."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    stage = models.CharField(max_length=40)
    title = models.CharField(max_length=200, blank=True)
    config = models.JSONField(default=dict)
    queue = models.CharField(max_length=16)
    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    parents = models.JSONField(default=list, help_text="Digests of the artefacts this run reads.")
    artifacts = models.JSONField(default=list, help_text="Digests of the artefacts this run made.")
    request_key = models.CharField(max_length=64, blank=True)
    n_units_done = models.BigIntegerField(default=0)
    n_units = models.BigIntegerField(default=0)
    rate = models.FloatField(null=True, blank=True, help_text="Units per second, all workers together.")
    busy_seconds = models.FloatField(default=0.0, help_text="Seconds that workers spent on finished work chunks.")
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    phase = models.IntegerField(default=PLAN_PHASE, help_text="Chunks of this phase may be claimed.")
    token = models.CharField(max_length=8, default=new_token, editable=False, help_text="Names the working folder.")
    note = models.TextField(blank=True)
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True)
    device = models.CharField(max_length=80, blank=True)
    peak_memory_bytes = models.BigIntegerField(default=0)
    estimate = models.JSONField(default=dict, blank=True)
    cloned_from = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="clones")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="runs")
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["state", "queue"], name="run_state_queue")]

    def __str__(self) -> str:
        return f"run {self.pk}: {self.title or self.stage}"

    @property
    def folder_name(self) -> str:
        """The working folder under ARTIFACT_ROOT/runs; the token keeps two databases on one root apart."""
        return f"{self.pk}-{self.token}"

    @property
    def is_over(self) -> bool:
        return self.state in {self.State.DONE, self.State.FAILED, self.State.CANCELLED}


class Chunk(models.Model):
    """A run's unit of restartable work; claimable once all chunks of lower phase are done."""

    class Kind(models.TextChoices):
        PLAN = "plan", _("plan")
        WORK = "work", _("work")
        FINISH = "finish", _("finish")

    class State(models.TextChoices):
        WAITING = "waiting", _("waiting")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="chunks")
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.WORK)
    index = models.IntegerField()
    phase = models.IntegerField(default=0)
    payload = models.JSONField(default=dict)
    state = models.CharField(max_length=8, choices=State, default=State.WAITING)
    is_checkpoint = models.BooleanField(default=False, help_text="Its output is read by the next phase only.")
    attempt = models.IntegerField(default=0, help_text="Counts claims and never goes back: it fences late results.")
    last_attempt = models.IntegerField(default=N_ATTEMPTS, help_text="The attempt after which it is given up.")
    owner = models.CharField(max_length=80, blank=True)
    lease_until = models.DateTimeField(null=True, blank=True)
    n_units = models.BigIntegerField(default=0)
    n_units_done = models.BigIntegerField(default=0)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(blank=True)

    class Meta:
        ordering = ["run_id", "phase", "index"]
        constraints = [models.UniqueConstraint(fields=["run", "kind", "index"], name="chunk_once_per_run")]
        indexes = [
            models.Index(fields=["state", "lease_until"], name="chunk_state_lease"),
            models.Index(fields=["run", "phase", "state"], name="chunk_run_phase_state"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} chunk {self.index} of run {self.run_id}"


class RunMetric(models.Model):
    """A number a stage reports while it runs, for the plots of the run page."""

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="metrics")
    name = models.CharField(max_length=80)
    step = models.BigIntegerField()
    value = models.FloatField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["run", "name", "step"], name="metric_once_per_step")]

    def __str__(self) -> str:
        return f"{self.name} at {self.step}"


class RunLogLine(models.Model):
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="log_lines")
    chunk = models.ForeignKey(Chunk, null=True, blank=True, on_delete=models.CASCADE, related_name="log_lines")
    at = models.DateTimeField(auto_now_add=True)
    text = models.TextField()

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.text


class Worker(models.Model):
    """A worker process that was seen, so that a page can say when nobody serves a queue."""

    name = models.CharField(max_length=120)
    queue = models.CharField(max_length=16)
    seen_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["name", "queue"], name="worker_once_per_queue")]

    def __str__(self) -> str:
        return f"{self.name} on {self.queue}"
