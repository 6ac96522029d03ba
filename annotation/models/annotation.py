"""Answers: append-only facts that no cascade removes."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.exclusion import Exclusion
from annotation.models.study import Item, ReferenceItem, Slot, Study


class Annotation(models.Model):
    """One answer given. An edit is a new row that names the row it revises; only the last is current.

    The payload holds the whole answer as the study's protocol asks it; what is filtered and counted often has a column
    besides. Ratings: 1 no, 2 a hint, 3 mostly, 4 clearly, null cannot tell. Interpretable is 3 or 4.
    """

    class Source(models.TextChoices):
        WEB = "web", _("given here")
        IMPORT = "import", _("imported")
        BUNDLE = "bundle", _("given elsewhere, from a bundle")

    uuid = models.UUIDField(unique=True, help_text="Made by the client: the same answer sent twice is one row.")
    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="annotations", db_index=False)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="annotations")
    slot = models.ForeignKey(Slot, null=True, blank=True, on_delete=models.PROTECT, related_name="annotations")
    annotator = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="annotations", db_index=False
    )
    revision_of = models.ForeignKey("self", null=True, blank=True, on_delete=models.PROTECT, related_name="revisions")
    is_current = models.BooleanField(default=True)
    is_late_extra = models.BooleanField(default=False, help_text="Came after its slot was filled; kept, counted apart.")
    is_simulated = models.BooleanField(default=False)
    patch_rating = models.SmallIntegerField(null=True, blank=True)
    image_rating = models.SmallIntegerField(null=True, blank=True)
    category = models.CharField(max_length=60, blank=True)
    label = models.CharField(max_length=200, blank=True)
    choice = models.CharField(max_length=60, blank=True, help_text="The main choice of protocols that have one.")
    confidence = models.SmallIntegerField(null=True, blank=True, help_text="1 a guess, 2 fairly sure, 3 sure.")
    payload = models.JSONField(default=dict)
    timing = models.JSONField(default=dict)
    shown_at = models.DateTimeField(null=True, blank=True)
    submitted_at = models.DateTimeField(help_text="By the client's clock.")
    received_at = models.DateTimeField(auto_now_add=True)
    visible_ms = models.IntegerField(null=True, blank=True)
    protocol_version = models.CharField(max_length=12)
    guideline_version = models.IntegerField()
    study_version = models.CharField(max_length=12, default="1.0")
    vocabulary_version = models.IntegerField(default=1)
    source = models.CharField(max_length=10, choices=Source, default=Source.WEB)
    stimulus_id = models.CharField(max_length=64)
    app_version = models.CharField(max_length=40)
    is_gold_right = models.BooleanField(null=True, blank=True)
    is_too_quick = models.BooleanField(default=False, help_text="Seen for less than the study's minimum viewing time.")
    excluded_reason = models.CharField(max_length=200, blank=True, help_text="A flag with a reason; never deleted.")
    exclusion = models.ForeignKey(
        Exclusion, null=True, blank=True, on_delete=models.PROTECT, related_name="annotations", db_index=False
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["item", "annotator"],
                condition=Q(is_current=True, is_late_extra=False),
                name="annotation_current_once",
            ),
            models.CheckConstraint(
                condition=Q(patch_rating__isnull=True) | Q(patch_rating__range=(1, 4)), name="patch_rating_1_to_4"
            ),
            models.CheckConstraint(
                condition=Q(image_rating__isnull=True) | Q(image_rating__range=(1, 4)), name="image_rating_1_to_4"
            ),
        ]
        indexes = [
            models.Index(fields=["study", "id"], name="annotation_study_id"),
            models.Index(fields=["annotator", "study", "id"], name="annotation_annotator"),
            models.Index(fields=["exclusion"], condition=Q(exclusion__isnull=False), name="annotation_exclusion_idx"),
        ]

    def __str__(self) -> str:
        return str(self.uuid)


class PracticeAnswer(models.Model):
    """An answer to a practice item; feedback was shown, and it never counts."""

    reference = models.ForeignKey(ReferenceItem, on_delete=models.CASCADE, related_name="answers")
    annotator = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    payload = models.JSONField(default=dict)
    is_right = models.BooleanField()
    practice_round = models.IntegerField(default=1)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"practice answer {self.pk}"


class Remark(models.Model):
    """A skip, flag or comment on an item. Flags and comments stay open until somebody has dealt with them."""

    class Kind(models.TextChoices):
        SKIP = "skip", _("skip")
        FLAG = "flag", _("flag")
        COMMENT = "comment", _("comment")

    uuid = models.UUIDField(unique=True)
    kind = models.CharField(max_length=8, choices=Kind)
    item = models.ForeignKey(Item, on_delete=models.PROTECT, related_name="remarks")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="remarks")
    text = models.TextField(blank=True)
    at = models.DateTimeField(auto_now_add=True)
    resolved_at = models.DateTimeField(null=True, blank=True)
    resolved_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )
    resolution = models.TextField(blank=True, help_text="What was done about it; for researchers and reviewers.")

    class Meta:
        indexes = [
            models.Index(
                fields=["item"], condition=Q(resolved_at__isnull=True, kind__in=["flag", "comment"]), name="remark_open"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} on item {self.item_id}"


class ExportFile(models.Model):
    """An export of a study's answers: asked for, being written by a worker, or done."""

    class State(models.TextChoices):
        QUEUED = "queued", _("queued")
        RUNNING = "running", _("running")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    study = models.ForeignKey(Study, on_delete=models.PROTECT, related_name="export_files")
    file_format = models.CharField(max_length=8)
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    path = models.CharField(max_length=1000, blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    after = models.BigIntegerField(default=0, help_text="The cursor it goes on from; 0: all answers.")
    last = models.BigIntegerField(default=0, help_text="The cursor it ends with.")
    n_rows = models.IntegerField(default=0)
    size = models.BigIntegerField(default=0)
    error = models.TextField(blank=True)
    beaten_at = models.DateTimeField(null=True, blank=True, help_text="When its worker last said that it lives.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.file_format} export of {self.study_id}"
