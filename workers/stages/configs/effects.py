"""Which settings have an effect, by what else is chosen, and what k means then: the one place that knows.

Forms show what has an effect; a command refuses what would have none, with the reason. Nothing here is part of a
config, so that an earlier one which holds an idle value can still be read, and keeps its request key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

from workers.stages.configs.base import ConfigError, require
from workers.stages.configs.presets import PRESETS
from workers.stages.configs.registry import STAGES
from workers.stages.configs.training import ACTIVATIONS, PENALIZED, TRANSCODERS, parse_variant

TRAINING = "train-dictionary"
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Rule:
    """A setting, the settings it hangs on, whether it has an effect by their values, and why not."""

    name: str
    hangs_on: tuple[str, ...]
    has_effect: Callable[[Values], bool]
    why_not: str


def activation_of(one: Values) -> str:
    """What a dictionary is trained by; '' where the kind is unknown."""
    known = ACTIVATIONS.get(one["kind"], ("",))
    return str(one["activation"] if one["activation"] in known else known[0])


def is_penalized(one: Values) -> bool:
    return activation_of(one) in PENALIZED


RULES: dict[str, tuple[Rule, ...]] = {
    TRAINING: (
        Rule("activation", ("kind", "variants"), lambda one: one["kind"] in TRANSCODERS,
             "only transcoders have a choice of activations"),
        Rule("sparsity_weight", ("kind", "activation", "variants"), is_penalized,
             "only the activations jumprelu and relu have a penalty; the others keep k latents"),
        Rule("has_aux", ("kind", "activation", "variants"), lambda one: activation_of(one) != "relu",
             "ReLU coders are trained without AuxK"),
        Rule("has_free_rows", ("kind", "variants"), lambda one: one["kind"] not in TRANSCODERS,
             "the decoder rows of transcoders are free already"),
        Rule("n_latents", ("n_latents_each", "preset", "variants"), lambda one: not one["n_latents_each"],
             "n_latents_each says it for every hookpoint"),
        Rule("k", ("k_each", "preset", "variants"), lambda one: not one["k_each"],
             "k_each says it for every hookpoint"),
    ),
    "make-control": (
        Rule("trained", ("kind",), lambda one: one["kind"] == "random_transformer",
             "only a random_transformer can be of a trained kind"),
        Rule("n_tokens", ("kind",), lambda one: one["kind"] != "random_transformer",
             "the densities of a random_transformer are not matched"),
    ),
    "evaluate-dictionary": (
        Rule("readout", ("splice_images",), lambda one: one["splice_images"] != 0,
             "it scores classes in the splice, and splice_images is 0"),
    ),
    "align-dictionaries": (
        Rule("n_tokens", ("image_set",), lambda one: bool(one["image_set"]),
             "without an image_set no activations are compared"),
    ),
    "read-feed-forward": (
        Rule("selection", ("k",), lambda one: any(one["k"]), "with k = 0 every unit is kept"),
        Rule("poles", ("k", "selection"), lambda one: one["selection"] != "value" or 0 in one["k"],
             "the k largest values have one pole"),
    ),
}  # fmt: skip


def without_effect(stage: str, values: Values) -> dict[str, str]:
    """The settings that change nothing beside these values, and why; what is not given counts as its default.

    Where one run trains several dictionaries, a setting counts if it counts for any of them.
    """
    every = [(settled(stage, values), frozenset[str]()), *further(stage, values)]
    return {
        rule.name: rule.why_not
        for rule in RULES.get(stage, ())
        if not any(rule.has_effect(one) and rule.name not in own for one, own in every)
    }


def refuse_without_effect(stage: str, values: Values) -> None:
    """Raise ConfigError for a setting that was given a value of its own and has no effect."""
    usual = defaults(stage)
    idle = {name: why for name, why in without_effect(stage, values).items() if is_own(values, usual, name)}
    for name, why in idle.items():
        raise ConfigError(f"The setting '{name}' has no effect here: {why}. Leave it out.", name)
    for variant in values.get("variants", ()) if stage == TRAINING else ():
        refuse_idle_variant(values, variant)


def refuse_idle_variant(values: Values, variant: str) -> None:
    """The same for what a further dictionary gives as its own."""
    changes = parse_variant(variant)
    one = settled(TRAINING, values) | own_values(changes)
    for rule in RULES[TRAINING]:
        require(
            rule.name not in changes or rule.has_effect(one),
            f"The setting '{rule.name}' has no effect in the further dictionary '{variant}': {rule.why_not}. "
            "Leave it out.",
            "variants",
        )


def deciding(stage: str) -> set[str]:
    """The settings that others hang on."""
    return {name for rule in RULES.get(stage, ()) for name in rule.hangs_on}


KINDS_IN_WORDS = {
    "topk_sae": "The k strongest latents of each token are active.",
    "batch_topk_sae": "The strongest latents of a batch are active, k per token in the mean.",
    "jumprelu_sae": "Latents above thresholds of their own are active.",
    "relu_sae": "Latents above zero are active; a penalty holds them down.",
    "transcoder": "Reads the input of an MLP and writes its output, one for each.",
    "cross_layer_transcoder": "Reads MLP inputs; a latent writes to the output of its own MLP and of all later ones.",
}


MEANINGS_OF_K = {  # by what decides how many latents are active: a label and a line of help
    "steered": ("L0 aimed at", "The penalty is steered until L0 is near it."),
    "weighed": ("L0 at the start", "Thresholds begin there; then the penalty decides."),
    "batch_topk": ("k", "How many latents are active in the mean of a batch."),
    "abs_topk": ("k", "How many latents are active, of either sign."),
    "topk": ("k", "How many latents are active at most."),
}


def meaning_of_k(values: Values) -> tuple[str, str]:
    """What k is for the kind and activation chosen in a training."""
    one = settled(TRAINING, values)
    activation = activation_of(one)
    if activation in PENALIZED:
        return MEANINGS_OF_K["weighed" if one["sparsity_weight"] else "steered"]
    return MEANINGS_OF_K.get(activation, MEANINGS_OF_K["topk"])


def defaults(stage: str) -> dict[str, Any]:
    every = fields(STAGES[stage].config_class)
    return {one.name: "" if one.default is MISSING else one.default for one in every}


def settled(stage: str, values: Values) -> dict[str, Any]:
    """The values with a preset's and the defaults where none are given; one number for all outweighs a schedule."""
    own: dict[str, Any] = {}
    if stage == TRAINING and values.get("preset") in PRESETS:
        own = dict(PRESETS[values["preset"]].values)
        for name in ("k", "n_latents"):
            if name in values:
                own.pop(f"{name}_each", None)
    return defaults(stage) | own | dict(values)


def further(stage: str, values: Values) -> list[tuple[dict[str, Any], frozenset[str]]]:
    """The values of further dictionaries, each with the names of those that are not the first one's.

    What cannot be read of them is left out: it is said elsewhere.
    """
    found = []
    for variant in values.get("variants", ()) if stage == TRAINING else ():
        try:
            changes = own_values(parse_variant(variant))
        except ConfigError:
            continue
        found.append((settled(stage, values) | changes, frozenset(changes)))
    return found


def own_values(changes: Values) -> dict[str, Any]:
    """As ``training.varied`` has it: another kind has its own activation, one number replaces those by hookpoint."""
    reset: dict[str, Any] = {"activation": ""} if "kind" in changes else {}
    for name in ("k", "n_latents"):
        if "hookpoints" in changes or name in changes:
            reset[f"{name}_each"] = ()
    return {**reset, **changes}


def is_own(values: Values, usual: Values, name: str) -> bool:
    return name in values and plain(values[name]) != plain(usual[name])


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
