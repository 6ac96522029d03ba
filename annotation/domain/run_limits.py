"""What a run may not be before it is queued: for another model, or larger than the machine by far.

Estimates of memory are good to a factor of some two, and a worker may have a GPU, so a run is refused only where it
would need ten times the memory of this machine, and only as long as no worker of its queue runs on another one. What is
larger than the whole disk of the artefacts cannot be. Between that and what there is now the form warns. So it does of
a month; a century is refused.
"""

from __future__ import annotations

import os
import shutil
import socket
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.run_estimates import Estimate, readable_bytes, readable_seconds
from annotation.models import Dictionary, Readout, VisionModel, Worker
from workers.stages.configs import CollectExemplarsConfig, ConfigError, StageConfig, TrainDictionaryConfig
from workers.stages.configs.presets import preset_objection

WORKER_IS_GONE_AFTER = timedelta(seconds=60)
FAR_TOO_MUCH = 10.0  # times the memory of the machine
TOO_LONG = 100 * 365 * 24 * 3600.0  # a GPU is some 2,000 times as fast as what is guessed of two CPU cores
LONG = 30 * 24 * 3600.0  # seconds from which on the form warns
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Room:
    """Bytes of memory here, and of the disk that holds the artefacts."""

    memory: float
    disk_free: float
    disk_total: float


def room_here() -> Room:
    root = Path(settings.ARTIFACT_ROOT)
    there = next(folder for folder in (root, *root.parents) if folder.exists())
    disk = shutil.disk_usage(there)
    return Room(memory_here(), disk.free, disk.total)


def memory_here() -> float:
    """Of this machine, or of the container if that is told to have less."""
    physical = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    told = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.is_file() else ""
    return min(physical, float(told)) if told.isdecimal() else physical


def has_workers_elsewhere(queue: str) -> bool:
    """Whether a worker of the queue on another machine was seen within the last minute."""
    recent = Worker.objects.filter(queue=queue, seen_at__gte=timezone.now() - WORKER_IS_GONE_AFTER)
    return recent.exclude(name__startswith=f"{socket.gethostname()}:").exists()


def refuse_unfit(config: StageConfig, found: Estimate, room: Room, *, queue: str) -> None:
    """Raise ConfigError, with a sentence that says what would fit, for a run that cannot succeed."""
    if isinstance(config, TrainDictionaryConfig):
        refuse_foreign_model(config)
    if isinstance(config, CollectExemplarsConfig):
        refuse_several_models(config)
    if found.time.value > TOO_LONG:
        raise ConfigError(
            _(
                "The run would take about %(time)s at the rate known here. Take fewer tokens, images or epochs, or "
                "smaller dictionaries."
            )
            % {"time": readable_seconds(found.time.value)}
        )
    if found.memory.value > FAR_TOO_MUCH * room.memory and not has_workers_elsewhere(queue):
        raise ConfigError(
            _(
                "The run would hold about %(needed)s of memory, %(times)s times the %(here)s of this machine. Take "
                "%(less)s, or start a worker on a machine that has it."
            )
            % {
                "needed": readable_bytes(found.memory.value),
                "times": f"{found.memory.value / room.memory:,.0f}",
                "here": readable_bytes(room.memory),
                "less": what_to_lower(config),
            }
        )
    if found.disk.value > room.disk_total:
        raise ConfigError(
            _(
                "The run would need about %(needed)s of disk; the disk of the artefacts has %(here)s in all. Take "
                "%(less)s."
            )
            % {
                "needed": readable_bytes(found.disk.value),
                "here": readable_bytes(room.disk_total),
                "less": what_to_lower(config),
            }
        )


def what_to_lower(config: StageConfig) -> str:
    if isinstance(config, TrainDictionaryConfig):
        return _("fewer latents, hookpoints or dictionaries at once, or a smaller batch")
    return _("less at once")


def refuse_foreign_model(config: TrainDictionaryConfig) -> None:
    model = VisionModel.objects.filter(digest=config.vision_model).first()
    if model is None:
        return
    objection = preset_objection(config.preset, model_facts(model)) if config.preset else ""
    if objection:
        raise ConfigError(objection, "preset")
    missing = [name for name in config.hookpoints_read() if block_number(name) >= model.n_blocks]
    if missing:
        raise ConfigError(
            _("The model %(model)s has the blocks 0 to %(last)s; there is no %(missing)s.")
            % {"model": model.name, "last": model.n_blocks - 1, "missing": ", ".join(missing)},
            "hookpoints",
        )


def refuse_several_models(config: CollectExemplarsConfig) -> None:
    """One pass reads one model, and a readout belongs to a model too."""
    rows = Dictionary.objects.filter(digest__in=config.dictionaries).select_related("vision_model")
    names = sorted({row.vision_model.name for row in rows})
    if len(names) > 1:
        raise ConfigError(
            _("The dictionaries read different vision models (%(names)s); one pass serves those of one model.")
            % {"names": ", ".join(names)},
            "dictionaries",
        )
    readout = Readout.objects.filter(digest=config.readout).select_related("vision_model").first()
    if readout and names and readout.vision_model.name != names[0]:
        raise ConfigError(
            _("The readout belongs to the model %(own)s, the dictionaries to %(other)s.")
            % {"own": readout.vision_model.name, "other": names[0]},
            "readout",
        )


def model_facts(model: VisionModel) -> dict[str, Any]:
    """What a preset asks of a model, as its ``model.json`` has it."""
    return {
        "d_model": model.d_model,
        "n_blocks": model.n_blocks,
        "grid": [model.grid_height, model.grid_width],
        "n_prefix_tokens": model.n_prefix_tokens,
        "preprocessing": model.preprocessing,
    }


def block_number(hookpoint: str) -> int:
    """The 7 of 'blocks.7.mlp.in'; -1 where there is none, which the stage refuses by name."""
    parts = hookpoint.split(".")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else -1


def warnings_of(found: Estimate, room: Room, *, queue: str) -> list[str]:
    """What may well go wrong with a run that is not refused, a sentence each."""
    said = []
    if found.time.value > LONG:
        said.append(_("It would take over a month: about %(time)s.") % {"time": readable_seconds(found.time.value)})
    if found.memory.value > room.memory and not has_workers_elsewhere(queue):
        said.append(
            _("This machine has %(here)s of memory; the run may fail for lack of it.")
            % {"here": readable_bytes(room.memory)}
        )
    if found.disk.value > room.disk_free:
        said.append(
            _("%(free)s of disk are free; the run would fail for lack of it.")
            % {"free": readable_bytes(room.disk_free)}
        )
    return said
