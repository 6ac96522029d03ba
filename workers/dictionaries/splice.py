"""What it costs the model to live on reconstructions: activations replaced while it runs, and what comes out compared.

The activations a dictionary writes (for a transcoder, a CLT or FF-KV the MLP's output) are replaced by what it makes of
what it reads, one hookpoint at a time, and at all of them in one pass. Zeros and the mean activation of each kind of
token stand beside it as the worst that removing can do. Measured against the untouched pass:

    cross-entropy with the labels, top-1        where the images have labels that the readout knows
    KL(clean ‖ altered), agreement of top-1     where there is a head or a readout
    1 − cosine, relative distance               of the final CLS token (the mean patch where there is none)

    score = (loss_baseline − loss_dictionary) / (loss_baseline − loss_clean)    1: nothing lost, 0: no better than it

Source: research/ffkv_saebench.md §2.1; the mean baseline and the distances are ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes
from workers.dictionaries.store import Dictionary
from workers.hookpoints import attach, block_of, find_place, read_hookpoints, splice
from workers.readouts import Readout
from workers.vision_model import VisionModel

CLEAN, DICTIONARY, ZERO, MEAN = "clean", "dictionary", "zero", "mean"
BASELINES = (ZERO, MEAN)
TOGETHER = "together"
SMALLEST_LOSS = 1e-9  # a baseline that loses less than this leaves nothing to recover
SUMS = (
    "n_images",
    "n_labeled",
    "cross_entropy",
    "n_correct",
    "kl",
    "n_agreeing",
    "cosine_distance",
    "relative_distance",
)


class Outcome(NamedTuple):
    """What a pass ends in."""

    feature: Float[Tensor, "image d_model"]
    logits: Float[Tensor, "image n_classes"] | None


class SpliceSums:
    """Losses of altered passes, summed over images."""

    def __init__(self) -> None:
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.has_logits = False

    def update(self, altered: Outcome, clean: Outcome, labels: Int[Tensor, " image"]) -> None:
        """Take in a batch; a label of −1 is none."""
        self.sums["n_images"] += altered.feature.shape[0]
        here, there = altered.feature.double().cpu(), clean.feature.double().cpu()
        self.sums["cosine_distance"] += float((1 - F.cosine_similarity(here, there, dim=1)).sum())
        norms = there.norm(dim=1).clamp_min(torch.finfo(torch.float64).tiny)
        self.sums["relative_distance"] += float(((here - there).norm(dim=1) / norms).sum())
        if altered.logits is None or clean.logits is None:
            return
        self.has_logits = True
        scores, wanted = (one.double().cpu().log_softmax(dim=1) for one in (altered.logits, clean.logits))
        self.sums["kl"] += float((wanted.exp() * (wanted - scores)).sum())
        chosen = scores.argmax(dim=1)
        self.sums["n_agreeing"] += int((chosen == wanted.argmax(dim=1)).sum())
        known = labels >= 0
        self.sums["n_labeled"] += int(known.sum())
        self.sums["n_correct"] += int((chosen[known] == labels[known]).sum())
        self.sums["cross_entropy"] += float(F.nll_loss(scores[known], labels[known], reduction="sum"))

    def merge(self, other: SpliceSums) -> None:
        for name in SUMS:
            self.sums[name] += other.sums[name]
        self.has_logits = self.has_logits or other.has_logits

    def to_json(self) -> dict[str, Any]:
        return self.sums | {"has_logits": self.has_logits}

    def restore(self, record: Mapping[str, Any]) -> None:
        self.sums = {name: record[name] for name in SUMS}
        self.has_logits = record["has_logits"]

    def finish(self) -> dict[str, Any]:
        """Means over images; None of what could not be measured."""
        n, n_labeled = self.sums["n_images"], self.sums["n_labeled"]
        with_logits, with_labels = (n if self.has_logits else 0), n_labeled
        return {
            "n_images": int(n),
            "n_labeled": int(n_labeled),
            "cross_entropy": mean_or_none(self.sums["cross_entropy"], with_labels),
            "top_1": mean_or_none(self.sums["n_correct"], with_labels),
            "kl": mean_or_none(self.sums["kl"], with_logits),
            "agreement": mean_or_none(self.sums["n_agreeing"], with_logits),
            "cosine_distance": mean_or_none(self.sums["cosine_distance"], n),
            "relative_distance": mean_or_none(self.sums["relative_distance"], n),
        }


def mean_or_none(total: float, n: float) -> float | None:
    return total / n if n > 0 else None


def splice_scores(passes: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """By baseline and loss, the share of what the baseline loses that the dictionary keeps; None of no loss at all."""
    losses = ("cross_entropy", "kl", "cosine_distance")
    clean = {"cross_entropy": passes[CLEAN]["cross_entropy"], "kl": 0.0, "cosine_distance": 0.0}
    return {
        baseline: {loss: recovered(passes[DICTIONARY][loss], passes[baseline][loss], clean[loss]) for loss in losses}
        for baseline in BASELINES
        if baseline in passes
    }


def recovered(altered: float | None, baseline: float | None, clean: float | None) -> float | None:
    if altered is None or baseline is None or clean is None or baseline - clean < SMALLEST_LOSS:
        return None
    return (baseline - altered) / (baseline - clean)


def outcome_of(model: VisionModel, readout: Readout | None, tokens: Float[Tensor, "image token d_model"]) -> Outcome:
    """From final tokens, as ``forward_features`` gives them."""
    feature = tokens[:, 0] if model.n_prefix_tokens else tokens.mean(dim=1)
    return Outcome(feature, None if readout is None else readout.scores(model, tokens))


class CleanPass(NamedTuple):
    """The untouched pass: final tokens, what was read, and the residual stream after each block."""

    final: Float[Tensor, "image token d_model"]
    activations: dict[str, Tensor]
    residual: dict[int, Tensor]


@torch.no_grad()
def clean_pass(model: VisionModel, dictionary: Dictionary, images: Float[Tensor, "image 3 h w"]) -> CleanPass:
    residual_names = {f"blocks.{block}": block for block in range(model.n_blocks)}
    names = list(dict.fromkeys((*dictionary.reads, *dictionary.writes, *residual_names)))
    with read_hookpoints(model, names) as read:
        final = model.module.forward_features(images.to(model.device))
    return CleanPass(final, dict(read), {block: read[name] for name, block in residual_names.items()})


@torch.no_grad()
def final_from(model: VisionModel, block: int, residual: Tensor) -> Float[Tensor, "image token d_model"]:
    """Final tokens from the residual stream that enters a block, as timm's plain ViT computes them."""
    for one in model.module.blocks[block:]:
        residual = one(residual)
    final: Tensor = model.module.norm(residual)
    return final


