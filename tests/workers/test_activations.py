"""Activations: the order of tokens is a function of seed and block, and each row is the token it says it is."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from workers.activations import (
    ActivationBatch,
    ActivationError,
    ActivationStream,
    activation_batches,
    image_activations,
    require_finite,
    suggest_images_per_block,
)
from workers.artifacts import ArtifactStore
from workers.images import ImageSetReader, scan_folder, write_image_set
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, register_vision_model

N_IMAGES = 7
HOOKPOINTS = ["blocks.0", "blocks.1.mlp.hidden"]
STREAM = ActivationStream(seed=3, images_per_block=4, batch_tokens=20)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> VisionModel:
    kwargs = {"img_size": 16, "patch_size": 4, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3}
    request = ModelRequest("vit_tiny_patch16_224", timm_kwargs=kwargs)
    return load_vision_model(register_vision_model(ArtifactStore(tmp_path_factory.mktemp("store")), request))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ImageSetReader:
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        Image.fromarray(rng.integers(0, 256, size=(16, 16, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    store = ArtifactStore(tmp_path_factory.mktemp("store"))
    artifact = write_image_set(store, scan_folder(folder), name="noise", licence="CC0", visibility="public")
    return ImageSetReader(artifact, folder)


def stack(batches: Iterator[ActivationBatch] | chain[ActivationBatch]) -> dict[str, Tensor]:
    listed = list(batches)
    stacked = {name: torch.cat([batch.activations[name] for batch in listed]) for name in HOOKPOINTS}
    return stacked | {
        part: torch.cat([getattr(batch, part) for batch in listed]) for part in ("is_prefix", "image", "token")
    }


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_row_is_the_token_it_says_it_is(model: VisionModel, reader: ImageSetReader) -> None:
    whole = list(image_activations(model, reader, HOOKPOINTS, range(N_IMAGES), batch_size=3))
    assert [part.indices for part in whole] == [[0, 1, 2], [3, 4, 5], [6]]
    by_name = {name: torch.cat([part.activations[name] for part in whole]) for name in HOOKPOINTS}
    batches = list(activation_batches(model, reader, HOOKPOINTS, STREAM, first_block=0, n_blocks=2))
    assert len(batches) == 2 * STREAM.batches_per_block(model.n_tokens) == 2 * (4 * 17 // 20)
    for batch in batches:
        assert torch.equal(batch.is_prefix, batch.token < 1)
        for name in HOOKPOINTS:
            assert batch.activations[name].shape == (20, model.width_of(name))
            torch.testing.assert_close(batch.activations[name], by_name[name][batch.image, batch.token])


def test_blocks_computed_apart_are_the_blocks_computed_together(model: VisionModel, reader: ImageSetReader) -> None:
    together = stack(activation_batches(model, reader, HOOKPOINTS, STREAM, first_block=0, n_blocks=5))
    first = activation_batches(model, reader, HOOKPOINTS, STREAM, first_block=0, n_blocks=2)
    threads = ActivationStream(seed=3, images_per_block=4, batch_tokens=20, n_threads=5)
    second = activation_batches(model, reader, HOOKPOINTS, threads, first_block=2, n_blocks=3)
    assert same(stack(chain(first, second)), together)


def test_the_seed_changes_the_order(model: VisionModel, reader: ImageSetReader) -> None:
    other = ActivationStream(seed=4, images_per_block=4, batch_tokens=20)
    orders = [
        stack(activation_batches(model, reader, HOOKPOINTS, stream, first_block=0, n_blocks=1))["token"]
        for stream in (STREAM, other)
    ]
    assert not torch.equal(*orders)


def test_no_token_comes_twice_in_a_block(model: VisionModel, reader: ImageSetReader) -> None:
    rows = stack(activation_batches(model, reader, HOOKPOINTS, STREAM, first_block=0, n_blocks=1))
    keys = rows["image"] * model.n_tokens + rows["token"]
    assert len(set(keys.tolist())) == len(keys) == 60
    assert len(set(rows["image"][:20].tolist())) == 4  # the first batch mixes all images of its block


def test_every_epoch_sees_each_image_once_in_another_order() -> None:
    images = [i for block in range(7) for i in STREAM.images_of(block, N_IMAGES)]
    epochs = [images[start : start + N_IMAGES] for start in range(0, len(images), N_IMAGES)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(N_IMAGES))] * 4
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_block_may_be_larger_than_the_set_and_the_set_a_part() -> None:
    stream = ActivationStream(seed=0, images_per_block=5, batch_tokens=1, indices=(2, 6))
    images = stream.images_of(0, N_IMAGES)
    assert [sorted(images[:2]), sorted(images[2:4])] == [[2, 6], [2, 6]]
    assert len(images) == 5


def test_a_batch_larger_than_a_block_is_refused(model: VisionModel, reader: ImageSetReader) -> None:
    stream = ActivationStream(seed=0, images_per_block=1, batch_tokens=18)
    with pytest.raises(ValueError, match="has 17 tokens, fewer than a batch of 18"):
        next(activation_batches(model, reader, HOOKPOINTS, stream, first_block=0, n_blocks=1))


def test_the_suggested_block_holds_eight_batches_to_the_brim_or_fits_into_memory(model: VisionModel) -> None:
    assert suggest_images_per_block(model, HOOKPOINTS, 170) == 8 * 10
    assert suggest_images_per_block(model, HOOKPOINTS, 171) == 81  # 1368 tokens of 17 per image
    batch = 17 * 60_000
    assert (1 << 30) // (4 * (16 + 64) * batch) == 3
    assert suggest_images_per_block(model, HOOKPOINTS, batch) == 3 * 60_000
    assert suggest_images_per_block(model, HOOKPOINTS, 17 * 10**7) == 10**7


def test_activations_that_are_not_finite_are_told_with_their_place(reader: ImageSetReader, model: VisionModel) -> None:
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.module.blocks[1].mlp.fc1.bias[3] = math.nan
    sentence = (
        r"The activations at blocks\.1\.mlp\.hidden are NaN or infinite at 68 tokens of image block 2, first of the"
    )
    with pytest.raises(ActivationError, match=sentence) as caught:
        next(activation_batches(broken, reader, HOOKPOINTS, STREAM, first_block=2, n_blocks=1))
    first = STREAM.images_of(2, N_IMAGES)[0]
    assert f"the image '{reader.paths[first]}' (number {first}), token 0." in str(caught.value)


def test_large_activations_whose_sum_overflows_are_no_error(reader: ImageSetReader, model: VisionModel) -> None:
    tokens = torch.full((4, 3), 3e38)
    batch = ActivationBatch({"blocks.0": tokens}, torch.zeros(4).bool(), torch.zeros(4).long(), torch.arange(4))
    require_finite(batch, reader, 0)


def test_the_models_parameters_and_inputs_keep_no_graph(model: VisionModel, reader: ImageSetReader) -> None:
    part = next(image_activations(model, reader, HOOKPOINTS, [0]))
    assert not any(tokens.requires_grad for tokens in part.activations.values())
    assert part.logits.shape == (1, 3)
