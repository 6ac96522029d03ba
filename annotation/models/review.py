"""Review: what reviewers settle about an item, and what researchers answer to a remark. Both are append-only."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.annotation import Remark
from annotation.models.study import Item, Study


class Verdict(models.Model):
    """How a reviewer settled an item: an answer to the study's own questions, and why.

    A change of mind is a new row that names the row it revises; only the last is current.
    """

    uuid = models.UUIDField(unique=True, help_text="Made by the client: the same verdict sent twice is one row.")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="verdicts")
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="verdicts")
    judge = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="verdicts")
    payload = models.JSONField(default=dict)
    category = models.CharField(max_length=60, blank=True)
    label = models.CharField(max_length=200, blank=True)
    rationale = models.TextField()
    revision_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="revisions")
    is_current = models.BooleanField(default=True)
    n_answers = models.IntegerField(default=0, help_text="Answers that lay side by side when it was given.")
    visible_ms = models.IntegerField(null=True, blank=True, help_text="How long the item was looked at.")
    is_hasty = models.BooleanField(default=False, help_text="Given in less than two seconds; shown, never refused.")
    stimulus_id = models.CharField(max_length=64)
    protocol_version = models.CharField(max_length=12)
    study_version = models.CharField(max_length=12, default="1.0")
    vocabulary_version = models.IntegerField(default=1)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["item"], condition=Q(is_current=True), name="verdict_current_once")
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"verdict on item {self.item_id}"


class Reply(models.Model):
    """What somebody answered to a remark; its author is told the next time they work."""

    remark = models.ForeignKey(Remark, on_delete=models.PROTECT, related_name="replies")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    text = models.TextField()
    at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField(null=True, blank=True, help_text="When the author of the remark had read it.")

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "replies"

    def __str__(self) -> str:
        return f"reply to remark {self.remark_id}"