def can_resume(model: VisionModel, clean: CleanPass) -> bool:
    """Whether a pass can be taken up at a block: some ViTs hand more than tokens from block to block."""
    if model.n_blocks < 2:
        return False
    try:
        found = final_from(model, 1, clean.residual[0])
    except (TypeError, AttributeError):
        return False
    return found.shape == clean.final.shape and bool(torch.allclose(found, clean.final, rtol=1e-4, atol=1e-5))


class Splicer:
    """Altered passes over one batch of images; what comes before the first replaced block is not computed again."""

    def __init__(self, model: VisionModel, dictionary: Dictionary, images: Float[Tensor, "image 3 h w"]) -> None:
        self.model, self.dictionary, self.images = model, dictionary, images.to(model.device)
        self.clean = clean_pass(model, dictionary, self.images)
        self.is_resumable = can_resume(model, self.clean)

    def with_values(self, values: Mapping[str, Tensor]) -> Tensor:
        """Final tokens with these activations in place of the model's own."""
        constant = {name: partial(constantly, value) for name, value in values.items()}
        with splice(self.model, constant):
            return self.run_from(min(block_of(name) for name in values))

    def with_dictionary(self) -> Tensor:
        """Final tokens with every write replaced by what the dictionary makes of what it reads in the same pass."""
        with replaced_writes(self.model, self.dictionary):
            return self.run_from(min(block_of(name) for name in self.dictionary.reads))

    @torch.no_grad()
    def run_from(self, block: int) -> Tensor:
        if block > 0 and self.is_resumable:
            return final_from(self.model, block, self.clean.residual[block - 1])
        final: Tensor = self.model.module.forward_features(self.images)
        return final

    def reconstruction(self, write: str) -> Tensor:
        """What the dictionary makes of the clean activations at one write."""
        activations = self.clean.activations
        codes = {
            read: self.dictionary.encode(read, activations[read].flatten(0, 1))
            for read in reads_of(self.dictionary, write)
        }
        return self.dictionary.decode(codes)[write].view_as(activations[write])


def passes_of(
    splicer: Splicer, means: Mapping[str, Float[Tensor, "n_groups width"]]
) -> Iterator[tuple[str, str, Tensor]]:
    """(write or 'together', name of the pass, final tokens) of every altered pass; ``means`` by write."""
    zeros: dict[str, Tensor] = {}
    averages: dict[str, Tensor] = {}
    for write in splicer.dictionary.writes:
        own = splicer.clean.activations[write]
        zeros[write], averages[write] = torch.zeros_like(own), spread_means(means[write], own)
        yield write, DICTIONARY, splicer.with_values({write: splicer.reconstruction(write)})
        yield write, ZERO, splicer.with_values({write: zeros[write]})
        yield write, MEAN, splicer.with_values({write: averages[write]})
    if len(splicer.dictionary.writes) > 1:
        yield TOGETHER, DICTIONARY, splicer.with_dictionary()
        yield TOGETHER, ZERO, splicer.with_values(zeros)
        yield TOGETHER, MEAN, splicer.with_values(averages)


def n_passes(dictionary: Dictionary) -> int:
    """How many altered passes an image takes."""
    n_writes = len(dictionary.writes)
    return 3 * (n_writes + (n_writes > 1))


def spread_means(means: Float[Tensor, "n_groups width"], like: Float[Tensor, "image token width"]) -> Tensor:
    """The mean of each prefix token in its place and that of patches in all others."""
    n_prefix = means.shape[0] - 1
    patches = means[-1:].expand(like.shape[1] - n_prefix, -1)
    return torch.cat([means[:n_prefix], patches]).to(like).expand_as(like)


def reads_of(dictionary: Dictionary, write: str) -> list[str]:
    """The hookpoints read by the latents that write there."""
    return [read for read in dictionary.reads if write in dictionary.writes_of(read)]


def constantly(value: Tensor, tokens: Tensor) -> Tensor:
    return value


@contextmanager
def replaced_writes(model: VisionModel, dictionary: Dictionary) -> Iterator[None]:
    """Within the block, the model runs on reconstructions of what the dictionary reads in the running pass."""
    codes: dict[str, Codes] = {}

    def remember(read: str, tokens: Tensor) -> None:
        codes[read] = dictionary.encode(read, tokens.flatten(0, 1))

    def rebuild(write: str, tokens: Tensor) -> Tensor:
        known = {read: codes[read] for read in reads_of(dictionary, write) if read in codes}
        return dictionary.decode(known)[write].view_as(tokens).to(tokens.dtype)

    with ExitStack() as stack:
        for read in dictionary.reads:  # before the writes: an SAE reads and writes in one place
            attach(stack, find_place(model, read), partial(remember, read))
        for write in dictionary.writes:
            attach(stack, find_place(model, write), partial(rebuild, write))
        yield
