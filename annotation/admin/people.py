"""People and their tokens, for administrators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db import models
from django.http import HttpRequest

from annotation.admin.base import AdministratorAdmin
from annotation.models import ApiToken, User

if TYPE_CHECKING:
    AccountAdmin = DjangoUserAdmin[User]
else:
    AccountAdmin = DjangoUserAdmin


@admin.register(User)
class UserAdmin(AdministratorAdmin, AccountAdmin):
    list_display = ("username", "role", "is_simulated", "is_active", "is_staff", "last_login")
    list_filter = ("role", "is_active", "is_simulated")
    fieldsets = (
        (None, {"fields": ("username", "password", "role", "annotator_code", "is_simulated")}),
        ("Personal", {"fields": ("first_name", "last_name", "email")}),
        ("Access", {"fields": ("is_active", "is_staff", "is_superuser")}),
        ("Dates", {"fields": ("last_login", "date_joined")}),
    )
    add_fieldsets = ((None, {"fields": ("username", "password1", "password2", "role")}),)
    readonly_fields = ("annotator_code", "last_login", "date_joined")

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False  # answers point at people: make them inactive instead


@admin.register(ApiToken)
class ApiTokenAdmin(AdministratorAdmin):
    list_display = ("name", "prefix", "user", "created_at", "last_used_at", "revoked_at")
    list_select_related = ("user",)
    readonly_fields = ("user", "name", "prefix", "scopes", "created_at", "last_used_at")
    exclude = ("hashed",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False  # the secret is shown once, on the page of tokens
