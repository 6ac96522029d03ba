"""Training: one loop for every kind, several coders and several dictionaries from the same batches.

A ``Trainable`` is what one optimizer trains: the coder of one hookpoint, or a cross-layer transcoder over all of them.
A ``TrainingState`` holds all trainables of a run and everything their next step needs; ``training_state`` saves it, so
that a training goes on to the same bytes. One batch holds the tokens of every hookpoint, read in one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from workers.dictionaries.losses import Objective
from workers.dictionaries.sparse_step import StepResult
from workers.dictionaries.step import Execution

SPARSITY_WARM_UP_SHARE = 0.1  # of the steps; a penalty in full force at once kills latents
THRESHOLD, THRESHOLD_RATE = "threshold", 10.0  # times the learning rate: it is about 1, an entry of a row 1/√d_model
MOMENTS = ("exp_avg", "exp_avg_sq")

Batch = Mapping[str, Float[Tensor, "n_tokens width"]]


@dataclass(frozen=True)
class TrainingConfig:
    """How one trainable is trained. The defaults of AuxK are those of research/rrm.md §1."""

    learning_rate: float
    n_steps: int
    warm_up_steps: int = 0
    decay_steps: int = 0
    objective: Objective = field(default_factory=Objective)
    clip_norm: float = 0.0
    dead_after_tokens: int = 60 * 4096
    resample_at: tuple[int, ...] = ()
    log_every: int = 50
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.warm_up_steps + self.decay_steps > self.n_steps:
            raise ValueError(f"Warm-up and decay must fit into the {self.n_steps} steps of training.")

    def rate_at(self, step: int) -> float:
        """The learning rate of a step counted from 0: linear up, constant, linear down towards 0."""
        up = (step + 1) / self.warm_up_steps if step < self.warm_up_steps else 1.0
        left = self.n_steps - step
        down = left / (self.decay_steps + 1) if left <= self.decay_steps else 1.0
        return self.learning_rate * min(up, down)

    def objective_at(self, step: int) -> Objective:
        """What a step minimizes: the sparsity penalty rises over the first tenth of the steps."""
        share = min(1.0, (step + 1) / max(1.0, SPARSITY_WARM_UP_SHARE * self.n_steps))
        return self.objective._replace(sparsity_weight=share * self.objective.sparsity_weight)


class Metrics(NamedTuple):
    """What a step tells of one hookpoint, in normalized units."""

    loss: float
    auxiliary_loss: float
    explained_variance: float
    l0: float
    dead_share: float


class Trainable(Protocol):
    """What one optimizer trains. A batch holds the activations as read, in single precision, on its device."""

    reads: tuple[str, ...]
    writes: tuple[str, ...]

    @property
    def device(self) -> torch.device: ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """The weights that Adam changes, by name."""

    def counters(self) -> dict[str, Tensor]:
        """Everything else the next step depends on, by name; restored in place."""

    def initialize(self, generator: torch.Generator) -> None:
        """Give the weights their first values."""

    def prepare(self, batch: Batch, config: TrainingConfig) -> None:
        """Look at the first batch before the first step, to standardise by it, say."""

    def gradients(self, batch: Batch, config: TrainingConfig, step: int) -> StepResult:
        """Leave in ``.grad`` what Adam shall apply, clipped and projected."""

    def after_step(self) -> None:
        """Bring the weights back to where they must be: rows of norm 1, thresholds above 0."""

    def measure(self, batch: Batch, result: StepResult, config: TrainingConfig) -> dict[str, Metrics]:
        """Figures of a step by the hookpoint read."""

    def resample(self, batch: Batch, config: TrainingConfig, step: int) -> dict[str, Tensor]:
        """Start dead latents anew; the rows of each weight that were, so that Adam forgets them."""


OnMetrics = Callable[[str, int, Metrics], None]


@dataclass
class Training:
    """A trainable, its recipe and its optimizer; ``group`` names its dictionary where there are several."""

    trainable: Trainable
    config: TrainingConfig
    optimizer: torch.optim.Adam
    group: str = ""


@dataclass
class TrainingState:
    """All trainables of a run by label, and how far they are.

    ``n_parts`` is into how many steps a batch is cut: 2 once memory has run out.
    """

    trainings: dict[str, Training]
    step: int = 0
    n_tokens: int = 0
    n_parts: int = 1

    @property
    def n_steps(self) -> int:
        return max(training.config.n_steps for training in self.trainings.values())

    @property
    def log_every(self) -> int:
        return min(training.config.log_every for training in self.trainings.values())


def wrap_trainable(trainable: Trainable, config: TrainingConfig, group: str = "") -> Training:
    """With a fresh optimizer."""
    weights = trainable.parameters()
    groups = [
        {"params": [weight for name, weight in weights.items() if (name == THRESHOLD) == is_threshold], "scale": scale}
        for is_threshold, scale in ((False, 1.0), (True, THRESHOLD_RATE))
    ]
    chosen = [one for one in groups if one["params"]]
    return Training(trainable, config, torch.optim.Adam(chosen, lr=config.learning_rate, fused=True), group)


def train_steps(state: TrainingState, batches: Iterable[Batch], on_metrics: OnMetrics | None = None) -> None:
    """A step per batch (or per part of one) and trainable, up to the planned number; ``on_metrics`` hears of some."""
    for batch in batches:
        if state.step >= state.n_steps:
            return
        for training in state.trainings.values():
            result, part = train_on(training, own_batch(training.trainable, batch), state)
            if on_metrics is not None and state.step % state.log_every == 0:
                for hookpoint, metrics in training.trainable.measure(part, result, training.config).items():
                    on_metrics(f"{training.group}/{hookpoint}".removeprefix("/"), state.step, metrics)
        state.step += 1
        state.n_tokens += next(iter(batch.values())).shape[0]


def train_on(training: Training, batch: Batch, state: TrainingState) -> tuple[StepResult, Batch]:
    """The steps of one batch; the last one's result and tokens."""
    if state.step == 0:
        training.trainable.prepare(batch, training.config)
    if state.step in training.config.resample_at:
        forget_rows(training, training.trainable.resample(batch, training.config, state.step))
    for part in parts_of(batch, state.n_parts):
        result = train_step(training, part, state.step)
    return result, part


def train_step(training: Training, batch: Batch, step: int) -> StepResult:
    result = training.trainable.gradients(batch, training.config, step)
    for group in training.optimizer.param_groups:
        group["lr"] = group["scale"] * training.config.rate_at(step)
    training.optimizer.step()
    training.trainable.after_step()
    return result


def own_batch(trainable: Trainable, batch: Batch) -> Batch:
    names = dict.fromkeys((*trainable.reads, *trainable.writes))
    return {name: batch[name].to(trainable.device, torch.float32) for name in names}


def parts_of(batch: Batch, n_parts: int) -> Iterator[Batch]:
    n_tokens = next(iter(batch.values())).shape[0]
    size = -(-n_tokens // n_parts)
    for start in range(0, n_tokens, size):
        yield {name: tokens[start : start + size] for name, tokens in batch.items()}


@torch.no_grad()
def forget_rows(training: Training, rows: Mapping[str, Tensor]) -> None:
    """Clear Adam's moments of these rows."""
    weights = training.trainable.parameters()
    for name, chosen in rows.items():
        moments = training.optimizer.state.get(weights[name], {})
        for moment in (moments[key] for key in MOMENTS if key in moments):
            moment[chosen] = 0
