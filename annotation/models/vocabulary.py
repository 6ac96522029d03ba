"""The words of a study: its categories, in two levels, and its terms, with what was merged into what."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from annotation.models.study import Study


class Category(models.Model):
    """A category, with the key that chooses it; one with a parent is offered once the parent is chosen.

    A key may serve again under another parent, because only one parent's children are offered at a time.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="categories")
    name = models.CharField(max_length=60)
    key = models.CharField(max_length=1, blank=True, help_text="Empty: chosen by the mouse or the arrows only.")
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.CASCADE, related_name="children")
    position = models.IntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["study", "key"], condition=Q(parent__isnull=True) & ~Q(key=""), name="category_key_per_study"
            ),
            models.UniqueConstraint(fields=["parent", "key"], condition=~Q(key=""), name="category_key_per_parent"),
            models.UniqueConstraint(fields=["study", "name"], name="category_name_per_study"),
        ]
        ordering = ["position", "id"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name


class Term(models.Model):
    """One wording of a label, listed by a researcher or used by somebody.

    A wording merged into another stands for that one: a synonym, a former name, another spelling. The answers keep the
    wording that was typed, and its uses stay counted here.
    """

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="terms")
    text = models.CharField(max_length=120)
    n_uses = models.IntegerField(default=0)
    is_listed = models.BooleanField(db_default=False, help_text="On the list that a fixed vocabulary accepts.")
    merged_into = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="wordings")
    made_at = models.DateTimeField(db_default=Now())
    made_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+",
        help_text="The researcher who listed it; empty for one that came with an answer.",
    )  # fmt: skip

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "text"], name="term_once_per_study")]
        ordering = ["-n_uses", "text"]

    def __str__(self) -> str:
        return self.text


class TermMerge(models.Model):
    """Who let one wording stand for another, when and why; undone, never deleted."""

    class Kind(models.TextChoices):
        MERGE = "merge", _("merged")
        SYNONYM = "synonym", _("synonym")
        RENAME = "rename", _("renamed")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="term_merges")
    kind = models.CharField(max_length=8, choices=Kind)
    source = models.ForeignKey(Term, on_delete=models.PROTECT, related_name="merges")
    target = models.ForeignKey(Term, on_delete=models.PROTECT, related_name="merges_into")
    reason = models.CharField(max_length=300, blank=True)
    n_uses = models.IntegerField(default=0, help_text="Uses of the source at that time.")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)
    undone_at = models.DateTimeField(null=True, blank=True)
    undone_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["source"], condition=Q(undone_at__isnull=True), name="term_merged_into_one")
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.source_id} into {self.target_id}"
