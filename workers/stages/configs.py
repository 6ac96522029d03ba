"""The stages a run can execute and their configs; free of torch and Django, so that forms can be built from them.

Digests name artefacts. Each config rejects unknown keys (``config_from_dict``) and wrong values (``__post_init__``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from typing import Any, ClassVar

from workers.artifacts import ArtifactStore

CONTROL_KINDS = ("residual_basis", "random_directions", "untrained_dictionary")


class ConfigError(ValueError):
    """A value of a stage config is wrong; the message is fit for the user."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def setting(default: Any, label: str, help_text: str = "") -> Any:
    """A field of a config with its default, its name for people and a line of help."""
    return field(default=default, metadata={"label": label, "help": help_text})


def parent(label: str, help_text: str = "") -> Any:
    """A field without default that names an artefact."""
    return field(metadata={"label": label, "help": help_text})


MOST_SEEDS = 2**31  # a stage derives further seeds from it that must fit into 64 bits
SEED_HELP = "The same seed gives the same bytes on the same machine."


@dataclass(frozen=True)
class TrainModelConfig:
    """Train a small ViT classifier from an image set."""

    image_set: str = parent("Image set", "Its labels are what the model learns to tell.")
    name: str = setting("small-vit", "Name", "What the model will be called.")
    architecture: str = setting("vit_tiny_patch16_224", "Architecture", "timm's name of a vision transformer.")
    image_size: int = setting(64, "Image size", "In pixels; a multiple of the patch size.")
    patch_size: int = setting(8, "Patch size", "In pixels.")
    depth: int = setting(6, "Blocks")
    width: int = setting(128, "Width", "Of the residual stream.")
    n_epochs: int = setting(20, "Epochs", "How often every image is seen.")
    learning_rate: float = setting(1e-3, "Learning rate")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set",)

    def __post_init__(self) -> None:
        require(self.patch_size >= 1, "A patch is at least one pixel wide.")
        require(self.image_size % self.patch_size == 0, "The image size must be a multiple of the patch size.")
        require(self.n_epochs >= 1, "Training needs at least one epoch.")
        require(self.depth >= 1 and self.width >= 1, "The model needs at least one block and a width above 0.")
        require(self.learning_rate > 0, "The learning rate must be above 0.")


@dataclass(frozen=True)
class TrainDictionaryConfig:
    """Train TopK SAEs at several hookpoints from one forward pass per image."""

    image_set: str = parent("Image set", "The images whose activations are read.")
    vision_model: str = parent("Vision model")
    hookpoints: tuple[str, ...] = parent("Hookpoints", "One sparse coder is trained at each, from one forward pass.")
    name: str = setting("topk-sae", "Name", "What the dictionary will be called.")
    n_latents: int = setting(1024, "Latents", "Per hookpoint; 8 to 32 times the width of the model is usual.")
    k: int = setting(16, "k", "How many latents may be active per token.")
    n_tokens: int = setting(8_000_000, "Tokens", "How many activations are seen in all.")
    batch_tokens: int = setting(4096, "Batch", "Tokens per step.")
    learning_rate: float = setting(1e-3, "Learning rate")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")

    def __post_init__(self) -> None:
        require(len(self.hookpoints) > 0, "Name at least one hookpoint, such as blocks.3.")
        require(
            1 <= self.k <= self.n_latents, f"k is {self.k}; it must lie between 1 and n_latents ({self.n_latents})."
        )
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.")
        require(self.n_tokens >= 1, f"n_tokens is {self.n_tokens}; training needs at least one token.")
        require(self.batch_tokens >= 64, "A batch needs at least 64 tokens.")
        require(self.learning_rate > 0, "The learning rate must be above 0.")


