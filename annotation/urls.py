"""Pages and endpoints, a list per noun; each list lives beside its views."""

from __future__ import annotations

from django.urls import include, path

urlpatterns = [
    path("", include("annotation.views.work")),  # first: the player asks most
    path("", include("annotation.views.account")),
    path("", include("annotation.views.catalog")),
    path("", include("annotation.views.comparison")),
    path("", include("annotation.views.features")),
    path("", include("annotation.views.runs")),
    path("", include("annotation.views.studies")),
    path("", include("annotation.views.crowd")),
    path("", include("annotation.views.joining")),
    path("", include("annotation.views.exports")),
    path("", include("annotation.views.exchange")),
    path("", include("annotation.views.webhooks")),
    path("", include("annotation.views.vocabulary")),
    path("", include("annotation.views.review")),
]
