"""Which settings have an effect by what else is chosen, and how one that has none is refused."""

from __future__ import annotations

from typing import Any

import pytest

from workers.stages.configs import STAGES, ConfigError, config_from_dict, refuse_without_effect, without_effect
from workers.stages.configs.effects import KINDS_IN_WORDS, RULES, TRAINING, defaults, meaning_of_k
from workers.stages.configs.training import TRAINED_KINDS

ONE = {"image_set": "a", "vision_model": "b", "hookpoints": ["blocks.0"]}


@pytest.mark.parametrize(
    ("values", "idle"),
    [
        ({}, {"activation", "sparsity_weight"}),
        ({"kind": "batch_topk_sae"}, {"activation", "sparsity_weight"}),
        ({"kind": "jumprelu_sae"}, {"activation"}),
        ({"kind": "relu_sae"}, {"activation", "has_aux"}),
        ({"kind": "transcoder"}, {"sparsity_weight", "has_free_rows"}),
        ({"kind": "transcoder", "activation": "relu"}, {"has_aux", "has_free_rows"}),
        ({"kind": "cross_layer_transcoder", "activation": "jumprelu"}, {"has_free_rows"}),
        ({"k_each": [4]}, {"activation", "sparsity_weight", "k"}),
        ({"preset": "rrm-vit-b16"}, {"activation", "sparsity_weight", "k", "n_latents"}),
        ({"preset": "rrm-vit-b16", "k": 16}, {"activation", "sparsity_weight", "n_latents"}),
        ({"variants": ["kind=jumprelu_sae"]}, {"activation"}),
        ({"variants": ["kind=jumprelu_sae sparsity_weight=2"]}, {"activation", "sparsity_weight"}),
        ({"variants": ["kind=transcoder hookpoints=blocks.0.mlp.in"]}, {"activation", "sparsity_weight"}),
        ({"variants": ["k=8"], "k_each": [4]}, {"activation", "sparsity_weight", "k"}),
        ({"variants": ["kind=nothing that can be read"]}, {"activation", "sparsity_weight"}),
    ],
)
def test_a_setting_of_a_training_has_an_effect_if_any_of_its_dictionaries_heeds_it(
    values: dict[str, Any], idle: set[str]
) -> None:
    assert set(without_effect(TRAINING, values)) == idle


@pytest.mark.parametrize(
    ("stage", "values", "idle"),
    [
        ("make-control", {}, {"trained"}),
        ("make-control", {"kind": "random_transformer"}, {"n_tokens"}),
        ("evaluate-dictionary", {}, set()),
        ("evaluate-dictionary", {"splice_images": 0}, {"readout"}),
        ("align-dictionaries", {}, {"n_tokens"}),
        ("align-dictionaries", {"image_set": "a"}, set()),
        ("read-feed-forward", {}, set()),
        ("read-feed-forward", {"k": [0]}, {"selection"}),
        ("read-feed-forward", {"k": [5], "selection": "value"}, {"poles"}),
        ("collect-exemplars", {}, set()),
    ],
)
def test_other_stages_have_settings_that_hang_on_others_too(stage: str, values: dict[str, Any], idle: set[str]) -> None:
    assert set(without_effect(stage, values)) == idle


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"sparsity_weight": 0.5},
            "The setting 'sparsity_weight' has no effect here: only the activations jumprelu and relu have a penalty; "
            "the others keep k latents. Leave it out.",
        ),
        ({"kind": "relu_sae", "has_aux": False}, "The setting 'has_aux' has no effect here: ReLU coders are trained "),
        ({"k": 8, "k_each": [4]}, "The setting 'k' has no effect here: k_each says it for every hookpoint."),
        (
            {"variants": ["kind=relu_sae has_aux=no name=r"]},
            "The setting 'has_aux' has no effect in the further dictionary 'kind=relu_sae has_aux=no name=r': ReLU ",
        ),
    ],
)
def test_what_was_given_for_nothing_is_refused_with_the_reason(values: dict[str, Any], sentence: str) -> None:
    config_from_dict(TRAINING, ONE | values)  # as an earlier run may have it, it can still be read
    with pytest.raises(ConfigError) as caught:
        refuse_without_effect(TRAINING, ONE | values)
    assert str(caught.value).startswith(sentence)


def test_a_default_that_is_written_out_is_not_refused() -> None:
    refuse_without_effect(TRAINING, ONE | {"kind": "relu_sae", "has_aux": True, "sparsity_weight": 0.5, "k_each": []})
    refuse_without_effect("make-control", {"kind": "residual_basis", "trained": ""})


def test_k_means_what_the_activation_makes_of_it() -> None:
    assert meaning_of_k({})[0] == "k"
    assert meaning_of_k({"kind": "relu_sae"})[0] == "L0 aimed at"
    assert (
        meaning_of_k({"kind": "transcoder", "activation": "jumprelu", "sparsity_weight": 0.1})[0] == "L0 at the start"
    )
    assert "either sign" in meaning_of_k({"kind": "transcoder", "activation": "abs_topk"})[1]


def test_every_rule_names_settings_and_every_kind_has_its_words() -> None:
    for stage, rules in RULES.items():
        named = {name for rule in rules for name in (rule.name, *rule.hangs_on)}
        assert named <= set(defaults(stage)), stage
    assert set(KINDS_IN_WORDS) == set(TRAINED_KINDS)
    assert set(RULES) <= set(STAGES)
