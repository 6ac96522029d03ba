"""Category trees, and keys that collide with nothing of the player on any of three keyboards."""

from __future__ import annotations

import pytest
from django.test import Client

from annotation.domain.categories import (
    add_category,
    category_tree,
    key_pool,
    locked_rows,
    move_category,
    place_category,
    player_categories,
    remove_category,
    rename_category,
    set_key,
)
from annotation.domain.player_keys import fixed_bindings
from annotation.domain.protocols import PROTOCOLS, Protocol
from annotation.domain.studies import StudyError, create_study
from annotation.models import Category, ReferenceItem, Role, Study, User
from tests.annotation.small_study import make_dictionary, make_features, make_person

# What each keyboard prints where QWERTY prints the first word's letters (physical keys by KeyboardEvent.code).
PRINTED = {
    "QWERTY": dict(zip("qwertyuiopasdfghjklzxcvbnm", "qwertyuiopasdfghjklzxcvbnm", strict=True)),
    "QWERTZ": dict(zip("qwertyuiopasdfghjklzxcvbnm", "qwertzuiopasdfghjklyxcvbnm", strict=True)),
    "AZERTY": dict(zip("qwertyuiopasdfghjklzxcvbnm", "azertyuiopqsdfghjklwxcvbn,", strict=True)),
}


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda one: str(one.name))
@pytest.mark.parametrize("keyboard", PRINTED)
def test_no_letter_of_the_pool_does_anything_else_on_any_keyboard(protocol: Protocol, keyboard: str) -> None:
    chords = [chord for binding in fixed_bindings(protocol) for chord in binding.chords]
    by_letter = {chord.removeprefix("key:") for chord in chords if chord.startswith("key:")}
    places = {chord.removeprefix("code:Key").lower() for chord in chords if chord.startswith("code:Key")}
    by_place = {PRINTED[keyboard][place] for place in places}
    assert set(key_pool(protocol)) & (by_letter | by_place) == set()


def test_the_pool_is_large_enough_for_the_usual_categories() -> None:
    assert set("ohxvpgm") <= set(key_pool(PROTOCOLS["rate-describe-categorise"]))


@pytest.fixture
def rhea(db: None) -> User:
    return make_person("rhea", Role.RESEARCHER)


@pytest.fixture
def study(rhea: User) -> Study:
    study = create_study(name="Words", user=rhea)
    study.categories.all().delete()
    return study


def tree(study: Study) -> list[tuple[str, str, list[tuple[str, str]]]]:
    return [
        (one.category.name, one.category.key, [(child.name, child.key) for child in one.children])
        for one in category_tree(study)
    ]


def test_keys_are_given_by_the_names_and_never_twice_at_once(study: Study, rhea: User) -> None:
    color = add_category(study=study, user=rhea, name="hue")
    shape = add_category(study=study, user=rhea, name="shape")
    for parent in (color, shape):
        for name in ("light", "old"):
            add_category(study=study, user=rhea, name=f"{name} {parent.name}", parent=parent)
    assert tree(study) == [
        ("hue", "h", [("light hue", "l"), ("old hue", "o")]),
        ("shape", "p", [("light shape", "l"), ("old shape", "o")]),
    ]
    third = add_category(study=study, user=rhea, name="lo")
    assert third.key not in {"l", "o", "h", "p", ""}


def test_categories_beyond_the_pool_have_no_key(study: Study, rhea: User) -> None:
    pool = key_pool(PROTOCOLS[study.protocol])
    rows = [add_category(study=study, user=rhea, name=f"number {i}") for i in range(len(pool) + 2)]
    assert sorted(row.key for row in rows) == sorted(["", "", *pool])


def test_the_player_and_the_lock_get_the_tree(study: Study, rhea: User) -> None:
    color = add_category(study=study, user=rhea, name="hue")
    add_category(study=study, user=rhea, name="dark", parent=color)
    assert player_categories(study) == [{"name": "hue", "key": "h", "children": [{"name": "dark", "key": "k"}]}]
    assert locked_rows(study) == [["hue", "h", ""], ["dark", "k", "hue"]]


