"""Interfaces to other programs and sites: webhooks with their log, errands of a worker, study bundles that travel."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from annotation.models.study import Item, Study


class Webhook(models.Model):
    """An address that is told what happens in a study. `marks` is the last row of each source it was told of."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="webhooks")
    url = models.CharField(max_length=500)
    events = models.JSONField(default=list)
    secret = models.CharField(max_length=80, help_text="Signs every delivery; shown once.")
    is_active = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=300, blank=True)
    marks = models.JSONField(default=dict)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"webhook {self.pk} of {self.study_id}"


class WebhookDelivery(models.Model):
    """One message for one address: pending until it was taken (2xx) or, after a day of attempts, given up."""

    class State(models.TextChoices):
        PENDING = "pending", _("pending")
        DELIVERED = "delivered", _("delivered")
        GIVEN_UP = "given-up", _("given up")

    uuid = models.UUIDField(unique=True, default=uuid.uuid4)
    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    event = models.CharField(max_length=40)
    body = models.TextField()
    state = models.CharField(max_length=10, choices=State, default=State.PENDING)
    n_attempts = models.SmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    created_at = models.DateTimeField(auto_now_add=True)
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=models.Q(state="pending"), name="delivery_pending")
        ]
        verbose_name_plural = "webhook deliveries"

    def __str__(self) -> str:
        return f"{self.event} {self.uuid}"


class WebhookAttempt(models.Model):
    """One try to deliver: what the other side answered, or why nothing came back."""

    delivery = models.ForeignKey(WebhookDelivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.SmallIntegerField()
    at = models.DateTimeField(auto_now_add=True)
    status = models.SmallIntegerField(null=True, blank=True)
    duration_ms = models.IntegerField(default=0)
    response = models.CharField(max_length=500, blank=True)
    error = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"attempt {self.number} of {self.delivery_id}"


class Errand(models.Model):
    """Work asked for on a page and done by a worker: an import with its dry run, a bundle, a simulation."""

    class Kind(models.TextChoices):
        IMPORT_ITEMS = "import-items", _("import of items")
        IMPORT_ANSWERS = "import-answers", _("import of answers")
        EXPORT_BUNDLE = "export-bundle", _("study bundle")
        IMPORT_BUNDLE = "import-bundle", _("import of a study bundle")
        EXPORT_ANSWERS = "export-answers", _("answers bundle")
        RETURN_ANSWERS = "return-answers", _("return of answers")
        SIMULATE = "simulate", _("simulation")

    class State(models.TextChoices):
        QUEUED = "queued", _("waiting for a worker")
        RUNNING = "running", _("under way")
        CHECKED = "checked", _("checked")
        DONE = "done", _("done")
        FAILED = "failed", _("failed")

    kind = models.CharField(max_length=16, choices=Kind)
    state = models.CharField(max_length=8, choices=State, default=State.QUEUED)
    study = models.ForeignKey(Study, null=True, blank=True, on_delete=models.CASCADE, related_name="errands")
    options = models.JSONField(default=dict)
    file_name = models.CharField(max_length=200, blank=True, help_text="Of the file sent or made.")
    is_dry_run = models.BooleanField(default=False, help_text="Check the file and change nothing.")
    report = models.JSONField(default=dict)
    n_done = models.IntegerField(default=0)
    n_wanted = models.IntegerField(default=0)
    error = models.TextField(blank=True)
    beaten_at = models.DateTimeField(null=True, blank=True, help_text="When its worker last said that it lives.")
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.kind} {self.pk}"


class Bundle(models.Model):
    """A study that travels: sent from here, or received from another site, under the identity it has on both."""

    class Direction(models.TextChoices):
        SENT = "sent", _("sent")
        RECEIVED = "received", _("received")

    uuid = models.UUIDField(default=uuid.uuid4)
    direction = models.CharField(max_length=8, choices=Direction)
    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="bundles")
    key = models.CharField(max_length=64, help_text="Signs the answers on their way back.")
    site = models.CharField(max_length=120, blank=True, help_text="The site it came from.")
    n_items = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["uuid", "direction"], name="bundle_once_per_direction")]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"bundle {self.uuid}"


class ForeignItem(models.Model):
    """What an item is called where it came from: its number at home, or its key in an imported table."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="foreign_items")
    key = models.CharField(max_length=200)
    item = models.OneToOneField(Item, on_delete=models.CASCADE, related_name="foreign")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "key"], name="foreign_item_once_per_study")]

    def __str__(self) -> str:
        return self.key


class Pseudonym(models.Model):
    """The code somebody had where their answers came from; nothing else is known of them here."""

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="pseudonyms")
    code = models.CharField(max_length=80)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["study", "code"], name="pseudonym_once_per_study")]

    def __str__(self) -> str:
        return self.code
