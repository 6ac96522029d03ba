"""Train a small ViT classifier from an image set, in chunks of steps that resume to the last bit.

AdamW with a linear warm-up and half a cosine. A state folder holds weights, moments and the step; `run_steps` goes from
one folder to the next. The images of a step follow from (seed, epoch) only, and nothing else is drawn at random.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.activations import FORWARD_BATCH, shuffled
from workers.artifacts import Artifact, ArtifactStore
from workers.images import ImageSetReader, image_batches
from workers.preprocessing import Preprocessing
from workers.vision_model import (
    ModelDescription,
    ModelRequest,
    create_vit,
    describe,
    load_weights,
    require_vit,
    write_vision_model,
)

MAX_GRADIENT_NORM = 1.0
WAVELENGTHS_TO = 100.0  # positions are at most a few tens of patches apart
HEAD_WIDTH = 32
HELD_OUT = 10  # one image in so many is kept for testing where the set has no split of its own
MAX_GROUPS = 12  # attributes with more values than this are no groups to report accuracy by
MOMENTS = ("exp_avg", "exp_avg_sq")
TRAIN_NAMES = ("train", "training")
OnMetric = Callable[[str, int, float], None]


@dataclass(frozen=True)
class ClassifierConfig:
    """What to train and how. Images are squashed to the model's size, so that patch maps cover them whole."""

    architecture: str
    timm_kwargs: Mapping[str, Any]
    n_epochs: int
    learning_rate: float = 1e-3
    batch_size: int = 64
    weight_decay: float = 0.05
    warmup_share: float = 0.05
    seed: int = 0
    preprocessing: Mapping[str, Any] = field(default_factory=lambda: {"crop_mode": "squash", "crop_pct": 1.0})

    def __post_init__(self) -> None:
        if self.n_epochs < 1 or self.batch_size < 1 or self.learning_rate <= 0:
            raise ValueError("Training needs at least one epoch, one image per batch and a learning rate above 0.")


class TrainingPlan(NamedTuple):
    """Which images are learned from and which are kept to test on, and how many steps that makes."""

    train: list[int]
    test: list[int]
    batch_size: int
    steps_per_epoch: int
    n_steps: int

    def images_of(self, step: int, seed: int) -> list[int]:
        epoch, position = divmod(step, self.steps_per_epoch)
        order = shuffled(len(self.train), seed, "training images", epoch)
        start = position * self.batch_size
        return [self.train[i] for i in order[start : start + self.batch_size].tolist()]


class Optimizer:
    """AdamW without weight decay on vectors, gradients clipped, the learning rate set from outside at each step."""

    def __init__(self, module: nn.Module, weight_decay: float) -> None:
        self.named = dict(module.named_parameters())
        matrices = [p for p in self.named.values() if p.ndim > 1]
        vectors = [p for p in self.named.values() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups)

    def step(self, loss: Tensor, rate: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = rate
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.named.values(), MAX_GRADIENT_NORM)
        self.adam.step()

    def moments(self) -> dict[str, Tensor]:
        """Both moments of every parameter, by `<moment>.<parameter>`."""
        states = {name: self.adam.state[p] for name, p in self.named.items() if p in self.adam.state}
        return {f"{moment}.{name}": state[moment] for name, state in states.items() for moment in MOMENTS}

    def restore(self, moments: Mapping[str, Tensor], n_steps: int) -> None:
        for name, parameter in self.named.items() if moments else ():
            found = {moment: moments[f"{moment}.{name}"].to(parameter.device) for moment in MOMENTS}
            self.adam.state[parameter] = {"step": torch.tensor(float(n_steps)), **found}


@dataclass
class TrainingState:
    """A model on its way, and how many steps it has made."""

    module: nn.Module
    optimizer: Optimizer
    step: int


def small_vit_settings(image_size: int, patch_size: int, depth: int, width: int, n_classes: int) -> dict[str, Any]:
    """timm's settings of a small ViT; its heads are 32 wide where the width allows it."""
    if width % 4:
        raise ValueError(f"The width {width} must be a multiple of 4, to hold the positions' sines and cosines.")
    n_heads = width // HEAD_WIDTH if width % HEAD_WIDTH == 0 else 1
    return {
        "img_size": image_size,
        "patch_size": patch_size,
        "depth": depth,
        "embed_dim": width,
        "num_heads": n_heads,
        "num_classes": n_classes,
    }


