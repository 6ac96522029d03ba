"""Crowds: how people are recruited and paid, their sessions, and who they are elsewhere, kept apart from answers."""

from __future__ import annotations

import secrets
from decimal import Decimal

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotation.models.people import CODE_ALPHABET
from annotation.models.study import Participation, Study

PROLIFIC_RETURN = "https://app.prolific.com/submissions/complete?cc=CODE"


def new_code() -> str:
    """A code that somebody can type without mistaking a letter for a digit."""
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(8))


def new_invitation_token() -> str:
    return secrets.token_urlsafe(16)


class Recruitment(models.Model):
    """How a study finds, leads and pays its people. Without this row it is open by its link, unpaid and endless."""

    class Pay(models.TextChoices):
        NONE = "none", _("nothing")
        SESSION = "session", _("an amount per session")
        HOUR = "hour", _("an amount per hour of work")

    study = models.OneToOneField(Study, on_delete=models.CASCADE, related_name="recruitment")
    by_link = models.BooleanField(default=True)
    by_invitation = models.BooleanField(default=True)
    by_prolific = models.BooleanField(default=False)
    prolific_study_ids = models.CharField(max_length=400, blank=True)
    return_url = models.CharField(max_length=300, default=PROLIFIC_RETURN)
    completion_code = models.CharField(max_length=40, default=new_code)
    screen_out_code = models.CharField(max_length=40, default=new_code)
    early_leave_code = models.CharField(max_length=40, default=new_code)
    no_consent_code = models.CharField(max_length=40, default=new_code)
    sessions_per_person = models.IntegerField(null=True, blank=True, default=1)
    session_hours = models.IntegerField(default=48, help_text="A session not finished by then ends by itself.")
    announced_minutes = models.IntegerField(null=True, blank=True)
    pay = models.CharField(max_length=8, choices=Pay, default=Pay.NONE)
    amount = models.DecimalField(max_digits=9, decimal_places=2, default=Decimal(0))
    screen_out_amount = models.DecimalField(max_digits=9, decimal_places=2, default=Decimal(0))
    minimum_hourly = models.DecimalField(max_digits=9, decimal_places=2, null=True, blank=True)
    currency = models.CharField(max_length=3, default="GBP")
    spending_cap = models.DecimalField(max_digits=12, decimal_places=2, null=True, blank=True)
    contact = models.CharField(max_length=200, blank=True)
    may_disturb = models.BooleanField(default=False)
    disturbing_text = models.CharField(max_length=400, blank=True)
    may_withdraw = models.BooleanField(default=True, help_text="Answers given can be left out of the figures.")
    return_after_days = models.IntegerField(default=1)
    retention_days = models.IntegerField(default=90)
    consent_digest = models.CharField(max_length=64, blank=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"recruitment of {self.study_id}"

    @property
    def is_paid(self) -> bool:
        return self.pay != self.Pay.NONE


class WorkSession(models.Model):
    """One sitting of a fixed number of judgements, with how it ended and the code the person was given."""

    class Ending(models.TextChoices):
        COMPLETE = "complete", _("complete")
        LEFT = "left", _("left early")
        SCREENED_OUT = "screened_out", _("screened out")
        LAPSED = "lapsed", _("never finished")

    participation = models.ForeignKey(Participation, on_delete=models.PROTECT, related_name="work_sessions")
    number = models.IntegerField()
    length = models.IntegerField()
    is_return = models.BooleanField(default=False)
    started_at = models.DateTimeField(default=timezone.now)
    ended_at = models.DateTimeField(null=True, blank=True)
    ending = models.CharField(max_length=12, choices=Ending, blank=True)
    n_done = models.IntegerField(default=0, help_text="Judgements given, once it has ended.")
    minutes = models.FloatField(null=True, blank=True, help_text="With items in view, once it has ended.")
    code = models.CharField(max_length=40, blank=True)
    terms = models.JSONField(
        default=dict, help_text="The pay it began with: what is changed later is for later sessions."
    )
    reserved = models.DecimalField(
        max_digits=9, decimal_places=2, default=Decimal(0), help_text="The most it can cost, held against the cap."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["participation", "number"], name="work_session_number"),
            models.UniqueConstraint(
                fields=["participation"], condition=Q(ended_at__isnull=True), name="one_open_work_session"
            ),
        ]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"session {self.number} of {self.participation_id}"


