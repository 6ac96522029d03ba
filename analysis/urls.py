"""Pages of the analysis app."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("analysis.views.report")),
    path("", include("analysis.views.planning")),
]
