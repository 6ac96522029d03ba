"""Where a cross-layer transcoder says that a block's output comes from, and what a model does that lives on it.

    C_{i→j} = mean over tokens of ⟨c_{i→j}, ŷ_j⟩ / ‖ŷ_j‖²,   c_{i→j} = z_i W_dec_{i→j}     for [CLS], patches and all

Over the sources, the bias among them, the scores of a target sum to 1; below 0 a source works against the others
(arXiv 2604.13304; research/clt_peers.md §1.1). In a *cascade* the MLPs of every block from s on are replaced by what
the transcoder makes of the running pass; sources before s have read an untouched one. The *terms* of the last target
say whether its best source is needed (drop the top) and whether four are enough (keep four). Zeroed MLPs stand beside
each cascade as the worst that it can come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.cross_layer_retrieval import RetrievalSums
from workers.dictionaries.sparsifiers import Selected
from workers.dictionaries.splice import Splicer
from workers.hookpoints import attach, block_of, find_place, splice
from workers.vision_model import VisionModel

__all__ = ["WARNING", "ContributionSums", "RetrievalSums", "altered_passes", "n_altered_passes"]

WARNING = (
    "A cross-layer transcoder tends to write in one step what the model computes in several: chains of features become "
    "shallow sums. Read its contributions beside a per-layer transcoder of the same model."
)
GROUPS = ("cls", "patches", "all")  # cls: the prefix tokens, registers among them
COUNTED = GROUPS[:2]
BIAS = "bias"
KEPT_TERMS = 4
Table = list[list[float | None]]


class ContributionSums:
    """Contribution scores, summed over tokens; sums over other images add up."""

    def __init__(self, dictionary: CrossLayerDictionary, n_prefix_tokens: int) -> None:
        self.dictionary, self.n_prefix_tokens = dictionary, n_prefix_tokens
        n = len(dictionary.reads)
        self.sums = torch.zeros(len(COUNTED), n + 1, n, dtype=torch.float64)
        self.counts = torch.zeros(len(COUNTED), n, dtype=torch.float64)

    @torch.no_grad()
    def update(self, activations: Mapping[str, Float[Tensor, "image token d_model"]]) -> None:
        """Take in a batch: what was read at every hookpoint, tokens of the first image, then of the second."""
        dictionary = self.dictionary
        n_images, n_tokens = activations[dictionary.reads[0]].shape[:2]
        is_prefix = (torch.arange(n_tokens) < self.n_prefix_tokens).repeat(n_images)
        selected = encode_all(dictionary, activations)
        for target in range(len(dictionary.writes)):
            scores, is_written = score_terms(dictionary, target, selected)
            for group, chosen in enumerate((is_prefix, ~is_prefix)):
                self.sums[group, :, target] += scores[:, chosen].sum(1)
                self.counts[group, target] += is_written[chosen].sum()

    def merge(self, other: ContributionSums) -> None:
        self.sums += other.sums
        self.counts += other.counts

    def tensors(self) -> dict[str, Tensor]:
        return {"sums": self.sums, "counts": self.counts}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.sums, self.counts = tensors["sums"], tensors["counts"]

    def finish(self) -> dict[str, Any]:
        """Scores [source][target] by group of tokens; None of a source after its target, and without a token."""
        sums = dict(zip(COUNTED, self.sums, strict=True)) | {"all": self.sums.sum(0)}
        counts = dict(zip(COUNTED, self.counts, strict=True)) | {"all": self.counts.sum(0)}
        return {
            "sources": [*self.dictionary.reads, BIAS],
            "targets": list(self.dictionary.writes),
            "scores": {group: mean_table(sums[group], counts[group]) for group in GROUPS},
        }


def score_terms(
    dictionary: CrossLayerDictionary, target: int, selected: Mapping[int, Selected]
) -> tuple[Float[Tensor, "n_sources_and_bias n_tokens"], Bool[Tensor, " n_tokens"]]:
    """⟨c, ŷ⟩ / ‖ŷ‖² of every source and of the bias at one target, and where ŷ is not zero."""
    coder = dictionary.coder
    written = coder.decode(target, selected).double()
    sizes = written.square().sum(1)
    scores = torch.zeros(len(dictionary.reads) + 1, len(sizes), dtype=torch.float64)
    for source in range(target + 1):
        scores[source] = (coder.term(source, target, selected[source]).double() * written).sum(1).cpu()
    scores[-1] = (written @ coder.b_dec[target].double()).cpu()
    sizes = sizes.cpu()
    return torch.where(sizes > 0, scores / sizes.clamp_min(torch.finfo(torch.float64).tiny), 0.0), sizes > 0


def mean_table(sums: Float[Tensor, "source target"], counts: Float[Tensor, " target"]) -> Table:
    bias = len(sums) - 1
    means = sums / counts.clamp_min(1)
    return [
        [
            float(means[source, target]) if counts[target] > 0 and (source <= target or source == bias) else None
            for target in range(sums.shape[1])
        ]
        for source in range(len(sums))
    ]


def encode_all(
    dictionary: CrossLayerDictionary, activations: Mapping[str, Float[Tensor, "image token d_model"]]
) -> dict[int, Selected]:
    """Codes by source, tokens of all images one after the other."""
    return {
        source: dictionary.coder.encode(source, activations[read].flatten(0, 1))
        for source, read in enumerate(dictionary.reads)
    }


def first_replaced(n_blocks: int) -> list[int]:
    """Where cascades begin, as positions among the targets; of twelve those of the paper: 0, 3, 7 and 10."""
    return sorted({0, n_blocks // 4, 7 * n_blocks // 12, max(n_blocks - 2, 0)})


def n_altered_passes(dictionary: CrossLayerDictionary) -> int:
    """How many passes ``altered_passes`` takes."""
    return len(GROUPS) * (2 * len(first_replaced(len(dictionary.writes))) + 3)


@torch.no_grad()
def altered_passes(
    dictionary: CrossLayerDictionary,
    model: VisionModel,
    images: Float[Tensor, "image 3 height width"],
    contributions: Mapping[str, Any],
) -> Iterator[tuple[str, Float[Tensor, "image token d_model"]]]:
    """Final tokens by key: cascade, zeroed, all_terms, drop_top and keep_four, by group of tokens."""
    splicer = Splicer(model, dictionary, images)
    clean = encode_all(dictionary, splicer.clean.activations)
    for group in GROUPS:
        chosen = tokens_of(group, model)
        for first in first_replaced(len(dictionary.writes)):
            block = block_of(dictionary.writes[first])
            with cascade(model, dictionary, clean, first, chosen):
                yield f"cascade/{group}/{block}", splicer.run_from(block)
            zero = partial(replace_tokens, chosen=chosen, value=torch.zeros(()))
            with splice(model, dict.fromkeys(dictionary.writes[first:], zero)):
                yield f"zeroed/{group}/{block}", splicer.run_from(block)
        for name, sources in terms_kept(contributions["scores"][group]).items():
            with kept_terms(model, dictionary, clean, sources, chosen):
                yield f"{name}/{group}", splicer.run_from(block_of(dictionary.writes[-1]))


def tokens_of(group: str, model: VisionModel) -> Bool[Tensor, " token"]:
    is_prefix = torch.arange(model.n_tokens, device=model.device) < model.n_prefix_tokens
    return {"cls": is_prefix, "patches": ~is_prefix, "all": torch.ones_like(is_prefix)}[group]


def replace_tokens(
    tokens: Float[Tensor, "image token d_out"], *, chosen: Bool[Tensor, " token"], value: Tensor
) -> Float[Tensor, "image token d_out"]:
    return torch.where(chosen[:, None], value.to(tokens), tokens)


@contextmanager
def cascade(
    model: VisionModel,
    dictionary: CrossLayerDictionary,
    clean: Mapping[int, Selected],
    first: int,
    chosen: Bool[Tensor, " token"],
) -> Iterator[None]:
    """Within the block, the transcoder writes the targets from ``first`` on, from what it reads in the same pass."""
    selected = dict(clean)

    def remember(source: int, tokens: Tensor) -> None:
        selected[source] = dictionary.coder.encode(source, tokens.flatten(0, 1))

    def rebuild(target: int, tokens: Tensor) -> Tensor:
        value = dictionary.coder.decode(target, selected).view_as(tokens)
        return replace_tokens(tokens, chosen=chosen, value=value)

    with ExitStack() as stack:
        for position in range(first, len(dictionary.writes)):
            attach(stack, find_place(model, dictionary.reads[position]), partial(remember, position))
            attach(stack, find_place(model, dictionary.writes[position]), partial(rebuild, position))
        yield


def terms_kept(scores: Table) -> dict[str, list[int]]:
    """The sources of the last target that each pass keeps; those of the highest scores count as the top."""
    last = [row[-1] for row in scores[:-1]]
    ranked = sorted(range(len(last)), key=lambda source: -(last[source] or 0.0))
    return {"all_terms": ranked, "drop_top": ranked[1:], "keep_four": ranked[:KEPT_TERMS]}


@contextmanager
def kept_terms(
    model: VisionModel,
    dictionary: CrossLayerDictionary,
    clean: Mapping[int, Selected],
    sources: Iterable[int],
    chosen: Bool[Tensor, " token"],
) -> Iterator[None]:
    """Within the block, the last target is the sum of these terms and the bias; everything before it is untouched."""
    target = len(dictionary.writes) - 1
    value = dictionary.coder.b_dec[target] + sum(
        dictionary.coder.term(source, target, clean[source]) for source in sources
    )

    def rebuild(tokens: Tensor) -> Tensor:
        return replace_tokens(tokens, chosen=chosen, value=value.expand(tokens.flatten(0, 1).shape).view_as(tokens))

    with splice(model, {dictionary.writes[target]: rebuild}):
        yield
