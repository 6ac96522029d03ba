"""TopK as thresholds, for formats that know no TopK: each latent fires on as many tokens as before.

TopK lets a latent compete with the others of its token; a threshold asks of it alone. With one threshold per latent,
set so that its density on the calibration tokens stays the same, what is lost is where latents fire rather than how
often. The loss is measured on tokens that were not calibrated on, and reported with every export.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.formats.checking import explained_variance
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.sparsifiers import Selected, above_threshold

LATENTS_AT_ONCE = 512
Activations = Mapping[str, Float[Tensor, "n_tokens width"]]


class Loss(NamedTuple):
    """What thresholds cost at one place, on tokens that were not calibrated on."""

    place: str
    explained_by_topk: float
    explained_by_thresholds: float
    l0_of_topk: float
    l0_of_thresholds: float
    kept_share: float  # of TopK's active latents, those still active

    def sentence(self) -> str:
        return (
            f"{self.place}: explained variance {self.explained_by_topk:.3f} with TopK, "
            f"{self.explained_by_thresholds:.3f} with thresholds; L0 {self.l0_of_topk:.1f} and "
            f"{self.l0_of_thresholds:.1f}; {100 * self.kept_share:.0f} % of active latents stay active."
        )


@torch.no_grad()
def matched_thresholds(
    pre_activations: Callable[[slice], Float[Tensor, "n_tokens some_latents"]],
    counts: Int[Tensor, " n_latents"],
) -> Float[Tensor, " n_latents"]:
    """For each latent the value that as many tokens exceed as ``counts`` says; halfway between two tokens' values.

    A latent that never fired gets the largest value seen, so that it stays silent on these tokens.
    """
    thresholds = torch.zeros(counts.shape[0])
    for start in range(0, counts.shape[0], LATENTS_AT_ONCE):
        chosen = slice(start, min(start + LATENTS_AT_ONCE, counts.shape[0]))
        ordered = pre_activations(chosen).sort(dim=0, descending=True).values.cpu()
        n_tokens = ordered.shape[0]
        n_active = counts[chosen].clamp(max=n_tokens - 1)
        columns = torch.arange(ordered.shape[1])
        below = ordered[n_active, columns]
        above = ordered[(n_active - 1).clamp_min(0), columns]
        thresholds[chosen] = torch.where(n_active > 0, (above + below) / 2, below)
    return thresholds.clamp_min(0)


def halves(tokens: Float[Tensor, "n_tokens width"]) -> tuple[Tensor, Tensor]:
    """Every second token to calibrate on, the others to measure on."""
    return tokens[::2], tokens[1::2]


@torch.no_grad()
def calibrate_coder(
    coder: SparseCoder, place: str, read: Float[Tensor, "n_tokens d_model"], written: Float[Tensor, "n_tokens d_out"]
) -> tuple[Float[Tensor, " n_latents"], Loss]:
    """Thresholds that stand for a coder's TopK, and what they cost."""
    fitted, held_out = halves(read)
    tokens = coder.normalize(fitted).tokens
    offset = coder.encoder_offset()
    counts = count_active(coder.encode_normalized(tokens), coder.n_latents)
    thresholds = matched_thresholds(lambda some: tokens @ coder.W_enc[some].T + offset[some], counts)
    measured = coder.normalize(held_out)
    pre = measured.tokens @ coder.W_enc.T + offset
    old, new = coder.select(pre), above_threshold(pre, thresholds.to(pre.device))
    targets = halves(written)[1]

    def rebuild(selected: Selected) -> Tensor:
        written_out = coder.decode_normalized(selected)
        skip = measured.tokens @ coder.W_skip.T if coder.shape.has_skip else 0.0
        rebuilt: Tensor = (written_out + skip) * measured.scale.deviation + measured.scale.mean
        return rebuilt

    figures = (explained_variance(targets, rebuild(old)), explained_variance(targets, rebuild(new)))
    return thresholds, loss_between(place, figures, old, new)


def count_active(selected: Selected, n_latents: int) -> Int[Tensor, " n_latents"]:
    return torch.bincount(selected.indices[selected.values != 0].cpu(), minlength=n_latents)


def loss_between(place: str, figures: tuple[float, float], old: Selected, new: Selected) -> Loss:
    n_tokens = old.indices.shape[0]
    width = 1 + max(int(old.indices.max()), int(new.indices.max()))
    active_old, active_new = active_pairs(old, width), active_pairs(new, width)
    n_kept = int(torch.isin(active_old, active_new, assume_unique=True).sum())
    return Loss(
        place,
        *figures,
        active_old.numel() / n_tokens,
        active_new.numel() / n_tokens,
        n_kept / max(active_old.numel(), 1),
    )


def active_pairs(selected: Selected, width: int) -> Int[Tensor, " n_active"]:
    """One number for each (token, active latent)."""
    rows = torch.arange(selected.indices.shape[0], device=selected.indices.device)[:, None]
    return (rows * width + selected.indices)[selected.values != 0]


@torch.no_grad()
def calibrate_cross_layer(
    coder: CrossLayerCoder, reads: tuple[str, ...], writes: tuple[str, ...], activations: Activations
) -> tuple[list[Float[Tensor, " n_latents"]], list[Loss]]:
    """As for a coder, source by source; every target is rebuilt from all its sources."""
    thresholds, old, new = [], {}, {}
    for source, read in enumerate(reads):
        fitted, held_out = halves(activations[read])
        counts = count_active(coder.encode(source, fitted), coder.shape.n_latents[source])
        W_enc, b_enc = coder.W_enc[source], coder.b_enc[source]
        thresholds.append(matched_thresholds(pre_of(fitted, W_enc, b_enc), counts))
        pre = held_out @ W_enc.T + b_enc
        old[source] = coder.select(source, pre)
        new[source] = above_threshold(pre, thresholds[-1].to(pre.device))
    losses = []
    for target, write in enumerate(writes):
        targets = halves(activations[write])[1]
        figures = tuple(explained_variance(targets, coder.decode(target, codes)) for codes in (old, new))
        losses.append(loss_between(write, (figures[0], figures[1]), old[target], new[target]))
    return thresholds, losses


def pre_of(tokens: Tensor, W_enc: Tensor, b_enc: Tensor) -> Callable[[slice], Tensor]:
    return lambda some: tokens @ W_enc[some].T + b_enc[some]
