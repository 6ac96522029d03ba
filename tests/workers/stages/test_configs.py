"""Stage configs refuse what they do not understand, in a sentence."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from workers.stages.configs import (
    STAGES,
    ConfigError,
    TrainDictionaryConfig,
    config_from_dict,
    config_to_dict,
    parent_digests,
)
from workers.stages.configs.presets import PRESETS, fitting_presets, preset_objection

DICTIONARY = {"image_set": "a", "vision_model": "b", "hookpoints": ["blocks.0", "blocks.1"]}


def test_a_config_survives_the_way_through_json() -> None:
    config = config_from_dict("train-dictionary", DICTIONARY | {"learning_rate": 1})

    assert config_from_dict("train-dictionary", config_to_dict(config)) == config
    assert config_to_dict(config)["learning_rate"] == 1.0
    assert parent_digests(config) == ["a", "b"]


def test_a_later_setting_leaves_earlier_requests_their_keys() -> None:
    """What was asked for before there were free rows is found again; what is asked for with them is not the same."""
    earlier = config_from_dict("train-dictionary", DICTIONARY)
    assert "has_free_rows" not in config_to_dict(earlier)
    free = config_from_dict("train-dictionary", DICTIONARY | {"has_free_rows": True})
    assert config_to_dict(free) == config_to_dict(earlier) | {"has_free_rows": True}
    assert config_from_dict("train-dictionary", config_to_dict(free)) == free


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
        ({"n_latents": 10**11}, "n_latents is 100,000,000,000; the largest allowed is 1,048,576."),
        ({"n_latents_each": [5, 10**7]}, "n_latents_each is 10,000,000; the largest allowed is 1,048,576."),
        ({"n_tokens": 10**12}, "n_tokens is 1,000,000,000,000; the largest allowed is 100,000,000,000."),
        ({"batch_tokens": 2**21}, "batch_tokens is 2,097,152; the largest allowed is 1,048,576."),
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
        for field in fields(stage.config_class)
        if not field.metadata.get("label")
    ]
    assert silent == []


VIT_B = {
    "d_model": 768, "n_blocks": 12, "grid": [14, 14], "n_prefix_tokens": 1,
    "preprocessing": {
        "size": 224, "crop_mode": "squash", "crop_pct": 1.0, "interpolation": "bicubic", "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
    },
}  # fmt: skip


def training(**changes: object) -> TrainDictionaryConfig:
    config = config_from_dict("train-dictionary", {"image_set": "a", "vision_model": "b"} | changes)
    assert isinstance(config, TrainDictionaryConfig)
    return config


@pytest.mark.parametrize(
    ("preset", "n_latents", "first", "last"),
    [  # all latents of the eleven hookpoints, then k and width after blocks 0 and 10 (research/rrm.md §1)
        ("rrm-vit-b16", 19_776, (4, 192), (128, 1536)),
        ("rrm-dinov2-b14-reg", 13_056, (4, 192), (160, 1536)),
        ("rrm-clip-b16", 13_824, (64, 384), (160, 1536)),
    ],
)
def test_the_published_schedules_are_presets(
    preset: str, n_latents: int, first: tuple[int, int], last: tuple[int, int]
) -> None:
    config = training(preset=preset)
    assert config.hookpoints == tuple(f"blocks.{block}" for block in range(11))
    assert sum(n for _, n, _ in config.sizes()) == n_latents
    assert [(k, n) for _, n, k in (config.sizes()[0], config.sizes()[-1])] == [first, last]
    assert config_from_dict("train-dictionary", config_to_dict(config)) == config


def test_a_preset_may_be_cut_to_some_hookpoints_and_leaves_the_budget_free() -> None:
    config = training(preset="rrm-vit-b16", hookpoints=["blocks.3", "blocks.7"], n_tokens=1_000_000)
    assert config.sizes() == [("blocks.3", 1536, 96), ("blocks.7", 3072, 160)]
    assert (config.n_tokens, config.learning_rate) == (1_000_000, 2e-4)


@pytest.mark.parametrize(
    ("preset", "given"),
    [
        ("quick", {"learning_rate": 1e-3}),  # as without a preset, but said
        ("paper", {"n_tokens": 8_000_000, "clip_norm": 0.0}),
        ("deep", {"batch_tokens": 512}),
        ("rrm-vit-b16", {"kind": "relu_sae"}),
        ("rrm-vit-b16", {"k": 16, "k_each": ()}),
    ],
)
def test_a_setting_that_is_given_wins_over_the_preset(preset: str, given: dict[str, Any]) -> None:
    config = training(preset=preset, hookpoints=["blocks.0"], **given)
    assert {name: getattr(config, name) for name in given} == given
    others = {name: value for name, value in PRESETS[preset].values.items() if name not in given}
    assert all(getattr(config, name) == value for name, value in others.items() if not isinstance(value, tuple))
    assert config_from_dict("train-dictionary", config_to_dict(config)) == config
    in_code = TrainDictionaryConfig("a", "b", ("blocks.0",), preset=preset, **given)
    assert in_code == config


def test_one_k_or_width_that_is_given_holds_at_every_hookpoint_of_a_schedule() -> None:
    config = training(preset="rrm-vit-b16", hookpoints=["blocks.0", "blocks.7"], k=16)
    assert config.sizes() == [("blocks.0", 192, 16), ("blocks.7", 3072, 16)]
    wide = training(preset="rrm-vit-b16", hookpoints=["blocks.0", "blocks.7"], n_latents=1024)
    assert wide.sizes() == [("blocks.0", 1024, 4), ("blocks.7", 1024, 160)]


def test_budgets_grow_from_quick_to_deep() -> None:
    budgets = [training(preset=name, hookpoints=["blocks.0"]).n_tokens for name in ("quick", "paper", "deep")]
    assert budgets == [2_000_000, 50_000_000, 500_000_000]


def test_the_presets_that_fit_a_model_are_known() -> None:
    budgets = ["quick", "paper", "deep"]
    assert fitting_presets(VIT_B) == ["rrm-vit-b16", *budgets]
    assert fitting_presets(VIT_B | {"d_model": 384}) == budgets
    assert fitting_presets(VIT_B | {"preprocessing": {}}) == budgets


def test_a_preset_objects_to_another_model_or_preprocessing_in_a_sentence() -> None:
    assert preset_objection("rrm-vit-b16", VIT_B) == ""
    assert preset_objection("quick", {}) == ""
    assert preset_objection("rrm-dinov2-b14-reg", VIT_B).startswith(
        "The preset rrm-dinov2-b14-reg is for DINOv2-B/14 with registers, whose grid of patches is 16 × 16; it is "
        "14 × 14 here."
    )
    own = VIT_B | {"preprocessing": VIT_B["preprocessing"] | {"crop_mode": "center", "crop_pct": 0.9}}  # type: ignore[operator]
    assert preset_objection("rrm-vit-b16", own).startswith(
        "The preset rrm-vit-b16 is for ViT-B/16 with another preprocessing of images: this model has crop_mode center "
        "instead of squash, crop_pct 0.9 instead of 1. Register the model anew with register_model --preprocessing"
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preset": "rrm"}, "The preset 'rrm' is unknown; it can be rrm-vit-b16, rrm-dinov2-b14-reg, rrm-clip-b16, "),
        ({"preset": "rrm-vit-b16", "hookpoints": ["blocks.11"]}, "The preset rrm-vit-b16 has no blocks.11;"),
        ({"kind": "sae"}, "The kind 'sae' is unknown; it can be topk_sae, "),
        ({"activation": "relu"}, "The activation of a topk_sae 'relu' is unknown; it can be topk."),
        ({"kind": "transcoder"}, "A transcoder reads MLP inputs such as blocks.3.mlp.in, not blocks.0, blocks.1."),
        ({"k_each": [1]}, "k_each must have a number for each of the 2 hookpoints, not 1."),
        ({"k_each": [4, 96], "n_latents": 32}, "k is 96 at blocks.1; it must lie between 1 and its 32 latents."),
        ({"k_each": [4, "5"]}, "The setting 'k_each' is [4, '5']; it must be a list of whole numbers."),
        ({"clip_norm": -1}, "clip_norm is -1.0; it must be 0 or above."),
        ({"has_aux": 1}, "The setting 'has_aux' is 1; it must be true or false."),
        ({"precision": "fp8"}, "The precision 'fp8' is unknown; it can be float32, bfloat16."),
        ({"variants": ["k"]}, "'k' in the further dictionary 'k' is no setting of its own; it can be "),
        ({"variants": ["seed=1"]}, "'seed=1' in the further dictionary 'seed=1' is no setting of its own;"),
        ({"variants": [" "]}, "A further dictionary needs something that differs, such as k=32."),
        ({"variants": ["k=many"]}, "The setting 'k' is 'many'; it must be a whole number."),
        ({"variants": ["k=4096"]}, "The further dictionary 'k=4096' cannot be: k is 4096; it must lie between 1 and "),
        ({"variants": ["k=8 name=x", "k=9 name=x"]}, "Two dictionaries would be called 'x'; name them apart."),
        ({"variants": ["k=8 k=9"]}, "The further dictionary 'k=8 k=9' gives k twice."),
        ({"variants": ["k='8"]}, "The further dictionary 'k='8' cannot be read: No closing quotation."),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_said_in_a_sentence(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        training(**{"hookpoints": ["blocks.0", "blocks.1"], **changes})
    assert str(caught.value).startswith(sentence)


def test_further_dictionaries_differ_in_what_they_say_and_in_nothing_else() -> None:
    variants = ("k=32 n_latents=4096", "kind=transcoder hookpoints=blocks.0.mlp.in,blocks.2.mlp.in name=t has_aux=no")
    config = training(hookpoints=["blocks.0", "blocks.1"], k_each=[4, 8], variants=list(variants))
    alone, wide, transcoder = config.dictionaries()
    assert alone == replace(config, variants=())
    assert wide == replace(alone, name="topk-sae k=32 n_latents=4096", k=32, n_latents=4096, k_each=())
    assert transcoder.writes == ("blocks.0.mlp.out", "blocks.2.mlp.out")
    assert (transcoder.name, transcoder.has_aux, transcoder.k_each) == ("t", False, ())
    assert config.hookpoints_read() == (
        "blocks.0", "blocks.1", "blocks.0.mlp.in", "blocks.2.mlp.in", "blocks.0.mlp.out", "blocks.2.mlp.out",
    )  # fmt: skip
