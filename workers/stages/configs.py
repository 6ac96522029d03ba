"""The stages a run can execute and their configs; free of torch and Django, so that forms can be built from them.

Digests name artefacts. Each config rejects unknown keys (``config_from_dict``) and wrong values (``__post_init__``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from workers.artifacts import ArtifactStore


class ConfigError(ValueError):
    """A value of a stage config is wrong; the message is fit for the user."""


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True)
class TrainModelConfig:
    """Train a small ViT classifier from an image set."""

    image_set: str
    name: str = "small-vit"
    architecture: str = "vit_tiny_patch16_224"
    image_size: int = 64
    patch_size: int = 8
    depth: int = 6
    width: int = 128
    n_epochs: int = 20
    learning_rate: float = 1e-3
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set",)

    def __post_init__(self) -> None:
        require(self.image_size % self.patch_size == 0, "The image size must be a multiple of the patch size.")
        require(self.n_epochs >= 1, "Training needs at least one epoch.")


@dataclass(frozen=True)
class TrainDictionaryConfig:
    """Train TopK SAEs at several hookpoints from one forward pass per image."""

    image_set: str
    vision_model: str
    hookpoints: tuple[str, ...]
    name: str = "topk-sae"
    n_latents: int = 1024
    k: int = 16
    n_tokens: int = 8_000_000
    batch_tokens: int = 4096
    learning_rate: float = 1e-3
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")

    def __post_init__(self) -> None:
        require(len(self.hookpoints) > 0, "Name at least one hookpoint, such as blocks.3.")
        require(
            1 <= self.k <= self.n_latents, f"k is {self.k}; it must lie between 1 and n_latents ({self.n_latents})."
        )
        require(self.batch_tokens >= 64, "A batch needs at least 64 tokens.")
        require(self.learning_rate > 0, "The learning rate must be above 0.")


@dataclass(frozen=True)
class MakeControlConfig:
    """A control dictionary at the hookpoints and densities of the dictionary it controls."""

    dictionary: str
    image_set: str
    kind: str = "random_directions"
    name: str = ""
    n_tokens: int = 200_000
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set")

    def __post_init__(self) -> None:
        kinds = ("residual_basis", "random_directions", "untrained_dictionary")
        require(self.kind in kinds, f"The control kind '{self.kind}' is unknown; it can be {', '.join(kinds)}.")


@dataclass(frozen=True)
class CollectExemplarsConfig:
    """One pass over an image set for several dictionaries of one vision model."""

    image_set: str
    dictionaries: tuple[str, ...]
    readout: str = ""
    n_top: int = 16
    images_per_chunk: int = 512
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "dictionaries")

    def __post_init__(self) -> None:
        require(len(self.dictionaries) > 0, "Name at least one dictionary.")


@dataclass(frozen=True)
class EvaluateDictionaryConfig:
    """Quality of a dictionary on an image set."""

    dictionary: str
    image_set: str
    max_images: int = 2000
    images_per_chunk: int = 256

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set")


@dataclass(frozen=True)
class FreezeStimuliConfig:
    """Freeze what the annotators of a study will see.

    ``plan`` is the digest of a feature-set artefact whose items.jsonl lists what to freeze.
    """

    image_set: str
    plan: str
    seed: int = 0

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "plan")


StageConfig = (
    TrainModelConfig
    | TrainDictionaryConfig
    | MakeControlConfig
    | CollectExemplarsConfig
    | EvaluateDictionaryConfig
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
    revision: int = 1


STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("train-model", TrainModelConfig, "gpu", "workers.stages.train_model", "images"),
        Stage("train-dictionary", TrainDictionaryConfig, "gpu", "workers.stages.train_dictionary", "tokens"),
        Stage("make-control", MakeControlConfig, "gpu", "workers.stages.make_control", "tokens"),
        Stage("collect-exemplars", CollectExemplarsConfig, "gpu", "workers.stages.collect_exemplars", "images"),
        Stage("evaluate-dictionary", EvaluateDictionaryConfig, "gpu", "workers.stages.evaluate_dictionary", "images"),
        Stage("freeze-stimuli", FreezeStimuliConfig, "cpu", "workers.stages.freeze_stimuli", "stimuli"),
    )
}


def config_from_dict(stage: str, values: Mapping[str, Any]) -> StageConfig:
    """Build a stage's config; raises ConfigError for an unknown stage, key or value."""
    require(stage in STAGES, f"There is no stage '{stage}'; the stages are {', '.join(STAGES)}.")
    config_class: Any = STAGES[stage].config_class
    names = [f.name for f in fields(config_class)]
    unknown = sorted(set(values) - set(names))
    require(not unknown, f"The stage {stage} has no setting '{', '.join(unknown)}'; it has {', '.join(names)}.")
    settled = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    try:
        config: StageConfig = config_class(**settled)
    except TypeError as error:
        raise ConfigError(f"The config of {stage} is not complete: {error}") from error
    return config


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
