"""Config of the stage that trains dictionaries: one, or several from the same forward passes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, ClassVar

from workers.stages.configs.base import (
    SEED_HELP,
    ConfigError,
    parent,
    require,
    require_limits,
    setting,
    settled_value,
)
from workers.stages.configs.presets import PRESETS

ACTIVATIONS = {  # what a kind may be trained by; the first is what it is trained by unless told
    "topk_sae": ("topk",),
    "batch_topk_sae": ("batch_topk",),
    "jumprelu_sae": ("jumprelu",),
    "relu_sae": ("relu",),
    "transcoder": ("topk", "batch_topk", "abs_topk", "jumprelu", "relu"),
    "cross_layer_transcoder": ("topk", "abs_topk", "jumprelu"),
}
TRAINED_KINDS = tuple(ACTIVATIONS)
TRANSCODERS = ("transcoder", "cross_layer_transcoder")
PENALIZED = ("jumprelu", "relu")  # activations whose L0 a penalty holds down
PRECISIONS = ("float32", "bfloat16")
MLP_IN, MLP_OUT = ".mlp.in", ".mlp.out"
OWN_SETTINGS = (  # what a further dictionary may have of its own
    "name", "kind", "hookpoints", "n_latents", "k", "n_latents_each", "k_each", "activation", "sparsity_weight",
    "learning_rate", "clip_norm", "has_aux", "resample_dead", "has_free_rows",
)  # fmt: skip
MOST_DICTIONARIES = 16
MOST_LATENTS = 2**20  # per hookpoint; with Adam 26 GB at a width of 768
MOST_TOKENS = 10**11
MOST_BATCH = 2**20
rare = partial(setting, is_rare=True)


@dataclass(frozen=True)
class TrainDictionaryConfig:
    """Train sparse autoencoders or transcoders at several hookpoints from one forward pass per image."""

    image_set: str = parent("Image set", "The images whose activations are read.")
    vision_model: str = parent("Vision model", "The model whose activations are explained.")
    hookpoints: tuple[str, ...] = setting(
        (), "Hookpoints", "Where activations are read: one sparse coder is trained at each, from one forward pass."
    )
    name: str = setting("topk-sae", "Name", "What the dictionary will be called.")
    preset: str = setting("", "Preset", "Sets what it names, except what you set yourself.")
    kind: str = setting("topk_sae", "Kind")
    n_latents: int = setting(
        1024,
        "Latents",
        "8 to 32 times the width of the model is usual.",
        unit="per hookpoint",
        most=MOST_LATENTS,
    )
    k: int = setting(16, "k", "How many latents may be active.", unit="per token")
    n_latents_each: tuple[int, ...] = rare(
        (), "Latents by hookpoint", "In the order of the hookpoints, instead of one number.", most=MOST_LATENTS
    )
    k_each: tuple[int, ...] = rare((), "k by hookpoint", "In the order of the hookpoints, instead of one number.")
    variants: tuple[str, ...] = setting(
        (), "Further dictionaries", "Of the same forward passes, one per line, by what differs: k=32 n_latents=4096"
    )
    n_tokens: int = setting(
        8_000_000, "Tokens", "How many activations of each hookpoint are seen in all.", unit="tokens", most=MOST_TOKENS
    )
    batch_tokens: int = setting(4096, "Batch", "What one step of Adam sees.", unit="tokens per step", most=MOST_BATCH)
    learning_rate: float = setting(1e-3, "Learning rate", "Of Adam; it rises at first and falls at the end.")
    activation: str = rare("", "Activation", "By which a transcoder chooses its latents; topk unless told.")
    sparsity_weight: float = rare(0.0, "Sparsity weight", "Of the penalty; at 0 it is steered until L0 is near k.")
    clip_norm: float = rare(0.0, "Clip gradients at", "The norm at each hookpoint; 0 never clips.")
    has_aux: bool = rare(True, "AuxK", "Let dead latents learn from what the others leave unexplained.")
    resample_dead: bool = rare(False, "Resample dead latents", "Four times, in the first half of the training.")
    has_free_rows: bool = rare(
        False, "Free decoder rows", "They begin at a norm of 0.1 and keep what they learn, instead of 1 throughout."
    )
    precision: str = rare("float32", "Precision", "bfloat16 is faster on a GPU and the same on a CPU.")
    is_compiled: bool = rare(False, "Compile", "Compile model and step; worth its minute on a GPU.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")
    later_fields: ClassVar[tuple[str, ...]] = ("has_free_rows",)
    given: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, *values: Any, **named: Any) -> TrainDictionaryConfig:
        """Note which settings are given, even as the default: a preset leaves those alone."""
        config = super().__new__(cls)
        names = [field.name for field in fields(cls)][: len(values)]
        object.__setattr__(config, "given", frozenset([*names, *named]))
        return config

    def __post_init__(self) -> None:
        apply_preset(self)
        require_limits(self)
        require(len(self.hookpoints) > 0, "Name at least one hookpoint, such as blocks.3.", "hookpoints")
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.", "hookpoints")
        require(self.n_tokens >= 1, f"n_tokens is {self.n_tokens}; training needs at least one token.", "n_tokens")
        require(self.batch_tokens >= 64, "A batch needs at least 64 tokens.", "batch_tokens")
        require(self.precision in PRECISIONS, one_of("precision", self.precision, PRECISIONS), "precision")
        check_kind(self)
        check_sizes(self)
        check_optimizer(self)
        self.dictionaries()

    @property
    def writes(self) -> tuple[str, ...]:
        """The hookpoints that are reconstructed; the i-th goes with the i-th that is read."""
        if self.kind not in TRANSCODERS:
            return self.hookpoints
        return tuple(name.removesuffix(MLP_IN) + MLP_OUT for name in self.hookpoints)

    @property
    def trained_by(self) -> str:
        """The activation in training."""
        return self.activation or ACTIVATIONS[self.kind][0]

    def sizes(self) -> list[tuple[str, int, int]]:
        """Hookpoint, number of latents and k, one by one."""
        n = len(self.hookpoints)
        widths, ks = self.n_latents_each or (self.n_latents,) * n, self.k_each or (self.k,) * n
        return list(zip(self.hookpoints, widths, ks, strict=True))

    def dictionaries(self) -> tuple[TrainDictionaryConfig, ...]:
        """The config of each dictionary by itself: this one, then its variants."""
        if not self.variants:
            return (self,)
        require(
            len(self.variants) < MOST_DICTIONARIES,
            f"One run trains at most {MOST_DICTIONARIES} dictionaries.",
            "variants",
        )
        alone = replace(self, variants=(), preset="")
        every = (alone, *(varied(alone, variant) for variant in self.variants))
        names = [one.name for one in every]
        twice = next((name for name in names if names.count(name) > 1), "")
        require(not twice, f"Two dictionaries would be called '{twice}'; name them apart.", "variants")
        return every

    def hookpoints_read(self) -> tuple[str, ...]:
        """All that any of the dictionaries reads or reconstructs, each once."""
        every = [name for one in self.dictionaries() for name in (*one.hookpoints, *one.writes)]
        return tuple(dict.fromkeys(every))


def apply_preset(config: TrainDictionaryConfig) -> None:
    """Put a preset's values where none were given; raises ConfigError for an unknown preset or foreign hookpoints."""
    if not config.preset:
        return
    require(config.preset in PRESETS, one_of("preset", config.preset, PRESETS), "preset")
    values = chosen_blocks(config, dict(PRESETS[config.preset].values))
    one_for_all = {f"{name}_each" for name in ("k", "n_latents") if name in config.given}
    settled = config.given | one_for_all
    for name, value in values.items():
        if name not in settled or name == "hookpoints":
            object.__setattr__(config, name, value)


