"""Who may do what in the admin: researchers look and start, administrators also mend; facts are never edited."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin, messages
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest

from annotation.domain.runs import RunError
from annotation.domain.studies import StudyError
from annotation.models import User
from workers.artifacts import ArtifactError

REFUSALS = (RunError, StudyError, ArtifactError, ValueError)

if TYPE_CHECKING:
    ModelAdmin = admin.ModelAdmin[Any]
    TabularInline = admin.TabularInline[Any, Any]
else:
    ModelAdmin = admin.ModelAdmin
    TabularInline = admin.TabularInline


def user_of(request: HttpRequest) -> User:
    return cast(User, request.user)


class ResearcherAdmin(ModelAdmin):
    """Staff who are researchers look and change; administrators also delete what nothing points at."""

    show_full_result_count = False
    list_per_page = 50

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated and user_of(request).is_researcher

    def has_view_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.has_module_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.has_module_permission(request)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return request.user.is_authenticated and user_of(request).is_administrator

    def each(self, request: HttpRequest, rows: Iterable[Any], act: Any, done: str) -> None:
        """Act on each row; the domain's own refusals become messages."""
        n_done = 0
        for row in rows:
            try:
                act(row)
            except REFUSALS as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                n_done += 1
        if n_done:
            self.message_user(request, f"{n_done} {done}.", messages.SUCCESS)


class RecordAdmin(ResearcherAdmin):
    """What the system wrote is looked at, not edited."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class FactAdmin(RecordAdmin):
    """Append-only facts: what people answered is never deleted here."""

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False


class AdministratorAdmin(ResearcherAdmin):
    """For administrators only."""

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_authenticated and user_of(request).is_administrator


Rows = QuerySet[Any]
