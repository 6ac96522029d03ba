"""Contribution scores, cascades, terms and retrieval against forward passes and sums written out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from workers.dictionaries.cross_layer import (
    CrossLayerCoder,
    CrossLayerDictionary,
    CrossLayerShape,
    initialize_cross_layer,
)
from workers.dictionaries.cross_layer_quality import (
    ContributionSums,
    RetrievalSums,
    altered_passes,
    first_replaced,
    n_altered_passes,
)
from workers.dictionaries.cross_layer_retrieval import PAIRS_AT_ONCE, nearest_images
from workers.dictionaries.store import DictionaryDescription
from workers.hookpoints import read_hookpoints
from workers.vision_model import ModelRequest, VisionModel, create_vit, describe

D, DEPTH, N_LATENTS, K = 16, 5, 24, 3
KWARGS = {
    "img_size": 16, "patch_size": 4, "embed_dim": D, "depth": DEPTH, "num_heads": 2, "num_classes": 3,
    "init_values": 0.7,
}  # fmt: skip
READS = tuple(f"blocks.{i}.mlp.in" for i in range(DEPTH))
WRITES = tuple(f"blocks.{i}.mlp.out" for i in range(DEPTH))
Rule = Callable[[int, Tensor, Tensor], Tensor]


@pytest.fixture(scope="module")
def model() -> VisionModel:
    module = create_vit("vit_tiny_patch16_224", KWARGS, seed=1)
    for parameter in module.parameters():
        parameter.data.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))
    return VisionModel(module, describe(module, ModelRequest("vit_tiny_patch16_224", timm_kwargs=KWARGS)))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def dictionary() -> CrossLayerDictionary:
    coder = CrossLayerCoder(CrossLayerShape(D, D, (N_LATENTS,) * DEPTH, (K,) * DEPTH))
    generator = torch.Generator().manual_seed(2)
    initialize_cross_layer(coder, generator)
    with torch.no_grad():
        for weights in (coder.W_dec, coder.b_dec):
            for weight in weights:
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    description = DictionaryDescription("cross_layer_transcoder", "x", READS, WRITES, "", "")
    return CrossLayerDictionary(description, coder.requires_grad_(False))


def activations_of(model: VisionModel, images: Tensor) -> dict[str, Tensor]:
    with torch.no_grad(), read_hookpoints(model, [*READS, *WRITES]) as read:
        model(images)
    return dict(read)


def term(dictionary: CrossLayerDictionary, i: int, j: int, read: Tensor) -> Tensor:
    """c_{i→j} with a dense latent axis."""
    coder = dictionary.coder
    pre = read @ coder.W_enc[i].T + coder.b_enc[i]
    kept = pre.topk(K, dim=-1).indices
    z = torch.zeros_like(pre).scatter(-1, kept, pre.gather(-1, kept).relu())
    found: Tensor = z @ coder.W_dec[j][i * N_LATENTS : (i + 1) * N_LATENTS]
    return found


def forward_by_hand(model: VisionModel, images: Tensor, rule: Rule) -> Tensor:
    """Final tokens, each MLP's output replaced by what the rule makes of its number, its input and its output."""
    module = model.module
    x = module.norm_pre(module._pos_embed(module.patch_embed(images)))
    for number, block in enumerate(module.blocks):
        x = x + block.ls1(block.attn(block.norm1(x)))
        read = block.norm2(x)
        x = x + block.ls2(rule(number, read, block.mlp(read)))
    final: Tensor = module.norm(x)
    return final


def of_group(group: str) -> Tensor:
    is_cls = torch.arange(17) == 0
    return {"cls": is_cls, "patches": ~is_cls, "all": torch.ones(17, dtype=torch.bool)}[group][:, None]


def contributions_of(dictionary: CrossLayerDictionary, model: VisionModel, images: Tensor) -> ContributionSums:
    sums = ContributionSums(dictionary, n_prefix_tokens=1)
    sums.update(activations_of(model, images))
    return sums


