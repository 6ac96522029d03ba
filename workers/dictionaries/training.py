"""Training of TopK coders at several hookpoints, in chunks that resume to the same bytes.

A ``TrainingState`` is everything the next step needs: weights, Adam's moments, and how many tokens ago each latent
last fired. It is saved as safetensors and json. One batch holds the tokens of every hookpoint, read in one forward
pass. Decoder rows keep norm 1: the gradient along each row is removed before Adam's step, and the row is
renormalized after it (research/rrm.md §1).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.dictionaries.losses import AuxK, topk_loss
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder, normalize_tokens, unit_rows
from workers.dictionaries.sparse_step import StepResult, count_active, sparse_gradients

STATE_TENSORS = "state.safetensors"
STATE_RECORD = "state.json"
TRAINED = ("W_enc", "W_dec", "b_dec")
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class TrainingConfig:
    """The recipe of a TopK coder. The defaults of AuxK are those of research/rrm.md §1."""

    k: int
    learning_rate: float
    n_steps: int
    warm_up_steps: int = 0
    decay_steps: int = 0
    aux_weight: float = 1 / 32
    k_aux: int = 256
    dead_after_tokens: int = 60 * 4096
    log_every: int = 50

    def __post_init__(self) -> None:
        if self.n_steps < 1 or self.warm_up_steps + self.decay_steps > self.n_steps:
            raise ValueError(f"Warm-up and decay must fit into the {self.n_steps} steps of training.")

    @property
    def aux(self) -> AuxK:
        return AuxK(self.aux_weight, self.k_aux)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step counted from 0: linear up, constant, linear down towards 0."""
        up = (step + 1) / self.warm_up_steps if step < self.warm_up_steps else 1.0
        left = self.n_steps - step
        down = left / (self.decay_steps + 1) if left <= self.decay_steps else 1.0
        return self.learning_rate * min(up, down)


class Metrics(NamedTuple):
    """What a step tells of one hookpoint, in normalized units."""

    loss: float
    auxiliary_loss: float
    explained_variance: float
    l0: float
    dead_share: float


OnMetrics = Callable[[str, int, Metrics], None]
Batch = Mapping[str, Float[Tensor, "n_tokens d_model"]]


@dataclass
class CoderTraining:
    """One coder on its way: weights, optimizer, and the tokens seen since each latent last fired."""

    coder: SparseCoder
    optimizer: torch.optim.Adam
    tokens_since_fired: Int[Tensor, " n_latents"]

    def find_dead(self, fired: Int[Tensor, " n_latents"], n_tokens: int, limit: int) -> Bool[Tensor, " n_latents"]:
        """Count this batch, then tell which latents have been silent for ``limit`` tokens or more."""
        self.tokens_since_fired.add_(n_tokens).masked_fill_(fired > 0, 0)
        return self.tokens_since_fired >= limit


@dataclass
class TrainingState:
    """All coders of a run and how far they are."""

    coders: dict[str, CoderTraining]
    step: int = 0
    n_tokens: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


def start_training(
    widths: Mapping[str, int], n_latents: int, config: TrainingConfig, seed: int, device: str = "cpu"
) -> TrainingState:
    """A fresh state; ``widths`` gives d_model of each hookpoint. Each hookpoint draws from its own stream."""
    coders = {}
    for position, (hookpoint, d_model) in enumerate(widths.items()):
        coder = SparseCoder(CoderShape(d_model, n_latents, config.k))
        initialize_coder(coder, torch.Generator().manual_seed(1_000_003 * seed + position))
        coders[hookpoint] = wrap_coder(coder.to(device), config)
    return TrainingState(coders, device=torch.device(device))


def wrap_coder(coder: SparseCoder, config: TrainingConfig) -> CoderTraining:
    trained = [getattr(coder, name) for name in TRAINED]
    optimizer = torch.optim.Adam(trained, lr=config.learning_rate, fused=True)
    return CoderTraining(coder, optimizer, torch.zeros(coder.n_latents, dtype=torch.long, device=coder.W_enc.device))


def train_steps(
    state: TrainingState, batches: Iterable[Batch], config: TrainingConfig, on_metrics: OnMetrics | None = None
) -> None:
    """One step per batch, up to ``config.n_steps`` in all."""
    for batch in batches:
        if state.step >= config.n_steps:
            return
        is_logged = on_metrics is not None and state.step % config.log_every == 0
        for hookpoint, training in state.coders.items():
            tokens = normalize_tokens(batch[hookpoint].to(state.device, torch.float32)).tokens
            result = train_step(training, tokens, config, state.step)
            if is_logged and on_metrics is not None:
                on_metrics(hookpoint, state.step, measure(training, tokens, result, config))
        state.step += 1
        state.n_tokens += next(iter(batch.values())).shape[0]


