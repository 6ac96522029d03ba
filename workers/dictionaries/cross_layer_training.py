"""The training of a cross-layer transcoder: one ``Trainable`` that reads and writes at all its blocks.

Inputs and targets are standardized by the mean and one deviation of the first batch at each hookpoint, so that each
target weighs the same in the loss; ``write`` folds this into the weights. Thresholds of JumpReLU begin where k latents
per token are on. Where no weight of the tanh penalty is given, it is steered so that the mean L0 comes near k. Dead
latents are helped by AuxK, those of JumpReLU by their shortfall (see ``cross_layer_loss``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from workers.artifacts import ArtifactWriter
from workers.dictionaries.coder_training import (
    MOST_STEERED,
    RESAMPLED_ENCODER,
    STEERING,
    Standard,
)
from workers.dictionaries.cross_layer import (
    CrossLayerCoder,
    CrossLayerShape,
    initialize_cross_layer,
    write_cross_layer,
)
from workers.dictionaries.cross_layer_loss import CrossLayerObjective
from workers.dictionaries.cross_layer_step import compute_cross_layer_gradients
from workers.dictionaries.losses import ACTIVATIONS
from workers.dictionaries.sparse_coder import unit_rows
from workers.dictionaries.sparse_step import StepResult
from workers.dictionaries.store import DictionaryDescription
from workers.dictionaries.training import Batch, Metrics, TrainingConfig
from workers.hookpoints import block_of
from workers.stages.configs import TrainDictionaryConfig

CALIBRATION_TOKENS = 512
TANH_SCALE = 1.0  # c: a latent whose share of a standardized target is well above 1 counts as one, whatever its size


def make_cross_layer(config: TrainDictionaryConfig, widths: dict[str, int], device: str = "cpu") -> CrossLayerTraining:
    """Fresh from a stage's config; ``widths`` are those of the hookpoints. Raises ValueError with a sentence."""
    blocks = [block_of(read) for read in config.hookpoints]
    if blocks != sorted(blocks):
        raise ValueError("A cross-layer transcoder's hookpoints must be named in the order of the blocks.")
    read_widths, written_widths = ({widths[name] for name in names} for names in (config.hookpoints, config.writes))
    if len(read_widths) > 1 or len(written_widths) > 1:
        raise ValueError("A cross-layer transcoder needs blocks of one width; train a transcoder for each instead.")
    sizes = config.sizes()
    shape = CrossLayerShape(
        d_model=read_widths.pop(),
        d_out=written_widths.pop(),
        n_latents=tuple(n_latents for _, n_latents, _ in sizes),
        k=tuple(k for _, _, k in sizes),
        selection=ACTIVATIONS[config.trained_by],
    )
    return CrossLayerTraining(CrossLayerCoder(shape).to(device), config.hookpoints, config.writes)


