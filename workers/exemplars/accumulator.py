"""Exemplars of one dictionary at one hookpoint and pole, gathered batch by batch; accumulators merge (design.md §7).

Per latent: the K images with the highest maxima (the lower image first among equals), samples over the activation
range, contrast images, firing counts, moments and a histogram. Memory does not grow with the number of images, and
any split of the images into shards merges to the same bytes: tables keep entries by key alone, counts are integers,
and what enters the moments is rounded to multiples of 2^-20, so that float64 sums below 2^33 are exact in any order.

A contrast image has the lowest maximum there is: zero, drawn by hash, where the feature is silent on enough images,
else the weakest, and only those at or below the 10th percentile of the feature's image maxima.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes, join_selected
from workers.dictionaries.sparsifiers import Selected
from workers.exemplars.activation_ranges import ActivationRanges, half_octave
from workers.exemplars.hashing import KEY_BITS, hash_pairs, value_bits
from workers.exemplars.image_maxima import ImageMaxima, find_image_maxima, patch_maps
from workers.exemplars.ranked_table import EMPTY, Entries, RankedTable

HIGHEST_BITS = 0x7FFFFFFF
GRID = 2.0**20
CONTRAST_SHARE = 0.1
ENTRIES_AT_ONCE = 1 << 18  # below this many active entries the number of calls costs more than the work
FIRST_BIN, N_HISTOGRAM_BINS = -20, 32  # 2^-10 to 2^6 in half octaves; the outer bins take what lies beyond
COUNTS = ("n_images_active", "n_tokens_active", "n_prefix_wins", "total", "total_of_squares", "maximum", "histogram")


@dataclass(frozen=True)
class ExemplarSettings:
    """Shapes of an accumulator, and the seed of its samples."""

    n_latents: int
    n_patches: int
    n_prefix_tokens: int
    n_top: int = 16
    n_per_range: int = 4
    n_contrast: int = 24
    seed: int = 0


class ExemplarAccumulator:
    """All that is kept of the images seen so far; images are named by their index in the image set, each seen once."""

    def __init__(self, settings: ExemplarSettings) -> None:
        self.settings = settings
        n = settings.n_latents
        image, value = torch.tensor(-1, dtype=torch.int32), torch.tensor(0.0)
        patch, patch_map = torch.tensor(-1, dtype=torch.int16), torch.zeros(settings.n_patches, dtype=torch.uint8)
        shown = {"image": image, "value": value, "patch": patch, "map": patch_map}
        self.top = RankedTable(n, settings.n_top, shown)
        self.ranges = ActivationRanges(n, settings.n_per_range, shown)
        self.contrast = RankedTable(n, settings.n_contrast, {"image": image, "value": value})
        self.waiting: list[tuple[Tensor, Codes]] = []
        self.n_images = 0
        self.n_tokens = 0
        self.n_images_active = torch.zeros(n, dtype=torch.long)
        self.n_tokens_active = torch.zeros(n, dtype=torch.long)
        self.n_prefix_wins = torch.zeros(n, dtype=torch.long)
        self.total = torch.zeros(n, dtype=torch.float64)
        self.total_of_squares = torch.zeros(n, dtype=torch.float64)
        self.maximum = torch.zeros(n)
        self.histogram = torch.zeros(n, N_HISTOGRAM_BINS, dtype=torch.long)

    @torch.no_grad()
    def update(self, images: Int[Tensor, " n_images"], codes: Codes) -> None:
        """Take in a batch of images; ``codes`` holds the tokens of the first image, then of the second, and so on."""
        self.waiting.append((images, Codes(codes.indices.cpu(), codes.values.float().cpu(), None)))
        self.n_images += images.numel()
        self.n_tokens += codes.indices.shape[0]
        if sum(waiting.values.numel() for _, waiting in self.waiting) >= ENTRIES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Work off the batches that wait to be worked off together."""
        for images, codes in join_batches(self.waiting):
            maxima = find_image_maxima(
                codes,
                n_images=images.numel(),
                n_latents=self.settings.n_latents,
                n_prefix_tokens=self.settings.n_prefix_tokens,
            )
            self.count(maxima)
            self.offer_top(images, maxima)
            self.offer_ranges(images, maxima)
            self.offer_contrast(images, maxima)
        self.waiting = []

    def count(self, maxima: ImageMaxima) -> None:
        n, active = self.settings.n_latents, maxima.active
        value = active.value.double()
        self.n_images_active += torch.bincount(maxima.latent, minlength=n)
        self.n_tokens_active += torch.bincount(active.latent, minlength=n)
        on_prefix = maxima.token < self.settings.n_prefix_tokens
        self.n_prefix_wins += torch.bincount(maxima.latent[on_prefix], minlength=n)
        self.total.index_add_(0, active.latent, (value * GRID).round() / GRID)
        self.total_of_squares.index_add_(0, active.latent, (value.square() * GRID).round() / GRID)
        self.maximum.scatter_reduce_(0, maxima.latent, maxima.value, "amax")
        bins = (half_octave(active.value) - FIRST_BIN).clamp(0, N_HISTOGRAM_BINS - 1)
        flat = torch.bincount(active.latent * N_HISTOGRAM_BINS + bins, minlength=n * N_HISTOGRAM_BINS)
        self.histogram += flat.view(n, N_HISTOGRAM_BINS)

    def offer_top(self, images: Tensor, maxima: ImageMaxima) -> None:
        keys = ((HIGHEST_BITS - value_bits(maxima.value)) << 32) | images[maxima.image_row].long()
        admitted = self.top.admits(maxima.latent, keys).nonzero().squeeze(1)
        shown = self.shown_columns(images, maxima, admitted)
        self.top.insert(Entries(maxima.latent[admitted], keys[admitted], shown))

    def offer_ranges(self, images: Tensor, maxima: ImageMaxima) -> None:
        bins = half_octave(maxima.value)
        self.ranges.raise_bins(maxima.latent, bins)
        rows = self.ranges.rows_of(maxima.latent, bins)
        keys = hash_pairs(images[maxima.image_row], maxima.latent, self.settings.seed)
        admitted = self.ranges.table.admits(rows, keys).nonzero().squeeze(1)
        shown = self.shown_columns(images, maxima, admitted)
        self.ranges.table.insert(Entries(rows[admitted], keys[admitted], shown))

    def offer_contrast(self, images: Tensor, maxima: ImageMaxima) -> None:
        """The one place with a dense latent axis, per image: silence has no entries to go by."""
        latents = torch.arange(self.settings.n_latents)
        values = torch.zeros(images.numel(), latents.numel())
        values[maxima.image_row, maxima.latent] = maxima.value
        keys = hash_pairs(images[:, None], latents[None, :], self.settings.seed) >> (KEY_BITS - 32)
        keys |= value_bits(values) << 32
        rows, columns = (keys < self.contrast.highest).nonzero(as_tuple=True)
        offered = {"image": images[rows], "value": values[rows, columns]}
        self.contrast.insert(Entries(columns, keys[rows, columns], offered))

    def shown_columns(self, images: Tensor, maxima: ImageMaxima, pairs: Int[Tensor, " n"]) -> dict[str, Tensor]:
        n_prefix = self.settings.n_prefix_tokens
        maps = patch_maps(maxima, pairs, n_patches=self.settings.n_patches, n_prefix_tokens=n_prefix)
        patch = (maxima.token[pairs] - n_prefix).clamp_min(-1)
        return {"image": images[maxima.image_row[pairs]], "value": maxima.value[pairs], "patch": patch, "map": maps}

    @torch.no_grad()
    def merge(self, other: ExemplarAccumulator) -> None:
        """Take in what another accumulator saw of other images."""
        if self.settings != other.settings:
            raise ValueError("Accumulators of different settings do not merge; collect both with the same settings.")
        self.flush()
        other.flush()
        self.top.insert(other.top.entries())
        self.ranges.merge(other.ranges)
        self.contrast.insert(other.contrast.entries())
        self.n_images += other.n_images
        self.n_tokens += other.n_tokens
        self.maximum = torch.maximum(self.maximum, other.maximum)
        for name in COUNTS:
            if name != "maximum":
                getattr(self, name).add_(getattr(other, name))

    @torch.no_grad()
    def finish(self) -> dict[str, Tensor]:
        """The tensors of the exemplars artefact; -1 stands for no image, NaN for no contrast reached."""
        self.flush()
        top = {f"top_{name}": column for name, column in self.top.ranked().columns.items()}
        ranges = self.ranges.finish(self.maximum)
        return (
            top
            | {f"range_{name}": column for name, column in ranges.columns.items()}
            | {"range_edges": ranges.edges}
            | self.contrast_columns()
            | self.statistics()
        )

    def contrast_columns(self) -> dict[str, Tensor]:
        """Contrast images by rising maximum, those above the 10th percentile of the image maxima left out."""
        ranked = self.contrast.ranked()
        images, values = ranked.columns["image"], ranked.columns["value"]
        kept = ranked.keys != EMPTY
        rank = max(math.ceil(CONTRAST_SHARE * self.n_images), 1) - 1  # of the percentile, among all image maxima
        if rank < self.contrast.n_slots:
            kept &= values <= values[:, rank : rank + 1]
        reached = torch.where(kept, values, -1.0).amax(dim=1)
        has_contrast = (reached >= 0) & (reached < self.maximum)
        kept &= has_contrast[:, None]
        return {
            "contrast_image": torch.where(kept, images, -1),
            "contrast_value": torch.where(kept, values, 0.0),
            "contrast_reached": torch.where(has_contrast, reached, math.nan),
        }

    def statistics(self) -> dict[str, Tensor]:
        """Mean and variance are over active tokens; the prefix share is that of the images where the latent fires."""
        n_active = self.n_tokens_active.clamp_min(1)
        mean = self.total / n_active
        variance = (self.total_of_squares / n_active - mean.square()).clamp_min(0)
        edges = torch.pow(2.0, torch.arange(FIRST_BIN, FIRST_BIN + N_HISTOGRAM_BINS + 1) / 2)
        return {
            "n_images_active": self.n_images_active.int(),
            "n_tokens_active": self.n_tokens_active.clone(),
            "density": (self.n_tokens_active / max(self.n_tokens, 1)).float(),
            "mean": mean.float(),
            "variance": variance.float(),
            "maximum": self.maximum.clone(),
            "prefix_share": (self.n_prefix_wins / self.n_images_active.clamp_min(1)).float(),
            "histogram": self.histogram.clamp_max(2**31 - 1).int(),
            "histogram_edges": edges.float(),
        }

    def save(self, path: Path) -> None:
        self.flush()
        tensors = self.top.tensors("top") | self.ranges.table.tensors("ranges") | self.contrast.tensors("contrast")
        tensors |= {"top_bin": self.ranges.top_bin} | {name: getattr(self, name) for name in COUNTS}
        record = asdict(self.settings) | {"n_images": self.n_images, "n_tokens": self.n_tokens}
        save_file(tensors, path, metadata={"record": json.dumps(record, sort_keys=True)})


