"""What the stages of `workers` say of their settings: the core knows no Django, so its texts are collected from here.

They are the metadata of the configs (label, help, unit), the summaries of stages and presets, and the kinds in words;
pages translate them where they show them. Sentences of errors that the core raises stay English.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from workers.stages.configs.effects import KINDS_IN_WORDS, MEANINGS_OF_K
from workers.stages.configs.presets import PRESETS
from workers.stages.configs.registry import STAGES

SAID = ("label", "help", "unit")


def stage_texts() -> Iterator[tuple[str, str]]:
    """(where it stands, text); a text that several stages have comes as often."""
    for stage in STAGES.values():
        place = stage.config_class.__module__.replace(".", "/") + ".py"
        yield place, stage.summary
        for setting in fields(stage.config_class):
            yield from ((place, setting.metadata[name]) for name in SAID if setting.metadata.get(name))
    of_k = (words for pair in MEANINGS_OF_K.values() for words in pair)
    yield from (("workers/stages/configs/effects.py", words) for words in (*KINDS_IN_WORDS.values(), *of_k))
    yield from (("workers/stages/configs/presets.py", preset.summary) for preset in PRESETS.values())
