"""Exemplars of one dictionary at one hookpoint and pole, gathered batch by batch; accumulators merge (design.md §7).

Per latent: the K images with the highest maxima (the lower image first among equals), samples over the activation
range, contrast images, and counts. Memory does not grow with the number of images, and any split of the images into
shards merges to the same bytes: tables keep entries by key alone, no two images have the same key, and the counts are
exact in any order. All of it lives where the codes do.

A contrast image has the lowest maximum there is: zero, drawn by hash, where the feature is silent on enough images,
else the weakest, and only those at or below the 10th percentile of the feature's image maxima.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes, join_selected
from workers.dictionaries.sparsifiers import Selected
from workers.exemplars.activation_counts import ActivationCounts
from workers.exemplars.activation_ranges import ActivationRanges
from workers.exemplars.hashing import HASH_BITS, shared_hashes, value_bits
from workers.exemplars.image_maxima import DenseImages, ImageBatch, SparseImages, is_dense
from workers.exemplars.ranked_table import EMPTY, Entries, Places, RankedTable, positions, take

HIGHEST_BITS = 0x7FFFFFFF
SMALLEST = 2.0**-149  # the smallest value that is not silence
CONTRAST_SHARE = 0.1
ENTRIES_AT_ONCE = 1 << 18  # below this many active entries the number of calls costs more than the work
PAIRS_AT_ONCE = 1 << 18  # of an image and a latent, active or not
VALUES_AT_ONCE = 1 << 22  # of codes that are dense


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


class Winners(NamedTuple):
    """Pairs (image row · n_latents + latent) that won a place in a table of shown images."""

    table: RankedTable
    places: Places
    pairs: Int[Tensor, " n_winners"]


class Pairs(NamedTuple):
    """Pairs of an image and a latent, by latent and then image."""

    image_rows: Int[Tensor, " n_pairs"]
    latents: Int[Tensor, " n_pairs"]
    pairs: Int[Tensor, " n_pairs"]  # image row · n_latents + latent


class ExemplarAccumulator:
    """All that is kept of the images seen so far; images are named by their index in the image set, each seen once."""

    def __init__(self, settings: ExemplarSettings, device: torch.device | str = "cpu") -> None:
        self.settings = settings
        self.device = torch.device(device)
        n = settings.n_latents
        image, value = self.blank(-1, torch.int32), self.blank(0, torch.float32)
        patch_map = torch.zeros(settings.n_patches, dtype=torch.uint8, device=device)
        shown = {"image": image, "value": value, "patch": self.blank(-1, torch.int16), "map": patch_map}
        self.top = RankedTable(n, settings.n_top, shown)
        self.ranges = ActivationRanges(n, settings.n_per_range, shown)
        self.contrast = RankedTable(n, settings.n_contrast, {"image": image, "value": value})
        self.counts = ActivationCounts(n, device)
        self.waiting: list[tuple[Tensor, Codes]] = []
        self.n_images = 0
        self.n_tokens = 0

    def blank(self, value: int, dtype: torch.dtype) -> Tensor:
        return torch.tensor(value, dtype=dtype, device=self.device)

    @torch.no_grad()
    def update(self, images: Int[Tensor, " n_images"], codes: Codes) -> None:
        """Take in a batch of images; ``codes`` holds the tokens of the first image, then of the second, and so on."""
        if images.numel() == 0:
            return
        indices, values = codes.indices.to(self.device), codes.values.to(self.device)
        self.n_images += images.numel()
        self.n_tokens += values.shape[0]
        if is_dense(codes, self.settings.n_latents):
            self.take_in_dense(images, Codes(indices, values, None))
            return
        self.waiting.append((images, Codes(indices, values, None)))
        if sum(waiting.values.numel() for _, waiting in self.waiting) >= ENTRIES_AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Work off the batches that wait to be worked off together."""
        settings = self.settings
        for images, codes in join_batches(self.waiting):
            for part, values, indices in slices(images, codes, max(1, PAIRS_AT_ONCE // settings.n_latents)):
                batch = SparseImages(
                    Codes(indices, values, None), n_images=len(part), n_latents=settings.n_latents,
                    n_prefix_tokens=settings.n_prefix_tokens,
                )  # fmt: skip
                self.take_in(part, batch)
        self.waiting = []

    def take_in_dense(self, images: Int[Tensor, " n_images"], codes: Codes) -> None:
        per_image = codes.values.numel() // images.numel()
        for part, values, indices in slices(images, codes, max(1, VALUES_AT_ONCE // per_image)):
            prefix = self.settings.n_prefix_tokens
            batch = DenseImages(Codes(indices, values, None), n_images=len(part), n_prefix_tokens=prefix)
            self.take_in(part, batch)

    def take_in(self, images: Int[Tensor, " n_images"], batch: ImageBatch) -> None:
        indices = tuple(images.tolist())
        hashes = shared_hashes(indices, self.settings.n_latents, self.settings.seed, self.device)
        on_device = torch.tensor(indices, device=self.device)
        batch.count(self.counts)
        self.counts.add_images(batch.maximum, batch.prefix_wins())
        winners = [self.admit_top(on_device, batch), self.admit_ranges(hashes, batch)]
        self.fill(on_device, batch, winners)
        self.offer_contrast(on_device, hashes, batch)

    def admit_top(self, images: Tensor, batch: ImageBatch) -> Winners:
        worst = (HIGHEST_BITS - (self.top.highest >> 32)).int().view(torch.float32)  # 0 where there is room
        found = find_pairs(batch.maximum >= worst.clamp_min(SMALLEST))
        keys = ((HIGHEST_BITS - value_bits(take(batch.maximum.view(-1), found.pairs))) << 32) | images[found.image_rows]
        admitted = positions(self.top.admits(found.latents, keys))
        places = self.top.admit(take(found.latents, admitted), take(keys, admitted))
        return Winners(self.top, places, take(found.pairs, take(admitted, places.entries)))

    def admit_ranges(self, hashes: Tensor, batch: ImageBatch) -> Winners:
        places = self.ranges.admit(batch.maximum, hashes)
        return Winners(self.ranges.table, places, places.entries)

    def fill(self, images: Tensor, batch: ImageBatch, winners: Sequence[Winners]) -> None:
        """Make the patch maps of those that won a place, each once."""
        pairs = torch.cat([won.pairs for won in winners])
        if pairs.numel() == 0:
            return
        distinct, place = torch.unique(pairs, return_inverse=True)
        shown = {name: column.index_select(0, place) for name, column in batch.show(distinct)._asdict().items()}
        image, value = take(images, pairs // self.settings.n_latents), take(batch.maximum.view(-1), pairs)
        columns = {"image": image, "value": value, **shown}
        split = {name: column.split([won.pairs.numel() for won in winners]) for name, column in columns.items()}
        for number, won in enumerate(winners):
            won.table.fill(won.places, {name: parts[number] for name, parts in split.items()})

    def offer_contrast(self, images: Tensor, hashes: Tensor, batch: ImageBatch) -> None:
        keys = (value_bits(batch.maximum) << HASH_BITS) | hashes
        found = find_pairs(keys < self.contrast.highest)
        offered = {"image": take(images, found.image_rows), "value": take(batch.maximum.view(-1), found.pairs)}
        self.contrast.insert(Entries(found.latents, take(keys.view(-1), found.pairs), offered))

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
        self.counts.merge(other.counts)
        self.n_images += other.n_images
        self.n_tokens += other.n_tokens

    @torch.no_grad()
    def finish(self) -> dict[str, Tensor]:
        """The tensors of the exemplars artefact; -1 stands for no image, NaN for no contrast reached."""
        self.flush()
        top = {f"top_{name}": column for name, column in self.top.ranked().columns.items()}
        ranges = self.ranges.finish(self.counts.maximum)
        finished = (
            top
            | {f"range_{name}": column for name, column in ranges.columns.items()}
            | {"range_edges": ranges.edges}
            | self.contrast_columns()
            | self.counts.statistics(self.n_tokens)
        )
        return {name: tensor.cpu() for name, tensor in finished.items()}

    def contrast_columns(self) -> dict[str, Tensor]:
        """Contrast images by rising maximum, those above the 10th percentile of the image maxima left out."""
        ranked = self.contrast.ranked()
        images, values = ranked.columns["image"], ranked.columns["value"]
        kept = ranked.keys != EMPTY
        rank = max(math.ceil(CONTRAST_SHARE * self.n_images), 1) - 1  # of the percentile, among all image maxima
        if rank < self.contrast.n_slots:
            kept &= values <= values[:, rank : rank + 1]
        reached = torch.where(kept, values, -1.0).amax(dim=1)
        has_contrast = (reached >= 0) & (reached < self.counts.maximum)
        kept &= has_contrast[:, None]
        return {
            "contrast_image": torch.where(kept, images, -1),
            "contrast_value": torch.where(kept, values, 0.0),
            "contrast_reached": torch.where(has_contrast, reached, math.nan),
        }

    @torch.no_grad()
    def save(self, path: Path) -> None:
        self.flush()
        tensors = self.top.tensors("top") | self.ranges.table.tensors("ranges") | self.contrast.tensors("contrast")
        tensors |= {"top_bin": self.ranges.top_bin} | self.counts.tensors()
        record = asdict(self.settings) | {"n_images": self.n_images, "n_tokens": self.n_tokens}
        save_file(tensors, path, metadata={"record": json.dumps(record, sort_keys=True)})


def find_pairs(mask: Bool[Tensor, "n_images n_latents"]) -> Pairs:
    """Where it is true."""
    n_images, n_latents = mask.shape
    by_latent = positions(mask.T.flatten())
    image_rows, latents = by_latent % n_images, by_latent // n_images
    return Pairs(image_rows, latents, image_rows * n_latents + latents)


def join_batches(waiting: Sequence[tuple[Tensor, Codes]]) -> Iterator[tuple[Tensor, Codes]]:
    """Batches with equally many tokens per image joined into one, narrower codes padded with zeros."""
    for n_tokens in dict.fromkeys(codes.indices.shape[0] // images.numel() for images, codes in waiting):
        alike = [(images, codes) for images, codes in waiting if codes.indices.shape[0] == images.numel() * n_tokens]
        if len(alike) == 1:
            yield alike[0]
            continue
        selected = join_selected([Selected(codes.indices, codes.values) for _, codes in alike])
        yield torch.cat([images for images, _ in alike]), Codes(selected.indices, selected.values, None)


def slices(images: Tensor, codes: Codes, n_at_once: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """A few images at a time, about as many each time: their numbers, values and indices."""
    n_tokens = codes.values.shape[0] // images.numel()
    n_at_once = math.ceil(images.numel() / math.ceil(images.numel() / n_at_once))
    for start in range(0, images.numel(), n_at_once):
        stop = min(start + n_at_once, images.numel())
        tokens = slice(start * n_tokens, stop * n_tokens)
        yield images[start:stop], codes.values[tokens], codes.indices[tokens]


def load_accumulator(path: Path, device: torch.device | str = "cpu") -> ExemplarAccumulator:
    """The accumulator that ``save`` wrote."""
    with safe_open(path, framework="pt", device=str(device)) as file:
        record = json.loads(file.metadata()["record"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a safetensors file is no dict)
    n_images, n_tokens = record.pop("n_images"), record.pop("n_tokens")
    accumulator = ExemplarAccumulator(ExemplarSettings(**record), device)
    accumulator.n_images, accumulator.n_tokens = n_images, n_tokens
    accumulator.top.restore("top", tensors)
    accumulator.ranges.table.restore("ranges", tensors)
    accumulator.ranges.top_bin = tensors["top_bin"]
    accumulator.contrast.restore("contrast", tensors)
    accumulator.counts.restore(tensors)
    return accumulator


def merge_all(accumulators: Iterable[ExemplarAccumulator]) -> ExemplarAccumulator:
    """One accumulator that saw what all of them saw; the first is changed, and the others are let go one by one."""
    merged: ExemplarAccumulator | None = None
    for accumulator in accumulators:
        if merged is None:
            merged = accumulator
        else:
            merged.merge(accumulator)
    assert merged is not None, "there is nothing to merge"
    return merged