def train_step(
    training: CoderTraining, tokens: Float[Tensor, "n_tokens d_model"], config: TrainingConfig, step: int
) -> StepResult:
    result = compute_gradients(training, tokens, config)
    remove_parallel_gradient(training.coder)
    for group in training.optimizer.param_groups:
        group["lr"] = config.rate_at(step)
    training.optimizer.step()
    with torch.no_grad():
        training.coder.W_dec.copy_(unit_rows(training.coder.W_dec))
    return result


def compute_gradients(training: CoderTraining, tokens: Tensor, config: TrainingConfig) -> StepResult:
    """The fast step on a CPU; plain autograd elsewhere, where dense products are cheap."""

    def find_dead(fired: Tensor) -> Tensor:
        return training.find_dead(fired, tokens.shape[0], config.dead_after_tokens)

    coder = training.coder
    if tokens.device.type == "cpu":
        return sparse_gradients(coder, tokens, find_dead, config.aux)
    training.optimizer.zero_grad()
    fired = count_active(coder.encode_normalized(tokens), coder.n_latents)
    loss = topk_loss(coder, tokens, find_dead(fired), config.aux)
    loss.total(config.aux).backward()  # type: ignore[no-untyped-call]
    return StepResult(loss.reconstruction.detach(), loss.auxiliary.detach(), fired)


@torch.no_grad()
def remove_parallel_gradient(coder: SparseCoder) -> None:
    """Take from each decoder row's gradient its part along the row, which the renormalization would undo."""
    assert coder.W_dec.grad is not None
    along = (coder.W_dec.grad * coder.W_dec).sum(dim=1, keepdim=True)
    coder.W_dec.grad.addcmul_(along, coder.W_dec, value=-1)


def measure(training: CoderTraining, tokens: Tensor, result: StepResult, config: TrainingConfig) -> Metrics:
    loss = float(result.reconstruction_loss)
    variance = float((tokens - tokens.mean(dim=0)).square().mean())
    dead = training.tokens_since_fired >= config.dead_after_tokens
    return Metrics(
        loss=loss,
        auxiliary_loss=float(result.auxiliary_loss),
        explained_variance=1 - loss / variance,
        l0=int(result.fired.sum()) / tokens.shape[0],
        dead_share=float(dead.float().mean()),
    )


def save_state(state: TrainingState, folder: Path) -> None:
    tensors = {}
    for hookpoint, training in state.coders.items():
        tensors[f"{hookpoint}.tokens_since_fired"] = training.tokens_since_fired
        for name in TRAINED:
            weight = getattr(training.coder, name)
            tensors[f"{hookpoint}.{name}"] = weight.detach()
            moments = training.optimizer.state.get(weight, {})
            tensors |= {f"{hookpoint}.{name}.{moment}": moments[moment] for moment in MOMENTS if moment in moments}
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, folder / STATE_TENSORS)
    record = {"step": state.step, "n_tokens": state.n_tokens, "hookpoints": list(state.coders)}
    (folder / STATE_RECORD).write_text(json.dumps(record, sort_keys=True))


def load_state(folder: Path, config: TrainingConfig, device: str = "cpu") -> TrainingState:
    """The state ``save_state`` wrote; the next step is the one an undisturbed training would have taken."""
    record = json.loads((folder / STATE_RECORD).read_text())
    tensors = load_file(folder / STATE_TENSORS)
    coders = {hookpoint: load_coder(tensors, hookpoint, config, device) for hookpoint in record["hookpoints"]}
    for training in coders.values():
        restore_optimizer_step(training.optimizer, record["step"])
    return TrainingState(coders, record["step"], record["n_tokens"], torch.device(device))


def load_coder(tensors: Mapping[str, Tensor], hookpoint: str, config: TrainingConfig, device: str) -> CoderTraining:
    n_latents, d_model = tensors[f"{hookpoint}.W_enc"].shape
    coder = SparseCoder(CoderShape(d_model, n_latents, config.k)).to(device)
    training = wrap_coder(coder, config)
    training.tokens_since_fired.copy_(tensors[f"{hookpoint}.tokens_since_fired"])
    for name in TRAINED:
        weight = getattr(coder, name)
        with torch.no_grad():
            weight.copy_(tensors[f"{hookpoint}.{name}"])
        moments = {moment: tensors.get(f"{hookpoint}.{name}.{moment}") for moment in MOMENTS}
        found = {moment: tensor.to(device) for moment, tensor in moments.items() if tensor is not None}
        if found:
            training.optimizer.state[weight] = found
    return training


def restore_optimizer_step(optimizer: torch.optim.Adam, step: int) -> None:
    """Adam counts its steps for the bias correction; ours are the state's."""
    for weight, moments in optimizer.state.items():
        moments["step"] = torch.tensor(float(step), dtype=torch.float32, device=weight.device)
