"""What every endpoint shares: the token, the study it asks for, pages by key, and refusals of one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.translation import gettext as _
from ninja import NinjaAPI, Schema
from ninja.errors import AuthenticationError, HttpError, ValidationError
from ninja.security import HttpBearer
from pydantic import Field

from annotation.domain.results import study_with_results
from annotation.domain.tokens import token_for
from annotation.models import ApiToken, Study, User
from annotation.views.study_access import EDITORS_ONLY, may_edit

T = TypeVar("T")
NO_TOKEN = "Send a live token as 'Authorization: Bearer TOKEN'; make one on the page of tokens."


class TokenAuth(HttpBearer):
    def authenticate(self, request: HttpRequest, token: str) -> ApiToken | None:
        return token_for(token)


api = NinjaAPI(
    title="Vitrine", version="2", auth=TokenAuth(), urls_namespace="api",
    description="Studies, items, answers, people, exports, imports, bundles and webhooks of this site.",
)  # fmt: skip


@api.exception_handler(PermissionDenied)
def refused(request: HttpRequest, error: PermissionDenied) -> HttpResponse:
    return api.create_response(request, {"detail": str(error)}, status=403)


@api.exception_handler(Study.DoesNotExist)
def not_there(request: HttpRequest, error: Study.DoesNotExist) -> HttpResponse:
    return api.create_response(request, {"detail": str(error)}, status=404)


@api.exception_handler(AuthenticationError)
def unknown(request: HttpRequest, error: AuthenticationError) -> HttpResponse:
    return api.create_response(request, {"detail": NO_TOKEN}, status=401)


@api.exception_handler(ValidationError)
def not_understood(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """The first part that is wrong, by name."""
    first = error.errors[0]
    place = ".".join(str(part) for part in first.get("loc", ()) if part not in ("query", "path", "body", "form"))
    said = str(first.get("msg", "is not understood")).rstrip(".")
    return api.create_response(request, {"detail": f"'{place or 'the request'}': {said}."}, status=422)


def no_such_address(request: HttpRequest, rest: str) -> JsonResponse:
    """For whatever lies under /api/ and is nothing."""
    return JsonResponse({"detail": f"There is nothing at /api/{rest[:100]}; see /api/docs."}, status=404)


def token_with(request: HttpRequest, scope: str) -> ApiToken:
    token: ApiToken = request.auth  # type: ignore[attr-defined]
    if scope not in token.scopes:
        raise HttpError(403, _("This token lacks the scope '%(scope)s'.") % {"scope": scope})
    return token


def study_for_token(request: HttpRequest, slug: str, scope: str) -> Study:
    return study_with_results(token_with(request, scope).user, slug)


def study_to_change(request: HttpRequest, slug: str, scope: str) -> Study:
    """As the pages have it: a researcher reads every study and changes those that are theirs."""
    token = token_with(request, scope)
    study = study_with_results(token.user, slug)
    if not may_edit(study, token.user):
        raise HttpError(403, EDITORS_ONLY)
    return study


def require_researcher(user: User) -> None:
    if not user.is_researcher:
        raise HttpError(403, _("This is for researchers of the site; ask an administrator for the role."))


def refusing(act: Callable[[], T], *errors: type[Exception], status: int = 409) -> T:
    """Do it; the domain's own refusals become an answer."""
    try:
        return act()
    except errors as error:
        raise HttpError(status, str(error)) from error


class PageQuery(Schema):
    after: int = Field(0, ge=0)
    limit: int = Field(100, ge=1, le=1000)
