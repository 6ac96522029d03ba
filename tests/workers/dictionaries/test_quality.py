"""Explained variance worked by hand, against one pass over everything, and merged over shards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.dictionaries.quality import QualityAccumulator, VarianceSums, token_means
from workers.dictionaries.sparse_coder import CoderShape, Codes, SparseCoder, initialize_coder

D_MODEL, N_TOKENS, N_PREFIX = 8, 5, 2


def activations(n_images: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(4)
    offset = torch.randn(1, N_TOKENS, D_MODEL, generator=generator) * 3
    return torch.randn(n_images, N_TOKENS, D_MODEL, generator=generator) + offset + 10


def coder() -> SparseCoder:
    made = SparseCoder(CoderShape(d_model=D_MODEL, n_latents=32, k=3))
    initialize_coder(made, torch.Generator().manual_seed(1))
    return made


def evaluate(values: Tensor, batch: int) -> QualityAccumulator:
    accumulator = QualityAccumulator(d_model=D_MODEL, n_latents=32, n_prefix_tokens=N_PREFIX)
    for start in range(0, values.shape[0], batch):
        part = values[start : start + batch]
        codes = coder().encode(part.flatten(0, 1))
        accumulator.update(part, coder().decode(codes).view_as(part), codes)
    return accumulator


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_predicting_the_mean_explains_nothing_at_any_scale(scale: float) -> None:
    values = scale * activations().flatten(0, 1)
    sums = VarianceSums(D_MODEL)
    sums.update(values, values.mean(0).expand_as(values))
    assert sums.explained_variance() == pytest.approx(0, abs=1e-6)
    assert sums.mean_r_squared() == pytest.approx(0, abs=1e-6)


def test_explained_variance_by_hand() -> None:
    sums = VarianceSums(2)
    sums.update(torch.tensor([[0.0, 0.0], [2.0, 8.0]]), torch.tensor([[1.0, 0.0], [2.0, 6.0]]))
    # errors 1 and 4; deviations 1 + 1 = 2 and 16 + 16 = 32
    assert sums.explained_variance() == pytest.approx(1 - 5 / 34)
    assert sums.mean_r_squared() == pytest.approx((1 - 1 / 2 + 1 - 4 / 32) / 2)
    assert sums.mean_legacy() == pytest.approx((1 - 1 / 17 + 1 - 4 / 17) / 2)


def test_shards_merge_to_the_figures_of_the_whole() -> None:
    values = activations()
    merged = evaluate(values[:5], 2)
    restored = QualityAccumulator(d_model=D_MODEL, n_latents=32, n_prefix_tokens=N_PREFIX)
    restored.restore(evaluate(values[5:], 3).tensors())
    merged.merge(restored)
    found, expected = merged.finish(), evaluate(values, 12).finish()
    for name in ("explained_variance", "explained_variance_normalized", "r_squared_by_dimension", "l0_by_token"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)
    for name in ("n_tokens", "n_dead", "n_dense", "l0", "density_quantiles"):
        assert found[name] == expected[name]


def test_cls_and_patches_are_told_apart() -> None:
    values = activations()
    rebuilt = values.clone()
    rebuilt[:, N_PREFIX:] = values[:, N_PREFIX:].mean((0, 1))
    accumulator = QualityAccumulator(d_model=D_MODEL, n_latents=4, n_prefix_tokens=N_PREFIX)
    fires = torch.zeros(12, N_TOKENS, 2)
    fires[:, 0, 0] = 1.5
    fires[:, 1:, :] = 0.5
    indices = torch.tensor([0, 3]).expand(12 * N_TOKENS, 2)
    accumulator.update(values, rebuilt, Codes(indices, fires.flatten(0, 1), None))
    finished = accumulator.finish()
    assert finished["explained_variance"]["cls"] == 1.0
    assert finished["explained_variance"]["patches"] == pytest.approx(0, abs=1e-6)
    assert 0 < finished["explained_variance"]["all"] < 1
    assert finished["l0_by_token"] == {"cls": 1.5, "patches": 2.0, "all": 1.8}
    assert (finished["n_latents"], finished["n_dead"], finished["n_dense"]) == (4, 2, 2)
    assert accumulator.density().tolist() == pytest.approx([1.0, 0.0, 0.0, 0.8])


def test_a_model_without_prefix_tokens_has_no_figure_for_them() -> None:
    values = activations()
    accumulator = QualityAccumulator(d_model=D_MODEL, n_latents=4, n_prefix_tokens=0)
    empty = Codes(torch.zeros(60, 1, dtype=torch.long), torch.zeros(60, 1), None)
    accumulator.update(values, values, empty)
    finished = accumulator.finish()
    assert finished["explained_variance"] == {"cls": None, "patches": 1.0, "all": 1.0}
    assert finished["l0"] == 0.0


def test_with_one_pole_only_values_above_zero_keep_a_latent_alive() -> None:
    values = activations()
    codes = Codes(torch.arange(4).expand(60, 4), torch.tensor([1.0, -1.0, 0.0, 2.0]).expand(60, 4), None)
    found = []
    for has_one_pole in (True, False):
        accumulator = QualityAccumulator(d_model=D_MODEL, n_latents=4, n_prefix_tokens=2, has_one_pole=has_one_pole)
        accumulator.update(values, values, codes)
        found.append(accumulator.finish())
    assert [one["n_dead"] for one in found] == [2, 1]
    assert [one["l0"] for one in found] == [3.0, 3.0]
    assert found[0]["l0_positive"]["all"] == 2.0


def test_means_of_tokens_are_those_of_all_images() -> None:
    values = activations()
    merged, rest = evaluate(values[:7], 3), evaluate(values[7:], 5)
    merged.merge(rest)
    means = token_means(merged.group_sums, float(merged.n_patches), N_TOKENS - N_PREFIX)
    expected = torch.cat([values[:, :N_PREFIX].mean(0), values[:, N_PREFIX:].mean((0, 1))[None]])
    assert torch.allclose(means, expected, atol=1e-5)
