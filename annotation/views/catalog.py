"""Image sets, their images and pixels; dictionaries and their quality."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotModified
from django.shortcuts import get_object_or_404, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from annotation.domain.catalog import (
    ImageFilter,
    facets,
    filtered_images,
    missing_files,
    mosaics,
    newest_exemplar_set,
    quality_by_hookpoint,
)
from annotation.domain.keyset import CursorError, Order, Page, keyset_page
from annotation.domain.pixels import FramingError, mask_file, picture_file
from annotation.domain.storage import ImageMissingError
from annotation.domain.visibility import visible_dictionaries, visible_image_sets, visible_images
from annotation.models import Dictionary, Image, ImageSet
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.charts import BlockChart, block_chart
from annotation.views.comparison import quality_context

IMAGES_PER_PAGE = 60
IMMUTABLE = "max-age=31536000, immutable"
PLACEHOLDER = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 120 120"><rect width="120" height="120" fill="#8883"/>'
    '<path d="M40 44h40v32H40z M40 70l12-12 10 8 8-6 10 8" fill="none" stroke="#888" stroke-width="3"/>'
    '<text x="60" y="98" text-anchor="middle" font-family="sans-serif" font-size="11" fill="#888">file missing</text>'
    "</svg>"
)


@require_safe
def image_sets(request: HttpRequest) -> HttpResponse:
    rows = list(visible_image_sets(request.user))
    pictures = mosaics(rows)
    cards = [(row, pictures[row.pk]) for row in rows]
    return render(request, "annotation/catalog/image_sets.html", {"cards": cards})


@require_safe
def image_set(request: HttpRequest, name: str) -> HttpResponse:
    shown = get_object_or_404(visible_image_sets(request.user), name=name)
    query = request.GET
    wanted = ImageFilter(query.get("label", ""), query.get("attribute", ""), query.get("value", ""))
    try:
        page = keyset_page(
            filtered_images(shown, wanted),
            Order("index"),
            after=query.get("after", ""),
            before=query.get("before", ""),
            size=IMAGES_PER_PAGE,
        )
        problem = missing_files(shown)
    except CursorError as error:
        page, problem = Page([], "", ""), str(error)
    context = {
        "image_set": shown, "page": page, "wanted": wanted, "facets": facets(shown), "problem": problem,
        "kept": urlencode({key: value for key, value in wanted._asdict().items() if value}),
    }  # fmt: skip
    return render(request, "annotation/catalog/image_set.html", context)


@require_safe
def image(request: HttpRequest, name: str, index: int) -> HttpResponse:
    rows = visible_images(request.user).select_related("image_set")
    shown = get_object_or_404(rows, image_set__name=name, index=index)
    problem = ""
    try:
        picture_file(image=shown, framing="whole", size=1280)
    except ImageMissingError as error:
        problem = str(error)
    neighbors = shown.image_set.images.filter(index__in=(index - 1, index + 1)).in_bulk(field_name="id").values()
    context = {
        "image": shown, "image_set": shown.image_set, "problem": problem,
        "previous": next((one for one in neighbors if one.index < index), None),
        "following": next((one for one in neighbors if one.index > index), None),
    }  # fmt: skip
    return render(request, "annotation/catalog/image.html", context)


@require_safe
def pixels(request: HttpRequest, sha256: str, framing: str, size: int) -> HttpResponse:
    """The picture with this content hash, to everybody who may see one image set that holds it."""
    found = image_with_hash(request, sha256)
    etag = f'"{sha256[:32]}-{framing}-{size}"'
    if request.headers.get("If-None-Match") == etag:
        return HttpResponseNotModified(headers={"ETag": etag})
    try:
        file = picture_file(image=found, framing=framing, size=size)
    except FramingError as error:
        raise Http404(str(error)) from error
    except ImageMissingError:
        return missing_tile()
    return picture_response(file, etag, found.image_set)


@require_safe
def mask(request: HttpRequest, sha256: str, framing: str, size: int) -> HttpResponse:
    """The mask of the picture; not immutable, for the hash is the picture's."""
    found = image_with_hash(request, sha256, has_mask=True)
    try:
        file = mask_file(image=found, framing=framing, size=size)
    except FramingError as error:
        raise Http404(str(error)) from error
    except ImageMissingError:
        return missing_tile()
    return HttpResponse(file.read_bytes(), content_type="image/webp", headers={"Cache-Control": "private, max-age=60"})


