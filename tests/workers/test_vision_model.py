"""Vision models: every family by architecture, untrained; hookpoints; weights that fit and that do not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from workers.artifacts import ArtifactStore
from workers.preprocessing import Preprocessing, preprocessing_from
from workers.timm_loading import import_timm
from workers.vision_model import (
    ModelRequest,
    VisionModel,
    load_vision_model,
    read_hookpoints,
    register_vision_model,
    splice,
)

TINY = {"embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
FAMILIES = {
    "plain": ("vit_tiny_patch16_224", {"img_size": 32, "patch_size": 8, **TINY}, 1, (4, 4)),
    "deit": ("deit_tiny_distilled_patch16_224", {"img_size": 32, "patch_size": 8, **TINY}, 2, (4, 4)),
    "clip": ("vit_base_patch16_clip_224", {"img_size": 32, **TINY}, 1, (2, 2)),
    "dinov2": ("vit_small_patch14_reg4_dinov2", {"img_size": 42, **TINY}, 5, (3, 3)),
    "siglip": ("vit_base_patch16_siglip_224", {"img_size": 32, **TINY}, 0, (2, 2)),
    "swiglu": ("vit_giant_patch14_reg4_dinov2", {"img_size": 42, **TINY}, 5, (3, 3)),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 42, **TINY}, 1, (3, 3)),
}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def tiny(store: ArtifactStore, family: str = "plain", seed: int = 0) -> VisionModel:
    architecture, kwargs, _, _ = FAMILIES[family]
    return load_vision_model(
        register_vision_model(store, ModelRequest(architecture=architecture, timm_kwargs=kwargs, seed=seed))
    )


def images(model: VisionModel, n: int = 2) -> Tensor:
    return torch.randn(n, 3, *model.module.patch_embed.img_size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", FAMILIES)
class TestFamilies:
    def test_tokens_are_told_apart(self, store: ArtifactStore, family: str) -> None:
        model = tiny(store, family)
        assert (model.n_prefix_tokens, model.grid) == FAMILIES[family][2:]
        assert (model.d_model, model.n_blocks, len(model.classes)) == (32, 2, 5)
        with read_hookpoints(model, model.hookpoints()) as read:
            model(images(model))
        assert sorted(read) == sorted(model.hookpoints())
        for name, tokens in read.items():
            assert tokens.shape == (2, model.n_tokens, model.width_of(name)), name

    def test_reading_changes_no_bit(self, store: ArtifactStore, family: str) -> None:
        model = tiny(store, family)
        architecture, kwargs, _, _ = FAMILIES[family]
        torch.manual_seed(0)
        untouched = import_timm().create_model(architecture, **kwargs).eval()
        expected = untouched(images(model))
        with read_hookpoints(model, model.hookpoints()):
            assert torch.equal(model(images(model)), expected)
        assert torch.equal(model(images(model)), expected)


class TestHookpoints:
    def test_a_block_is_the_sum_of_what_its_parts_write(self, store: ArtifactStore) -> None:
        model = tiny(store)
        block = model.module.blocks[1]
        names = ["blocks.0", "blocks.1", "blocks.1.mlp.in", "blocks.1.mlp.hidden", "blocks.1.mlp.out"]
        with read_hookpoints(model, names) as read:
            model(images(model))
        middle = read["blocks.0"] + block.attn(block.norm1(read["blocks.0"]))
        torch.testing.assert_close(read["blocks.1.mlp.in"], block.norm2(middle))
        torch.testing.assert_close(block.mlp.fc2(read["blocks.1.mlp.hidden"]), read["blocks.1.mlp.out"])
        torch.testing.assert_close(read["blocks.1"], middle + read["blocks.1.mlp.out"])

    def test_hooks_are_gone_after_an_error(self, store: ArtifactStore) -> None:
        model = tiny(store)
        seen: list[dict[str, Tensor]] = []

        def fail() -> None:
            with read_hookpoints(model, ["blocks.0", "blocks.1.mlp.in"]) as read:
                seen.append(read)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        model(images(model))
        assert seen == [{}]

    @pytest.mark.parametrize("name", ["blocks.1", "blocks.0.mlp.in", "blocks.0.mlp.hidden", "blocks.0.mlp.out"])
    def test_splicing_in_the_same_is_the_same_and_zeros_are_not(self, store: ArtifactStore, name: str) -> None:
        model = tiny(store)
        expected = model(images(model))
        with splice(model, {name: lambda tokens: tokens.clone()}):
            assert torch.equal(model(images(model)), expected)
        with splice(model, {name: torch.zeros_like}):
            assert not torch.allclose(model(images(model)), expected)
        assert torch.equal(model(images(model)), expected)

    @pytest.mark.parametrize(
        ("name", "part"),
        [("block.1", "is no hookpoint"), ("blocks.2", "2 blocks"), ("blocks.0.mlp", "is no hookpoint")],
    )
    def test_an_unknown_hookpoint_is_named(self, store: ArtifactStore, name: str, part: str) -> None:
        with pytest.raises(ValueError, match=part), read_hookpoints(tiny(store), [name]):
            pass


class TestRegistering:
    def test_an_untrained_model_depends_on_its_seed_alone(self, store: ArtifactStore) -> None:
        before = torch.random.get_rng_state()
        assert tiny(store).digest == tiny(store).digest
        assert tiny(store).digest != tiny(store, seed=1).digest
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_a_half_precision_checkpoint_with_its_sidecar(self, store: ArtifactStore, tmp_path: Path) -> None:
        model = tiny(store)
        half = {name: tensor.half() for name, tensor in model.module.state_dict().items()}
        save_file(half, tmp_path / "small.safetensors")
        sidecar = {"architecture": FAMILIES["plain"][0], "timm_kwargs": FAMILIES["plain"][1], "classes": list("abcde"),
                   "preprocessing": {"size": 32, "crop_mode": "squash"}}  # fmt: skip
        (tmp_path / "small.json").write_text(json.dumps(sidecar))
        request = ModelRequest(source="checkpoint", checkpoint=tmp_path / "small.safetensors")
        loaded = load_vision_model(register_vision_model(store, request))
        assert (loaded.classes, loaded.description.source) == (list("abcde"), "checkpoint")
        assert loaded.description.preprocessing.crop_mode == "squash"
        assert all(torch.equal(loaded.module.state_dict()[name], half[name].float()) for name in half)

    @pytest.mark.parametrize(
        ("architecture", "part"),
        [
            ("vit_base_patch16_242", "Did you mean vit_base_patch16_224"),
            ("resnet18", "no plain vision transformer"),
            ("swin_tiny_patch4_window7_224", "no plain vision transformer"),
            ("", "Give the timm name"),
        ],
    )
    def test_what_is_no_vit_is_refused(self, store: ArtifactStore, architecture: str, part: str) -> None:
        with pytest.raises(ValueError, match=part):
            register_vision_model(store, ModelRequest(architecture=architecture))
        assert store.of_kind("vision-model") == []

    def test_settings_that_timm_does_not_take_are_refused(self, store: ArtifactStore) -> None:
        request = ModelRequest(architecture="vit_tiny_patch16_224", timm_kwargs={"wings": 2})
        with pytest.raises(ValueError, match="wings"):
            register_vision_model(store, request)

    def test_a_checkpoint_that_does_not_fit(self, store: ArtifactStore, tmp_path: Path) -> None:
        weights = dict(tiny(store).module.state_dict())
        architecture, kwargs, _, _ = FAMILIES["plain"]
        file = tmp_path / "x.safetensors"

        def sentence(saved: dict[str, Tensor]) -> str:
            save_file(saved, file)
            request = ModelRequest(architecture, "checkpoint", file, timm_kwargs=kwargs)
            with pytest.raises(ValueError, match="does not fit") as caught:
                register_vision_model(store, request)
            return str(caught.value)

        assert "'head.weight' is [7, 32] there, but [5, 32]" in sentence({**weights, "head.weight": torch.zeros(7, 32)})
        assert "has 'more'" in sentence({**weights, "more": torch.zeros(1)})
        assert "lacks 'norm.bias'" in sentence({k: v for k, v in weights.items() if k != "norm.bias"})

    @pytest.mark.parametrize(("name", "part"), [("x.pth", "no .safetensors"), ("x.safetensors", "cannot be read")])
    def test_a_checkpoint_that_cannot_be_read(self, store: ArtifactStore, tmp_path: Path, name: str, part: str) -> None:
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(ValueError, match=part):
            register_vision_model(store, ModelRequest(FAMILIES["plain"][0], "checkpoint", tmp_path / name))


class TestPreprocessing:
    @pytest.mark.parametrize(("crop_mode", "crop_pct"), [("center", 0.9), ("center", 1.0), ("squash", 1.0)])
    @pytest.mark.parametrize("size", [(50, 37), (31, 64), (32, 32)])
    def test_equals_timm(self, crop_mode: str, crop_pct: float, size: tuple[int, int]) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, size=(size[1], size[0], 3), dtype=np.uint8)
        image = Image.fromarray(pixels)
        mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
        theirs = import_timm().data.create_transform(
            32, interpolation="bicubic", mean=mean, std=std, crop_pct=crop_pct, crop_mode=crop_mode
        )(image)
        ours = Preprocessing(32, crop_mode, crop_pct, "bicubic", mean, std)(image)
        torch.testing.assert_close(ours, theirs)

    def test_the_models_own_configuration_unless_overridden(self, store: ArtifactStore) -> None:
        architecture, kwargs, _, _ = FAMILIES["clip"]
        request = ModelRequest(architecture, timm_kwargs=kwargs, preprocessing={"interpolation": "bilinear"})
        artifact = register_vision_model(store, request)
        recorded = artifact.json("model.json")["preprocessing"]
        assert recorded["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
        assert (recorded["size"], recorded["interpolation"]) == (32, "bilinear")

    def test_wrong_values_are_refused(self, store: ArtifactStore) -> None:
        for values, part in (
            ({"size": 8, "crop": 1}, "no setting 'crop'"),
            ({"size": 8, "crop_mode": "border"}, "border"),
            ({"size": 8, "interpolation": "magic"}, "magic"),
            ({"size": 8, "std": [1, 1, 0]}, "above 0"),
        ):
            with pytest.raises(ValueError, match=part):
                preprocessing_from(values)
        architecture, kwargs, _, _ = FAMILIES["plain"]
        with pytest.raises(ValueError, match="32 x 32 pixels"):
            register_vision_model(store, ModelRequest(architecture, timm_kwargs=kwargs, preprocessing={"size": 48}))
