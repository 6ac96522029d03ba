"""Who uses Vitrine: people with one role on the site, and tokens for their programs."""

from __future__ import annotations

import secrets

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

CODE_ALPHABET = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"


def new_annotator_code() -> str:
    """A pseudonym that exports show in place of a name."""
    return "A-" + "".join(secrets.choice(CODE_ALPHABET) for _ in range(8))


class Role(models.TextChoices):
    ANNOTATOR = "annotator", _("annotator")
    REVIEWER = "reviewer", _("reviewer")
    RESEARCHER = "researcher", _("researcher")
    ADMINISTRATOR = "administrator", _("administrator")


class User(AbstractUser):
    role = models.CharField(max_length=16, choices=Role, default=Role.ANNOTATOR)
    annotator_code = models.CharField(max_length=16, unique=True, default=new_annotator_code, editable=False)
    is_simulated = models.BooleanField(default=False, help_text="Answers by a program, marked as simulated everywhere.")
    player_keys = models.JSONField(default=dict, blank=True, help_text="Own keys of the player: see domain.own_keys.")

    def __str__(self) -> str:
        return self.username

    @property
    def is_researcher(self) -> bool:
        """Whether this person may see dictionaries, runs and all studies: researchers and administrators."""
        return self.is_active and (self.is_superuser or self.role in {Role.RESEARCHER, Role.ADMINISTRATOR})

    @property
    def is_administrator(self) -> bool:
        return self.is_active and (self.is_superuser or self.role == Role.ADMINISTRATOR)


class ApiToken(models.Model):
    """A secret for programs, stored hashed; scopes are names such as 'studies:read' and 'exports:read'."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=8)
    hashed = models.CharField(max_length=64, unique=True)
    scopes = models.JSONField(default=list)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Empty: it lives until it is revoked.")

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_expired(self) -> bool:
        return self.expires_at is not None and self.expires_at <= timezone.now()
