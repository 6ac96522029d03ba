"""The categories of a study, in two levels, and their keys, drawn from letters that the player leaves free.

A letter is free for a protocol when no binding of its player is that letter, nor lies where one of the three usual
keyboards (QWERTY, QWERTZ, AZERTY) prints it: `annotation.domain.player_keys.reserved_keys`. Children take any free
letter that no category of the first level has; they may share letters with the children of another parent, because
only those of the parent just chosen are offered.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext, gettext_noop

from annotation.domain.player_keys import reserved_keys
from annotation.domain.protocols import Protocol, protocol_of
from annotation.domain.studies import StudyError, log_event
from annotation.models import Category, Study, User

NAME_LENGTH = 60
LOCKED = gettext_noop("This study was launched, and what annotators see is locked; make a new study instead.")


class Branch(NamedTuple):
    """A category of the first level and those under it."""

    category: Category
    children: list[Category]


def key_pool(protocol: Protocol) -> tuple[str, ...]:
    """The letters that categories may have with this protocol, in the order of the alphabet."""
    taken = reserved_keys(protocol)
    return tuple(letter for letter in string.ascii_lowercase if letter not in taken)


def category_tree(study: Study) -> list[Branch]:
    rows = list(Category.objects.filter(study=study).order_by("position", "id"))
    return [
        Branch(row, [child for child in rows if child.parent_id == row.pk]) for row in rows if row.parent_id is None
    ]


def player_categories(study: Study) -> list[dict[str, Any]]:
    """What the player's category question gets: name and key, and the children that choosing it shows."""
    return [
        {
            "name": branch.category.name,
            "key": branch.category.key,
            "children": [{"name": child.name, "key": child.key} for child in branch.children],
        }
        for branch in category_tree(study)
    ]


def locked_rows(study: Study) -> list[list[str]]:
    """What a launch locks: each category with its key and the one it is inside, in order."""
    rows = Category.objects.filter(study=study).order_by("position", "id")
    return [[name, key, parent or ""] for name, key, parent in rows.values_list("name", "key", "parent__name")]


def free_key(name: str, pool: Iterable[str], taken: set[str]) -> str:
    """The first letter of the name that is free, else the first free of the pool; '' when none is left."""
    free = [key for key in pool if key not in taken]
    initials = [word[0] for word in name.lower().split()]
    return next((letter for letter in (*initials, *name.lower()) if letter in free), free[0] if free else "")


def taken_keys(rows: Sequence[Category], parent_id: int | None, besides: int | None = None) -> set[str]:
    """Keys that a category under this parent cannot have."""
    others = [row for row in rows if row.pk != besides and row.key]
    if parent_id is None:  # its children, present or future, would clash with it wherever they are
        return {row.key for row in others}
    return {row.key for row in others if row.parent_id in (None, parent_id)}


def check_name(name: str, rows: Sequence[Category], besides: int | None = None) -> str:
    words = " ".join(name.split())
    if not 1 <= len(words) <= NAME_LENGTH:
        raise StudyError(
            gettext("Give the category a name of 1 to %(name_length)s letters.") % {"name_length": NAME_LENGTH}
        )
    if any(row.name.casefold() == words.casefold() and row.pk != besides for row in rows):
        raise StudyError(gettext("There is a category '%(words)s' already.") % {"words": words})
    return words


def require_draft(study: Study) -> None:
    if study.state != Study.State.DRAFT:
        raise StudyError(gettext(LOCKED))


def add_category(*, study: Study, user: User | None, name: str, parent: Category | None = None) -> Category:
    """At the end of its level, with a key of its own."""
    with transaction.atomic():
        rows = rows_for_change(study)
        words = check_name(name, rows)
        if parent is not None and parent.parent_id is not None:
            raise StudyError(
                gettext("'%(name)s' is inside another category; there are two levels.") % {"name": parent.name}
            )
        parent_id = parent.pk if parent else None
        category = Category.objects.create(
            study=study, name=words, parent=parent, position=len(rows),
            key=free_key(words, key_pool(protocol_of(study)), taken_keys(rows, parent_id)),
        )  # fmt: skip
        log_event(study, user, "categories changed")
    return category


def rows_for_change(study: Study) -> list[Category]:
    """All categories of a draft, one change at a time; raises StudyError for a launched study."""
    require_draft(Study.objects.select_for_update().get(pk=study.pk))
    return list(Category.objects.filter(study=study).order_by("position", "id"))


def rename_category(*, category: Category, user: User | None, name: str) -> None:
    with transaction.atomic():
        rows = rows_for_change(category.study)
        words = check_name(name, rows, besides=category.pk)
        require_unused(category.study, [category.name] if words != category.name else [])
        category.name = words
        category.save(update_fields=["name"])
        log_event(category.study, user, "categories changed")


