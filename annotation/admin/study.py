"""Studies: drafted, launched, paused and closed here as on their own pages; items stay blind until unblinding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db import models
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from annotation.admin.base import FactAdmin, RecordAdmin, ResearcherAdmin, Rows, user_of
from annotation.domain.launching import launch_study
from annotation.domain.studies import StudyError, close_study, create_study, pause_study, resume_study
from annotation.domain.study_editing import change_study
from annotation.domain.unblinding import unblinding_of
from annotation.models import (
    Category,
    Guideline,
    ImageReport,
    Item,
    Participation,
    ReferenceItem,
    Slot,
    Study,
    StudyEvent,
    Term,
)
from annotation.views.study_access import EDITORS_ONLY, may_edit
from config.wakeup import wake_workers

DRAFTED = (
    "name", "description", "is_simulated", "seed", "sampler", "exclusions", "overlap", "core_overlap", "core_share",
    "control_share", "control_kinds", "catch_share", "gold_share", "session_length", "consent_text",
)  # fmt: skip
WRITTEN = (
    "slug", "state", "protocol", "protocol_version", "consent_version", "locked_hash", "launch_run", "created_by",
    "created_at", "launched_at", "closed_at", "n_items", "n_slots", "n_slots_done",
)  # fmt: skip
BLIND_ITEM = ("id", "study", "is_core", "stimulus_id")  # every other column of an item tells what it is


@admin.register(Study)
class StudyAdmin(ResearcherAdmin):
    list_display = ("name", "state", "n_items", "n_slots_done", "n_slots", "created_at")
    list_filter = ("state", "is_simulated")
    fields = (*DRAFTED, *WRITTEN)
    readonly_fields = WRITTEN
    actions = ("launch", "pause", "resume", "close")

    def has_change_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        if isinstance(obj, Study) and not (obj.state == Study.State.DRAFT and may_edit(obj, user_of(request))):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        """A draft is deleted on its own pages, which say what goes with it; what was launched stays."""
        return False

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if isinstance(db_field, models.JSONField) and field is not None:
            field.required = False  # an empty object is a value
        return field

    def steer(self, request: HttpRequest, studies: Rows, act: Callable[[Study], object], done: str) -> None:
        """Act on the studies this person may change; the others are named and stay as they are."""
        user = user_of(request)

        def act_or_refuse(study: Study) -> None:
            if not may_edit(study, user):
                raise StudyError(f"{study.name}: {EDITORS_ONLY}")
            act(study)

        self.each(request, studies, act_or_refuse, done)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        empty: dict[str, Any] = {"sampler": {}, "exclusions": {}, "control_kinds": []}
        values = {name: form.cleaned_data[name] or empty.get(name, form.cleaned_data[name]) for name in DRAFTED}
        if change:
            change_study(study=Study.objects.get(pk=obj.pk), user=user_of(request), values=values)
            return
        made = create_study(user=user_of(request), **values)
        obj.pk = made.pk
        obj.refresh_from_db()

    @admin.action(description=_("Launch: freeze the stimuli as a run"))
    def launch(self, request: HttpRequest, queryset: Rows) -> None:
        def act(study: Study) -> None:
            wake_workers(launch_study(study=study, user=user_of(request)).queue)

        self.steer(request, queryset, act, "launched")

    @admin.action(description=_("Pause: nobody gets further items"))
    def pause(self, request: HttpRequest, queryset: Rows) -> None:
        self.steer(request, queryset, lambda study: pause_study(study=study, user=user_of(request)), "paused")

    @admin.action(description=_("Resume"))
    def resume(self, request: HttpRequest, queryset: Rows) -> None:
        self.steer(request, queryset, lambda study: resume_study(study=study, user=user_of(request)), "resumed")

    @admin.action(description=_("Close for good"))
    def close(self, request: HttpRequest, queryset: Rows) -> None:
        self.steer(request, queryset, lambda study: close_study(study=study, user=user_of(request)), "closed")


@admin.register(Item)
class ItemAdmin(FactAdmin):
    list_display = ("pk", "study", "is_core", "stimulus_id")
    list_select_related = ("study",)
    list_filter = ("study",)

    def get_fields(self, request: HttpRequest, obj: models.Model | None = None) -> Any:
        """What tells a control from a feature is shown only once the study is unblinded."""
        is_unblinded = isinstance(obj, Item) and unblinding_of(obj.study) is not None
        return [field.name for field in Item._meta.fields] if is_unblinded else BLIND_ITEM

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """An address that filters by what an item is would tell it as well as a column."""
        is_told = lookup.split("__")[0] in {*BLIND_ITEM, "study_id", "pk"}
        return is_told and super().lookup_allowed(lookup, value, request)


@admin.register(Guideline)
class GuidelineAdmin(RecordAdmin):
    list_display = ("study", "version", "created_by", "created_at")
    list_select_related = ("study", "created_by")


@admin.register(Category)
class CategoryAdmin(RecordAdmin):
    list_display = ("name", "key", "study", "position")
    list_select_related = ("study",)


@admin.register(Term)
class TermAdmin(RecordAdmin):
    list_display = ("text", "study", "n_uses")
    list_select_related = ("study",)


@admin.register(ReferenceItem)
class ReferenceItemAdmin(RecordAdmin):
    list_display = ("study", "kind", "position", "feature")
    list_select_related = ("study", "feature")


@admin.register(Participation)
class ParticipationAdmin(RecordAdmin):
    list_display = ("user", "study", "role", "n_done", "n_skipped", "joined_at")
    list_select_related = ("user", "study")
    list_filter = ("study", "role")


@admin.register(Slot)
class SlotAdmin(FactAdmin):
    list_display = ("pk", "study", "state", "annotator", "lease_until")
    list_select_related = ("study", "annotator")
    list_filter = ("study", "state")
    ordering = ("-id",)
    exclude = ("lane", "random_key")  # the lane of a check would tell it from other items

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        return not lookup.startswith("lane") and super().lookup_allowed(lookup, value, request)


@admin.register(StudyEvent)
class StudyEventAdmin(FactAdmin):
    list_display = ("at", "study", "kind", "user")
    list_select_related = ("study", "user")


@admin.register(ImageReport)
class ImageReportAdmin(ResearcherAdmin):
    list_display = ("image", "study", "reporter", "reason", "at", "resolved_at")
    list_select_related = ("image", "study", "reporter")
    readonly_fields = ("uuid", "image", "study", "reporter", "reason", "at")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False