@dataclass(frozen=True)
class MakeControlConfig:
    """A control dictionary at the hookpoints and densities of the dictionary it controls."""

    dictionary: str = parent("Dictionary", "The dictionary to control for.")
    image_set: str = parent("Image set", "The images on which densities are matched.")
    kind: str = setting("random_directions", "Kind", "residual_basis, random_directions or untrained_dictionary.")
    name: str = setting("", "Name", "Left empty, the kind is its name.")
    n_tokens: int = setting(65_536, "Tokens", "How many activations the densities are matched on.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set")

    def __post_init__(self) -> None:
        require(
            self.kind in CONTROL_KINDS,
            f"The control kind '{self.kind}' is unknown; it can be {', '.join(CONTROL_KINDS)}.",
        )
        require(self.n_tokens >= 1, f"n_tokens is {self.n_tokens}; densities need at least one token.")


@dataclass(frozen=True)
class CollectExemplarsConfig:
    """One pass over an image set for several dictionaries of one vision model."""

    image_set: str = parent("Image set", "The images among which exemplars are looked for.")
    dictionaries: tuple[str, ...] = parent("Dictionaries", "One pass serves all of them; they read the same model.")
    readout: str = setting("", "Readout", "Gives the class each feature promotes (logit lens).")
    n_top: int = setting(24, "Top images", "Per feature; a sheet shows 16 patches and other images than theirs.")
    images_per_chunk: int = setting(512, "Images per chunk", "A chunk should take at most half a minute.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "dictionaries", "readout")

    def __post_init__(self) -> None:
        require(len(self.dictionaries) > 0, "Name at least one dictionary.")
        require(len(set(self.dictionaries)) == len(self.dictionaries), "Name each dictionary once.")
        require(self.n_top >= 1, f"n_top is {self.n_top}; keep at least one image per feature.")
        require(self.images_per_chunk >= 1, "A chunk needs at least one image.")


@dataclass(frozen=True)
class EvaluateDictionaryConfig:
    """Quality of a dictionary on an image set: explained variance, L0, dead and dense latents."""

    dictionary: str = parent("Dictionary")
    image_set: str = parent("Image set", "Best images that the dictionary was not trained on.")
    max_images: int = setting(2000, "Images at most")
    images_per_chunk: int = setting(256, "Images per chunk", "A chunk should take at most half a minute.")

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set")

    def __post_init__(self) -> None:
        require(self.max_images >= 1 and self.images_per_chunk >= 1, "Quality needs at least one image.")


@dataclass(frozen=True)
class EmbedImagesConfig:
    """Embed the images of a set, so that contrasts that look alike can be found."""

    image_set: str = parent("Image set")
    vision_model: str = parent("Vision model", "By which images are alike; best one that learned without labels.")
    images_per_chunk: int = setting(512, "Images per chunk", "A chunk should take at most half a minute.")

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")

    def __post_init__(self) -> None:
        require(self.images_per_chunk >= 1, "A chunk needs at least one image.")


@dataclass(frozen=True)
class AlignDictionariesConfig:
    """Find for each latent its nearest in another dictionary, and draw pairs to show to people."""

    dictionary: str = parent("Dictionary")
    other: str = parent("Other dictionary", "Of the same vision model.")
    hookpoints: tuple[str, ...] = setting((), "Hookpoints", "Left empty: all that both dictionaries read.")
    n_bins: int = setting(10, "Bins", "Equal ranges of the cosine between 0 and 1.")
    pairs_per_bin: int = setting(50, "Pairs per bin", "At each hookpoint, as far as there are so many.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "other")

    def __post_init__(self) -> None:
        require(self.dictionary != self.other, "Choose two different dictionaries.")
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.")
        require(1 <= self.n_bins <= 100, f"n_bins is {self.n_bins}; it must lie between 1 and 100.")
        require(self.pairs_per_bin >= 1, "Draw at least one pair per bin.")


@dataclass(frozen=True)
class FreezeStimuliConfig:
    """Freeze what the annotators of a study will see.

    ``plan`` is the digest of a feature-set artefact whose items.jsonl lists what to freeze.
    """

    image_set: str = parent("Image set")
    plan: str = parent("Plan", "The feature-set artefact that lists what to freeze.")
    embeddings: str = setting("", "Image embeddings", "Needed for hard contrasts.")
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "plan", "embeddings")


StageConfig = (
    TrainModelConfig
    | TrainDictionaryConfig
    | MakeControlConfig
    | CollectExemplarsConfig
    | EvaluateDictionaryConfig
    | EmbedImagesConfig
    | AlignDictionariesConfig
    | FreezeStimuliConfig
)


@dataclass(frozen=True)
class Stage:
    """A stage by name: its config, the queue it runs on, the module that executes it and what its units are."""

    name: str
    config_class: type[StageConfig]
    queue: str
    executor: str
    unit: str
    is_started_by_hand: bool = True
    revision: int = 1

    @property
    def summary(self) -> str:
        """What the stage does, in a sentence."""
        return (self.config_class.__doc__ or self.name).split("\n")[0]


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("train-model", TrainModelConfig, "gpu", "workers.stages.train_model", "images"),
        Stage("train-dictionary", TrainDictionaryConfig, "gpu", "workers.stages.train_dictionary", "tokens"),
        Stage("make-control", MakeControlConfig, "gpu", "workers.stages.make_control", "tokens"),
        Stage(
            "collect-exemplars", CollectExemplarsConfig, "gpu", "workers.stages.collect_exemplars", "images", revision=2
        ),
        Stage("evaluate-dictionary", EvaluateDictionaryConfig, "gpu", "workers.stages.evaluate_dictionary", "images"),
        Stage("embed-images", EmbedImagesConfig, "gpu", "workers.stages.embed_images", "images"),
        Stage("align-dictionaries", AlignDictionariesConfig, "gpu", "workers.stages.align_dictionaries", "latents"),
        Stage("freeze-stimuli", FreezeStimuliConfig, "cpu", "workers.stages.freeze_stimuli", "stimuli", False, 4),
    )
}


