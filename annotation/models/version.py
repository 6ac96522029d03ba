"""Versions of a live study's settings: what was changed, why, and what that does to answers given before."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from annotation.models.study import Study


class StudyVersion(models.Model):
    """One change of a launched study; answers given from then on carry its number."""

    class Kind(models.TextChoices):
        MINOR = "minor", _("minor: answers before and after mean the same")
        MAJOR = "major", _("major: answers before and after are not the same measurement")

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="versions")
    version = models.CharField(max_length=12)
    kind = models.CharField(max_length=5, choices=Kind)
    changes = models.JSONField(default=list, help_text="[name, before, after] of every setting changed.")
    invalidates = models.JSONField(default=list, help_text="What it does to earlier answers, a sentence each.")
    reason = models.CharField(max_length=500)
    settings_hash = models.CharField(max_length=64)
    n_answers_before = models.IntegerField(default=0)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "version"], name="study_version_once")]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"version {self.version} of {self.study_id}"
