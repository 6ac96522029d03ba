"""Decisions to leave answers out: who, why, what it changed, whether it was taken back. Answers stay where they are."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from annotation.models.study import Study


class Exclusion(models.Model):
    """One decision over some answers of one annotator, or over single answers of several."""

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="answer_exclusions")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="Set where all of a person's answers are left out.",
    )  # fmt: skip
    reason = models.CharField(max_length=200)
    effect = models.JSONField(default=dict, help_text="What was shown before it was decided.")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    undone_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    undone_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"exclusion {self.pk} of {self.study_id}"