def config_from_dict(stage: str, values: Mapping[str, Any]) -> StageConfig:
    """Build a stage's config; raises ConfigError for an unknown stage, key or value."""
    require(stage in STAGES, f"There is no stage '{stage}'; the stages are {', '.join(STAGES)}.")
    config_class: Any = STAGES[stage].config_class
    names = [f.name for f in fields(config_class)]
    unknown = sorted(set(values) - set(names))
    require(not unknown, f"The stage {stage} has no setting '{', '.join(unknown)}'; it has {', '.join(names)}.")
    kinds = {f.name: str(f.type) for f in fields(config_class)}
    settled = {name: settled_value(name, kinds[name], value) for name, value in values.items()}
    try:
        config: StageConfig = config_class(**settled)
    except TypeError as error:
        missing = [f.name for f in fields(config_class) if f.default is MISSING and f.name not in values]
        raise ConfigError(f"The config of {stage} is not complete: give {', '.join(missing)}.") from error
    return config


KINDS_IN_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "tuple[str, ...]": "a list of texts",
}


def settled_value(name: str, kind: str, value: Any) -> Any:
    """The value as its field's type; raises ConfigError if it is of another."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "float" and is_number:
        require(math.isfinite(value), f"The setting '{name}' is {value!r}; it must be a finite number.")
        return float(value)
    if kind == "tuple[str, ...]" and isinstance(value, list | tuple) and all(isinstance(entry, str) for entry in value):
        return tuple(value)
    fits = (kind == "int" and is_number and isinstance(value, int)) or (kind == "str" and isinstance(value, str))
    require(fits, f"The setting '{name}' is {value!r}; it must be {KINDS_IN_WORDS.get(kind, kind)}.")
    if name == "seed":
        require(0 <= value < MOST_SEEDS, f"The seed is {value}; it must lie between 0 and {MOST_SEEDS - 1}.")
    return value


def parent_digests(config: StageConfig) -> list[str]:
    """The digests of the artefacts a config reads, in the order of its fields."""
    digests: list[str] = []
    for name in config.parent_fields:
        value = getattr(config, name)
        digests += [value] if isinstance(value, str) else list(value)
    return [digest for digest in digests if digest]


def config_to_dict(config: StageConfig) -> dict[str, Any]:
    return asdict(config)


def run_request(store: ArtifactStore, stage: str, config: StageConfig) -> str:
    """The key under which a run's artefacts are found again, so that the same request computes nothing."""
    revision = STAGES[stage].revision
    return store.request_key(f"run:{stage}", revision, config_to_dict(config), parent_digests(config))