class CrossLayerTraining:
    """A cross-layer transcoder on its way."""

    def __init__(self, coder: CrossLayerCoder, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
        self.coder = coder
        self.reads, self.writes = reads, writes
        shape, device = coder.shape, coder.W_enc[0].device
        self.tokens_since_fired = torch.zeros(shape.offsets[-1], dtype=torch.long, device=device)
        self.steered_weight = torch.zeros((), dtype=torch.float64)
        self.read_standards = [no_standard(shape.d_model, device) for _ in reads]
        self.write_standards = [no_standard(shape.d_out, device) for _ in writes]
        self.losses = torch.zeros(len(writes))  # of the last step, by target

    @property
    def device(self) -> torch.device:
        device: torch.device = self.tokens_since_fired.device
        return device

    @property
    def is_penalized(self) -> bool:
        return self.coder.shape.selection == "threshold"

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.coder.named_parameters())

    def counters(self) -> dict[str, Tensor]:
        counters = {"tokens_since_fired": self.tokens_since_fired, "steered_weight": self.steered_weight}
        for place, standards in (("read", self.read_standards), ("write", self.write_standards)):
            for number, standard in enumerate(standards):
                counters |= {f"{place}_mean.{number}": standard.mean, f"{place}_deviation.{number}": standard.deviation}
        return counters

    def initialize(self, generator: torch.Generator) -> None:
        initialize_cross_layer(self.coder, generator)

    @torch.no_grad()
    def prepare(self, batch: Batch, config: TrainingConfig) -> None:
        for names, standards in ((self.reads, self.read_standards), (self.writes, self.write_standards)):
            for name, standard in zip(names, standards, strict=True):
                standard.learn(batch[name])
        if self.is_penalized:
            for source, tokens in enumerate(self.standardized(batch)[0]):
                self.coder.log_threshold[source].fill_(math.log(self.threshold_for_k(source, tokens)))
        self.steered_weight.fill_(config.objective.sparsity_weight or self.guessed_weight())

    def threshold_for_k(self, source: int, tokens: Float[Tensor, "n_tokens d_model"]) -> float:
        """One threshold at which k latents per token are on."""
        few = tokens[:CALIBRATION_TOKENS]
        pre = torch.addmm(self.coder.b_enc[source], few, self.coder.W_enc[source].T).flatten()
        n_active = min(self.coder.shape.k[source] * few.shape[0], pre.numel() - 1)
        return max(float(pre.kthvalue(pre.numel() - n_active).values), 1e-3)

    def guessed_weight(self) -> float:
        """Of the penalty, before it is steered: the price of a latent that explains its share of the variance."""
        return 0.1 / self.mean_k()

    def mean_k(self) -> float:
        return sum(self.coder.shape.k) / self.coder.shape.n_sources

    def standardized(self, batch: Batch) -> tuple[list[Tensor], list[Tensor]]:
        """Tokens by source and targets by target, in the units of the loss."""
        tokens = [standard.of(batch[name]) for name, standard in zip(self.reads, self.read_standards, strict=True)]
        targets = [standard.of(batch[name]) for name, standard in zip(self.writes, self.write_standards, strict=True)]
        return tokens, targets

    def gradients(self, batch: Batch, config: TrainingConfig, step: int) -> StepResult:
        tokens, targets = self.standardized(batch)

        def find_dead(fired: Int[Tensor, " n_all_latents"]) -> Bool[Tensor, " n_all_latents"]:
            self.tokens_since_fired.add_(tokens[0].shape[0]).masked_fill_(fired > 0, 0)
            return self.tokens_since_fired >= config.dead_after_tokens

        objective = self.objective_at(config, step)
        loss = compute_cross_layer_gradients(
            self.coder, tokens, targets, find_dead, objective, is_bf16=config.execution.is_bf16
        )
        if config.clip_norm:
            torch.nn.utils.clip_grad_norm_(self.coder.parameters(), config.clip_norm)
        self.steer(loss.fired, tokens[0].shape[0], config)
        self.losses = loss.reconstruction
        return StepResult(loss.reconstruction.sum(), loss.auxiliary, loss.sparsity, loss.fired)

    def objective_at(self, config: TrainingConfig, step: int) -> CrossLayerObjective:
        given = config.objective_at(step)
        is_steered = self.is_penalized and not config.objective.sparsity_weight
        return CrossLayerObjective(
            aux_weight=given.aux.weight,
            sparsity_weight=float(self.steered_weight) if is_steered else given.sparsity_weight,
            tanh_scale=TANH_SCALE,
            bandwidth=given.bandwidth,
        )

    def steer(self, fired: Int[Tensor, " n_all_latents"], n_tokens: int, config: TrainingConfig) -> None:
        """Bring the weight of the penalty to where the mean L0 of the sources is k, if none was given."""
        if not self.is_penalized or config.objective.sparsity_weight:
            return
        l0 = max(int(fired.sum()) / n_tokens / self.coder.shape.n_sources, 1e-3)
        error = max(-1.0, min(1.0, math.log(l0 / self.mean_k())))
        guess = self.guessed_weight()
        self.steered_weight.mul_(math.exp(STEERING * error)).clamp_(guess / MOST_STEERED, guess * MOST_STEERED)

    def after_step(self) -> None:
        """Nothing: decoder rows keep the norms they learn, and thresholds are trained as logarithms."""

    def measure(self, batch: Batch, result: StepResult, config: TrainingConfig) -> dict[str, Metrics]:
        """The error at the target that goes with each read; L0 and dead latents of those that read there."""
        _, targets = self.standardized(batch)
        by_source = self.coder.shape.by_source
        fired, silent = by_source(result.fired), by_source(self.tokens_since_fired)
        metrics = {}
        for number, read in enumerate(self.reads):
            target, loss = targets[number], float(self.losses[number])
            variance = float((target - target.mean(dim=0)).square().mean())
            metrics[read] = Metrics(
                loss=loss,
                auxiliary_loss=float(result.auxiliary_loss),
                explained_variance=1 - loss / variance if variance > 0 else 0.0,
                l0=int(fired[number].sum()) / target.shape[0],
                dead_share=float((silent[number] >= config.dead_after_tokens).float().mean()),
            )
        return metrics

    @torch.no_grad()
    def resample(self, batch: Batch, config: TrainingConfig, step: int) -> dict[str, Tensor]:
        """Dead latents take the directions of tokens whose later targets are explained worst; nothing is drawn."""
        tokens, targets = self.standardized(batch)
        selected = {source: self.coder.encode(source, x) for source, x in enumerate(tokens)}
        errors = [y - self.coder.decode(target, selected) for target, y in enumerate(targets)]
        dead = self.coder.shape.by_source(self.tokens_since_fired >= config.dead_after_tokens)
        changed: dict[str, Tensor] = {}
        for source, silent in enumerate(dead):
            rows = silent.nonzero().squeeze(1)[: tokens[source].shape[0]]
            if rows.numel():
                self.restart(source, rows, tokens[source], errors)
                changed |= {f"W_enc.{source}": rows, f"b_enc.{source}": rows}
        everywhere = torch.cat(dead).nonzero().squeeze(1)
        for target, W_dec in enumerate(self.coder.W_dec):
            changed[f"W_dec.{target}"] = everywhere[everywhere < W_dec.shape[0]]
        return changed

    def restart(
        self,
        source: int,
        rows: Int[Tensor, " n_dead"],
        tokens: Float[Tensor, "n_tokens d_model"],
        errors: list[Float[Tensor, "n_tokens d_out"]],
    ) -> None:
        coder, offset = self.coder, self.coder.shape.offsets[source]
        size = torch.stack([error.square().sum(1) for error in errors[source:]]).sum(0)
        worst = size.topk(rows.numel()).indices
        norm = coder.W_enc[source].norm(dim=1).mean()
        coder.W_enc[source][rows] = unit_rows(tokens[worst]) * RESAMPLED_ENCODER * norm
        coder.b_enc[source][rows] = 0
        for target in range(source, coder.shape.n_sources):
            coder.W_dec[target][offset + rows] = errors[target][worst] / size[worst].sqrt()[:, None].clamp_min(1e-6)
        self.tokens_since_fired[offset + rows] = 0

    def finished(self) -> CrossLayerCoder:
        """The coder for activations as they are read."""
        return fold_standardization(self.coder, self.read_standards, self.write_standards)

    def write(self, writer: ArtifactWriter, description: DictionaryDescription) -> None:
        """Put the dictionary's files into an artefact being written."""
        write_cross_layer(writer, description, self.finished())


@torch.no_grad()
def fold_standardization(
    coder: CrossLayerCoder, reads: Sequence[Standard], writes: Sequence[Standard]
) -> CrossLayerCoder:
    """The coder of plain activations that does what this one does between standardized ones."""
    folded = CrossLayerCoder(coder.shape).to(coder.W_enc[0].device)
    folded.load_state_dict(coder.state_dict())
    for source, read in enumerate(reads):
        folded.W_enc[source].div_(read.deviation)
        folded.b_enc[source].sub_(folded.W_enc[source] @ read.mean)
    for target, write in enumerate(writes):
        folded.W_dec[target].mul_(write.deviation)
        folded.b_dec[target].mul_(write.deviation).add_(write.mean)
    return folded.requires_grad_(False)


def no_standard(width: int, device: torch.device) -> Standard:
    return Standard(torch.zeros(width, device=device), torch.ones((), device=device))
