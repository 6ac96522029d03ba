"""The categories of a study: a tree of two levels that its researchers arrange, with the keys that choose them."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from annotation.domain.categories import (
    Branch,
    add_category,
    category_tree,
    key_pool,
    move_category,
    place_category,
    remove_category,
    rename_category,
    set_key,
    taken_keys,
)
from annotation.domain.player_keys import reserved_keys
from annotation.domain.protocols import protocol_of
from annotation.domain.studies import StudyError
from annotation.models import Category, Study, User
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, study_editor, study_reader


@require_GET
@study_reader
def study_categories(request: HttpRequest, study: Study) -> HttpResponseBase:
    tree, protocol = category_tree(study), protocol_of(study)
    used = {row.key for branch in tree for row in (branch.category, *branch.children)}
    pool = key_pool(protocol)
    context = {
        "study": study,
        "tab": "categories",
        "branches": [(branch, rows_with_keys(branch, tree, pool)) for branch in tree],
        "caps": [(key, "is-used" if key in used else "") for key in pool],
        "taken": sorted(key for key in reserved_keys(protocol) if key.isalpha()),
        "is_editor": may_edit(study, signed_in_user(request)) and study.state == Study.State.DRAFT,
    }
    return render(request, "annotation/studies/categories.html", context)


def rows_with_keys(branch: Branch, tree: list[Branch], pool: tuple[str, ...]) -> list[tuple[Category, list[str]]]:
    """The category and those inside it, each with the letters it could have."""
    rows = [row for one in tree for row in (one.category, *one.children)]
    return [
        (row, [key for key in pool if key not in taken_keys(rows, row.parent_id, besides=row.pk)])
        for row in (branch.category, *branch.children)
    ]


@require_POST
@study_editor
def category_change(request: HttpRequest, study: Study) -> HttpResponseBase:
    try:
        change(request, study, signed_in_user(request))
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study-categories", slug=study.slug)


def change(request: HttpRequest, study: Study, user: User) -> None:
    given = request.POST
    act, parent = given.get("act", ""), category_of(study, given.get("parent", ""))
    if act == "add":
        add_category(study=study, user=user, name=given.get("name", ""), parent=parent)
        return
    category = category_of(study, given.get("category", ""))
    if category is None:
        raise StudyError(_("This category is gone; it was changed meanwhile."))
    match act:
        case "rename":
            rename_category(category=category, user=user, name=given.get("name", ""))
        case "key":
            set_key(category=category, user=user, key=given.get("key", ""))
        case "remove":
            remove_category(category=category, user=user)
        case "up" | "down":
            move_category(category=category, user=user, by=-1 if act == "up" else 1)
        case "place":
            before = category_of(study, given.get("before", ""))
            place_category(category=category, user=user, parent=parent, before=before)
        case _:
            raise StudyError(_("Nothing was changed."))


def category_of(study: Study, pk: str) -> Category | None:
    return Category.objects.filter(study=study, pk=int(pk)).select_related("study").first() if pk.isdecimal() else None


urlpatterns = [
    path("studies/<slug:slug>/categories/", study_categories, name="study-categories"),
    path("studies/<slug:slug>/categories/change/", category_change, name="category-change"),
]
