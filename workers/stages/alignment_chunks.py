"""The chunks of align-dictionaries that look at images: codes of sampled tokens, then matches by what latents do.

`sample` encodes a range of images with both dictionaries and keeps the codes of a few tokens of each and the top images
of every latent; `match` compares a range of latents of the first with all of the second; `null` does so with tokens and
images shuffled. The codes are dropped once matched; activations are never written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import image_activations, shuffled
from workers.dictionaries.alignment import BothWays, Nearest
from workers.dictionaries.concept_recovery import ImageScores
from workers.dictionaries.counterparts import SIDES, counterparts_of
from workers.dictionaries.matching import (
    Moments,
    TokenCodes,
    TopImages,
    best_of,
    correlations,
    jaccards,
    join_codes,
    memberships,
    merge_top,
    moments,
    token_codes,
    top_images,
)
from workers.stages.configs import AlignDictionariesConfig
from workers.stages.context import StageContext
from workers.stages.inputs import open_dictionary, open_images, open_model

TOKENS_PER_IMAGE = 16
DENSE_BYTES = 256 << 20  # of codes of one dictionary at one hookpoint; a dense kind gets fewer tokens
NULL_ROWS = 512
SAMPLE, MATCH, NULL = "sample.safetensors", "match.safetensors", "null.safetensors"
MEASURES = {"pearson": "max Pearson correlation of activations", "jaccard": "max Jaccard of top images"}
FLOAT_BYTES = 4


class Sample(NamedTuple):
    """Which images are looked at, and how many tokens of each."""

    n_images: int
    tokens_per_image: int


def sample_of(config: AlignDictionariesConfig, n_images: int, n_tokens: int, widest: int) -> Sample:
    """Sixteen tokens of each of as many images as the tokens asked for need; fewer where all latents are on."""
    wanted = min(config.n_tokens, max(2, DENSE_BYTES // (FLOAT_BYTES * widest)))
    per_image = min(TOKENS_PER_IMAGE, n_tokens)
    return Sample(max(1, min(n_images, wanted // per_image)), per_image)


def sampled_images(n_images: int, n_chosen: int) -> list[int]:
    return [i * n_images // n_chosen for i in range(n_chosen)]


def sample_chunk(config: AlignDictionariesConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """Codes of the sampled tokens and top images, by hookpoint and side, of a range of the images looked at.

    Each side is encoded where it reads; both have the name of the hookpoint that the first reads.
    """
    first, second = (open_dictionary(digest, context) for digest in (config.dictionary, config.other))
    pairs = counterparts_of(first, second, config.hookpoints)
    reading = {f"{pair.a}/a": (first, pair.a) for pair in pairs} | {f"{pair.a}/b": (second, pair.b) for pair in pairs}
    hookpoints = list(dict.fromkeys(read for _, read in reading.values()))
    model = open_model(first.description.vision_model, context)
    reader = open_images(config.image_set, context)
    chosen = sampled_images(len(reader), payload["n_images"])[payload["start"] : payload["stop"]]
    codes: dict[str, list[TokenCodes]] = {key: [] for key in reading}
    maxima = {key: ImageScores(len(chosen), one.n_latents(read)) for key, (one, read) in reading.items()}
    done = 0
    parts = image_activations(model, reader, hookpoints, chosen, n_threads=context.n_threads)
    for part in parts:
        rows = sampled_rows(part.indices, model.n_tokens, payload["tokens_per_image"], config.seed)
        for key, (dictionary, read) in reading.items():
            found = dictionary.encode(read, part.activations[read].flatten(0, 1))
            codes[key].append(token_codes(found, rows, dictionary.n_latents(read)))
            maxima[key].update(found, len(part.indices))
        done += len(part.indices)
        context.progress(done)
        context.raise_if_cancelled()
    tensors: dict[str, Tensor] = {}
    for key, kept in codes.items():
        joined, top = join_codes(kept), top_images(maxima[key].maxima, payload["start"])
        tensors |= {f"{key}/indices": joined.indices, f"{key}/values": joined.values}
        tensors |= {f"{key}/top.values": top.values, f"{key}/top.images": top.images}
    save_file({name: one.contiguous() for name, one in tensors.items()}, context.chunk_folder / SAMPLE)


def sampled_rows(images: list[int], n_tokens: int, n_each: int, seed: int) -> Int[Tensor, " n"]:
    """Rows of the chosen tokens among those of these images, one after the other; which ones depends on the image."""
    rows = [
        place * n_tokens + shuffled(n_tokens, seed, "tokens", image)[:n_each].sort().values
        for place, image in enumerate(images)
    ]
    return torch.cat(rows)


class Sampled(NamedTuple):
    """One dictionary at one hookpoint over all sampled tokens and images."""

    codes: TokenCodes
    moments: Moments
    top: Tensor


def gather_sample(key: str, n_latents: int, payload: Mapping[str, Any], context: StageContext) -> Sampled:
    codes, top = [], TopImages(torch.zeros(n_latents, 0), torch.zeros(n_latents, 0, dtype=torch.int32))
    for index in payload["samples"]:
        tensors = load_file(context.chunk(index) / SAMPLE)
        codes.append(TokenCodes(tensors[f"{key}/indices"], tensors[f"{key}/values"], n_latents))
        top = merge_top(top, TopImages(tensors[f"{key}/top.values"], tensors[f"{key}/top.images"]))
    joined = join_codes(codes)
    return Sampled(joined, moments(joined), memberships(top, payload["n_images"]))


def both_samples(
    config: AlignDictionariesConfig, payload: Mapping[str, Any], context: StageContext
) -> tuple[Sampled, Sampled]:
    first, second = (open_dictionary(digest, context) for digest in (config.dictionary, config.other))
    [pair] = counterparts_of(first, second, [payload["hookpoint"]])
    return (
        gather_sample(f"{pair.a}/a", first.n_latents(pair.a), payload, context),
        gather_sample(f"{pair.a}/b", second.n_latents(pair.b), payload, context),
    )


def match_chunk(config: AlignDictionariesConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """The best match in B of a range of latents of A, and in that range of every latent of B, by both measures."""
    a, b = both_samples(config, payload, context)
    start = payload["start"]
    rows = torch.arange(start, payload["stop"])
    tensors: dict[str, Tensor] = {}
    for name, similar in similarities(a, b, rows).items():
        found = best_of(similar)
        shifted = BothWays(found.rows, Nearest(found.columns.cosine, found.columns.latent + start))
        for side, nearest in zip(SIDES, shifted, strict=True):
            tensors[f"{side}.{name}"] = nearest.cosine
            tensors[f"{side}.{name}.nearest"] = nearest.latent.int()
    save_file(tensors, context.chunk_folder / MATCH)


def similarities(a: Sampled, b: Sampled, rows: Int[Tensor, " n_rows"]) -> dict[str, Tensor]:
    return {
        "pearson": correlations(a.codes, b.codes, rows, a.moments, b.moments),
        "jaccard": jaccards(a.top[rows], b.top),
    }


def null_chunk(config: AlignDictionariesConfig, payload: Mapping[str, Any], context: StageContext) -> None:
    """The best matches that some latents of either side find once tokens and images are shuffled, rising."""
    samples = both_samples(config, payload, context)
    tensors: dict[str, Tensor] = {}
    for number, (one, other) in enumerate((samples, samples[::-1])):
        order = shuffled(len(one.codes.values), config.seed, "null tokens", number)
        images = shuffled(one.top.shape[1], config.seed, "null images", number)
        mixed = Sampled(one.codes.reordered(order), one.moments, one.top[:, images])
        live = (one.moments.deviation > 0).nonzero().squeeze(1)
        rows = live[shuffled(len(live), config.seed, "null rows", number)[:NULL_ROWS]]
        for name, similar in similarities(mixed, other, rows).items():
            best = similar.amax(1) if len(rows) else torch.zeros(1)
            tensors[f"{SIDES[number]}.{name}"] = best.sort().values
    save_file(tensors, context.chunk_folder / NULL)
