"""Whom work is reserved for: cohorts of a study's people, and reservations of its slots."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from annotation.models.study import Study


class Cohort(models.Model):
    """A group of a study's people, such as experts or those invited back."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="cohorts")
    name = models.CharField(max_length=60)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "name"], name="cohort_name_per_study")]
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class Assignment(models.Model):
    """Slots reserved for one person or one cohort; the slots name it by their lane (annotation.domain.queue_lanes)."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="assignments")
    cohort = models.ForeignKey(Cohort, null=True, blank=True, on_delete=models.PROTECT, related_name="assignments")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="assignments"
    )
    n_slots = models.IntegerField(default=0, help_text="How many were reserved.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(cohort__isnull=False, person__isnull=True) | Q(cohort__isnull=True, person__isnull=False),
                name="assignment_to_one",
            )
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"assignment {self.pk} of {self.study_id}"
