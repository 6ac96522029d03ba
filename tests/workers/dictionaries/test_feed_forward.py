"""The MLPs of a ViT as dictionaries: exact with all units, the k strongest by each measure, whatever the MLP's form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workers.artifacts import ArtifactStore
from workers.dictionaries.feed_forward import (
    FeedForwardCoder,
    FeedForwardDictionary,
    FeedForwardShape,
    has_negative_values,
    read_feed_forward,
    write_feed_forward,
)
from workers.dictionaries.sparse_coder import Codes
from workers.dictionaries.store import NEGATIVE, POSITIVE, DictionaryDescription, load_dictionary
from workers.hookpoints import read_hookpoints
from workers.vision_model import create_vit

SMALL = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 3}
MODELS = {
    "plain": "vit_tiny_patch16_224",
    "layer scale": "deit3_small_patch16_224",
    "packed gate and layer scale": "vit_giant_patch14_dinov2",
    "gate": "aimv2_large_patch14_224",
    "gate and inner norm": "eva02_base_patch14_224",
    "layer scale as a parameter": "beit_base_patch16_224",
}
READ, WRITE = "blocks.1.mlp.hidden", "blocks.1.mlp.write"


def make_model(architecture: str) -> nn.Module:
    """A small ViT with biases, layer scales and norms that are not trivial."""
    model = create_vit(architecture, SMALL)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("blocks."):
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def run_model(model: nn.Module) -> dict[str, Tensor]:
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    with torch.no_grad(), read_hookpoints(model, [READ, WRITE, "blocks.0", "blocks.1"]) as read:
        model(images)
    return {name: tokens.flatten(0, 1) for name, tokens in read.items()}


@pytest.mark.parametrize("is_normalized", [False, True])
@pytest.mark.parametrize("architecture", MODELS.values(), ids=MODELS)
def test_all_units_explain_the_write_wholly(architecture: str, is_normalized: bool) -> None:
    model = make_model(architecture)
    read = run_model(model)
    coder = read_feed_forward(model, READ, is_normalized=is_normalized)
    written = coder.decode(coder.encode(read[READ]))
    torch.testing.assert_close(written, read[WRITE], rtol=1e-5, atol=1e-5)
    assert float(read[WRITE].abs().max()) > 0.1


def test_the_write_is_what_the_block_adds_after_attention() -> None:
    """With the output of attention silenced, the residual stream changes by the write alone, in every form of MLP."""
    for architecture in MODELS.values():
        model: Any = make_model(architecture)
        with torch.no_grad():
            for name, parameter in model.blocks[1].attn.named_parameters():
                if "proj." in name:
                    parameter.zero_()
        read = run_model(model)
        torch.testing.assert_close(read["blocks.1"] - read["blocks.0"], read[WRITE], rtol=1e-4, atol=1e-4)


def test_a_value_vector_is_the_column_of_fc2_times_the_layer_scale() -> None:
    model: Any = make_model("deit3_small_patch16_224")
    coder = read_feed_forward(model, READ)
    mlp, gamma = model.blocks[1].mlp, model.blocks[1].ls2.gamma
    torch.testing.assert_close(coder.W_dec[7], gamma * mlp.fc2.weight[:, 7])
    torch.testing.assert_close(coder.b_dec, gamma * mlp.fc2.bias)
    assert coder.n_latents == mlp.fc1.out_features


def coder_of(values: list[list[float]], **shape: Any) -> FeedForwardCoder:
    matrix = torch.tensor(values)
    coder = FeedForwardCoder(FeedForwardShape(*matrix.shape, **shape))
    norms = matrix.norm(dim=1)
    with torch.no_grad():
        coder.norms.copy_(norms)
        coder.W_dec.copy_(matrix / norms[:, None] if coder.shape.is_normalized else matrix)
    return coder


VALUES = [[3.0, 0.0], [0.0, 1.0], [4.0, 3.0], [0.0, 0.1]]
HIDDEN = torch.tensor([[1.0, -2.0, -0.5, 1.5]])


@pytest.mark.parametrize(
    ("selection", "is_normalized", "kept"),
    [
        ("value", False, {0: 1.0, 3: 1.5}),
        ("absolute", False, {1: -2.0, 3: 1.5}),
        ("contribution", False, {0: 1.0, 2: -0.5}),  # contributions 3, 2, 2.5, .15
        ("value", True, {0: 3.0, 3: 0.15}),
        ("absolute", True, {0: 3.0, 2: -2.5}),
        ("contribution", True, {0: 3.0, 2: -2.5}),
    ],
)
def test_the_strongest_units_by_hand(selection: str, is_normalized: bool, kept: dict[int, float]) -> None:
    coder = coder_of(VALUES, k=2, selection=selection, is_normalized=is_normalized)
    codes = coder.encode(HIDDEN)
    found = dict(zip(codes.indices[0].tolist(), codes.values[0].tolist(), strict=True))
    assert found == pytest.approx(kept)
    expected = sum(HIDDEN[0, unit] * torch.tensor(VALUES[unit]) for unit in kept)
    torch.testing.assert_close(coder.decode(codes)[0], expected)


@pytest.mark.parametrize("selection", ["value", "absolute", "contribution"])
def test_as_many_as_there_are_equal_all(selection: str) -> None:
    read = run_model(make_model(MODELS["gate"]))
    model = make_model(MODELS["gate"])
    n_units = read[READ].shape[1]
    every = read_feed_forward(model, READ, k=n_units, selection=selection)
    torch.testing.assert_close(every.decode(every.encode(read[READ])), read[WRITE], rtol=1e-5, atol=1e-5)


def test_more_units_explain_more_and_contribution_more_than_value() -> None:
    model = make_model(MODELS["gate"])
    read = run_model(model)

    def error(k: int, selection: str) -> float:
        coder = read_feed_forward(model, READ, k=k, selection=selection)
        return float((coder.decode(coder.encode(read[READ])) - read[WRITE]).square().mean())

    assert error(16, "contribution") < error(4, "contribution") < error(1, "contribution")
    assert error(4, "contribution") < error(4, "value")


def test_codes_in_another_order_decode_to_the_same() -> None:
    coder = coder_of(VALUES)
    codes = coder.encode(HIDDEN)
    turned = Codes(codes.indices.flip(1), codes.values.flip(1), None)
    torch.testing.assert_close(coder.decode(turned), coder.decode(codes))


def test_only_a_plain_relu_has_no_negative_values() -> None:
    assert has_negative_values(make_model(MODELS["plain"]), READ)
    assert has_negative_values(make_model(MODELS["gate"]), READ)
    relu: Any = make_model(MODELS["plain"])
    relu.blocks[1].mlp.act = nn.ReLU()
    assert not has_negative_values(relu, READ)


@pytest.mark.parametrize("is_normalized", [False, True])
def test_written_and_read_back_it_is_the_same_dictionary(tmp_path: Path, is_normalized: bool) -> None:
    model = make_model(MODELS["plain"])
    read = run_model(model)
    coder = read_feed_forward(model, READ, k=5, selection="contribution", is_normalized=is_normalized)
    description = DictionaryDescription(
        kind="topk_ff_kv", name="mlp", reads=(READ,), writes=(WRITE,), vision_model="m" * 64, image_set="i" * 64,
        poles=(POSITIVE, NEGATIVE),
    )  # fmt: skip
    store = ArtifactStore(tmp_path)
    with store.write("dictionary", config={}) as writer:
        write_feed_forward(writer, description, {READ: coder})
    loaded = load_dictionary(store.open(writer.digest))
    assert isinstance(loaded, FeedForwardDictionary)
    assert (loaded.kind, loaded.reads, loaded.writes) == ("topk_ff_kv", (READ,), (WRITE,))
    assert loaded.poles == (POSITIVE, NEGATIVE)
    assert loaded.description == description
    found, expected = loaded.encode(READ, read[READ]), coder.encode(read[READ])
    assert torch.equal(found.indices, expected.indices)
    assert torch.equal(found.values, expected.values)
    assert torch.equal(loaded.reconstruct(read)[WRITE], coder.decode(expected))
    assert torch.equal(loaded.decoder_directions(READ), coder.W_dec)


def test_wrong_shapes_and_places_are_refused() -> None:
    model = make_model(MODELS["plain"])
    with pytest.raises(ValueError, match=r"'blocks\.1' is not the hidden layer"):
        read_feed_forward(model, "blocks.1")
    with pytest.raises(ValueError, match="the model has 2 blocks"):
        read_feed_forward(model, "blocks.7.mlp.hidden")
    with pytest.raises(ValueError, match="between 0 and the number of hidden units, 96"):
        read_feed_forward(model, READ, k=97)
    with pytest.raises(ValueError, match="'largest' is unknown"):
        read_feed_forward(model, READ, k=3, selection="largest")
