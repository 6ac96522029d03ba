"""The stages a run can execute and their configs; free of torch and Django, so that forms can be built from them.

Digests name artefacts. Each config rejects unknown keys (``config_from_dict``) and wrong values (``__post_init__``).
"""

from workers.stages.configs.base import ConfigError, parent, require, setting
from workers.stages.configs.dictionaries import (
    BLOCK_PAIRS,
    CONTROL_KINDS,
    AlignDictionariesConfig,
    CollectExemplarsConfig,
    EvaluateDictionaryConfig,
    MakeControlConfig,
)
from workers.stages.configs.effects import refuse_without_effect, without_effect
from workers.stages.configs.feed_forward import ReadFeedForwardConfig
from workers.stages.configs.importing import ImportDictionaryConfig
from workers.stages.configs.models import EmbedImagesConfig, TrainModelConfig
from workers.stages.configs.registry import (
    STAGES,
    Stage,
    StageConfig,
    config_from_dict,
    config_to_dict,
    parent_digests,
    run_request,
)
from workers.stages.configs.studies import FreezeStimuliConfig
from workers.stages.configs.training import TrainDictionaryConfig

__all__ = [
    "BLOCK_PAIRS", "CONTROL_KINDS", "STAGES", "AlignDictionariesConfig", "CollectExemplarsConfig", "ConfigError",
    "EmbedImagesConfig", "EvaluateDictionaryConfig", "FreezeStimuliConfig", "ImportDictionaryConfig",
    "MakeControlConfig", "ReadFeedForwardConfig", "Stage", "StageConfig", "TrainDictionaryConfig", "TrainModelConfig",
    "config_from_dict", "config_to_dict", "parent", "parent_digests", "refuse_without_effect", "require", "run_request",
    "setting", "without_effect",
]  # fmt: skip