def test_categories_are_moved_between_levels(study: Study, rhea: User) -> None:
    hue, shape, spot = (add_category(study=study, user=rhea, name=name) for name in ("hue", "shape", "blot"))
    place_category(category=spot, user=rhea, parent=shape, before=None)
    assert [(name, children) for name, _, children in tree(study)] == [("hue", []), ("shape", [("blot", "b")])]
    spot.refresh_from_db()
    place_category(category=spot, user=rhea, parent=None, before=hue)
    assert [name for name, _, _ in tree(study)] == ["blot", "hue", "shape"]
    shape.refresh_from_db()
    move_category(category=shape, user=rhea, by=-1)
    assert [name for name, _, _ in tree(study)] == ["blot", "shape", "hue"]
    move_category(category=shape, user=rhea, by=1)
    assert [name for name, _, _ in tree(study)] == ["blot", "hue", "shape"]
    place_category(category=spot, user=rhea, parent=hue, before=None)
    with pytest.raises(StudyError, match="there are two levels"):
        place_category(category=shape, user=rhea, parent=Category.objects.get(name="blot"), before=None)
    with pytest.raises(StudyError, match="has categories inside it"):
        place_category(category=Category.objects.get(name="hue"), user=rhea, parent=shape, before=None)


def test_a_category_moved_under_a_parent_whose_child_has_its_key_gets_another(study: Study, rhea: User) -> None:
    hue, shape = add_category(study=study, user=rhea, name="hue"), add_category(study=study, user=rhea, name="shape")
    add_category(study=study, user=rhea, name="blot", parent=hue)
    blob = add_category(study=study, user=rhea, name="blob", parent=shape)
    assert blob.key == "b"
    place_category(category=blob, user=rhea, parent=hue, before=None)
    assert Category.objects.get(name="blob").key == "l"


def test_a_key_is_changed_to_a_free_one_of_the_pool_only(study: Study, rhea: User) -> None:
    hue = add_category(study=study, user=rhea, name="hue")
    add_category(study=study, user=rhea, name="blot")
    for key, sentence in (("s", "the player's own on some keyboard"), ("b", "another category's")):
        with pytest.raises(StudyError, match=sentence):
            set_key(category=hue, user=rhea, key=key)
    set_key(category=hue, user=rhea, key="u")
    hue.refresh_from_db()
    assert hue.key == "u"


def test_names_are_once_in_a_study_and_not_taken_from_under_a_gold_item(study: Study, rhea: User) -> None:
    hue = add_category(study=study, user=rhea, name="hue")
    with pytest.raises(StudyError, match="There is a category 'HUE' already"):
        add_category(study=study, user=rhea, name="HUE", parent=hue)
    (feature,) = make_features(make_dictionary(), 1)
    ReferenceItem.objects.create(study=study, kind="gold", feature=feature, accepted={"category": ["hue"]})
    accepted = "A practice or gold item accepts 'hue'"
    with pytest.raises(StudyError, match=accepted):
        remove_category(category=hue, user=rhea)
    with pytest.raises(StudyError, match=accepted):
        rename_category(category=hue, user=rhea, name="tint")


def test_a_launched_study_keeps_its_categories(study: Study, rhea: User) -> None:
    hue = add_category(study=study, user=rhea, name="hue")
    Study.objects.filter(pk=study.pk).update(state=Study.State.OPEN)
    with pytest.raises(StudyError, match="This study was launched"):
        rename_category(category=hue, user=rhea, name="tint")


def test_the_page_arranges_the_tree(study: Study, rhea: User, client: Client) -> None:
    client.force_login(rhea)
    address = f"/studies/{study.slug}/categories/"
    change = f"{address}change/"
    client.post(change, {"act": "add", "name": "hue"})
    hue = Category.objects.get(name="hue")
    client.post(change, {"act": "add", "name": "dark", "parent": hue.pk})
    dark = Category.objects.get(name="dark")
    client.post(change, {"act": "rename", "category": dark.pk, "name": "darkness"})
    client.post(change, {"act": "key", "category": dark.pk, "key": "n"})
    client.post(change, {"act": "place", "category": dark.pk, "parent": "", "before": hue.pk})
    assert tree(study) == [("darkness", "n", []), ("hue", "h", [])]
    assert (
        "This category is gone" in client.post(change, {"act": "up", "category": 999_999}, follow=True).content.decode()
    )
    client.post(change, {"act": "remove", "category": dark.pk})
    page = client.get(address)
    assert [branch.category.name for branch, _ in page.context["branches"]] == ["hue"]
    Study.objects.filter(pk=study.pk).update(state=Study.State.OPEN)
    assert client.get(address).context["is_editor"] is False


def test_the_page_is_for_those_who_have_a_part_in_the_study(study: Study, client: Client) -> None:
    change = f"/studies/{study.slug}/categories/change/"
    client.force_login(make_person("rolf", Role.RESEARCHER))
    assert client.get(f"/studies/{study.slug}/categories/").status_code == 200
    assert client.post(change, {"act": "add", "name": "x"}).status_code == 403
    client.force_login(make_person("anna"))
    assert client.get(f"/studies/{study.slug}/categories/").status_code == 404
    assert client.get(change).status_code == 405
