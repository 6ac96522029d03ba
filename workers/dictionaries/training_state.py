"""A training state on disk: weights, Adam's moments and counters as safetensors, and how far it is as json.

What is loaded takes the very next step that an undisturbed training would have taken, to the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.dictionaries.training import MOMENTS, Training, TrainingState

STATE_TENSORS = "state.safetensors"
STATE_RECORD = "state.json"
OF_ADAM = (*MOMENTS, "step")


def start_state(trainings: Mapping[str, Training], seed: int) -> TrainingState:
    """Fresh weights, each trainable's from a stream of its own by its place in its dictionary."""
    n_before: Counter[str] = Counter()
    for training in trainings.values():
        stream = 1_000_003 * seed + n_before[training.group]
        training.trainable.initialize(torch.Generator().manual_seed(stream))
        n_before[training.group] += 1
    return TrainingState(dict(trainings))


def save_state(state: TrainingState, folder: Path) -> None:
    tensors: dict[str, Tensor] = {}
    for label, training in state.trainings.items():
        tensors |= {f"{label}|counter|{name}": value for name, value in training.trainable.counters().items()}
        for name, weight in training.trainable.parameters().items():
            tensors[f"{label}|weight|{name}"] = weight.detach()
            moments = training.optimizer.state.get(weight, {})
            tensors |= {f"{label}|{moment}|{name}": moments[moment] for moment in OF_ADAM if moment in moments}
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, folder / STATE_TENSORS)
    record = {"step": state.step, "n_tokens": state.n_tokens, "n_parts": state.n_parts}
    (folder / STATE_RECORD).write_text(json.dumps(record, sort_keys=True))


def load_state(folder: Path, trainings: Mapping[str, Training]) -> TrainingState:
    """Fill these trainings, fresh from the same config, with what ``save_state`` wrote."""
    tensors = load_file(folder / STATE_TENSORS)
    for label, training in trainings.items():
        with torch.no_grad():
            restore(training, label, tensors)
    return TrainingState(dict(trainings), **json.loads((folder / STATE_RECORD).read_text()))


def restore(training: Training, label: str, tensors: Mapping[str, Tensor]) -> None:
    for name, value in training.trainable.counters().items():
        value.copy_(tensors[f"{label}|counter|{name}"])
    for name, weight in training.trainable.parameters().items():
        weight.copy_(tensors[f"{label}|weight|{name}"])
        found = {moment: tensors.get(f"{label}|{moment}|{name}") for moment in OF_ADAM}
        moments = {moment: tensor.to(weight.device) for moment, tensor in found.items() if tensor is not None}
        if moments:
            training.optimizer.state[weight] = moments