def join_batches(waiting: Sequence[tuple[Tensor, Codes]]) -> Iterator[tuple[Tensor, Codes]]:
    """Batches with equally many tokens per image joined into one, narrower codes padded with zeros."""
    for n_tokens in dict.fromkeys(codes.indices.shape[0] // images.numel() for images, codes in waiting):
        alike = [(images, codes) for images, codes in waiting if codes.indices.shape[0] == images.numel() * n_tokens]
        selected = join_selected([Selected(codes.indices, codes.values) for _, codes in alike])
        yield torch.cat([images for images, _ in alike]), Codes(selected.indices, selected.values, None)


def load_accumulator(path: Path) -> ExemplarAccumulator:
    """The accumulator that ``save`` wrote."""
    with safe_open(path, framework="pt") as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no dict)
    n_images, n_tokens = record.pop("n_images"), record.pop("n_tokens")
    accumulator = ExemplarAccumulator(ExemplarSettings(**record))
    accumulator.n_images, accumulator.n_tokens = n_images, n_tokens
    accumulator.top.restore("top", tensors)
    accumulator.ranges.table.restore("ranges", tensors)
    accumulator.ranges.top_bin = tensors["top_bin"]
    accumulator.contrast.restore("contrast", tensors)
    for name in COUNTS:
        setattr(accumulator, name, tensors[name])
    return accumulator


def merge_all(accumulators: list[ExemplarAccumulator]) -> ExemplarAccumulator:
    """One accumulator that saw what all of them saw; the first is changed."""
    assert accumulators, "there is nothing to merge"
    merged = accumulators[0]
    for accumulator in accumulators[1:]:
        merged.merge(accumulator)
    return merged
