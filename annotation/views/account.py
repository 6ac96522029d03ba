"""The front page, signing in and out."""

from __future__ import annotations

from typing import NamedTuple

from django.contrib.auth import views as auth_views
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_safe

from annotation.domain.catalog import mosaics
from annotation.domain.labels import first_labels
from annotation.domain.overview import features_to_show, overview
from annotation.domain.pixels import framing_of
from annotation.domain.visibility import visible_image_sets
from annotation.models import Dictionary, User
from annotation.views.access import signed_in_user
from annotation.views.feature_cards import FeatureCard, TileSheet, feature_cards, grid_of


class Glance(NamedTuple):
    """A dictionary on the front page: a few of its features, one picture each."""

    dictionary: Dictionary
    cards: list[FeatureCard]
    framing: str


@require_safe
def home(request: HttpRequest) -> HttpResponseBase:
    """Strangers: what this is. Annotators: their studies. Researchers: what happened last and what to do next."""
    if not request.user.is_authenticated:
        sets = list(visible_image_sets(request.user)[:1])
        return render(request, "annotation/welcome.html", {"pictures": mosaics(sets, 36)[sets[0].pk] if sets else []})
    user = signed_in_user(request)
    return researcher_home(request, user) if user.is_researcher else redirect("studies")


def researcher_home(request: HttpRequest, user: User) -> HttpResponse:
    shown = overview(user)
    visible = set(visible_image_sets(user).values_list("pk", flat=True))
    sheet = TileSheet()
    glances = [glance(dictionary, visible, sheet) for dictionary in shown.dictionaries]
    context = {"overview": shown, "glances": glances, "heat": sheet.data}
    return render(request, "annotation/home.html", context)


def glance(dictionary: Dictionary, visible_image_set_ids: set[int], sheet: TileSheet) -> Glance:
    rows = [row for row in features_to_show(dictionary) if row.exemplar_set.image_set_id in visible_image_set_ids]
    cards, _ = feature_cards(rows, sheet=sheet, grid=grid_of(dictionary), n_tiles=1, labels=first_labels(rows))
    return Glance(dictionary, cards, framing_of(dictionary.vision_model))


urlpatterns = [
    path("", home, name="home"),
    path(
        "login/",
        auth_views.LoginView.as_view(template_name="annotation/login.html", redirect_authenticated_user=True),
        name="login",
    ),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
]