def chosen_blocks(config: TrainDictionaryConfig, values: dict[str, Any]) -> dict[str, Any]:
    """A preset's schedule, cut to the hookpoints that were asked for."""
    if "hookpoints" not in values or not config.hookpoints:
        return values
    foreign = [name for name in config.hookpoints if name not in values["hookpoints"]]
    require(not foreign, f"The preset {config.preset} has no {', '.join(foreign)}; leave it out.", "hookpoints")
    places = [values["hookpoints"].index(name) for name in config.hookpoints]
    each = {name: tuple(values[name][i] for i in places) for name in ("k_each", "n_latents_each")}
    return values | each | {"hookpoints": config.hookpoints}


def check_kind(config: TrainDictionaryConfig) -> None:
    require(config.kind in TRAINED_KINDS, one_of("kind", config.kind, TRAINED_KINDS), "kind")
    known = ACTIVATIONS[config.kind]
    require(
        config.activation in ("", *known),
        one_of(f"activation of a {config.kind}", config.activation, known),
        "activation",
    )
    if config.kind in TRANSCODERS:
        wrong = [name for name in config.hookpoints if not name.endswith(MLP_IN)]
        require(
            not wrong, f"A transcoder reads MLP inputs such as blocks.3{MLP_IN}, not {', '.join(wrong)}.", "hookpoints"
        )
    if config.kind == "cross_layer_transcoder" and not wrong:
        blocks = [int(number) for name in config.hookpoints for number in re.findall(r"\d+", name)]
        require(
            blocks == sorted(blocks),
            "Name a cross-layer transcoder's hookpoints in the order of the blocks.",
            "hookpoints",
        )


