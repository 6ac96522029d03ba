"""The browser of features: a dictionary's features as a list, and one feature as a page of pictures."""

from __future__ import annotations

import math
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.views.decorators.http import require_safe

from annotation.domain.exemplar_rows import FeatureExemplars, exemplars_of, images_by_index
from annotation.domain.feature_list import counted, filtered_features
from annotation.domain.keyset import CursorError, Page, keyset_page, neighbors
from annotation.domain.labels import first_labels, labels_of, studies_of
from annotation.domain.pixels import framing_of
from annotation.domain.visibility import visible_dictionaries, visible_features, visible_image_sets
from annotation.models import Feature
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.charts import bars, histogram_chart
from annotation.views.feature_cards import TileSheet, feature_cards, grid_of
from annotation.views.feature_filters import FeatureFilterForm, filter_query
from workers.artifacts import ArtifactError

TILES_PER_FEATURE = 4
FEATURES_PER_PAGE = 24
N_SILENT = 8  # of the contrast images kept


@require_safe
@researcher_required
def features(request: HttpRequest, pk: int) -> HttpResponse:
    dictionaries = visible_dictionaries(signed_in_user(request)).select_related("vision_model", "image_set")
    dictionary = get_object_or_404(dictionaries, pk=pk)
    form = FeatureFilterForm(request.GET, dictionary)
    wanted = form.wanted()
    rows = filtered_features(dictionary, wanted)
    exemplar_set = dictionary.exemplar_sets.order_by("-id").first()
    if exemplar_set is not None:
        get_object_or_404(visible_image_sets(signed_in_user(request)), pk=exemplar_set.image_set_id)
    try:
        page = keyset_page(
            rows.select_related("exemplar_set"),
            wanted.order,
            after=request.GET.get("after", ""),
            before=request.GET.get("before", ""),
            size=FEATURES_PER_PAGE,
        )
        problem = ""
    except CursorError as error:
        page, problem = Page([], "", ""), str(error)
    sheet, labels = TileSheet(), first_labels(page.rows)
    grid = grid_of(dictionary)
    cards, missing = feature_cards(page.rows, sheet=sheet, grid=grid, n_tiles=TILES_PER_FEATURE, labels=labels)
    context = {
        "dictionary": dictionary, "form": form, "page": page, "cards": cards, "problem": problem or missing,
        "count": counted(rows), "query": filter_query(request.GET), "framing": framing_of(dictionary.vision_model),
        "heat": sheet.data, "exemplar_set": exemplar_set,
    }  # fmt: skip
    return render(request, "annotation/features/features.html", context)


@require_safe
@researcher_required
def feature(request: HttpRequest, pk: int) -> HttpResponse:
    related = ("exemplar_set__image_set", "dictionary__vision_model", "dictionary__control_of")
    shown = get_object_or_404(visible_features(signed_in_user(request)).select_related(*related), pk=pk)
    form = FeatureFilterForm(request.GET, shown.dictionary)
    wanted = form.wanted()
    previous, following = neighbors(filtered_features(shown.dictionary, wanted), wanted.order, shown)
    context = {
        "feature": shown, "dictionary": shown.dictionary, "vision_model": shown.dictionary.vision_model,
        "image_set": shown.exemplar_set.image_set, "query": filter_query(request.GET), "previous": previous,
        "following": following, "labels": labels_of(shown), "studies": studies_of(shown),
        "framing": framing_of(shown.dictionary.vision_model), "other_pole": other_pole_of(shown),
    }  # fmt: skip
    try:
        context |= exemplar_context(shown, exemplars_of(shown))
    except ArtifactError as error:
        context["problem"] = str(error)
    return render(request, "annotation/features/feature.html", context)


def other_pole_of(feature: Feature) -> Feature | None:
    """The feature of the same latent with the other sign, where it has both."""
    poles = Feature.objects.filter(
        exemplar_set=feature.exemplar_set_id, hookpoint=feature.hookpoint, latent=feature.latent
    )
    return poles.exclude(pk=feature.pk).first()


def exemplar_context(feature: Feature, exemplars: FeatureExemplars) -> dict[str, Any]:
    """Everything on the page that comes from the exemplars artefact."""
    listed = [*exemplars.top, *(one for band in exemplars.ranges for one in band.exemplars)]
    silent = list(zip(exemplars.contrast.image_indices, exemplars.contrast.values, strict=True))[:N_SILENT]
    indices = [one.image_index for one in listed] + [index for index, _ in silent]
    images, sheet = images_by_index(feature.exemplar_set.image_set_id, indices), TileSheet()
    top = sheet.tiles(exemplars.top, images, exemplars.grid)
    ranges = [(band, sheet.tiles(band.exemplars, images, exemplars.grid)) for band in exemplars.ranges]
    contrast = [(images[index], value) for index, value in silent if index in images]
    return {
        "exemplars": exemplars, "top": top, "patches": [tile for tile in top if tile.patch >= 0], "ranges": ranges,
        "contrast": contrast, "histogram": histogram_chart(exemplars.histogram),
        "promoted": bars([(one.name, one.value) for one in exemplars.promoted]),
        "heat": sheet.data, "deviation": math.sqrt(max(exemplars.variance, 0.0)),
        "contrast_share": (exemplars.contrast.reached or 0.0) / feature.maximum if feature.maximum else 0.0,
    }  # fmt: skip


urlpatterns = [
    path("dictionaries/<int:pk>/features/", features, name="features"),
    path("features/<int:pk>/", feature, name="feature"),
]
