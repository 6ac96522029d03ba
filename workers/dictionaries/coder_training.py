"""The training of one sparse coder: an SAE at a hookpoint, or a transcoder from one to another.

An SAE normalizes each token and keeps decoder rows of norm 1: the gradient along a row is removed before Adam's step,
and the row is renormalized after it (research/rrm.md §1). With free rows they begin at a tenth of that and keep what
norm they learn: a latent can then write less without reading less, and so without losing the competition for the k
places, and for most of such a training JumpReLU's thresholds are one, BatchTopK's. A transcoder reads and writes in
different places, so its tokens are standardised instead, by the mean and one deviation of the first batch at either,

    x' = (x − μ_in) / σ_in      y' = (y − μ_out) / σ_out,

which ``finished`` folds into the weights. BatchTopK keeps a running mean of its batches' thresholds and becomes a coder
with that one threshold. JumpReLU and ReLU have a penalty instead of a k; where no weight is given, it is steered so
that L0 comes near k.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workers.dictionaries.losses import Objective
from workers.dictionaries.sparse_coder import SparseCoder, initialize_coder, unit_rows
from workers.dictionaries.sparse_step import StepResult
from workers.dictionaries.step import clip_gradients, compute_gradients, normalize_rows, remove_parallel_gradient
from workers.dictionaries.training import Batch, Metrics, TrainingConfig

PENALIZED = ("jumprelu", "relu")
FASTEST_FORGETTING = 0.01  # of the running mean of thresholds: some 100 batches
STEERING = 0.005  # per step and e-fold of L0 over k
L0_FORGETTING = 0.2  # per step: L0 differs little from batch to batch
MOST_STEERED = 1e4  # times the first guess, either way
FREE_NORM = 0.1  # of decoder rows that are free, at first
COMMON_THRESHOLD_SHARE = 0.8  # of the steps; measured: earlier, and latents that are on more than others win
RESAMPLED_ENCODER = 0.2  # of the rows' mean norm (Bricken et al. 2023)


class Standard(NamedTuple):
    """A mean and one deviation, by which activations are standardised; 0 and 1 do nothing."""

    mean: Float[Tensor, " d_model"]
    deviation: Float[Tensor, ""]

    def of(self, activations: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, "n_tokens d_model"]:
        return (activations - self.mean) / self.deviation

    def learn(self, activations: Float[Tensor, "n_tokens d_model"]) -> None:
        self.mean.copy_(activations.mean(0))
        deviation = (activations - self.mean).square().mean().sqrt()
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))


class CoderTraining:
    """One coder on its way; a ``Trainable``."""

    def __init__(
        self, coder: SparseCoder, read: str, write: str = "", *, activation: str = "topk", has_free_rows: bool = False
    ) -> None:
        self.coder = coder
        self.has_free_rows = has_free_rows and coder.shape.is_bias_tied
        self.reads: tuple[str, ...] = (read,)
        self.writes: tuple[str, ...] = (write or read,)
        if activation == "jumprelu":
            coder.threshold.requires_grad_(True)
        self.trained = {name: weight for name, weight in coder.named_parameters() if weight.requires_grad}
        device = coder.W_enc.device
        self.tokens_since_fired = torch.zeros(coder.n_latents, dtype=torch.long, device=device)
        self.steered_weight, self.recent_l0 = (torch.zeros((), dtype=torch.float64) for _ in range(2))
        self.read_standard = Standard(torch.zeros(coder.d_model, device=device), torch.ones((), device=device))
        width = coder.shape.width_written
        self.write_standard = Standard(torch.zeros(width, device=device), torch.ones((), device=device))

    @property
    def device(self) -> torch.device:
        return self.coder.W_enc.device

    @property
    def has_unit_rows(self) -> bool:
        """A coder that writes elsewhere starts with rows of zero and keeps what norms it learns."""
        return self.coder.shape.is_bias_tied and not self.has_free_rows

    def parameters(self) -> dict[str, nn.Parameter]:
        return self.trained

    def counters(self) -> dict[str, Tensor]:
        counters = {"tokens_since_fired": self.tokens_since_fired}
        counters |= {"steered_weight": self.steered_weight, "recent_l0": self.recent_l0}
        if self.coder.shape.normalization == "none":
            for place, standard in (("read", self.read_standard), ("write", self.write_standard)):
                counters |= {f"{place}_mean": standard.mean, f"{place}_deviation": standard.deviation}
        if self.coder.shape.selection == "threshold" and "threshold" not in self.trained:
            counters["threshold"] = self.coder.threshold.data
        return counters

    def initialize(self, generator: torch.Generator) -> None:
        initialize_coder(self.coder, generator)
        if self.has_free_rows:
            self.coder.W_dec.data.mul_(FREE_NORM)

    @torch.no_grad()
    def prepare(self, batch: Batch, config: TrainingConfig) -> None:
        if self.coder.shape.normalization == "none":
            self.read_standard.learn(batch[self.reads[0]])
            self.write_standard.learn(batch[self.writes[0]])
        if config.objective.activation in PENALIZED:
            threshold = float(self.threshold_for_k(self.normalized(batch)[0]))
            if config.objective.activation == "jumprelu":
                self.coder.threshold.fill_(threshold)
            else:
                self.coder.b_enc.fill_(-threshold)
        self.steered_weight.fill_(self.guessed_weight())
        self.recent_l0.fill_(self.coder.k)

    def threshold_for_k(self, tokens: Float[Tensor, "n_tokens d_model"]) -> Float[Tensor, ""]:
        """One threshold at which k latents per token are active."""
        pre = self.coder.pre_activations(tokens[:512]).flatten()
        n_active = min(self.coder.k * tokens[:512].shape[0], pre.numel() - 1)
        return pre.kthvalue(pre.numel() - n_active).values.clamp_min(0)

    def guessed_weight(self) -> float:
        """Of ReLU's penalty, before it is steered: it takes a seventh of a normalized unit from each value."""
        return 0.3 / self.coder.d_model

    def normalized(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Tokens to read and targets to write, in the units of the loss."""
        read, written = batch[self.reads[0]], batch[self.writes[0]]
        if self.coder.shape.normalization == "none":
            return self.read_standard.of(read), self.write_standard.of(written)
        tokens = self.coder.normalize(read).tokens
        return tokens, tokens

    def gradients(self, batch: Batch, config: TrainingConfig, step: int) -> StepResult:
        tokens, targets = self.normalized(batch)

        def find_dead(fired: Int[Tensor, " n_latents"]) -> Bool[Tensor, " n_latents"]:
            return self.find_dead(fired, tokens.shape[0], config.dead_after_tokens)

        objective = self.objective_at(config, step)
        result = compute_gradients(self.coder, tokens, targets, find_dead, objective, config.execution)
        if self.has_unit_rows:
            remove_parallel_gradient(self.coder)
        if config.clip_norm:
            clip_gradients(self.coder, config.clip_norm)
        self.learn_of(result, config, step, tokens.shape[0])
        return result

    def objective_at(self, config: TrainingConfig, step: int) -> Objective:
        """What this step minimizes.

        Where no weight is given, JumpReLU's penalty is (L0/k − 1)², whose gradient in L0 is 2 (L0/k − 1)/k, and ReLU's
        has a weight that grows with L0/k, at once by itself and slowly by what is kept.
        """
        if self.has_common_threshold(config, step):
            return config.objective._replace(activation="batch_topk", sparsity_weight=0.0)
        if config.objective.activation not in PENALIZED or config.objective.sparsity_weight:
            return config.objective_at(step)
        excess = float(self.recent_l0) / self.coder.k
        if config.objective.activation == "jumprelu":
            return config.objective._replace(sparsity_weight=2 * (excess - 1) / self.coder.k)
        return config.objective._replace(sparsity_weight=float(self.steered_weight) * excess)

    def has_common_threshold(self, config: TrainingConfig, step: int) -> bool:
        """Whether the batch selects in the place of thresholds that JumpReLU has yet to learn."""
        is_early = step < COMMON_THRESHOLD_SHARE * config.n_steps
        return self.has_free_rows and config.objective.activation == "jumprelu" and is_early

    def find_dead(self, fired: Int[Tensor, " n_latents"], n_tokens: int, limit: int) -> Bool[Tensor, " n_latents"]:
        """Count this batch, then tell which latents have been silent for ``limit`` tokens or more."""
        self.tokens_since_fired.add_(n_tokens).masked_fill_(fired > 0, 0)
        return self.tokens_since_fired >= limit

    @torch.no_grad()
    def learn_of(self, result: StepResult, config: TrainingConfig, step: int, n_tokens: int) -> None:
        """Carry on the running threshold of a batch that selects, and steer the weight of a penalty towards k."""
        if result.threshold is not None:
            self.coder.threshold.lerp_(result.threshold, max(1 / (step + 1), FASTEST_FORGETTING))
        if config.objective.activation in PENALIZED and not config.objective.sparsity_weight:
            l0 = max(int(result.fired.sum()) / n_tokens, 1e-3)
            self.recent_l0.lerp_(torch.tensor(l0, dtype=torch.float64), L0_FORGETTING)
            error = max(-1.0, min(1.0, math.log(l0 / self.coder.k)))
            guess = self.guessed_weight()
            self.steered_weight.mul_(math.exp(STEERING * error)).clamp_(guess / MOST_STEERED, guess * MOST_STEERED)

    def after_step(self) -> None:
        if self.has_unit_rows:
            normalize_rows(self.coder)
        elif "threshold" in self.trained:
            self.coder.threshold.data.clamp_min_(0)

    def measure(self, batch: Batch, result: StepResult, config: TrainingConfig) -> dict[str, Metrics]:
        targets = self.normalized(batch)[1]
        loss = float(result.reconstruction_loss)
        variance = float((targets - targets.mean(dim=0)).square().mean())
        dead = self.tokens_since_fired >= config.dead_after_tokens
        metrics = Metrics(
            loss=loss,
            auxiliary_loss=float(result.auxiliary_loss),
            explained_variance=1 - loss / variance if variance > 0 else 0.0,
            l0=int(result.fired.sum()) / targets.shape[0],
            dead_share=float(dead.float().mean()),
        )
        return {self.reads[0]: metrics}

    @torch.no_grad()
    def resample(self, batch: Batch, config: TrainingConfig, step: int) -> dict[str, Tensor]:
        """Dead latents take the directions of tokens that are explained worst (Bricken et al. 2023).

        Nothing here draws: the tokens with the largest errors are taken in order, so a resumed training does the same.
        """
        dead = (self.tokens_since_fired >= config.dead_after_tokens).nonzero().squeeze(1)
        tokens, targets = self.normalized(batch)
        rows = dead[: tokens.shape[0]]
        if rows.numel() == 0:
            return {}
        selected = self.coder.encode_normalized(tokens)
        error = targets - self.coder.decode_normalized(selected)
        worst = error.square().sum(1).topk(rows.numel()).indices
        norm = self.coder.W_enc.norm(dim=1).mean()
        self.coder.W_enc[rows] = unit_rows(tokens[worst]) * RESAMPLED_ENCODER * norm
        self.coder.W_dec[rows] = unit_rows(error[worst])
        self.coder.b_enc[rows] = 0
        self.tokens_since_fired[rows] = 0
        return {name: rows for name in ("W_enc", "W_dec", "b_enc") if name in self.trained}

    @torch.no_grad()
    def finished(self) -> SparseCoder:
        """The coder for activations as they are read, standardisation folded into its weights."""
        coder = self.coder.requires_grad_(False)
        if coder.shape.normalization == "token":
            return coder
        read, write = self.read_standard, self.write_standard
        coder.W_enc.div_(read.deviation)
        coder.b_enc.sub_(coder.W_enc @ read.mean)
        coder.W_dec.mul_(write.deviation)
        coder.b_dec.mul_(write.deviation).add_(write.mean)
        if coder.shape.has_skip:
            coder.W_skip.mul_(write.deviation / read.deviation)
            coder.b_dec.sub_(coder.W_skip @ read.mean)
        return coder
