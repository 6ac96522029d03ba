"""Stage align-dictionaries: for each latent its nearest in another dictionary, and pairs to show to people.

At every hookpoint that both read, or at whose MLP both write (workers/dictionaries/counterparts.py), the greatest
cosine of decoder directions is taken in both ways (workers/dictionaries/alignment.py); with an image set latents are
matched by their activations and top images as well (workers/dictionaries/matching.py). Results have the name of the
hookpoint that the first dictionary reads. `nearest.safetensors` has all of them; `pairs.jsonl` has pairs drawn in equal
parts from bins of the cosine, and `null.json` what random dictionaries of the same shapes reach.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.activations import FORWARD_BATCH
from workers.dictionaries.alignment import (
    ROWS_AT_ONCE,
    BothWays,
    Nearest,
    bins_of,
    draw_from_bins,
    merge_columns,
    nearest_both_ways,
    null_cosines,
    percentiles,
)
from workers.dictionaries.counterparts import Counterparts, counterparts_of, scale_of
from workers.dictionaries.matching import NO_MATCH
from workers.dictionaries.store import Dictionary
from workers.stages.alignment_chunks import (
    MATCH,
    MEASURES,
    NULL,
    NULL_ROWS,
    match_chunk,
    null_chunk,
    sample_chunk,
    sample_of,
)
from workers.stages.configs import AlignDictionariesConfig, ConfigError, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.inputs import (
    FLOPS_PER_WEIGHT,
    encoder_flops,
    forward_flops,
    open_dictionary,
    open_images,
    open_model,
    require_fit,
    units_per_chunk,
)

REPORTED = (50.0, 95.0, 99.0, 99.9)
MATCHED_AT_ONCE = 2048
PART = "part.safetensors"


def plan(config: AlignDictionariesConfig, context: StageContext) -> list[ChunkPlan]:
    """Directions first; with an image set then its sample, and what latents do on it."""
    first, second = open_both(config, context)
    chunks = direction_chunks(config, first, second, context)
    if config.image_set:
        chunks += sample_chunks(config, first, second, context)
        chunks += match_chunks(config, first, second, chunks)
    return chunks


def direction_chunks(
    config: AlignDictionariesConfig, first: Dictionary, second: Dictionary, context: StageContext
) -> list[ChunkPlan]:
    chunks = []
    pairs = counterparts_of(first, second, config.hookpoints)
    scales_of(pairs, first, second, context)  # refuses what does not fit the model before anything is compared
    for pair in pairs:
        width = first.decoder_directions(pair.a).shape[1]
        fitting = units_per_chunk(float(FLOPS_PER_WEIGHT * width * second.n_latents(pair.b)), context)
        at_once = max(ROWS_AT_ONCE, fitting // ROWS_AT_ONCE * ROWS_AT_ONCE)
        n_latents = first.n_latents(pair.a)
        for start in range(0, n_latents, at_once):
            stop = min(start + at_once, n_latents)
            chunks.append(ChunkPlan(0, {"hookpoint": pair.a, "start": start, "stop": stop}, n_units=stop - start))
    return chunks


def sample_chunks(
    config: AlignDictionariesConfig, first: Dictionary, second: Dictionary, context: StageContext
) -> list[ChunkPlan]:
    model = open_model(first.description.vision_model, context)
    for dictionary in (first, second):
        require_fit(dictionary, model)
    pairs = counterparts_of(first, second, config.hookpoints)
    widest = max(n for pair in pairs for n in (first.n_latents(pair.a), second.n_latents(pair.b)))
    sample = sample_of(config, len(open_images(config.image_set, context)), model.n_tokens, widest)
    fitting = units_per_chunk(forward_flops(model) + encoder_flops(model, [first, second]), context)
    at_once = max(FORWARD_BATCH, fitting // FORWARD_BATCH * FORWARD_BATCH)
    facts = {"what": "sample", "n_images": sample.n_images, "tokens_per_image": sample.tokens_per_image}
    return [
        ChunkPlan(
            0, facts | {"start": start, "stop": min(start + at_once, sample.n_images)},
            n_units=min(start + at_once, sample.n_images) - start, is_checkpoint=True,
        )
        for start in range(0, sample.n_images, at_once)
    ]  # fmt: skip


def match_chunks(
    config: AlignDictionariesConfig, first: Dictionary, second: Dictionary, earlier: list[ChunkPlan]
) -> list[ChunkPlan]:
    """Ranges of latents at every hookpoint, and the null of each."""
    samples = [index for index, chunk in enumerate(earlier) if chunk.payload.get("what") == "sample"]
    facts: dict[str, Any] = {"samples": samples, "n_images": earlier[samples[0]].payload["n_images"]}
    chunks = []
    for pair in counterparts_of(first, second, config.hookpoints):
        here = facts | {"hookpoint": pair.a}
        n_latents = first.n_latents(pair.a)
        for start in range(0, n_latents, MATCHED_AT_ONCE):
            stop = min(start + MATCHED_AT_ONCE, n_latents)
            payload = here | {"what": "match", "start": start, "stop": stop}
            chunks.append(ChunkPlan(1, payload, n_units=stop - start))
        chunks.append(ChunkPlan(1, here | {"what": "null"}, n_units=NULL_ROWS))
    return chunks


def execute(config: AlignDictionariesConfig, payload: dict[str, Any], context: StageContext) -> None:
    what = payload.get("what", "directions")
    if what == "sample":
        sample_chunk(config, payload, context)
    elif what == "match":
        match_chunk(config, payload, context)
    elif what == "null":
        null_chunk(config, payload, context)
    else:
        compare_directions(config, payload, context)


def compare_directions(config: AlignDictionariesConfig, payload: dict[str, Any], context: StageContext) -> None:
    first, second = open_both(config, context)
    [pair] = counterparts_of(first, second, [payload["hookpoint"]])
    rows, columns = pair.directions(first, second, scales_of([pair], first, second, context).get(pair.a))
    found: list[BothWays] = []
    for start in range(payload["start"], payload["stop"], ROWS_AT_ONCE):
        stop = min(start + ROWS_AT_ONCE, payload["stop"])
        part = nearest_both_ways(rows[start:stop], columns, either_sign=has_two_poles(first, second))
        shifted = part.columns._replace(latent=part.columns.latent + start)
        found.append(BothWays(part.rows, shifted))
        context.progress(stop - payload["start"])
        context.raise_if_cancelled()
    save_part(found, pair.a, context.chunk_folder / PART)


def finish(config: AlignDictionariesConfig, context: StageContext) -> dict[str, list[str]]:
    first, second = open_both(config, context)
    with context.store.write(
        "alignment",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        seed=config.seed,
    ) as writer:
        tensors: dict[str, Tensor] = {}
        nulls: dict[str, Any] = {}
        counterparts = counterparts_of(first, second, config.hookpoints)
        scales = scales_of(counterparts, first, second, context)
        with (writer.folder / "pairs.jsonl").open("w") as lines:
            for pair in counterparts:
                found, scale = gathered(pair.a, context), scales.get(pair.a)
                null = null_of(config, second, pair.b, scale, has_two_poles(first, second))
                drawn = drawn_pairs(config, pair, found.rows, null)
                lines.writelines(json.dumps(one) + "\n" for one in with_poles(pair, drawn, scale, first, second))
                back = null_of(config, first, pair.a, scale, has_two_poles(first, second))
                nulls[pair.a] = {
                    "a_to_b": summary(found.rows, null, config.n_bins),
                    "b_to_a": summary(found.columns, back, config.n_bins),
                }
                tensors |= named(pair.a, found)
                if config.image_set:
                    matched, nulls[pair.a]["activations"] = matches_of(config, pair.a, first, second, context)
                    tensors |= matched
        save_file(
            {name: tensor.contiguous() for name, tensor in tensors.items()}, writer.folder / "nearest.safetensors"
        )
        writer.write_json("null.json", nulls)
        writer.write_json("alignment.json", describe(config, first, second))
    return {"artifacts": [writer.digest]}


def open_both(config: AlignDictionariesConfig, context: StageContext) -> tuple[Dictionary, Dictionary]:
    first, second = open_dictionary(config.dictionary, context), open_dictionary(config.other, context)
    if first.description.vision_model != second.description.vision_model:
        raise ConfigError("The dictionaries belong to different vision models; their directions cannot be compared.")
    return first, second


def scales_of(
    pairs: Sequence[Counterparts], first: Dictionary, second: Dictionary, context: StageContext
) -> dict[str, Tensor]:
    """γ by the hookpoint that the first dictionary reads, where one side is multiplied by it."""
    scaled = [pair for pair in pairs if pair.scaled]
    if not scaled:
        return {}
    model = open_model(first.description.vision_model, context)
    for dictionary in (first, second):
        require_fit(dictionary, model)
    return {pair.a: scale_of(model, pair, first) for pair in scaled}


def save_part(found: list[BothWays], hookpoint: str, path: Path) -> None:
    rows = Nearest(*(torch.cat(parts) for parts in zip(*(part.rows for part in found), strict=True)))
    columns = merge_columns([part.columns for part in found])
    tensors = named(hookpoint, BothWays(rows, columns))
    save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, path)


def named(hookpoint: str, found: BothWays) -> dict[str, Tensor]:
    return {
        f"{hookpoint}/a.cosine": found.rows.cosine,
        f"{hookpoint}/a.nearest": found.rows.latent.int(),
        f"{hookpoint}/b.cosine": found.columns.cosine,
        f"{hookpoint}/b.nearest": found.columns.latent.int(),
    }


def gathered(hookpoint: str, context: StageContext) -> BothWays:
    """The parts of one hookpoint, which follow each other in the plan."""
    parts = [part for part in parts_of(context) if f"{hookpoint}/a.cosine" in part]
    rows = Nearest(*(torch.cat([part[f"{hookpoint}/a.{name}"] for part in parts]) for name in ("cosine", "nearest")))
    columns = [Nearest(part[f"{hookpoint}/b.cosine"], part[f"{hookpoint}/b.nearest"].long()) for part in parts]
    return BothWays(rows, merge_columns(columns))


def parts_of(context: StageContext, name: str = PART) -> Iterator[dict[str, Tensor]]:
    """The outputs of this name, in the order of the plan."""
    for index in range(context.n_chunks):
        path = context.chunk(index) / name
        if path.is_file():
            yield load_file(path)


def matches_of(
    config: AlignDictionariesConfig, hookpoint: str, first: Dictionary, second: Dictionary, context: StageContext
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What latents do at one hookpoint: the best match of each by both measures, and summaries with their nulls."""
    names = [pair.a for pair in counterparts_of(first, second, config.hookpoints)]
    place = names.index(hookpoint)
    per_hookpoint = [-(-first.n_latents(name) // MATCHED_AT_ONCE) for name in names]
    skipped = sum(per_hookpoint[:place])
    parts = list(parts_of(context, MATCH))[skipped : skipped + per_hookpoint[place]]
    null = list(parts_of(context, NULL))[place]
    tensors: dict[str, Tensor] = {}
    summaries: dict[str, Any] = {}
    for name, words in MEASURES.items():
        rows = Nearest(*(torch.cat([part[f"a.{name}{end}"] for part in parts]) for end in ("", ".nearest")))
        columns = merge_columns([Nearest(part[f"b.{name}"], part[f"b.{name}.nearest"]) for part in parts])
        summaries[words] = {
            "a_to_b": summary(matched_only(rows), null[f"a.{name}"], config.n_bins),
            "b_to_a": summary(matched_only(columns), null[f"b.{name}"], config.n_bins),
        }
        for side, found in (("a", rows), ("b", columns)):
            tensors[f"{hookpoint}/{side}.{name}"] = found.cosine
            tensors[f"{hookpoint}/{side}.{name}.nearest"] = found.latent.int()
    return tensors, summaries


def matched_only(found: Nearest) -> Nearest:
    """Without the latents that are silent on the sample; all of them where every one is."""
    kept = found.cosine > NO_MATCH
    return Nearest(found.cosine[kept], found.latent[kept]) if bool(kept.any()) else found


def null_of(
    config: AlignDictionariesConfig, among: Dictionary, hookpoint: str, scale: Tensor | None, either_sign: bool
) -> Tensor:
    """What random directions reach among as many random ones as this dictionary has; both scaled as the latents are."""
    n_latents, width = among.decoder_directions(hookpoint).shape
    generator = generator_of(config.seed, "null", f"{n_latents}x{width}")
    return null_cosines(n_latents, width, generator, either_sign=either_sign, scale=scale)


def has_two_poles(*dictionaries: Dictionary) -> bool:
    """Whether a direction counts as near its opposite: −v is what the negative pole of a latent writes."""
    return any(len(one.poles) > 1 for one in dictionaries)


def with_poles(
    pair: Counterparts, drawn: Iterator[dict[str, Any]], scale: Tensor | None, first: Dictionary, second: Dictionary
) -> Iterator[dict[str, Any]]:
    """Drawn latents with the poles that lie near each other, where there are two; of the other's, if it has them."""
    if not has_two_poles(first, second):
        yield from drawn
        return
    turned = "pole_b" if has_two_poles(second) else "pole_a"
    rows, columns = pair.directions(first, second, scale)
    for one in drawn:
        is_opposite = float(rows[one["latent_a"]] @ columns[one["latent_b"]]) < 0
        yield one | {"pole_a": 1, "pole_b": 1} | ({turned: -1} if is_opposite else {})


def generator_of(seed: int, purpose: str, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}:{purpose}:{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def drawn_pairs(
    config: AlignDictionariesConfig, pair: Counterparts, found: Nearest, null: Tensor
) -> Iterator[dict[str, Any]]:
    bins = bins_of(found.cosine, config.n_bins)
    shares = percentiles(found.cosine, null)
    for latent in draw_from_bins(bins, config.n_bins, config.pairs_per_bin, generator_of(config.seed, "pairs", pair.a)):
        yield {
            "hookpoint": pair.a,
            "hookpoint_b": pair.b,
            "latent_a": latent,
            "latent_b": int(found.latent[latent]),
            "mcs": round(float(found.cosine[latent]), 6),
            "null_percentile": round(float(shares[latent]), 3),
            "bin": int(bins[latent]),
        }


def summary(found: Nearest, null: Tensor, n_bins: int) -> dict[str, Any]:
    """The null's percentiles, how many latents lie above them, and how many there are in each bin."""
    levels = {f"{level:g}": float(torch.quantile(null, level / 100)) for level in REPORTED}
    above = {name: float((found.cosine > value).double().mean()) for name, value in levels.items()}
    counts = torch.bincount(bins_of(found.cosine, n_bins), minlength=n_bins)
    return {
        "null_mean": float(null.mean()),
        "null_percentiles": levels,
        "n_null_directions": null.numel(),
        "share_above": above,
        "mean": float(found.cosine.mean()),
        "n_latents": found.cosine.numel(),
        "n_in_bin": counts.tolist(),
    }


def describe(config: AlignDictionariesConfig, first: Dictionary, second: Dictionary) -> dict[str, Any]:
    counterparts = counterparts_of(first, second, config.hookpoints)
    return {
        "dictionary_a": first.digest,
        "dictionary_b": second.digest,
        "hookpoints": [pair.a for pair in counterparts],
        "hookpoints_b": [pair.b for pair in counterparts],
        "layer_scaled": [pair.scaled for pair in counterparts],
        "bin_edges": [number / config.n_bins for number in range(config.n_bins + 1)],
        "pairs_per_bin": config.pairs_per_bin,
        "image_set": config.image_set,
    }
