"""The player's keys: none does two things on any keyboard, and people may choose their own."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.test import Client

from annotation.domain.keyboards import AZERTY, KEYBOARDS, QWERTZ, clashes, clashes_anywhere, printed
from annotation.domain.own_keys import OwnKeysError, apply_own_keys, set_own_keys
from annotation.domain.player_keys import Binding, bindings_of, category_bindings, fixed_bindings, key_table
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.studies import DEFAULT_CATEGORIES
from tests.factories import OpenStudy, make_annotator, make_open_study

RATE = PROTOCOLS["rate-describe-categorise"]


def bindings() -> list[Binding]:
    return bindings_of(RATE.questions({}), DEFAULT_CATEGORIES)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=str)
@pytest.mark.parametrize("keyboard", KEYBOARDS)
def test_no_key_does_two_things_on_any_keyboard(protocol: Any, keyboard: str) -> None:
    asked = [
        b for values in every_option(protocol) for b in [bindings_of(protocol.questions(values), DEFAULT_CATEGORIES)]
    ]
    assert [clashes(table, KEYBOARDS[keyboard]) for table in asked] == [[] for _ in asked]


def every_option(protocol: Any) -> list[dict[str, Any]]:
    """The protocol's options, each one at each of its values in turn."""
    return [protocol.settle_options({})] + [
        protocol.settle_options({option.name: value})
        for option in protocol.options
        if not isinstance(option.default, tuple)
        for value in option.values
    ]


def test_a_letter_that_a_rating_takes_by_its_place_is_found() -> None:
    on_azerty = [*fixed_bindings(RATE), *category_bindings([("animals", "a")])]
    assert clashes(on_azerty) == []
    assert clashes(on_azerty, AZERTY) == ["a"]
    assert clashes(on_azerty, QWERTZ) == []
    assert clashes_anywhere(on_azerty) == ["a"]


def test_what_a_key_prints_depends_on_the_keyboard() -> None:
    chords = ("code:KeyQ", "code:KeyY", "shift+code:Digit7", "key:s")
    assert [printed(chord) for chord in chords] == ["q", "y", "shift+7", "s"]
    assert [printed(chord, QWERTZ) for chord in chords] == ["q", "z", "/", "s"]
    assert [printed(chord, AZERTY) for chord in chords] == ["a", "y", "7", "s"]


def test_categories_under_different_ones_may_share_a_key() -> None:
    tree = [("part", "p"), ("wheel", "l", "part"), ("place", "k"), ("left", "l", "place")]
    assert clashes_anywhere([*fixed_bindings(RATE), *category_bindings(tree)]) == []
    assert clashes_anywhere([*fixed_bindings(RATE), *category_bindings([*tree, ("lid", "l", "part")])]) == ["l"]


def test_every_changeable_action_has_a_name_of_its_own() -> None:
    names = [row["name"] for row in key_table(bindings()) if row["name"]]
    assert len(names) == len(set(names))
    assert {"skip", "zoom", "patch_rating=1", "image_rating=None", "category=texture"} <= set(names)
    assert not {"leave", "focus-left"} & set(names)


@pytest.mark.django_db
class TestOwnKeys:
    @pytest.fixture
    def opened(self, artifact_root: Any) -> OpenStudy:
        return make_open_study(n_items=1, n_practice=0)

    def test_a_key_of_ones_own_takes_the_place_of_the_usual_one(self, opened: OpenStudy) -> None:
        ada = make_annotator(opened.study)
        table = set_own_keys(user=ada, bindings=bindings(), keys={"skip": "key:j", "submit": "key:F2"})
        assert {b.name: (b.chords, b.hint) for b in table if b.name in ("skip", "submit")} == {
            "skip": (("key:j",), "j"), "submit": (("key:F2",), "F2"),
        }  # fmt: skip
        ada.refresh_from_db()
        assert ada.player_keys == {"skip": "key:j", "submit": "key:F2"}

    @pytest.mark.parametrize(
        ("keys", "sentence"),
        [
            ({"skip": "key:f"}, "“f” is taken by “flag for a second look”; choose another key."),
            ({"skip": "key:a"}, "“a” is taken by “no (or Shift+1)”; choose another key."),
            ({"skip": "key:j", "flag": "key:j"}, "“j” would do two things; choose another key."),
            ({"skip": "key:Escape"}, "This key cannot be used; take a letter, a sign or a function key."),
            ({"skip": "code:KeyJ"}, "This key cannot be used; take a letter, a sign or a function key."),
            ({"skip": 7}, "This key cannot be used; take a letter, a sign or a function key."),
            ({"leave": "key:j"}, "This action has a key that cannot be changed."),
            ({"fly": "key:j"}, "This action has a key that cannot be changed."),
        ],
    )
    def test_a_key_that_is_taken_or_cannot_be_is_refused_with_a_sentence(
        self, opened: OpenStudy, keys: dict[str, Any], sentence: str
    ) -> None:
        ada = make_annotator(opened.study)
        with pytest.raises(OwnKeysError) as refusal:
            set_own_keys(user=ada, bindings=bindings(), keys=keys)
        assert str(refusal.value) == sentence
        ada.refresh_from_db()
        assert ada.player_keys == {}

    def test_two_actions_may_change_places(self, opened: OpenStudy) -> None:
        ada = make_annotator(opened.study)
        table = set_own_keys(user=ada, bindings=bindings(), keys={"skip": "key:f", "flag": "key:s"})
        assert {b.name: b.hint for b in table if b.name in ("skip", "flag")} == {"skip": "f", "flag": "s"}

    def test_where_a_study_wants_the_letter_the_study_has_it(self) -> None:
        table = apply_own_keys(bindings_of(RATE.questions({}), [("jars", "j")]), {"skip": "key:j", "flag": "key:k"})
        assert {b.name: b.hint for b in table if b.name in ("skip", "flag", "category=jars")} == {
            "skip": "s", "flag": "k", "category=jars": "j",
        }  # fmt: skip

    def test_the_endpoint_keeps_refuses_and_resets(self, opened: OpenStudy, client: Client) -> None:
        ada = make_annotator(opened.study)
        client.force_login(ada)

        def post(keys: Any) -> Any:
            return client.post("/work/discs/keys", json.dumps({"keys": keys}), content_type="application/json")

        kept = post({"skip": "key:j"})
        assert (kept.status_code, hint(kept.json()["keys"], "skip")) == (200, "j")
        refused = post({"skip": "key:f"})
        assert (refused.status_code, refused.json()) == (
            422, {"error": "“f” is taken by “flag for a second look”; choose another key."},
        )  # fmt: skip
        page = client.get("/work/discs/").context["config"]
        assert (hint(page["keys"], "skip"), page["own_keys"]) == ("j", {"skip": "key:j"})
        assert hint(post({}).json()["keys"], "skip") == "s"
        assert post([1]).status_code == 400
        client.logout()
        assert post({}).status_code == 401


def hint(rows: list[dict[str, Any]], name: str) -> str:
    return next(str(row["hint"]) for row in rows if row["name"] == name)
