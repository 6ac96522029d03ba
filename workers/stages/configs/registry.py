"""The stages by name, and configs from and to plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

from workers.artifacts import ArtifactStore
from workers.stages.configs.base import ConfigError, require, settled_value
from workers.stages.configs.dictionaries import (
    AlignDictionariesConfig,
    CollectExemplarsConfig,
    EvaluateDictionaryConfig,
    MakeControlConfig,
)
from workers.stages.configs.feed_forward import ReadFeedForwardConfig
from workers.stages.configs.importing import ImportDictionaryConfig
from workers.stages.configs.models import EmbedImagesConfig, TrainModelConfig
from workers.stages.configs.studies import FreezeStimuliConfig
from workers.stages.configs.training import TrainDictionaryConfig

StageConfig = (
    TrainModelConfig
    | TrainDictionaryConfig
    | ReadFeedForwardConfig
    | ImportDictionaryConfig
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
        Stage(
            "train-dictionary", TrainDictionaryConfig, "gpu", "workers.stages.train_dictionary", "tokens", revision=2
        ),
        Stage("read-feed-forward", ReadFeedForwardConfig, "cpu", "workers.stages.read_feed_forward", "blocks"),
        Stage("import-dictionary", ImportDictionaryConfig, "gpu", "workers.stages.import_dictionary", "images"),
        Stage("make-control", MakeControlConfig, "gpu", "workers.stages.make_control", "tokens", revision=2),
        Stage(
            "collect-exemplars", CollectExemplarsConfig, "gpu", "workers.stages.collect_exemplars", "images", revision=4
        ),
        Stage(
            "evaluate-dictionary",
            EvaluateDictionaryConfig,
            "gpu",
            "workers.stages.evaluate_dictionary",
            "images",
            revision=3,
        ),
        Stage("embed-images", EmbedImagesConfig, "gpu", "workers.stages.embed_images", "images"),
        Stage(
            "align-dictionaries",
            AlignDictionariesConfig,
            "gpu",
            "workers.stages.align_dictionaries",
            "latents",
            revision=3,
        ),
        Stage("freeze-stimuli", FreezeStimuliConfig, "cpu", "workers.stages.freeze_stimuli", "stimuli", False, 5),
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


def parent_digests(config: StageConfig) -> list[str]:
    """The digests of the artefacts a config reads, in the order of its fields."""
    digests: list[str] = []
    for name in config.parent_fields:
        value = getattr(config, name)
        digests += [value] if isinstance(value, str) else list(value)
    return [digest for digest in digests if digest]


def config_to_dict(config: StageConfig) -> dict[str, Any]:
    """Its values by name; without a later field at its default, so that earlier requests keep their keys."""
    later = {one.name: one.default for one in fields(config) if one.name in getattr(config, "later_fields", ())}
    return {name: value for name, value in asdict(config).items() if name not in later or value != later[name]}


def run_request(store: ArtifactStore, stage: str, config: StageConfig) -> str:
    """The key under which a run's artefacts are found again, so that the same request computes nothing."""
    revision = STAGES[stage].revision
    return store.request_key(f"run:{stage}", revision, config_to_dict(config), parent_digests(config))
