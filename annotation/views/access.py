"""Who may open what: decorators that every view wears.

A page somebody may not know of answers 404 (a study of others); a page of another role answers 403.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils.translation import gettext as _
from django.views import csrf

from annotation.models import User

View = Callable[..., HttpResponseBase]


def signed_in_user(request: HttpRequest) -> User:
    """The user of a request that a decorator has already let in."""
    return cast(User, request.user)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """A page for people; a sentence in JSON for the player, which keeps what was refused."""
    if request.content_type != "application/json":
        return csrf.csrf_failure(request, reason=reason)
    if not request.user.is_authenticated:  # who has cleared their cookies comes back, and it is sent again
        return JsonResponse({"error": _("You are signed out. Sign in again; nothing is lost.")}, status=401)
    return JsonResponse({"error": _("This page was opened too long ago; reload it. Nothing is lost.")}, status=403)


def researcher_required(view: View) -> View:
    """Researchers and administrators only; others 403, strangers to the login page."""

    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not signed_in_user(request).is_researcher:
            raise PermissionDenied(_("This page is for researchers; ask an administrator for the role."))
        return view(request, *args, **kwargs)

    return cast(View, login_required(guarded))
