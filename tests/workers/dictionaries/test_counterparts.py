"""Which hookpoints of two dictionaries go together, and cosines in the terms of the residual stream."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.workers.dictionaries.test_feed_forward import make_model
from workers.dictionaries.alignment import nearest_both_ways, null_cosines
from workers.dictionaries.counterparts import Counterparts, counterparts_of, scale_of
from workers.dictionaries.feed_forward import FeedForwardDictionary, read_feed_forward
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription

HIDDEN, IN, OUT, WRITE = (f"blocks.1.mlp.{part}" for part in ("hidden", "in", "out", "write"))


def coder_dictionary(*places: tuple[str, str], d_out: int = 24, n_latents: int = 40) -> CoderDictionary:
    """Random directions, from each hookpoint read to the one written."""
    reads, writes = (tuple(names) for names in zip(*places, strict=True))
    generator = torch.Generator().manual_seed(len(reads[0]))
    coders = {}
    for read in reads:
        coders[read] = SparseCoder(CoderShape(24, n_latents, 4, d_out=d_out, is_bias_tied=False)).requires_grad_(False)
        coders[read].W_dec.copy_(torch.randn(n_latents, d_out, generator=generator))
    return CoderDictionary(DictionaryDescription("transcoder", "one", reads, writes, "model", "images"), coders)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([("blocks.1", "blocks.1")], [("blocks.1", "blocks.1")], [Counterparts("blocks.1", "blocks.1")]),
        ([(HIDDEN, WRITE)], [(IN, OUT)], [Counterparts(HIDDEN, IN, "b")]),
        ([(IN, OUT)], [(HIDDEN, WRITE)], [Counterparts(IN, HIDDEN, "a")]),
        ([(OUT, OUT)], [(IN, OUT)], [Counterparts(OUT, IN)]),
        ([(WRITE, WRITE)], [(HIDDEN, WRITE)], [Counterparts(WRITE, HIDDEN)]),
        ([(IN, WRITE)], [(IN, OUT)], [Counterparts(IN, IN, "b")]),
        ([(IN, IN)], [(IN, OUT)], [Counterparts(IN, IN)]),
        ([(HIDDEN, WRITE)], [(OUT, OUT), (WRITE, WRITE)], [Counterparts(HIDDEN, WRITE)]),
        ([("blocks.0", "blocks.0"), (HIDDEN, WRITE)], [("blocks.11.mlp.in", "blocks.11.mlp.out"), (IN, OUT)],
         [Counterparts(HIDDEN, IN, "b")]),
    ],
)  # fmt: skip
def test_hookpoints_go_together_by_what_is_read_and_else_by_the_mlp_that_is_written(
    first: list[tuple[str, str]], second: list[tuple[str, str]], expected: list[Counterparts]
) -> None:
    a, b = coder_dictionary(*first), coder_dictionary(*second)
    assert counterparts_of(a, b) == tuple(expected)
    assert counterparts_of(a, b, [expected[0].a]) == tuple(expected)


@pytest.mark.parametrize("place", [("blocks.1", "blocks.1"), (IN, IN), ("blocks.0.mlp.in", "blocks.0.mlp.out")])
def test_what_is_written_elsewhere_has_no_counterpart(place: tuple[str, str]) -> None:
    units, other = coder_dictionary((HIDDEN, WRITE)), coder_dictionary(place)
    with pytest.raises(ValueError, match=rf"share no hookpoint and .* the first reads {HIDDEN}, the second {place[0]}"):
        counterparts_of(units, other)
    with pytest.raises(ValueError, match=rf"do not both read {IN} and"):
        counterparts_of(units, coder_dictionary((IN, OUT)), [IN])


def test_directions_of_other_widths_are_not_compared() -> None:
    units, narrow = coder_dictionary((HIDDEN, WRITE)), coder_dictionary((IN, OUT), d_out=12)
    with pytest.raises(ValueError, match=rf"read {HIDDEN} .* width 24 in the first .* read {IN} .* width 12 in"):
        counterparts_of(units, narrow)


@pytest.mark.parametrize("architecture", ["deit3_small_patch16_224", "beit_base_patch16_224", "vit_tiny_patch16_224"])
def test_cosines_are_those_of_what_the_block_adds_to_the_residual_stream(architecture: str) -> None:
    """The oracle runs what comes after the MLP in the block on each direction by itself."""
    model = make_model(architecture)
    block: Any = model.get_submodule("blocks.1")
    coder = read_feed_forward(model, HIDDEN)
    description = DictionaryDescription("ff_kv", "units", (HIDDEN,), (WRITE,), "model", "images")
    units, transcoder = FeedForwardDictionary(description, {HIDDEN: coder}), coder_dictionary((IN, OUT))
    before = transcoder.decoder_directions(IN)
    added = before * block.gamma_2 if hasattr(block, "gamma_2") else block.ls2(before)
    values = coder.W_dec.detach()
    expected = [[float(F.cosine_similarity(v, w, dim=0)) for w in added.detach()] for v in values]
    pairs: list[tuple[Dictionary, Dictionary]] = [(units, transcoder), (transcoder, units)]
    for turn, (first, second) in enumerate(pairs):
        [pair] = counterparts_of(first, second)
        rows, columns = pair.directions(first, second, scale_of(model, pair, first))
        found = (F.normalize(rows, dim=1) @ F.normalize(columns, dim=1).T).detach()
        torch.testing.assert_close(found.T if turn else found, torch.tensor(expected), atol=1e-5, rtol=0)
    has_scale = architecture != "vit_tiny_patch16_224"
    plain = nearest_both_ways(values, before).rows.cosine
    assert torch.allclose(plain, torch.tensor(expected).amax(1), atol=1e-5) != has_scale


def test_the_null_of_scaled_directions_is_that_of_random_ones_scaled_alike() -> None:
    scale = torch.cat([torch.full((20,), -0.1), torch.ones(4)])
    found = null_cosines(200, 24, torch.Generator().manual_seed(0), 400, scale=scale)
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(n, 24, generator=generator) * scale for n in (400, 200))
    expected = nearest_both_ways(a, b).rows.cosine
    even = null_cosines(200, 24, torch.Generator().manual_seed(0), 400)
    assert float(found.mean()) == pytest.approx(float(expected.mean()), abs=0.01)
    assert float(found.mean()) > float(even.mean()) + 0.1
