"""Readouts: own head, linear probe, text embeddings; class directions against the gradient they stand for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from workers.artifacts import ArtifactStore
from workers.images import ImageSetReader, scan_folder, write_image_set
from workers.readouts import (
    Readout,
    class_directions,
    final_tokens,
    fit_probe,
    load_readout,
    own_head,
    text_embeddings,
    write_readout,
)
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, read_hookpoints, register_vision_model

SETTINGS = {"img_size": 16, "patch_size": 4, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 3}


def make_model(folder: Path, architecture: str = "vit_tiny_patch16_224", **more: object) -> VisionModel:
    request = ModelRequest(architecture, timm_kwargs={**SETTINGS, **more})
    model = load_vision_model(register_vision_model(ArtifactStore(folder / "store"), request))
    for norm in (model.module.norm, model.module.fc_norm):
        if isinstance(norm, torch.nn.LayerNorm):
            norm.weight.copy_(torch.linspace(0.5, 2, 32))
    return model


def images(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def write_set(folder: Path) -> ImageSetReader:
    rng = np.random.default_rng(0)
    for i in range(30):
        (folder / f"set/{i % 2}").mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 120, size=(16, 16, 3)) + 130 * (i % 2)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"set/{i % 2}/{i}.png")
    artifact = write_image_set(
        ArtifactStore(folder / "store"), scan_folder(folder / "set"), name="light", licence="", visibility="team"
    )
    return ImageSetReader(artifact, folder / "set")


class TestOwnHead:
    @pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
    def test_scores_are_the_models(self, tmp_path: Path, architecture: str) -> None:
        model = make_model(tmp_path, architecture)
        scores = own_head(model).scores(model, model.module.forward_features(images()))
        assert torch.equal(scores, model(images()))

    def test_a_model_without_head_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fit a linear probe"):
            own_head(make_model(tmp_path, num_classes=0))


class TestClassDirections:
    @pytest.mark.parametrize("pool", ["token", "avg"])
    def test_they_point_along_the_gradient_of_the_score(self, tmp_path: Path, pool: str) -> None:
        model = make_model(tmp_path, global_pool=pool)
        with read_hookpoints(model, ["blocks.1"]) as read:
            model(images(1).requires_grad_())
        tokens = read["blocks.1"].detach().requires_grad_()
        scores = model.module.forward_head(model.module.norm(tokens))
        gradient = torch.autograd.grad(scores[0, 1], tokens)[0][0]
        pooled = gradient[0] if pool == "token" else gradient.sum(dim=0)
        # The norm's Jacobian also takes off what lies along the (pooled) token; the direction is the rest of it.
        state = tokens[0, 0] if pool == "token" else tokens[0, 1:].mean(dim=0)
        centered = (state - state.mean()).detach()
        direction = class_directions(model, own_head(model))[1]
        along = direction - centered * (direction @ centered) / (centered @ centered)
        assert F.cosine_similarity(along, pooled, dim=0) > 0.999

    def test_text_embeddings_go_through_the_head(self, tmp_path: Path) -> None:
        model = make_model(tmp_path)
        readout = text_embeddings(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]), ["b", "a"], model)
        own = class_directions(model, own_head(model))
        torch.testing.assert_close(class_directions(model, readout), own[[1, 0]])

    def test_both_parts_of_a_probe_are_added(self, tmp_path: Path) -> None:
        model = make_model(tmp_path)
        weight = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
        directions = class_directions(model, Readout("cls_mean_patch", weight, None, ["a", "b"]))
        scaled = (weight[:, :32] + weight[:, 32:]) * torch.linspace(0.5, 2, 32)
        torch.testing.assert_close(directions, scaled - scaled.mean(dim=1, keepdim=True))


class TestTextEmbeddings:
    def test_scores_are_cosines(self, tmp_path: Path) -> None:
        model = make_model(tmp_path)
        embeddings = torch.tensor([[0.0, 2.0, 0.0], [1.0, 1.0, 0.0]])
        scores = text_embeddings(embeddings, ["b", "a"], model).scores(model, model.module.forward_features(images()))
        logits = model(images())
        expected = F.cosine_similarity(logits[:, None], embeddings[None], dim=2)
        torch.testing.assert_close(scores, expected)

    def test_another_width_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="have width 3"):
            text_embeddings(torch.zeros(2, 4), ["a", "b"], make_model(tmp_path))


class TestProbe:
    def test_it_tells_bright_from_dark_and_comes_back_from_disk(self, tmp_path: Path) -> None:
        model, reader = make_model(tmp_path), write_set(tmp_path)
        indices = range(len(reader))
        readout = fit_probe(model, reader, indices)
        tokens = torch.cat(list(final_tokens(model, reader, indices)))
        scores = readout.scores(model, tokens)
        assert scores.argmax(dim=1).tolist() == reader.label_indices.tolist()
        artifact = write_readout(ArtifactStore(tmp_path / "store"), model, readout, image_set=reader.digest)
        assert artifact.manifest["parents"] == [model.digest, reader.digest]
        loaded = load_readout(artifact)
        assert (loaded.pooling, loaded.classes, loaded.digest) == ("cls_mean_patch", ["0", "1"], artifact.digest)
        assert torch.equal(loaded.scores(model, tokens), scores)

    def test_registers_are_no_patches(self, tmp_path: Path) -> None:
        model = make_model(tmp_path, "vit_small_patch14_reg4_dinov2", patch_size=4)
        tokens = torch.zeros(1, model.n_tokens, 32)
        tokens[:, 1:5] = 100.0
        tokens[:, 5:] = torch.arange(16.0)[None, :, None]
        readout = Readout("cls_mean_patch", torch.ones(1, 64), torch.ones(1), ["a"])
        assert readout.scores(model, tokens).item() == 32 * 7.5 + 1

    def test_one_class_is_refused(self, tmp_path: Path) -> None:
        reader = write_set(tmp_path)
        with pytest.raises(ValueError, match="at least two classes"):
            fit_probe(make_model(tmp_path), reader, np.flatnonzero(reader.label_indices == 0).tolist())


def test_class_names_must_fit() -> None:
    with pytest.raises(ValueError, match="2 rows of weights, but 1 class names"):
        Readout("head", torch.zeros(2, 4), None, ["a"])
    with pytest.raises(ValueError, match="pooling 'mean'"):
        Readout("mean", torch.zeros(1, 4), None, ["a"])
