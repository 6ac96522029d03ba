"""Bodies of the player's requests that no database can store are told apart before anything is stored."""

from __future__ import annotations

import json

import pytest

from annotation.views.work_access import is_storable


@pytest.mark.parametrize("text", ['{"timing": {"x": 1e400}}', '{"label": "a\\u0000b"}', '{"label": "\\ud800"}'])
def test_what_cannot_be_stored_is_told(text: str) -> None:
    assert not is_storable(json.loads(text))


def test_other_text_and_numbers_are_stored() -> None:
    assert is_storable({"timing": {"x": 1e300}, "label": "Grün 🙂 %s \\u0000"[:9]})