def image_with_hash(request: HttpRequest, sha256: str, *, has_mask: bool = False) -> Image:
    rows = visible_images(request.user).filter(sha256=sha256).select_related("image_set")
    found = (rows.exclude(mask_path="") if has_mask else rows).order_by("id").first()
    if found is None:
        raise Http404(_("There is no such image, or you may not see it."))
    return found


def picture_response(file: Path, etag: str, image_set: ImageSet) -> HttpResponse:
    scope = "public" if image_set.visibility == ImageSet.Visibility.PUBLIC else "private"
    headers = {"ETag": etag, "Cache-Control": f"{scope}, {IMMUTABLE}"}
    return HttpResponse(file.read_bytes(), content_type="image/webp", headers=headers)


def missing_tile() -> HttpResponse:
    """A grey tile that says so, never cached: the file may come back."""
    headers = {"Cache-Control": "no-store"}
    return HttpResponse(PLACEHOLDER, status=404, content_type="image/svg+xml", headers=headers)


class DictionaryRow(NamedTuple):
    """A dictionary of the list with its quality by block as small charts."""

    dictionary: Dictionary
    explained: BlockChart
    dead: BlockChart
    l0: list[float]


def dictionary_row(shown: Dictionary) -> DictionaryRow:
    quality = quality_by_hookpoint(shown)
    return DictionaryRow(
        dictionary=shown,
        explained=block_chart(_("Explained variance"), [(one.hookpoint, one.explained) for one in quality]),
        dead=block_chart(_("Dead share"), [(one.hookpoint, one.dead_share) for one in quality]),
        l0=sorted({one.l0 for one in quality if one.l0 is not None}),
    )


@require_safe
@researcher_required
def dictionaries(request: HttpRequest) -> HttpResponse:
    rows = visible_dictionaries(signed_in_user(request)).select_related("vision_model", "image_set", "control_of")
    by_family = sorted(rows, key=lambda row: (row.control_of.name if row.control_of else row.name, row.is_control))
    shown = [dictionary_row(row) for row in by_family]  # a control stands below what it controls
    return render(request, "annotation/catalog/dictionaries.html", {"rows": shown})


@require_safe
@researcher_required
def dictionary(request: HttpRequest, pk: int) -> HttpResponse:
    rows = visible_dictionaries(signed_in_user(request))
    shown = get_object_or_404(rows.select_related("vision_model", "image_set", "control_of", "run"), pk=pk)
    exemplar_set = newest_exemplar_set(shown)
    context = {
        "dictionary": shown, "exemplar_set": exemplar_set, "controls": list(shown.controls.all()),
        "quality": quality_by_hookpoint(shown),
        "n_features": sum(one["n_features"] for one in exemplar_set.counts.values()) if exemplar_set else 0,
        "settings": {name: value for name, value in shown.config.items() if isinstance(value, int | float | str)},
        **quality_context(shown, signed_in_user(request)),
    }  # fmt: skip
    return render(request, "annotation/catalog/dictionary.html", context)


urlpatterns = [
    path("images/", image_sets, name="image-sets"),
    path("images/<str:name>/", image_set, name="image-set"),
    path("images/<str:name>/<int:index>/", image, name="image"),
    path("pixels/<str:sha256>/<str:framing>/<int:size>.webp", pixels, name="image-pixels"),
    path("masks/<str:sha256>/<str:framing>/<int:size>.webp", mask, name="image-mask"),
    path("dictionaries/", dictionaries, name="dictionaries"),
    path("dictionaries/<int:pk>/", dictionary, name="dictionary"),
]
