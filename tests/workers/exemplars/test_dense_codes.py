"""Codes that name every latent (FF-KV): the dense path against the sparse one, to the byte, and both poles."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.benchmarks.exemplar_reference import compare_with_reference
from workers.dictionaries.sparse_coder import Codes
from workers.dictionaries.store import NEGATIVE, POSITIVE, pole_codes
from workers.exemplars.accumulator import ExemplarAccumulator, ExemplarSettings
from workers.exemplars.activation_counts import CPU_BLOCK, ActivationCounts
from workers.exemplars.image_maxima import is_dense

N_IMAGES, N_TOKENS, N_LATENTS = 60, 12, 17
SETTINGS = ExemplarSettings(N_LATENTS, N_TOKENS - 2, n_prefix_tokens=2, n_top=6, n_per_range=3, n_contrast=5, seed=3)


@pytest.fixture(scope="module")
def values() -> Tensor:
    """[image, token, latent] as GELU leaves them, mostly a little below 0; latent 0 never is, latent 1 never on."""
    drawn = torch.randn(N_IMAGES, N_TOKENS, N_LATENTS, generator=torch.Generator().manual_seed(1))
    hidden = torch.nn.functional.gelu(drawn)
    hidden[..., 0].abs_()
    hidden[..., 1] = 0
    return hidden


def collect(values: Tensor, pole: str, *, is_expanded: bool, batch: int) -> dict[str, Tensor]:
    accumulator = ExemplarAccumulator(SETTINGS)
    for images in torch.arange(N_IMAGES).split(batch):  # type: ignore[no-untyped-call]
        tokens = values[images].flatten(0, 1)
        indices = torch.arange(N_LATENTS).expand_as(tokens)
        codes = Codes(indices if is_expanded else indices.clone(), tokens, None)
        assert is_dense(codes, N_LATENTS) == is_expanded
        accumulator.update(images, pole_codes(codes, pole))
    return accumulator.finish()


@pytest.mark.parametrize("pole", [POSITIVE, NEGATIVE])
def test_dense_codes_give_the_bytes_that_sparse_ones_give(values: Tensor, pole: str) -> None:
    dense = collect(values, pole, is_expanded=True, batch=8)
    sparse = collect(values, pole, is_expanded=False, batch=13)
    for name, tensor in sparse.items():
        assert dense[name].numpy().tobytes() == tensor.numpy().tobytes(), name


def test_more_tokens_and_latents_than_are_counted_at_once_are_counted_alike() -> None:
    n_tokens, n_latents = CPU_BLOCK[0] + 5, 2 * CPU_BLOCK[1] + 3
    values = torch.randn(n_tokens, n_latents, generator=torch.Generator().manual_seed(6)).clamp_min(0)
    dense, sparse = ActivationCounts(n_latents), ActivationCounts(n_latents)
    dense.add_tokens(values)
    tokens, latents = values.nonzero(as_tuple=True)
    sparse.add_entries(latents, values[tokens, latents])
    for name, tensor in sparse.tensors().items():
        assert torch.equal(dense.tensors()[name], tensor), name


@pytest.mark.parametrize("pole", [POSITIVE, NEGATIVE])
def test_each_pole_is_that_of_the_reference(values: Tensor, pole: str) -> None:
    found = collect(values, pole, is_expanded=True, batch=60)
    signed = values if pole == POSITIVE else -values
    assert compare_with_reference(found, signed, SETTINGS) == []
    assert (int(found["n_tokens_active"][0]) > 0) == (pole == POSITIVE)
    assert int(found["n_tokens_active"][1]) == 0


def test_the_reference_notices_a_wrong_image_map_and_count(values: Tensor) -> None:
    found = collect(values, POSITIVE, is_expanded=True, batch=60)
    found["top_image"][3, 0] += 1
    found["top_map"][4, 1, 2] ^= 1
    found["n_images_active"][5] += 1
    lines = compare_with_reference(found, values, SETTINGS)
    assert [line.split(":")[0] for line in lines] == [
        "latent 3, top", "latent 3, top image 0", "latent 4, top image 1", "n_images_active differs from the reference",
    ]  # fmt: skip