def require_unused(study: Study, names: Iterable[str]) -> None:
    """Practice and gold items name categories they accept: those cannot go away under them."""
    used = {name for item in study.reference_items.all() for name in item.accepted.get("category", [])}
    lost = sorted(used & set(names))
    if lost:
        raise StudyError(
            gettext("A practice or gold item accepts '%(lost)s'; change that item before the category.")
            % {"lost": lost[0]}
        )


def set_key(*, category: Category, user: User | None, key: str) -> None:
    """Another free letter of the pool, or none."""
    with transaction.atomic():
        rows = rows_for_change(category.study)
        if key and key not in key_pool(protocol_of(category.study)):
            raise StudyError(
                gettext("The key '%(key)s' is the player's own on some keyboard; choose one of the pool.")
                % {"key": key}
            )
        if key and key in taken_keys(rows, category.parent_id, besides=category.pk):
            raise StudyError(
                gettext("The key '%(key)s' is another category's; choose one that is free.") % {"key": key}
            )
        Category.objects.filter(pk=category.pk).update(key=key)
        log_event(category.study, user, "categories changed")


def remove_category(*, category: Category, user: User | None) -> None:
    """With the categories inside it."""
    with transaction.atomic():
        rows = rows_for_change(category.study)
        require_unused(category.study, [row.name for row in rows if category.pk in (row.pk, row.parent_id)])
        category.delete()
        log_event(category.study, user, "categories changed")


def place_category(*, category: Category, user: User | None, parent: Category | None, before: Category | None) -> None:
    """Move it under a parent (or to the first level), before one of its new siblings or to their end."""
    with transaction.atomic():
        rows = rows_for_change(category.study)
        parent_id = parent.pk if parent else None
        if parent is not None:
            check_parent(category, parent, rows)
        if before is not None and before.parent_id != parent_id:
            raise StudyError(gettext("A category is placed among those of its own level."))
        category.parent_id = parent_id
        taken = taken_keys(rows, parent_id, besides=category.pk)
        if category.key in taken:
            category.key = free_key(category.name, key_pool(protocol_of(category.study)), taken)
        category.save(update_fields=["parent", "key"])
        others = [row for row in rows if row.pk != category.pk]
        place = next((i for i, row in enumerate(others) if before is not None and row.pk == before.pk), len(others))
        others.insert(place, category)
        for position, row in enumerate(others):
            Category.objects.filter(pk=row.pk).exclude(position=position).update(position=position)
        log_event(category.study, user, "categories changed")


def check_parent(category: Category, parent: Category, rows: Sequence[Category]) -> None:
    if parent.pk == category.pk or parent.parent_id is not None:
        raise StudyError(
            gettext("'%(name)s' cannot go into '%(parent)s': there are two levels.")
            % {"name": category.name, "parent": parent.name}
        )
    if any(row.parent_id == category.pk for row in rows):
        raise StudyError(
            gettext("'%(name)s' has categories inside it; move those out first.") % {"name": category.name}
        )


def move_category(*, category: Category, user: User | None, by: int) -> None:
    """One place up (-1) or down (+1) among its siblings."""
    siblings = list(category.study.categories.filter(parent_id=category.parent_id).order_by("position", "id"))
    place = next(i for i, sibling in enumerate(siblings) if sibling.pk == category.pk)
    wanted = place - 1 if by < 0 else place + 2
    if place + by < 0 or place + by >= len(siblings):
        return
    before = siblings[wanted] if wanted < len(siblings) else None
    place_category(category=category, user=user, parent=category.parent, before=before)


def set_categories(*, study: Study, user: User | None, rows: Sequence[tuple[str, str]]) -> None:
    """Replace the categories by these (name, key) pairs of one level, as a study file gives them."""
    require_draft(study)
    check_categories(rows, protocol_of(study))
    kept = {name for name, _ in rows}
    require_unused(study, set(study.categories.values_list("name", flat=True)) - kept)
    with transaction.atomic():
        study.categories.all().delete()
        Category.objects.bulk_create(
            Category(study=study, name=name, key=key, position=position) for position, (name, key) in enumerate(rows)
        )
        log_event(study, user, "categories changed")


def check_categories(rows: Sequence[tuple[str, str]], protocol: Protocol) -> None:
    names, keys = [name.casefold() for name, _ in rows], [key for _, key in rows]
    for name, key in rows:
        if not (len(key) == 1 and key.isalpha() and key.isascii() and key.islower()):
            raise StudyError(
                gettext("The key of '%(name)s' is '%(key)s'; it must be one letter from a to z.")
                % {"name": name, "key": key}
            )
        if key in reserved_keys(protocol):
            raise StudyError(
                gettext("The key '%(key)s' of '%(name)s' is the player's own; choose another letter.")
                % {"key": key, "name": name}
            )
        if keys.count(key) > 1:
            raise StudyError(
                gettext("The key '%(key)s' is given to two categories; every category needs its own.") % {"key": key}
            )
        if names.count(name.casefold()) > 1:
            raise StudyError(gettext("There are two categories '%(name)s'.") % {"name": name})
