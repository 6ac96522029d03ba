"""Altered passes against plain hooks and plain sums, and what scores say where nothing can be lost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from workers.dictionaries.sparse_coder import CoderShape, Codes, SparseCoder, initialize_coder
from workers.dictionaries.splice import (
    Outcome,
    Splicer,
    SpliceSums,
    final_from,
    outcome_of,
    passes_of,
    recovered,
    replaced_writes,
    splice_scores,
    spread_means,
)
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription
from workers.hookpoints import read_hookpoints, splice
from workers.readouts import own_head
from workers.vision_model import ModelRequest, VisionModel, create_vit, describe

D = 16
KWARGS = {"img_size": 16, "patch_size": 4, "embed_dim": D, "depth": 3, "num_heads": 2, "num_classes": 3}


@pytest.fixture(scope="module")
def model() -> VisionModel:
    module = create_vit("vit_tiny_patch16_224", KWARGS, seed=1)
    return VisionModel(module, describe(module, ModelRequest("vit_tiny_patch16_224", timm_kwargs=KWARGS)))


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def sae(hookpoints: tuple[str, ...], writes: tuple[str, ...] = (), *, n_latents: int = 24) -> CoderDictionary:
    """Random coders of 3 latents per token; with writes, transcoders of the kind that has an encoder bias."""
    coders = {}
    for seed, hookpoint in enumerate(hookpoints):
        shape = CoderShape(D, n_latents, 3, is_bias_tied=not writes, normalization="none" if writes else "token")
        coders[hookpoint] = SparseCoder(shape)
        initialize_coder(coders[hookpoint], torch.Generator().manual_seed(seed))
        coders[hookpoint].W_dec.data.copy_(coders[hookpoint].W_enc)
        coders[hookpoint].requires_grad_(False)
    kind = "transcoder" if writes else "topk_sae"
    return CoderDictionary(DictionaryDescription(kind, "x", hookpoints, writes or hookpoints, "", ""), coders)


class TwoTargets:
    """A transcoder from block 0's MLP input to the outputs of blocks 0 and 1: the smallest cross-layer one."""

    digest, kind, poles = "", "two", ("positive",)
    reads = ("blocks.0.mlp.in", "blocks.1.mlp.in")
    writes = ("blocks.0.mlp.out", "blocks.1.mlp.out")

    def __init__(self) -> None:
        self.coders = sae(self.reads, self.writes).coders

    def writes_of(self, hookpoint: str) -> tuple[str, ...]:
        return self.writes[self.reads.index(hookpoint) :]

    def encode(self, hookpoint: str, activations: Tensor) -> Codes:
        return self.coders[hookpoint].encode(activations)

    def decode(self, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        parts = {read: self.coders[read].decode(found) for read, found in codes.items()}
        return {
            write: sum((parts[read] for read in parts if write in self.writes_of(read)), torch.zeros(()))
            for write in self.writes
        }  # fmt: skip


def test_a_pass_taken_up_at_a_block_ends_like_the_whole_pass(model: VisionModel, images: Tensor) -> None:
    splicer = Splicer(model, sae(("blocks.0",)), images)
    assert splicer.is_resumable
    for block in (1, 2):
        found = final_from(model, block, splicer.clean.residual[block - 1])
        assert torch.allclose(found, model.module.forward_features(images), atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("block", [0, 1, 2])
def test_one_hookpoint_is_replaced_as_a_plain_hook_does_it(model: VisionModel, images: Tensor, block: int) -> None:
    name = f"blocks.{block}"
    dictionary = sae((name,))

    def through(tokens: Tensor) -> Tensor:
        return dictionary.reconstruct({name: tokens.flatten(0, 1)})[name].view_as(tokens)

    with splice(model, {name: through}):
        expected = model.module.forward_features(images)
    means = {name: torch.zeros(2, D)}
    found = {kind: final for where, kind, final in passes_of(Splicer(model, dictionary, images), means)}
    assert torch.allclose(found["dictionary"], expected, atol=1e-5)
    assert torch.allclose(found["zero"], found["mean"], atol=1e-6)  # the means given are zeros
    assert not torch.allclose(found["dictionary"], found["zero"], atol=1e-2)


@torch.no_grad()
def test_all_together_reads_what_the_altered_pass_computes(model: VisionModel, images: Tensor) -> None:
    dictionary = sae(("blocks.0.mlp.in", "blocks.2.mlp.in"), ("blocks.0.mlp.out", "blocks.2.mlp.out"))
    mlps = [block.mlp for block in model.module.blocks]
    expected = model.module.patch_embed(images)
    expected = model.module._pos_embed(expected)
    for number, block in enumerate(model.module.blocks):
        expected = expected + block.attn(block.norm1(expected))
        read = block.norm2(expected)
        name = f"blocks.{number}.mlp.in"
        written = (
            mlps[number](read)
            if name not in dictionary.reads
            else dictionary.coders[name].decode(dictionary.coders[name].encode(read.flatten(0, 1))).view_as(read)
        )
        expected = expected + written
    found = Splicer(model, dictionary, images).with_dictionary()
    assert torch.allclose(found, model.module.norm(expected), atol=1e-5)


@torch.no_grad()
def test_latents_that_write_later_are_heard_there(model: VisionModel, images: Tensor) -> None:
    dictionary: Dictionary = TwoTargets()  # type: ignore[assignment]
    with replaced_writes(model, dictionary), read_hookpoints(model, ["blocks.0.mlp.in", "blocks.1.mlp.in"]) as read:
        pass
    seen: dict[str, Tensor] = {}
    names = [*dictionary.reads, *dictionary.writes]
    with replaced_writes(model, dictionary), read_hookpoints(model, names) as read:
        model.module.forward_features(images)
        seen = dict(read)
    codes = {name: dictionary.encode(name, seen[name].flatten(0, 1)) for name in dictionary.reads}
    expected = dictionary.decode(codes)["blocks.1.mlp.out"].view_as(seen["blocks.1.mlp.out"])
    assert torch.allclose(seen["blocks.1.mlp.out"], expected, atol=1e-6)
    alone = dictionary.decode({"blocks.0.mlp.in": codes["blocks.0.mlp.in"]})["blocks.0.mlp.out"]
    assert torch.allclose(seen["blocks.0.mlp.out"].flatten(0, 1), alone, atol=1e-6)


def test_losses_are_those_of_plain_formulas(model: VisionModel, images: Tensor) -> None:
    head = own_head(model)
    clean = outcome_of(model, head, model.module.forward_features(images).detach())
    noise = torch.randn(clean.feature.shape, generator=torch.Generator().manual_seed(4))
    assert clean.logits is not None
    altered = Outcome(clean.feature + noise, clean.logits + noise[:, :3])
    labels = torch.tensor([0, 2, -1, 1, -1])
    whole, parts = SpliceSums(), [SpliceSums(), SpliceSums()]
    whole.update(altered, clean, labels)
    for part, rows in zip(parts, (slice(0, 2), slice(2, 5)), strict=True):
        here, there = (Outcome(one.feature[rows], one.logits[rows]) for one in (altered, clean))  # type: ignore[index]
        part.update(here, there, labels[rows])
    restored = SpliceSums()
    restored.restore(parts[1].to_json())
    parts[0].merge(restored)
    found, assembled = whole.finish(), parts[0].finish()
    assert assembled == pytest.approx(found)
    wanted, scores = clean.logits.double(), altered.logits.double()  # type: ignore[union-attr]
    assert found["kl"] == pytest.approx(
        float(F.kl_div(scores.log_softmax(1), wanted.log_softmax(1), log_target=True, reduction="batchmean"))
    )
    known = labels >= 0
    assert found["cross_entropy"] == pytest.approx(float(F.cross_entropy(scores[known], labels[known])))
    assert found["top_1"] == pytest.approx(float((scores[known].argmax(1) == labels[known]).double().mean()))
    assert (found["n_images"], found["n_labeled"]) == (5, 3)
    assert found["cosine_distance"] == pytest.approx(
        float((1 - F.cosine_similarity(altered.feature.double(), clean.feature.double())).mean())
    )


def test_without_a_readout_only_distances_are_measured() -> None:
    sums = SpliceSums()
    feature = torch.eye(3)
    sums.update(Outcome(2 * feature, None), Outcome(feature, None), torch.tensor([0, 1, 2]))
    found = sums.finish()
    assert (found["cross_entropy"], found["kl"], found["top_1"], found["agreement"]) == (None, None, None, None)
    assert (found["cosine_distance"], found["relative_distance"]) == (pytest.approx(0), pytest.approx(1))


def test_a_score_is_the_share_of_the_baselines_loss_that_is_avoided() -> None:
    def losses(cross_entropy: float | None, kl: float, distance: float) -> dict[str, float | None]:
        return {"cross_entropy": cross_entropy, "kl": kl, "cosine_distance": distance}

    passes = {
        "clean": losses(0.5, 0, 0), "dictionary": losses(1.0, 0.1, 0.2), "zero": losses(2.5, 1.0, 0.2),
        "mean": losses(0.5, 0.0, 0.1),
    }  # fmt: skip
    assert splice_scores(passes) == {
        "zero": {"cross_entropy": 0.75, "kl": 0.9, "cosine_distance": 0.0},
        "mean": {"cross_entropy": None, "kl": None, "cosine_distance": -1.0},
    }
    assert recovered(1.0, None, 0.5) is None


def test_means_stand_at_prefix_tokens_and_patches() -> None:
    means = torch.tensor([[1.0], [2.0], [7.0]])
    spread = spread_means(means, torch.zeros(2, 5, 1))
    assert spread[1, :, 0].tolist() == [1, 2, 7, 7, 7]
