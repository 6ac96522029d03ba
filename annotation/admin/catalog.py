"""Image sets, models, dictionaries and features. Names and rights can be changed, what was computed cannot."""

from __future__ import annotations

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from annotation.admin.base import RecordAdmin, ResearcherAdmin, TabularInline, user_of
from annotation.domain.visibility import visible_dictionaries, visible_features, visible_image_sets, visible_images
from annotation.models import Dictionary, ExemplarSet, Feature, Image, ImageRoot, ImageSet, Readout, VisionModel


class ImageRootInline(TabularInline):
    """Where hosts find the files; prefer relink_images, which compares hashes."""

    model = ImageRoot
    extra = 0

    def has_view_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return user_of(request).is_researcher

    has_change_permission = has_view_permission

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return user_of(request).is_researcher

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return user_of(request).is_administrator


class ComputedAdmin(ResearcherAdmin):
    """Made by commands and runs, never by hand."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False


@admin.register(ImageSet)
class ImageSetAdmin(ComputedAdmin):
    list_display = ("name", "n_images", "licence", "visibility", "created_at")
    list_filter = ("visibility",)
    fields = (
        "name", "description", "licence", "allows_redistribution", "visibility", "team",
        "n_images", "classes", "attribute_names", "digest", "created_by", "created_at",
    )  # fmt: skip
    readonly_fields = ("n_images", "classes", "attribute_names", "digest", "created_by", "created_at")
    filter_horizontal = ("team",)
    inlines = (ImageRootInline,)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ImageSet]:
        return visible_image_sets(user_of(request))


@admin.register(Image)
class ImageAdmin(RecordAdmin):
    list_display = ("path", "image_set", "index", "label", "width", "height")
    list_select_related = ("image_set",)
    list_filter = ("image_set",)
    search_fields = ("=sha256", "path")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Image]:
        return visible_images(user_of(request))


@admin.register(VisionModel)
class VisionModelAdmin(ComputedAdmin):
    list_display = ("name", "architecture", "source", "n_blocks", "d_model", "created_at")
    fields = (
        "name", "architecture", "source", "n_blocks", "d_model", "n_prefix_tokens", "grid_height", "grid_width",
        "preprocessing", "classes", "digest", "run", "created_at",
    )  # fmt: skip
    readonly_fields = fields[1:]


@admin.register(Readout)
class ReadoutAdmin(ComputedAdmin):
    list_display = ("name", "vision_model", "created_at")
    list_select_related = ("vision_model",)
    readonly_fields = ("vision_model", "classes", "digest", "created_at")


@admin.register(Dictionary)
class DictionaryAdmin(ComputedAdmin):
    list_display = ("name", "kind", "vision_model", "image_set", "created_at")
    list_select_related = ("vision_model", "image_set")
    list_filter = ("kind",)
    fields = (
        "name", "kind", "vision_model", "image_set", "control_of", "hookpoints", "config", "quality", "digest",
        "quality_digest", "run", "created_at",
    )  # fmt: skip
    readonly_fields = fields[1:]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Dictionary]:
        return visible_dictionaries(user_of(request))


@admin.register(ExemplarSet)
class ExemplarSetAdmin(RecordAdmin):
    list_display = ("digest", "dictionary", "image_set", "created_at")
    list_select_related = ("dictionary", "image_set")


@admin.register(Feature)
class FeatureAdmin(RecordAdmin):
    list_display = ("__str__", "dictionary", "density", "maximum", "prefix_share", "promoted_class")
    list_select_related = ("dictionary",)
    list_filter = ("dictionary",)
    ordering = ("-id",)
    sortable_by = ()  # 150,000 rows: the feature pages sort by index

    def get_queryset(self, request: HttpRequest) -> QuerySet[Feature]:
        return visible_features(user_of(request))