class PayEntry(models.Model):
    """One line of the ledger, never changed: earned, then approved, then paid; a bonus is paid without approval.

    An entry settles the one it answers, at most one each: an approval what was earned, a payment what was approved or
    a bonus.
    """

    class Kind(models.TextChoices):
        EARNED = "earned", _("earned")
        APPROVED = "approved", _("approved")
        BONUS = "bonus", _("bonus")
        PAID = "paid", _("paid")

    participation = models.ForeignKey(Participation, on_delete=models.PROTECT, related_name="pay_entries")
    work_session = models.ForeignKey(
        WorkSession, null=True, blank=True, on_delete=models.PROTECT, related_name="pay_entries"
    )
    kind = models.CharField(max_length=8, choices=Kind)
    amount = models.DecimalField(max_digits=9, decimal_places=2)
    settles = models.OneToOneField("self", null=True, blank=True, on_delete=models.PROTECT, related_name="settled_by")
    note = models.CharField(max_length=200, blank=True)
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["work_session"], condition=Q(kind="earned"), name="earned_once_per_work_session"
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="pay_is_never_negative"),
        ]
        ordering = ["id"]
        verbose_name_plural = "pay entries"

    def __str__(self) -> str:
        return f"{self.kind} {self.amount} by {self.participation_id}"


class Invitation(models.Model):
    """A link that lets one person in, once; of kind return, the same person once more."""

    class Kind(models.TextChoices):
        FIRST = "first", _("to take part")
        RETURN = "return", _("to come back")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="invitations")
    token = models.CharField(max_length=40, unique=True, default=new_invitation_token)
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.FIRST)
    batch = models.CharField(max_length=60, blank=True)
    email = models.EmailField(blank=True, help_text="Deleted with the person's identity.")
    participation = models.ForeignKey(
        Participation, null=True, blank=True, on_delete=models.PROTECT, related_name="invitations",
        help_text="Who is invited back, or who came by it.",
    )  # fmt: skip
    visit = models.CharField(max_length=40, blank=True, help_text="The page from which it was used.")
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    used_at = models.DateTimeField(null=True, blank=True)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["participation"],
                condition=Q(kind="return", used_at__isnull=True, revoked_at__isnull=True),
                name="one_open_return_invitation",
            )
        ]
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"invitation {self.pk} to {self.study_id}"

    @property
    def state(self) -> str:
        """used, revoked, expired or open."""
        if self.used_at is not None:
            return "used"
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= timezone.now() else "open"


class ExternalIdentity(models.Model):
    """Who a participant is elsewhere: nothing of this is on any answer.

    Deleting it empties the row but for a keyed digest, which tells only that this identity has taken part in the
    study, no longer as whom.
    """

    class Source(models.TextChoices):
        PROLIFIC = "prolific", _("Prolific")
        EMAIL = "email", _("e-mail")

    study = models.ForeignKey(Study, on_delete=models.CASCADE, related_name="external_identities")
    source = models.CharField(max_length=10, choices=Source)
    digest = models.CharField(max_length=64)
    external_id = models.CharField(max_length=254, blank=True)
    participation = models.ForeignKey(
        Participation, null=True, blank=True, on_delete=models.PROTECT, related_name="external_identities"
    )
    last_seen_at = models.DateTimeField(default=timezone.now)
    deleted_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["study", "source", "digest"], name="identity_once_per_study"),
            models.CheckConstraint(
                condition=Q(deleted_at__isnull=True) | Q(external_id="", participation__isnull=True),
                name="deleted_identity_is_empty",
            ),
        ]
        verbose_name_plural = "external identities"

    def __str__(self) -> str:
        return f"{self.source} identity {self.pk}"


class ExternalVisit(models.Model):
    """One submission on Prolific: a person who returns comes with another SESSION_ID, perhaps another STUDY_ID."""

    identity = models.ForeignKey(ExternalIdentity, on_delete=models.CASCADE, related_name="visits")
    external_session = models.CharField(max_length=64)
    external_study = models.CharField(max_length=64)
    arrived_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["identity", "external_session"], name="visit_once")]
        ordering = ["id"]

    def __str__(self) -> str:
        return f"visit {self.pk}"
