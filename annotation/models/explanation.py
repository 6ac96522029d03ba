"""Explanations: sentences about features, written by a model or a person, in sets that a study can put to the test."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from annotation.models.catalog import Feature


class ExplanationSet(models.Model):
    name = models.CharField(max_length=120, unique=True)
    source = models.CharField(max_length=200, blank=True, help_text="Which model, method or study wrote them.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return self.name


class Explanation(models.Model):
    explanation_set = models.ForeignKey(ExplanationSet, on_delete=models.CASCADE, related_name="explanations")
    feature = models.ForeignKey(Feature, on_delete=models.PROTECT, related_name="explanations")
    text = models.CharField(max_length=500)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["explanation_set", "feature"], name="explanation_once_per_set")]

    def __str__(self) -> str:
        return self.text