def test_contribution_scores_are_the_mean_shares_of_what_is_written(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    found = contributions_of(dictionary, model, images).finish()
    read = activations_of(model, images)
    assert found["sources"] == [*READS, "bias"]
    assert found["targets"] == list(WRITES)
    for j in range(DEPTH):
        terms = [term(dictionary, i, j, read[READS[i]]) for i in range(j + 1)]
        terms.append(dictionary.coder.b_dec[j].expand_as(terms[0]))
        written = torch.stack(terms).sum(0)
        shares = [(one * written).sum(2) / written.square().sum(2) for one in terms]
        for group in ("cls", "patches", "all"):
            column = [row[j] for row in found["scores"][group]]
            assert column[j + 1 : DEPTH] == [None] * (DEPTH - 1 - j)
            given = [*column[: j + 1], column[-1]]
            expected = [float(share[:, of_group(group)[:, 0]].mean()) for share in shares]
            assert given == pytest.approx(expected, abs=1e-5)
            assert sum(given) == pytest.approx(1, abs=1e-6)
            assert min(given) < max(given)


def test_scores_of_parts_of_the_images_merge_to_those_of_all(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    whole = contributions_of(dictionary, model, images)
    first, second = contributions_of(dictionary, model, images[:2]), ContributionSums(dictionary, 1)
    second.restore(contributions_of(dictionary, model, images[2:]).tensors())
    first.merge(second)
    for name, tensor in whole.tensors().items():
        torch.testing.assert_close(first.tensors()[name], tensor, rtol=1e-6, atol=1e-6)
    assert first.finish()["scores"]["all"][0][0] == pytest.approx(whole.finish()["scores"]["all"][0][0], abs=1e-6)


def test_a_target_that_is_never_written_has_no_score(dictionary: CrossLayerDictionary) -> None:
    coder = CrossLayerCoder(dictionary.coder.shape).requires_grad_(False)
    silent = CrossLayerDictionary(dictionary.description, coder)
    sums = ContributionSums(silent, 1)
    sums.update({read: torch.zeros(2, 17, D) for read in READS})
    assert sums.finish()["scores"]["all"] == [[None] * DEPTH] * (DEPTH + 1)


def test_cascades_replace_mlps_from_a_block_on_by_what_is_read_in_the_same_pass(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    scores = contributions_of(dictionary, model, images).finish()
    found = dict(altered_passes(dictionary, model, images, scores))
    for first in first_replaced(DEPTH):
        for group in ("cls", "patches", "all"):
            reads: list[Tensor] = []

            def rebuild(j: int, read: Tensor, out: Tensor, first: int = first, group: str = group) -> Tensor:
                reads.append(read)  # noqa: B023 (called within this turn)
                if j < first:
                    return out
                terms = [term(dictionary, i, j, reads[i]) for i in range(j + 1)]  # noqa: B023
                return torch.where(of_group(group), torch.stack(terms).sum(0) + dictionary.coder.b_dec[j], out)

            def nothing(j: int, read: Tensor, out: Tensor, first: int = first, group: str = group) -> Tensor:
                return torch.where(of_group(group), 0.0, out) if j >= first else out

            expected = forward_by_hand(model, images, rebuild)
            torch.testing.assert_close(found[f"cascade/{group}/{first}"], expected, rtol=1e-4, atol=1e-4)
            zeroed = forward_by_hand(model, images, nothing)
            torch.testing.assert_close(found[f"zeroed/{group}/{first}"], zeroed, rtol=1e-4, atol=1e-4)
            assert float((expected - zeroed).abs().max()) > 0.01


def test_terms_are_dropped_and_kept_by_their_scores(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    scores = contributions_of(dictionary, model, images).finish()
    found = dict(altered_passes(dictionary, model, images, scores))
    read, last = activations_of(model, images), DEPTH - 1
    for group in ("cls", "patches", "all"):
        column = [row[last] for row in scores["scores"][group][:-1]]
        top, lowest = column.index(max(column)), column.index(min(column))
        for name, left_out in (("all_terms", None), ("drop_top", top), ("keep_four", lowest)):
            kept = [term(dictionary, i, last, read[READS[i]]) for i in range(DEPTH) if i != left_out]
            value = torch.stack(kept).sum(0) + dictionary.coder.b_dec[last]

            def rule(j: int, read: Tensor, out: Tensor, value: Tensor = value, group: str = group) -> Tensor:
                return torch.where(of_group(group), value, out) if j == last else out

            expected = forward_by_hand(model, images, rule)
            torch.testing.assert_close(found[f"{name}/{group}"], expected, rtol=1e-4, atol=1e-4)
    assert len(found) == n_altered_passes(dictionary)


def test_cascades_begin_at_four_places_at_most() -> None:
    assert [first_replaced(n) for n in (1, 2, 6, 12)] == [[0], [0, 1], [0, 1, 3, 4], [0, 3, 7, 10]]


def test_hooks_are_gone_after_altered_passes(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    before = model(images)
    scores = contributions_of(dictionary, model, images).finish()
    list(altered_passes(dictionary, model, images, scores))
    assert torch.equal(model(images), before)


def test_nearest_images_by_hand() -> None:
    vectors = torch.tensor([[0.0, 10.0], [1.0, 10.0], [0.0, -9.0], [1.2, -11.0]])
    assert nearest_images(vectors, 1).squeeze(1).tolist() == [1, 0, 3, 2]
    assert nearest_images(vectors[:1], 5).shape == (1, 0)


class LargestTensor(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Within the block, how many elements the largest result of an operation has."""

    n_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for one in found if isinstance(found, tuple) else (found,):
            if isinstance(one, Tensor):
                self.n_elements = max(self.n_elements, one.numel())
        return found


def test_nearest_images_go_by_blocks_and_take_the_first_of_equals() -> None:
    n = 2400
    assert n * n > PAIRS_AT_ONCE
    axes = torch.arange(n // 2) % 7
    vectors = torch.cat([torch.eye(7)[axes], -torch.eye(7)[axes]])  # their mean is 0, cosines are 1, 0 and −1
    vectors[5] = vectors[n // 2 + 5] = 0
    with LargestTensor() as largest:  # type: ignore[no-untyped-call]
        found = nearest_images(vectors, 180)
    assert largest.n_elements <= PAIRS_AT_ONCE
    cosines = (vectors @ vectors.T).fill_diagonal_(-2)
    assert torch.equal(found, cosines.sort(dim=1, descending=True, stable=True).indices[:, :180])
    drawn = torch.randn(n, 5, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    away = torch.nn.functional.normalize(drawn - drawn.mean(0), dim=1)
    order = (away @ away.T).fill_diagonal_(-2).argsort(dim=1, descending=True)
    assert float((nearest_images(drawn.float(), 3) == order[:, :3]).double().mean()) > 0.99


def test_retrieval_takes_activations_beyond_half_precision(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    read, found = activations_of(model, images), []
    for scale in (1.0, 2.0**24):
        sums = RetrievalSums(dictionary, 1)
        sums.update({name: tokens * (scale if name in WRITES else 1) for name, tokens in read.items()})
        assert all(bool(vectors.isfinite().all()) for vectors in sums.tensors().values())
        found.append(sums.finish(range(6), [0, 0, 1, 1, -1, 0]))
    assert found[0] == found[1]


def test_retrieval_finds_the_nearest_reconstructions_block_by_block(
    model: VisionModel, images: Tensor, dictionary: CrossLayerDictionary
) -> None:
    sums, rest = RetrievalSums(dictionary, 1), RetrievalSums(dictionary, 1)
    sums.update(activations_of(model, images[:4]))
    rest.restore({name: tensor.clone() for name, tensor in RetrievalSums(dictionary, 1).tensors().items()})
    rest.update(activations_of(model, images[4:]))
    sums.merge(rest)
    numbers, labels = [10, 11, 12, 13, 14, 15], [0, 0, 1, 1, -1, 0]
    found = sums.finish(numbers, labels)
    read = activations_of(model, images)
    rebuilt = dictionary.reconstruct({name: tokens.flatten(0, 1) for name, tokens in read.items() if name in READS})
    assert [one["image"] for one in found["queries"]] == numbers
    for number, write in enumerate(WRITES):
        tokens = {"reconstruction": rebuilt[write].view(6, 17, D), "activation": read[write]}
        for side, values in tokens.items():
            for group, kind in (("patches", values[:, 1:].mean(1)), ("cls", values[:, 0])):
                centered = kind - kind.mean(0)
                cosine = torch.nn.functional.cosine_similarity(centered[:, None], centered[None], dim=2)
                order = cosine.fill_diagonal_(-9).argsort(dim=1, descending=True)[:, :5]
                equal = [labels[int(o)] == labels[q] for q in range(6) if labels[q] >= 0 for o in order[q]]
                assert found["same_label"][group][side][number] == pytest.approx(sum(equal) / len(equal))
                if (side, group) == ("reconstruction", "patches"):
                    for query, row in zip(found["queries"], order.tolist(), strict=True):
                        assert query["nearest"][write] == [numbers[place] for place in row]
    assert found["same_label"]["cls"]["chance"] == pytest.approx((3 * 2 + 2 * 1) / (5 * 4))
    assert sums.finish(numbers, [1] * 6)["same_label"] is None
