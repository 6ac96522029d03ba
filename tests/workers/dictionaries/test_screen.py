"""The screen in bfloat16: the latents a product in single precision finds, whatever the sizes of rows and tokens."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workers.dictionaries.csr import row_numbers
from workers.dictionaries.screen import (
    Read,
    approximate_products,
    find_candidates,
    is_screened,
    screened_above,
    screened_top_k,
)
from workers.dictionaries.sparsifiers import Selected, strongest, strongest_of_either_sign

D_MODEL, N_LATENTS, K = 48, 2048, 6


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unlike_rows() -> Tensor:
    """Encoder rows whose norms span five orders of magnitude, some of them zero."""
    rows = seeded(N_LATENTS, D_MODEL) * 10 ** (5 * torch.rand(N_LATENTS, 1, generator=torch.Generator().manual_seed(1)))
    rows[::97] = 0
    return rows * 1e-3


def cases() -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Tokens, rows and biases."""
    rows, none = seeded(N_LATENTS, D_MODEL), torch.zeros(N_LATENTS)
    tokens = seeded(700, D_MODEL, seed=2)
    return {
        "plain": (tokens, rows, none),
        "biased": (tokens, rows, 3 * seeded(N_LATENTS, seed=3)),
        "unlike rows": (tokens, unlike_rows(), none),
        "unlike tokens": (tokens * torch.logspace(-6, 6, 700)[:, None], rows, 0.1 * seeded(N_LATENTS, seed=3)),
        "rows nearly alike": (tokens, seeded(1, D_MODEL) + 1e-2 * rows, none),
        "few above zero": (tokens, rows, none - 26),
        "one token": (tokens[:1], rows, none),
    }


def as_set(selected: Selected) -> list[list[int]]:
    """The latents that are on at each token."""
    return [
        sorted(index for index, value in zip(*row, strict=True) if value != 0)
        for row in zip(selected.indices.tolist(), selected.values.tolist(), strict=True)
    ]


@pytest.mark.parametrize("name", list(cases()))
@pytest.mark.parametrize("is_signed", [False, True])
def test_the_latents_are_those_of_a_product_in_single_precision(name: str, is_signed: bool) -> None:
    tokens, rows, bias = cases()[name]
    pre = (tokens.double() @ rows.double().T + bias).float()  # close calls are decided by the exact value
    expected = (strongest_of_either_sign if is_signed else strongest)(pre, K)
    found = screened_top_k(tokens, rows, bias, K, is_signed)
    assert found.indices.shape == expected.indices.shape
    assert as_set(found) == as_set(expected)
    at = pre.gather(1, found.indices)[found.values != 0]
    scale = (tokens.norm(dim=1, keepdim=True) * rows.norm(dim=1)).gather(1, found.indices)[found.values != 0]
    assert bool(((found.values[found.values != 0] - at).abs() <= 1e-6 * (scale + at.abs()) + 1e-30).all())


def test_no_tokens_have_no_codes() -> None:
    found = screened_top_k(torch.zeros(0, D_MODEL), *cases()["biased"][1:], K, is_signed=False)
    assert found.indices.shape == found.values.shape == (0, K)


@pytest.mark.parametrize("is_signed", [False, True])
def test_a_token_whose_latents_cannot_be_told_apart_leaves_the_others_alone(is_signed: bool) -> None:
    tokens, rows, bias = cases()["plain"]
    rows, tokens = rows.clone(), tokens.clone()
    rows[:, 0] = 1
    tokens[5], tokens[600] = 0, 3 * torch.eye(D_MODEL)[0]
    found = screened_top_k(tokens, rows, bias, K, is_signed)
    assert found.values[5].tolist() == [0] * K
    assert found.values[600].tolist() == [3] * K
    assert len(set(found.indices[600].tolist())) == K
    others = torch.ones(700, dtype=torch.bool).index_fill_(0, torch.tensor([5, 600]), False)
    alone = screened_top_k(tokens[others], rows, bias, K, is_signed)
    assert torch.equal(found.indices[others], alone.indices)
    assert torch.equal(found.values[others], alone.values)


def test_a_value_does_not_depend_on_what_is_encoded_with_its_token() -> None:
    tokens, rows, bias = cases()["biased"]
    whole = screened_top_k(tokens, rows, bias, K, is_signed=False)
    for start, stop in ((0, 1), (100, 137), (690, 700)):
        part = screened_top_k(tokens[start:stop], rows, bias, K, is_signed=False)
        order, expected = part.indices.argsort(1), whole.indices[start:stop].argsort(1)
        assert torch.equal(part.indices.gather(1, order), whole.indices[start:stop].gather(1, expected))
        assert torch.equal(part.values.gather(1, order), whole.values[start:stop].gather(1, expected))


@pytest.mark.parametrize("name", ["plain", "biased", "unlike rows", "unlike tokens"])
def test_products_in_bfloat16_are_off_by_at_most_the_deviation(name: str) -> None:
    tokens, rows, bias = cases()[name]
    read = Read(rows, bias)
    exact = tokens.double() @ rows.double().T + bias
    start = 0
    for products, deviation in approximate_products(read.extend(tokens), read.rounded):
        truth = exact[start : start + products.shape[0]]
        slack = deviation[:, None] + products.abs().float() * 2.0**-7
        assert bool(((products - truth).abs() <= slack).all())
        start += products.shape[0]
    assert start == 700


def test_the_screen_lets_few_pass_and_gives_up_where_it_would_not() -> None:
    tokens, rows, bias = cases()["plain"]
    found = find_candidates(tokens, Read(rows, bias), K, is_signed=False)
    assert found is not None
    assert K * 700 < found.columns.numel() < 3 * K * 700
    tokens, rows, bias = cases()["rows nearly alike"]
    assert find_candidates(tokens, Read(rows, bias), K, is_signed=False) is None


@pytest.mark.parametrize("name", ["plain", "biased", "unlike rows"])
def test_all_that_lies_above_a_floor_passes(name: str) -> None:
    tokens, rows, bias = cases()[name]
    floor = seeded(N_LATENTS, seed=5).abs() + 20
    found = screened_above(tokens, rows, bias, floor, most=1 << 30)
    assert found is not None
    expected = (tokens.double() @ rows.double().T + bias > floor).nonzero()
    passed = set(zip(row_numbers(found).tolist(), found.columns.tolist(), strict=True))
    assert len(passed) == found.columns.numel()
    assert {tuple(entry) for entry in expected.tolist()} <= passed
    assert expected.shape[0] > 0
    assert len(passed) < (4 if name == "unlike rows" else 1.5) * expected.shape[0]
    assert screened_above(tokens, rows, bias, floor, most=expected.shape[0] // 2) is None


def test_only_wide_coders_of_few_active_latents_are_screened() -> None:
    has_instructions = torch.cpu._is_avx512_bf16_supported()
    assert is_screened(torch.zeros(8192, 64), 32) == has_instructions
    assert not is_screened(torch.zeros(8192, 8), 32)
    assert not is_screened(torch.zeros(8192, 64), 1024)
    assert not is_screened(torch.zeros(8190, 64), 32)
    assert not is_screened(torch.zeros(8192, 64).double(), 32)
