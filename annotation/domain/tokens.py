"""Tokens for programs: shown once, stored as a hash, limited by scopes and by the role of their owner."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from datetime import timedelta
from typing import NamedTuple

from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.models import ApiToken, User

SCOPES = {
    "studies:read": gettext_noop("list studies and their progress"),
    "studies:write": gettext_noop("make studies; launch, pause, resume and close them"),
    "items:read": gettext_noop("read what is judged"),
    "annotations:read": gettext_noop("read answers, people's pseudonyms and reports"),
    "annotations:write": gettext_noop("import earlier answers, and answers that come home"),
    "exports:read": gettext_noop("list and download exports and bundles"),
    "exports:write": gettext_noop("start exports and make bundles"),
    "webhooks:write": gettext_noop("see and change webhooks"),
}
LIFETIMES = {
    "30": gettext_noop("30 days"),
    "90": gettext_noop("90 days"),
    "365": gettext_noop("a year"),
    "": gettext_noop("until it is revoked"),
}
NOTED_EVERY = timedelta(minutes=1)


class TokenError(Exception):
    """The token cannot be made; the message says why."""


class NewToken(NamedTuple):
    token: ApiToken
    secret: str  # shown once, never stored


def create_token(*, user: User, name: str, scopes: Iterable[str], days: str = "") -> NewToken:
    """A token with one of the LIFETIMES."""
    chosen = sorted(set(scopes))
    unknown = [scope for scope in chosen if scope not in SCOPES]
    if unknown:
        raise TokenError(
            _("'%(unknown)s' is no scope; it can be %(values)s.") % {"unknown": unknown[0], "values": ", ".join(SCOPES)}
        )
    if not chosen or not name.strip():
        raise TokenError(_("Give the token a name and at least one scope."))
    if days not in LIFETIMES:
        raise TokenError(_("A token lives %(values)s.") % {"values": ", ".join(map(_, LIFETIMES.values()))})
    secret = f"vt_{secrets.token_urlsafe(32)}"
    token = ApiToken.objects.create(
        user=user, name=name.strip()[:80], prefix=secret[:8], hashed=_hash(secret), scopes=chosen,
        expires_at=timezone.now() + timedelta(days=int(days)) if days else None,
    )  # fmt: skip
    return NewToken(token, secret)


def revoke_token(*, user: User, token_id: int) -> None:
    """Raises ApiToken.DoesNotExist for a token of somebody else."""
    token = ApiToken.objects.get(pk=token_id, user=user)
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=timezone.now())


def token_for(secret: str) -> ApiToken | None:
    """The live token of this secret; its last use is noted once a minute at most."""
    token = ApiToken.objects.select_related("user").filter(lives(), hashed=_hash(secret), user__is_active=True).first()
    if token is not None:
        now = timezone.now()
        stale = Q(last_used_at=None) | Q(last_used_at__lt=now - NOTED_EVERY)
        ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now)
    return token


def lives() -> Q:
    """The condition that a token is neither revoked nor expired."""
    return Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=timezone.now()))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