def plan_training(config: ClassifierConfig, reader: ImageSetReader) -> TrainingPlan:
    """Learn from the images whose attribute `split` is train, or else from nine in ten; raises ValueError."""
    labeled = [i for i, label in enumerate(reader.label_indices.tolist()) if label >= 0]
    if len({reader.labels[i] for i in labeled}) < 2:
        raise ValueError("The image set has labels of fewer than two classes; there is nothing to learn to tell apart.")
    splits = {i: reader.attributes(i).get("split") for i in labeled}
    if any(split in TRAIN_NAMES for split in splits.values()):
        train = [i for i in labeled if splits[i] in TRAIN_NAMES]
        test = [i for i in labeled if splits[i] not in TRAIN_NAMES]
    else:
        order = [labeled[i] for i in shuffled(len(labeled), config.seed, "held out", 0).tolist()]
        n_test = max(1, len(labeled) // HELD_OUT)
        train, test = sorted(order[n_test:]), sorted(order[:n_test])
    batch_size = min(config.batch_size, len(train))
    steps_per_epoch = len(train) // batch_size
    return TrainingPlan(train, test, batch_size, steps_per_epoch, config.n_epochs * steps_per_epoch)


@dataclass(frozen=True)
class ClassifierTraining:
    """A training with its images and the machine it runs on."""

    config: ClassifierConfig
    reader: ImageSetReader
    n_threads: int = 2
    device: str = "cpu"

    @cached_property
    def plan(self) -> TrainingPlan:
        return plan_training(self.config, self.reader)

    def describe(self, module: nn.Module) -> ModelDescription:
        request = ModelRequest(
            architecture=self.config.architecture,
            source="trained",
            seed=self.config.seed,
            timm_kwargs=self.config.timm_kwargs,
            preprocessing=self.config.preprocessing,
            classes=self.reader.classes,
        )
        return describe(module, request)

    def batches(self, transform: Preprocessing, images: Sequence[int], size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Images with the numbers of their classes."""
        labels = torch.split(torch.from_numpy(self.reader.label_indices)[list(images)], size)
        pixels = image_batches(self.reader, transform, images, size, self.n_threads)
        for batch, numbers in zip(pixels, labels, strict=True):
            yield batch.to(self.device), numbers.to(self.device)


def start_state(config: ClassifierConfig, folder: Path) -> None:
    """Write the state before the first step: weights drawn from the seed."""
    module = create_vit(config.architecture, config.timm_kwargs, seed=config.seed)
    require_vit(module, config.architecture)
    set_sine_positions(module)
    save_state(TrainingState(module, Optimizer(module, config.weight_decay), 0), folder)


def run_steps(
    training: ClassifierTraining, source: Path, target: Path, *, n_steps: int, on_metric: OnMetric | None = None
) -> None:
    """Go at most `n_steps` on from the state in `source`, and write the state reached to `target`."""
    config, plan = training.config, training.plan
    state = load_state(config, source, training.device)
    stop = min(plan.n_steps, state.step + n_steps)
    images = [i for step in range(state.step, stop) for i in plan.images_of(step, config.seed)]
    state.module.train()
    for batch, labels in training.batches(training.describe(state.module).preprocessing, images, plan.batch_size):
        loss = F.cross_entropy(state.module(batch), labels)
        warmup_steps = round(config.warmup_share * plan.n_steps)
        state.optimizer.step(loss, learning_rate(state.step, plan.n_steps, warmup_steps, config.learning_rate))
        if on_metric is not None:
            on_metric("loss", state.step, loss.item())
        state.step += 1
    save_state(state, target)


def finish_training(store: ArtifactStore, training: ClassifierTraining, source: Path) -> Artifact:
    """Measure the model on the images kept for testing, and write it as the artefact `vision-model`."""
    plan = training.plan
    state = load_state(training.config, source, training.device)
    if state.step != plan.n_steps:
        raise ValueError(f"The training is at step {state.step} of {plan.n_steps}; run the rest first.")
    record = {
        "n_steps": plan.n_steps,
        "n_train": len(plan.train),
        "n_test": len(plan.test),
        "accuracy": measure_accuracy(training, state.module, plan.test),
    }
    return write_vision_model(
        store,
        state.module,
        training.describe(state.module),
        parents=[training.reader.digest],
        config=recorded_config(training.config),
        records={"training.json": record},
    )


def recorded_config(config: ClassifierConfig) -> dict[str, Any]:
    recorded: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return recorded


@torch.no_grad()
def measure_accuracy(training: ClassifierTraining, module: nn.Module, images: Sequence[int]) -> dict[str, Any]:
    """Accuracy over all images, and by every value of every attribute that has few of them."""
    module.eval()
    right: list[bool] = []
    for batch, labels in training.batches(training.describe(module).preprocessing, images, FORWARD_BATCH):
        right += (module(batch).argmax(dim=1) == labels).tolist()
    groups: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for image, is_right in zip(images, right, strict=True):
        for attribute, value in training.reader.attributes(image).items():
            groups[attribute][json.dumps(value)].append(is_right)
    by_attribute = {
        attribute: {value: share(rights) for value, rights in sorted(values.items())}
        for attribute, values in sorted(groups.items())
        if len(values) <= MAX_GROUPS
    }
    return {"all": share(right), "by_attribute": by_attribute}


def share(right: Sequence[bool]) -> dict[str, float]:
    return {"n": len(right), "accuracy": round(sum(right) / len(right), 6) if right else 0.0}


def save_state(state: TrainingState, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    weights = {f"weights.{name}": tensor for name, tensor in state.module.state_dict().items()}
    tensors = {name: t.detach().cpu().contiguous() for name, t in {**weights, **state.optimizer.moments()}.items()}
    save_file(tensors, folder / "state.safetensors")
    (folder / "state.json").write_text(json.dumps({"step": state.step}) + "\n")


def load_state(config: ClassifierConfig, folder: Path, device: str = "cpu") -> TrainingState:
    tensors = load_file(folder / "state.safetensors")
    step = json.loads((folder / "state.json").read_text())["step"]
    weights = {name.removeprefix("weights."): t for name, t in tensors.items() if name.startswith("weights.")}
    module = create_vit(config.architecture, config.timm_kwargs)
    load_weights(module, weights, str(folder))
    module.to(device)
    optimizer = Optimizer(module, config.weight_decay)
    optimizer.restore({name: t for name, t in tensors.items() if not name.startswith("weights.")}, step)
    return TrainingState(module, optimizer, step)


def learning_rate(step: int, n_steps: int, warmup_steps: int, peak: float) -> float:
    """Linear warm-up, and half a cosine down to zero over the whole."""
    return peak * min(1.0, (step + 1) / max(1, warmup_steps)) * 0.5 * (1 + math.cos(math.pi * step / n_steps))


@torch.no_grad()
def set_sine_positions(module: Any) -> None:
    """Begin with sines and cosines of row and column as position embeddings of the patches.

    timm begins with noise of deviation 0.02, far below the patch embeddings; a small ViT then needs thousands of steps
    to find out where its patches are, and learns no shapes until it has.
    """
    positions, grid = module.pos_embed, module.patch_embed.grid_size
    if positions is None:  # rotary positions only
        return
    n_patches, d_model = grid[0] * grid[1], positions.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(grid[0]), torch.arange(grid[1]), indexing="ij")
    waves = torch.cat([sine_waves(rows.flatten(), d_model // 2), sine_waves(columns.flatten(), d_model // 2)], dim=1)
    positions[:, -n_patches:] = waves


def sine_waves(position: Tensor, n_waves: int) -> Tensor:
    """[position, n_waves] sines and cosines over geometric frequencies, the fastest with a period of four patches."""
    frequency = (math.pi / 2) / WAVELENGTHS_TO ** (torch.arange(n_waves // 2) / (n_waves // 2))
    angle = position[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
