"""The annotation app."""

from __future__ import annotations

from django.apps import AppConfig
from django.conf import settings


class AnnotationConfig(AppConfig):
    name = "annotation"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Translations that were edited are compiled before the first page asks for them."""
        from config.translations import compile_catalogs

        compile_catalogs(settings.LOCALE_SOURCES, settings.LOCALE_PATHS[0])
