"""Activations streamed from a model, several hookpoints from one forward pass, never stored on disk.

For training there is a mixing buffer: the tokens of a block of images, drawn at random from the set, are shuffled and
cut into some eight batches, then the next block is read. The order is a function of (seed, block) only: epoch e
shuffles the images by one generator, block b its tokens by another. So a training can stop after any block and go on
with the next to the same bytes, whatever was killed and however many threads decode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from workers.hookpoints import read_hookpoints
from workers.images import ImageSetReader, image_batches
from workers.vision_model import VisionModel

FORWARD_BATCH = 32  # images per forward pass; fixed, because the last bits of a product depend on it
MIXED_BATCHES = 8  # batches that a block mixes
BLOCK_BYTES = 1 << 30  # fewer batches where their activations would not fit into that
SINGLE_BYTES = 4


class ActivationError(ValueError):
    """Activations that nothing can be learned from; the message says where they were read."""


class ImageActivations(NamedTuple):
    """What one forward pass read, images in order."""

    indices: list[int]
    activations: dict[str, Float[Tensor, "image token width"]]
    logits: Float[Tensor, "image n_classes"]


class ActivationBatch(NamedTuple):
    """Tokens of many images, mixed; row i of every hookpoint is the same token of the same image."""

    activations: dict[str, Float[Tensor, "batch width"]]
    is_prefix: Bool[Tensor, " batch"]
    image: Int[Tensor, " batch"]
    token: Int[Tensor, " batch"]


@dataclass(frozen=True)
class ActivationStream:
    """An endless stream of blocks of images, cut into batches of tokens; no `indices` means all images.

    `is_bf16` runs the model in half precision; what is read is in single precision all the same.
    """

    seed: int
    images_per_block: int
    batch_tokens: int
    n_threads: int = 2
    indices: tuple[int, ...] = ()
    is_bf16: bool = False

    def __post_init__(self) -> None:
        if self.images_per_block < 1 or self.batch_tokens < 1:
            raise ValueError("A stream needs at least one image per block and one token per batch.")

    def batches_per_block(self, n_tokens: int) -> int:
        """How many full batches a block gives; the tokens left over, drawn at random, are not used."""
        n_batches = self.images_per_block * n_tokens // self.batch_tokens
        if n_batches == 0:
            raise ValueError(
                f"A block of {self.images_per_block} images has {self.images_per_block * n_tokens} tokens, fewer than "
                f"a batch of {self.batch_tokens}; take more images per block or a smaller batch."
            )
        return n_batches

    def images_of(self, block: int, n_images: int) -> list[int]:
        """The images of a block: the next ones of the current epoch's order, going over into the next epoch's."""
        chosen = self.indices or range(n_images)
        if not chosen:
            raise ValueError("There are no images to read activations from.")
        images: list[int] = []
        position = block * self.images_per_block
        while len(images) < self.images_per_block:
            epoch, offset = divmod(position + len(images), len(chosen))
            order = shuffled(len(chosen), self.seed, "images", epoch)[offset:]
            images += [chosen[i] for i in order[: self.images_per_block - len(images)].tolist()]
        return images


def suggest_images_per_block(model: VisionModel, hookpoints: Sequence[str], batch_tokens: int) -> int:
    """As many images as fill eight batches to the brim, or as many batches as fit into 1 GB, one at least."""
    token_bytes = SINGLE_BYTES * sum(model.width_of(name) for name in hookpoints)
    n_batches = max(1, min(MIXED_BATCHES, BLOCK_BYTES // (token_bytes * batch_tokens)))
    return -(-n_batches * batch_tokens // model.n_tokens)


def activation_batches(
    model: VisionModel,
    reader: ImageSetReader,
    hookpoints: Sequence[str],
    stream: ActivationStream,
    *,
    first_block: int,
    n_blocks: int,
) -> Iterator[ActivationBatch]:
    """The batches of blocks [first_block, first_block + n_blocks)."""
    n_batches = stream.batches_per_block(model.n_tokens)
    for block in range(first_block, first_block + n_blocks):
        mixed = read_block(model, reader, hookpoints, stream.images_of(block, len(reader)), stream)
        require_finite(mixed, reader, block)
        order = shuffled(len(mixed.image), stream.seed, "tokens", block)
        for rows in order[: n_batches * stream.batch_tokens].view(n_batches, -1):
            yield take_rows(mixed, rows)


@torch.no_grad()
def image_activations(
    model: VisionModel,
    reader: ImageSetReader,
    hookpoints: Sequence[str],
    indices: Sequence[int],
    *,
    batch_size: int = FORWARD_BATCH,
    n_threads: int = 2,
) -> Iterator[ImageActivations]:
    """Forward passes over these images, in this order; what comes next is decoded meanwhile."""
    start = 0
    is_pinned = model.device.type == "cuda"
    for images in image_batches(reader, model.transform, indices, batch_size, n_threads, is_pinned=is_pinned):
        with read_hookpoints(model, hookpoints) as read:
            logits = model(images.to(model.device, non_blocking=True))
        yield ImageActivations([int(i) for i in indices[start : start + len(images)]], dict(read), logits)
        start += len(images)


def read_block(
    model: VisionModel,
    reader: ImageSetReader,
    hookpoints: Sequence[str],
    images: Sequence[int],
    stream: ActivationStream,
) -> ActivationBatch:
    """All tokens of these images, image after image."""
    n_rows = len(images) * model.n_tokens
    device = model.device
    buffers = {name: torch.empty(n_rows, model.width_of(name), device=device) for name in hookpoints}
    start = 0
    with torch.autocast(device.type, torch.bfloat16, enabled=stream.is_bf16):
        for part in image_activations(model, reader, hookpoints, images, n_threads=stream.n_threads):
            stop = start + len(part.indices) * model.n_tokens
            for name, buffer in buffers.items():
                buffer[start:stop] = part.activations[name].flatten(0, 1)
            start = stop
    token = torch.arange(model.n_tokens, device=device).repeat(len(images))
    image = torch.tensor(images, device=device).repeat_interleave(model.n_tokens)
    return ActivationBatch(buffers, token < model.n_prefix_tokens, image, token)


def require_finite(mixed: ActivationBatch, reader: ImageSetReader, block: int) -> None:
    """Raise ActivationError naming the first hookpoint and image whose activations are NaN or infinite."""
    for name, tokens in mixed.activations.items():
        if bool(torch.isfinite(tokens.sum())):  # NaN and infinity survive a sum; a sum alone may overflow
            continue
        wrong = (~tokens.isfinite()).any(1).nonzero()
        if len(wrong):
            image = int(mixed.image[wrong[0]])
            raise ActivationError(
                f"The activations at {name} are NaN or infinite at {len(wrong):,} tokens of image block {block}, first "
                f"of the image '{reader.cell('path', image)}' (number {image}), token {int(mixed.token[wrong[0]])}. "
                "Check the weights of the vision model and that image; in half precision large values overflow."
            )


def take_rows(batch: ActivationBatch, rows: Int[Tensor, " batch"]) -> ActivationBatch:
    rows = rows.to(batch.image.device)
    return ActivationBatch(
        {name: tokens[rows] for name, tokens in batch.activations.items()},
        batch.is_prefix[rows],
        batch.image[rows],
        batch.token[rows],
    )


def shuffled(n: int, seed: int, purpose: str, number: int) -> Int[Tensor, " n"]:
    """A random order of n things that depends on these names only."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{number}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
    return torch.randperm(n, generator=generator)
