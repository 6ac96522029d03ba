"""Exemplars against a brute-force reference on a dense latent axis, and shards against the whole, to the byte."""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes
from workers.exemplars.accumulator import (
    CONTRAST_SHARE,
    ExemplarAccumulator,
    ExemplarSettings,
    load_accumulator,
    merge_all,
)
from workers.exemplars.activation_counts import HIGHEST, LOWEST, ActivationCounts
from workers.exemplars.hashing import hash_images

N_IMAGES, N_TOKENS, N_PREFIX, N_LATENTS, K = 90, 11, 2, 24, 6
SETTINGS = ExemplarSettings(
    n_latents=N_LATENTS,
    n_patches=N_TOKENS - N_PREFIX,
    n_prefix_tokens=N_PREFIX,
    n_top=5,
    n_per_range=3,
    n_contrast=4,
    seed=11,
)
HASHES = hash_images(torch.arange(N_IMAGES), N_LATENTS, SETTINGS.seed)


class World(NamedTuple):
    """Activations with a dense latent axis and the codes of the same."""

    dense: Tensor
    indices: Tensor
    values: Tensor

    def codes(self, images: Tensor) -> Codes:
        return Codes(self.indices[images].flatten(0, 1), self.values[images].flatten(0, 1), None)


@pytest.fixture(scope="module")
def world() -> World:
    """Latent 0 never fires, latent 1 fires everywhere, values repeat so that ties occur, and zeros pad the codes."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.rand(N_IMAGES, N_TOKENS, N_LATENTS, generator=generator)
    scores[..., 0], scores[..., 1] = -1, 2
    indices = scores.topk(K, dim=2).indices
    values = 2.0 ** torch.randint(-6, 4, indices.shape, generator=generator) * (
        1 + torch.randint(0, 4, indices.shape, generator=generator) / 4
    )
    values[indices != 1] *= (torch.rand(indices.shape, generator=generator) > 0.8)[indices != 1]
    dense = torch.zeros(N_IMAGES, N_TOKENS, N_LATENTS).scatter_add(2, indices, values)
    return World(dense, indices, values)


def collect(world: World, images: Tensor, batch: int = 7) -> ExemplarAccumulator:
    accumulator = ExemplarAccumulator(SETTINGS)
    for part in images.split(batch):  # type: ignore[no-untyped-call]
        accumulator.update(part, world.codes(part))
    return accumulator


def shown(world: World, image: int, latent: int) -> tuple[int, float, int, list[int]]:
    """Image, maximum, patch and map, straight from the definition."""
    values = world.dense[image, :, latent]
    patches = values[N_PREFIX:]
    scale = float(patches.max())
    patch_map = [max(1, round(255 * float(v) / scale)) if v > 0 else 0 for v in patches]
    return image, float(values.max()), max(int(values.argmax()) - N_PREFIX, -1), patch_map


def stored(tensors: dict[str, Tensor], prefix: str, place: tuple[int, ...]) -> tuple[int, float, int, list[int]]:
    image, value, patch, patch_map = (tensors[f"{prefix}_{name}"][place] for name in ("image", "value", "patch", "map"))
    return int(image), float(value), int(patch), patch_map.tolist()


@pytest.fixture(scope="module")
def finished(world: World) -> dict[str, Tensor]:
    return collect(world, torch.arange(N_IMAGES)).finish()


def image_maxima(world: World, latent: int) -> list[float]:
    return [float(v) for v in world.dense[:, :, latent].amax(dim=1)]


@pytest.mark.parametrize("latent", range(N_LATENTS))
def test_top_images_are_those_of_the_reference(world: World, finished: dict[str, Tensor], latent: int) -> None:
    maxima = image_maxima(world, latent)
    expected = sorted((i for i in range(N_IMAGES) if maxima[i] > 0), key=lambda i: (-maxima[i], i))[: SETTINGS.n_top]
    for rank, image in enumerate(expected):
        assert stored(finished, "top", (latent, rank)) == shown(world, image, latent)
    n_empty = SETTINGS.n_top - len(expected)
    assert finished["top_image"][latent, len(expected) :].tolist() == [-1] * n_empty
    assert (latent == 0) == (n_empty == SETTINGS.n_top)


@pytest.mark.parametrize("latent", range(N_LATENTS))
def test_range_samples_are_those_of_the_reference(world: World, finished: dict[str, Tensor], latent: int) -> None:
    maxima = image_maxima(world, latent)
    highest = math.floor(2 * math.log2(max(maxima))) if max(maxima) > 0 else 0
    for chosen_range in range(4):
        members = []
        for image in range(N_IMAGES):
            if maxima[image] > 0:
                below = highest - math.floor(2 * math.log2(maxima[image]))
                if min(below // 2, 3) == chosen_range:
                    members.append(image)
        keys = {i: int(HASHES[i, latent]) for i in members}
        drawn = sorted(members, key=lambda i: keys[i])[: SETTINGS.n_per_range]
        drawn.sort(key=lambda i: (-maxima[i], i))
        for place, image in enumerate(drawn):
            assert stored(finished, "range", (latent, chosen_range, place)) == shown(world, image, latent)
        empty = finished["range_image"][latent, chosen_range, len(drawn) :].tolist()
        assert empty == [-1] * (SETTINGS.n_per_range - len(drawn))
        edges = finished["range_edges"][latent]
        assert all(edges[chosen_range + 1] <= maxima[i] <= edges[chosen_range] for i in members)


@pytest.mark.parametrize("latent", range(N_LATENTS))
def test_contrast_images_are_those_of_the_reference(world: World, finished: dict[str, Tensor], latent: int) -> None:
    maxima = image_maxima(world, latent)
    keys = HASHES[:, latent].tolist()
    tenth = sorted(maxima)[math.ceil(CONTRAST_SHARE * N_IMAGES) - 1]
    allowed = [i for i in range(N_IMAGES) if maxima[i] <= tenth]
    expected = sorted(allowed, key=lambda i: (maxima[i], keys[i]))[: SETTINGS.n_contrast]
    if max(maxima) == 0:
        expected = []
    assert finished["contrast_image"][latent].tolist() == expected + [-1] * (SETTINGS.n_contrast - len(expected))
    reached = float(finished["contrast_reached"][latent])
    assert math.isnan(reached) if latent == 0 else reached == max(maxima[i] for i in expected)


def test_a_feature_that_is_never_weaker_than_its_maximum_has_no_contrast() -> None:
    settings = ExemplarSettings(n_latents=1, n_patches=1, n_prefix_tokens=0)
    accumulator = ExemplarAccumulator(settings)
    accumulator.update(torch.arange(30), Codes(torch.zeros(30, 1, dtype=torch.long), torch.full((30, 1), 2.0), None))
    finished = accumulator.finish()
    assert math.isnan(float(finished["contrast_reached"][0]))
    assert finished["contrast_image"].tolist() == [[-1] * 24]
    assert finished["top_image"].tolist() == [list(range(16))]


def test_a_feature_that_never_falls_silent_is_contrasted_with_its_weakest_decile() -> None:
    settings = ExemplarSettings(n_latents=1, n_patches=1, n_prefix_tokens=0)
    accumulator = ExemplarAccumulator(settings)
    values = torch.arange(1, 31, dtype=torch.float32)[:, None]
    accumulator.update(torch.arange(30), Codes(torch.zeros(30, 1, dtype=torch.long), values, None))
    finished = accumulator.finish()
    assert finished["contrast_image"].tolist() == [[0, 1, 2, *[-1] * 21]]
    assert finished["contrast_reached"].tolist() == [3.0]


def test_statistics_are_those_of_the_dense_activations(world: World, finished: dict[str, Tensor]) -> None:
    dense = world.dense.double()
    active = dense > 0
    maxima = dense.amax(dim=1)
    assert finished["n_tokens_active"].tolist() == active.sum((0, 1)).tolist()
    assert finished["n_images_active"].tolist() == (maxima > 0).sum(0).tolist()
    torch.testing.assert_close(finished["density"], active.double().mean((0, 1)).float())
    mean = dense.sum((0, 1)) / active.sum((0, 1)).clamp_min(1)
    torch.testing.assert_close(finished["mean"], mean.float())
    spread = torch.where(active, (dense - mean).square(), 0.0).sum((0, 1)) / active.sum((0, 1)).clamp_min(1)
    torch.testing.assert_close(finished["variance"], spread.float())
    assert torch.equal(finished["maximum"].double(), maxima.amax(0))
    wins = ((dense.argmax(1) < N_PREFIX) & (maxima > 0)).sum(0) / (maxima > 0).sum(0).clamp_min(1)
    torch.testing.assert_close(finished["prefix_share"], wins.float())
    assert torch.equal(finished["histogram"].sum(1).long(), finished["n_tokens_active"])
    for latent in (1, 5):
        counted = torch.histogram(world.dense[:, :, latent][active[:, :, latent]], finished["histogram_edges"])
        assert counted.hist.tolist() == finished["histogram"][latent].tolist()


def counts_of(values: Tensor) -> ActivationCounts:
    counts = ActivationCounts(1)
    counts.add_entries(torch.zeros(len(values), dtype=torch.long), values)
    return counts


@pytest.mark.parametrize("exponent", [-27, -11, 0, 13])
def test_statistics_hold_for_latents_of_any_strength(exponent: int) -> None:
    drawn = 0.05 + torch.rand(1000, generator=torch.Generator().manual_seed(4))
    values = drawn.clamp_min(0.6) * 2.0**exponent
    expected = values.double()
    found = counts_of(values).statistics(len(values))
    assert float(found["mean"]) == pytest.approx(float(expected.mean()), rel=1e-6)
    assert float(found["variance"]) == pytest.approx(float(expected.var(correction=0)), rel=1e-5)
    counted = torch.histogram(values, found["histogram_edges"]).hist
    assert counted.tolist() == found["histogram"][0].tolist()
    assert int((counted > 0).sum()) == 3
    tokens = ActivationCounts(1)
    tokens.add_tokens(torch.cat([values, torch.zeros(9)])[:, None])
    for name, tensor in counts_of(values).tensors().items():
        assert torch.equal(tokens.tensors()[name], tensor), name


def test_values_of_every_strength_add_up_to_the_same_bytes_in_any_order() -> None:
    generator = torch.Generator().manual_seed(5)
    bits = torch.randint(1, 0x7F800000, (20_000,), generator=generator, dtype=torch.int32)
    values = bits.view(torch.float32)
    assert float(values.amin()) < LOWEST < HIGHEST < float(values.amax())
    whole = counts_of(values)
    shuffled = counts_of(values[torch.randperm(10_000, generator=generator)])
    shuffled.merge(counts_of(values[10_000:].flip(0)))
    for name, tensor in whole.tensors().items():
        assert torch.equal(shuffled.tensors()[name], tensor), name
    held = values.double().clamp(LOWEST, HIGHEST)
    assert float(whole.statistics(1)["mean"]) == pytest.approx(float(held.mean()), rel=1e-6)
    assert int(whole.histogram.sum()) == 20_000


@pytest.mark.parametrize("seed", range(5))
def test_shards_merged_in_any_order_give_the_same_bytes(world: World, finished: dict[str, Tensor], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randperm(N_IMAGES, generator=generator)
    cuts = torch.randint(1, N_IMAGES, (3,), generator=generator).sort().values.tolist()
    shards = [collect(world, part, batch=5 + seed) for part in images.tensor_split(cuts) if part.numel()]
    merged = merge_all(shards).finish()
    assert merged.keys() == finished.keys()
    for name, tensor in finished.items():
        assert merged[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_an_accumulator_survives_saving(world: World, finished: dict[str, Tensor], tmp_path: Path) -> None:
    half = torch.arange(N_IMAGES // 2)
    collect(world, half).save(tmp_path / "part.safetensors")
    loaded = load_accumulator(tmp_path / "part.safetensors")
    for part in torch.arange(N_IMAGES // 2, N_IMAGES).split(7):  # type: ignore[no-untyped-call]
        loaded.update(part, world.codes(part))
    for name, tensor in loaded.finish().items():
        assert tensor.numpy().tobytes() == finished[name].numpy().tobytes(), name


def test_memory_does_not_grow_with_the_number_of_images(world: World, tmp_path: Path) -> None:
    sizes = []
    for n_images in (20, 80):
        path = tmp_path / f"{n_images}.safetensors"
        collect(world, torch.arange(n_images)).save(path)
        sizes.append(path.stat().st_size)
    assert sizes[0] == sizes[1]


def test_images_on_which_nothing_fires_leave_every_feature_empty() -> None:
    accumulator = ExemplarAccumulator(ExemplarSettings(n_latents=3, n_patches=2, n_prefix_tokens=1))
    for start in (0, 2):
        codes = Codes(torch.zeros(6, 2 + start, dtype=torch.long), torch.zeros(6, 2 + start), None)
        accumulator.update(torch.arange(start, start + 2), codes)
    finished = accumulator.finish()
    assert (accumulator.n_images, accumulator.n_tokens) == (4, 12)
    assert int(finished["top_image"].max()) == -1
    assert bool(finished["contrast_reached"].isnan().all())
    assert finished["density"].tolist() == [0.0, 0.0, 0.0]


def test_accumulators_of_different_settings_are_not_merged() -> None:
    one = ExemplarAccumulator(SETTINGS)
    other = ExemplarAccumulator(ExemplarSettings(n_latents=N_LATENTS, n_patches=9, n_prefix_tokens=2))
    with pytest.raises(ValueError, match="different settings"):
        one.merge(other)
