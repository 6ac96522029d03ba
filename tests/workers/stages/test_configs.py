"""Stage configs refuse what they do not understand, in a sentence."""

from __future__ import annotations

import pytest

from workers.stages.configs import STAGES, ConfigError, config_from_dict, config_to_dict, parent_digests

DICTIONARY = {"image_set": "a", "vision_model": "b", "hookpoints": ["blocks.0", "blocks.1"]}


def test_a_config_survives_the_way_through_json() -> None:
    config = config_from_dict("train-dictionary", DICTIONARY | {"learning_rate": 1})

    assert config_from_dict("train-dictionary", config_to_dict(config)) == config
    assert config_to_dict(config)["learning_rate"] == 1.0
    assert parent_digests(config) == ["a", "b"]


def test_several_and_absent_parents_are_listed_in_order() -> None:
    config = config_from_dict("collect-exemplars", {"image_set": "a", "dictionaries": ["b", "c"]})
    assert parent_digests(config) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"n_latens": 5}, "The stage train-dictionary has no setting 'n_latens'"),
        ({"k": "many"}, "The setting 'k' is 'many'; it must be a whole number."),
        ({"learning_rate": float("inf")}, "The setting 'learning_rate' is inf; it must be a finite number."),
        ({"seed": 10**23}, "The seed is 100000000000000000000000; it must lie between 0 and"),
        ({"n_tokens": 0}, "n_tokens is 0; training needs at least one token."),
        ({"hookpoints": ["blocks.0", "blocks.0"]}, "Name each hookpoint once."),
        ({"k": 2.5}, "The setting 'k' is 2.5; it must be a whole number."),
        ({"learning_rate": True}, "The setting 'learning_rate' is True; it must be a number."),
        ({"hookpoints": "blocks.0"}, "The setting 'hookpoints' is 'blocks.0'; it must be a list of texts."),
        ({"hookpoints": []}, "Name at least one hookpoint"),
        ({"k": 4096}, "k is 4096; it must lie between 1 and n_latents"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict("train-dictionary", DICTIONARY | changes)
    assert str(caught.value).startswith(sentence)


def test_a_missing_setting_is_named() -> None:
    with pytest.raises(ConfigError, match=r"not complete: give vision_model\."):
        config_from_dict("train-dictionary", {"image_set": "a"})


def test_an_unknown_stage_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="There is no stage 'train'; the stages are train-model, train-dictionary"):
        config_from_dict("train", {})


def test_every_setting_has_a_name_for_people() -> None:
    silent = [
        f"{stage.name}.{field.name}"
        for stage in STAGES.values()
        for field in stage.config_class.__dataclass_fields__.values()
        if field.name != "parent_fields" and not field.metadata.get("label")
    ]
    assert silent == []
