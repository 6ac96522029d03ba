"""What people answered, said and exported: facts to look at. Conditions stay hidden here as everywhere."""

from __future__ import annotations

from typing import Any

from django.contrib import admin

from annotation.admin.base import FactAdmin, RecordAdmin
from annotation.models import Annotation, ExportFile, PracticeAnswer, Remark


@admin.register(Annotation)
class AnnotationAdmin(FactAdmin):
    list_display = ("uuid", "study", "annotator", "patch_rating", "image_rating", "category", "label", "received_at")
    list_select_related = ("study", "annotator")
    list_filter = ("study", "is_simulated", "is_current")
    ordering = ("-id",)
    exclude = ("is_gold_right",)  # it would tell gold items from the others

    def lookup_allowed(self, lookup: str, value: str, request: Any = None) -> bool:
        """Nor may an address filter by it."""
        return not lookup.startswith("is_gold_right") and super().lookup_allowed(lookup, value, request)


@admin.register(PracticeAnswer)
class PracticeAnswerAdmin(FactAdmin):
    list_display = ("reference", "annotator", "is_right", "at")
    list_select_related = ("reference", "annotator")


@admin.register(Remark)
class RemarkAdmin(FactAdmin):
    list_display = ("kind", "item", "author", "text", "at")
    list_select_related = ("item", "author")
    list_filter = ("kind",)


@admin.register(ExportFile)
class ExportFileAdmin(RecordAdmin):
    list_display = ("study", "file_format", "state")
    list_select_related = ("study",)
