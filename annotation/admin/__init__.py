"""The Django admin, a module per noun. Its actions call domain functions and wake workers; they hold no logic."""

from django.contrib import admin

from annotation.admin import annotation, catalog, people, run, study

__all__ = ["annotation", "catalog", "people", "run", "study"]

admin.site.site_header = "Vitrine: administration"
admin.site.site_title = "Vitrine"
admin.site.index_title = "Everything there is a row for"
