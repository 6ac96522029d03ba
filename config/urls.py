"""Every address of the site; the pages of each noun are listed in its views module."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path

from analysis.api import api
from annotation.api.base import no_such_address

urlpatterns = [
    path("admin/", admin.site.urls),
    path("api/", api.urls),
    path("api/<path:rest>", no_such_address),
    path("language/", include("django.conf.urls.i18n")),
    path("", include("annotation.urls")),
    path("", include("analysis.urls")),
]