def check_sizes(config: TrainDictionaryConfig) -> None:
    n = len(config.hookpoints)
    for name in ("n_latents_each", "k_each"):
        given = len(getattr(config, name))
        require(given in (0, n), f"{name} must have a number for each of the {n} hookpoints, not {given}.", name)
    if not config.k_each and not config.n_latents_each:
        fits = 1 <= config.k <= config.n_latents
        require(fits, f"k is {config.k}; it must lie between 1 and n_latents ({config.n_latents}).", "k")
    for hookpoint, n_latents, k in config.sizes():
        require(
            1 <= k <= n_latents, f"k is {k} at {hookpoint}; it must lie between 1 and its {n_latents} latents.", "k"
        )


def check_optimizer(config: TrainDictionaryConfig) -> None:
    require(config.learning_rate > 0, "The learning rate must be above 0.", "learning_rate")
    for name in ("sparsity_weight", "clip_norm"):
        require(getattr(config, name) >= 0, f"{name} is {getattr(config, name)}; it must be 0 or above.", name)


def varied(config: TrainDictionaryConfig, variant: str) -> TrainDictionaryConfig:
    """The config with what a variant such as 'k=32 n_latents=4096' changes; raises ConfigError if it is not clear."""
    changes = parse_variant(variant)
    changes.setdefault("name", f"{config.name} {variant.strip()}")
    if "hookpoints" in changes or "k" in changes:
        changes.setdefault("k_each", ())
    if "hookpoints" in changes or "n_latents" in changes:
        changes.setdefault("n_latents_each", ())
    if "kind" in changes:
        changes.setdefault("activation", "")
    try:
        return replace(config, **changes)
    except ConfigError as error:
        raise ConfigError(f"The further dictionary '{variant}' cannot be: {error}", "variants") from error


def parse_variant(variant: str) -> dict[str, Any]:
    kinds = {field.name: str(field.type) for field in fields(TrainDictionaryConfig)}
    changes: dict[str, Any] = {}
    for part in split_variant(variant):
        name, sign, text = part.partition("=")
        require(
            bool(sign) and name in OWN_SETTINGS,
            f"'{part}' in the further dictionary '{variant}' is no setting of its own; it can be SETTING=VALUE with "
            f"{', '.join(OWN_SETTINGS)}.",
            "variants",
        )
        require(name not in changes, f"The further dictionary '{variant}' gives {name} twice.", "variants")
        try:
            changes[name] = value_of_text(name, kinds[name], text)
        except ConfigError as error:
            raise ConfigError(str(error), "variants") from error  # it is this setting that is to be changed
    require(bool(changes), "A further dictionary needs something that differs, such as k=32.", "variants")
    return changes


def split_variant(variant: str) -> list[str]:
    try:
        return shlex.split(variant)
    except ValueError as error:
        raise ConfigError(f"The further dictionary '{variant}' cannot be read: {error}.", "variants") from error


def value_of_text(name: str, kind: str, text: str) -> Any:
    """A setting written out in a variant; lists by commas."""
    words = {"true": True, "yes": True, "false": False, "no": False}
    if kind.startswith("tuple"):
        entries = [entry for entry in text.split(",") if entry]
        return settled_value(name, kind, [number_or_text(entry) for entry in entries])
    if kind == "bool":
        return settled_value(name, kind, words.get(text.lower(), text))
    return settled_value(name, kind, text if kind == "str" else number_or_text(text))


def number_or_text(text: str) -> Any:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return text


def one_of(what: str, value: str, known: Any) -> str:
    return f"The {what} '{value}' is unknown; it can be {', '.join(known)}."
