"""Stage evaluate-dictionary: what a dictionary explains, what living on it costs the model, and what is in it.

First the images are measured and decoder directions compared, in any order; then, with the means of all images known,
the altered passes are run and latents scored. `quality.json` has the figures by hookpoint read, `evaluation.json` those
of the dictionary as a whole; figures by latent are in safetensors files beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.dictionaries.alignment import Nearest, merge_columns, null_cosines
from workers.dictionaries.geometry import join_rows, similarity_summary
from workers.dictionaries.monosemanticity import floor_of, monosemanticity_summary
from workers.dictionaries.quality import QualityAccumulator
from workers.dictionaries.splice import TOGETHER
from workers.dictionaries.store import POSITIVE, Dictionary
from workers.stages.configs import EvaluateDictionaryConfig, config_to_dict, parent_digests
from workers.stages.context import ChunkPlan, StageContext
from workers.stages.evaluation_chunks import (
    CONTRIBUTIONS,
    CROSS_LAYER,
    DIRECTIONS,
    RETRIEVAL,
    SCORES,
    SUMS,
    Subject,
    directions,
    fresh_accumulators,
    measure,
    measured_embeddings,
    measured_images,
    merged_cross_layer,
    open_subject,
    score_latents,
    spliced_images,
    tensors_of,
)
from workers.stages.evaluation_splice import CLT_PASSES, n_altered, run_splice, splice_facts
from workers.stages.inputs import FLOPS_PER_WEIGHT, encoder_flops, forward_flops, units_per_chunk

NULL_DIRECTIONS = 1024
NULL_SEED = 0
ROW_STEP = 512
Chunk = Callable[[EvaluateDictionaryConfig, Mapping[str, Any], StageContext], None]
CHUNKS: dict[str, Chunk] = {
    "measure": measure,
    "directions": directions,
    "splice": run_splice,
    "monosemanticity": score_latents,
}


def plan(config: EvaluateDictionaryConfig, context: StageContext) -> list[ChunkPlan]:
    """Measuring chunks come first, so that theirs are the first outputs."""
    subject = open_subject(config, context)
    cost = forward_flops(subject.model) + 2 * encoder_flops(subject.model, [subject.dictionary])
    chunks = measuring_chunks(config, subject, cost, context)
    n_measured = len(chunks)
    chunks += direction_chunks(config, subject.dictionary, cost, context)
    chunks += splice_chunks(config, subject, n_measured, context)
    if config.embeddings:
        measured_embeddings(config, context)  # wrong ones are refused before anything is computed
        chunks += [
            ChunkPlan(1, {"what": "monosemanticity", "read": read, "n_measured": n_measured})
            for read in subject.dictionary.reads
        ]
    return chunks


def measuring_chunks(
    config: EvaluateDictionaryConfig, subject: Subject, cost: float, context: StageContext
) -> list[ChunkPlan]:
    batch = subject.batch_size()
    fitting = min(units_per_chunk(cost, context), config.images_per_chunk)
    n_images = len(measured_images(config, len(subject.reader)))
    return [
        ChunkPlan(0, {"what": "measure", "start": start, "stop": stop}, n_units=stop - start)
        for start, stop in spans(n_images, max(batch, fitting // batch * batch))
    ]


def direction_chunks(
    config: EvaluateDictionaryConfig, dictionary: Dictionary, cost: float, context: StageContext
) -> list[ChunkPlan]:
    """Ranges of rows of every pair of hookpoints to compare; a unit is as much work as measuring one image."""
    chunks = []
    for first, second in pairs_compared(config, dictionary):
        n_rows, width = dictionary.decoder_directions(first).shape
        row_cost = float(FLOPS_PER_WEIGHT * width * dictionary.n_latents(second))
        at_once = max(ROW_STEP, units_per_chunk(row_cost, context) // ROW_STEP * ROW_STEP)
        for start, stop in spans(n_rows, at_once):
            payload = {"what": "directions", "reads": [first, second], "start": start, "stop": stop}
            chunks.append(ChunkPlan(0, payload, n_units=max(1, round((stop - start) * row_cost / cost))))
    return chunks


def splice_chunks(
    config: EvaluateDictionaryConfig, subject: Subject, n_measured: int, context: StageContext
) -> list[ChunkPlan]:
    n_images = len(spliced_images(config, len(subject.reader)))
    per_image = n_altered(subject.dictionary)
    cost = forward_flops(subject.model) * (1 + per_image / 2) + 3 * encoder_flops(subject.model, [subject.dictionary])
    facts = {"what": "splice", "n_measured": n_measured, "units_per_image": per_image}
    return [
        ChunkPlan(1, facts | {"start": start, "stop": stop}, n_units=per_image * (stop - start))
        for start, stop in spans(n_images, min(units_per_chunk(cost, context), config.images_per_chunk))
    ]


def spans(n: int, at_once: int) -> list[tuple[int, int]]:
    return [(start, min(start + at_once, n)) for start in range(0, n, at_once)]


def pairs_compared(config: EvaluateDictionaryConfig, dictionary: Dictionary) -> list[tuple[str, str]]:
    """Each hookpoint with itself, and with those after it that are written in directions of the same width."""
    reads = dictionary.reads
    widths = {read: dictionary.decoder_directions(read).shape[1] for read in reads}
    pairs = [(read, read) for read in reads]
    for place, first in enumerate(reads):
        after = {"all": reads[place + 1 :], "consecutive": reads[place + 1 : place + 2], "none": ()}
        pairs += [(first, second) for second in after[config.block_pairs] if widths[first] == widths[second]]
    return pairs


def execute(config: EvaluateDictionaryConfig, payload: dict[str, Any], context: StageContext) -> None:
    CHUNKS[payload["what"]](config, payload, context)


def finish(config: EvaluateDictionaryConfig, context: StageContext) -> dict[str, list[str]]:
    subject = open_subject(config, context)
    merged, n_measured = merged_accumulators(subject, context)
    quality = {read: sums.finish() for read, sums in merged.items()}
    densities = {read: sums.density() for read, sums in merged.items()}
    nearest = merged_directions(config, subject.dictionary, context)
    scores = {name: one for part in files(context, SCORES) for name, one in load_file(part).items()}
    facts = evaluation_facts(config, subject, len(measured_images(config, len(subject.reader))))
    facts["block_pairs"] = compare_blocks(quality, nearest, densities, subject.dictionary)
    add_splice(quality, facts, subject, context)
    if subject.dictionary.kind == CROSS_LAYER:
        facts.setdefault(CLT_PASSES, {}).update(cross_layer_facts(config, subject, context, n_measured))
    if scores:
        floor = floor_of(measured_embeddings(config, context))
        for read, one in scores.items():
            quality[read]["monosemanticity"] = monosemanticity_summary(one, floor)
    with context.store.write(
        "quality",
        config=config_to_dict(config),
        parents=parent_digests(config),
        stage_revision=context.stage_revision,
        device=context.device,
    ) as writer:
        writer.write_json("quality.json", quality)
        writer.write_json("evaluation.json", facts)
        save_file(densities, writer.folder / "density.safetensors")
        save_file(nearest_tensors(nearest), writer.folder / "nearest.safetensors")
        if scores:
            save_file(scores, writer.folder / "monosemanticity.safetensors")
    return {"artifacts": [writer.digest]}


def cross_layer_facts(
    config: EvaluateDictionaryConfig, subject: Subject, context: StageContext, n_measured: int
) -> dict[str, Any]:
    """Contribution scores, nearest images by block, and what to bear in mind of both."""
    from workers.dictionaries.cross_layer_quality import WARNING

    chosen = measured_images(config, len(subject.reader))
    labels = subject.reader.label_indices[chosen].tolist()
    contributions = merged_cross_layer(subject, context, CONTRIBUTIONS, n_measured)
    retrieval = merged_cross_layer(subject, context, RETRIEVAL, n_measured)
    return {"contributions": contributions.finish(), "retrieval": retrieval.finish(chosen, labels), "warning": WARNING}


def files(context: StageContext, name: str) -> Iterator[Path]:
    """The outputs of this name, in the order of the plan."""
    paths = (context.chunk(index) / name for index in range(context.n_chunks))
    return (path for path in paths if path.is_file())


def merged_accumulators(subject: Subject, context: StageContext) -> tuple[dict[str, QualityAccumulator], int]:
    """The sums over all images by hookpoint read, and in how many chunks they were."""
    merged, n_measured = fresh_accumulators(subject, is_merging=True), 0
    for path in files(context, SUMS):
        n_measured += 1
        tensors = load_file(path)
        for read, part in fresh_accumulators(subject, is_merging=True).items():
            part.restore(tensors_of(read, tensors))
            merged[read].merge(part)
    return merged, n_measured


def merged_directions(
    config: EvaluateDictionaryConfig, dictionary: Dictionary, context: StageContext
) -> dict[tuple[str, str], Nearest]:
    """For each ordered pair of hookpoints compared, the nearest at the second of every latent of the first."""
    pairs = pairs_compared(config, dictionary)
    found: dict[tuple[str, str], list[dict[str, Tensor]]] = {pair: [] for pair in pairs}
    parts = iter([load_file(path) for path in files(context, DIRECTIONS)])
    for pair in pairs:
        n_rows = 0
        while n_rows < dictionary.n_latents(pair[0]):
            found[pair].append(next(parts))
            n_rows += found[pair][-1]["rows.cosine"].numel()
    nearest: dict[tuple[str, str], Nearest] = {}
    for (first, second), tensors in found.items():
        nearest[first, second] = join_rows([nearest_of(one, "rows") for one in tensors])
        if first != second:
            nearest[second, first] = merge_columns([nearest_of(one, "columns") for one in tensors])
    return nearest


def nearest_of(tensors: Mapping[str, Tensor], side: str) -> Nearest:
    return Nearest(tensors[f"{side}.cosine"], tensors[f"{side}.latent"].long())


def compare_blocks(
    quality: dict[str, dict[str, Any]],
    nearest: Mapping[tuple[str, str], Nearest],
    densities: Mapping[str, Tensor],
    dictionary: Dictionary,
) -> dict[str, Any]:
    """Summaries of every pair as matrices, row by row the hookpoint compared; those within one go to its quality."""
    nulls: dict[tuple[int, int], Tensor] = {}
    place = {read: number for number, read in enumerate(dictionary.reads)}
    empty: list[list[float | None]] = [[None] * len(place) for _ in place]
    matrices = {name: [list(row) for row in empty] for name in ("mean", "share_above_null_99", "null_99")}
    for (first, second), found in nearest.items():
        n_latents, width = dictionary.decoder_directions(second).shape
        if (n_latents, width) not in nulls:
            nulls[n_latents, width] = null_of(n_latents, width, dictionary)
        null = nulls[n_latents, width]
        summary = similarity_summary(found.cosine, null, densities[first] > 0)
        if first == second:
            quality[first]["nearest_cosine"] = summary
        for name, matrix in matrices.items():
            matrix[place[first]][place[second]] = summary[name]
    return {"reads": list(dictionary.reads), **matrices}


def null_of(n_latents: int, width: int, dictionary: Dictionary) -> Tensor:
    generator = torch.Generator().manual_seed(NULL_SEED)
    return null_cosines(n_latents, width, generator, NULL_DIRECTIONS, either_sign=dictionary.poles != (POSITIVE,))


def nearest_tensors(nearest: Mapping[tuple[str, str], Nearest]) -> dict[str, Tensor]:
    """What is kept by latent: the nearest other at the same hookpoint."""
    kept: dict[str, Tensor] = {}
    for (first, second), found in nearest.items():
        if first == second:
            kept |= {f"{first}/cosine": found.cosine, f"{first}/latent": found.latent.int()}
    return kept


def add_splice(
    quality: dict[str, dict[str, Any]], facts: dict[str, Any], subject: Subject, context: StageContext
) -> None:
    """The passes of one hookpoint go to its quality, those of all together and a CLT's own to the whole."""
    found = splice_facts(context)
    for read, write in zip(subject.dictionary.reads, subject.dictionary.writes, strict=True):
        if write in found:
            quality[read]["splice"] = found[write]
    for name in (TOGETHER, CLT_PASSES):
        if name in found:
            facts["splice_together" if name == TOGETHER else name] = found[name]


def evaluation_facts(config: EvaluateDictionaryConfig, subject: Subject, n_images: int) -> dict[str, Any]:
    return {
        "dictionary": subject.dictionary.digest,
        "image_set": config.image_set,
        "kind": subject.dictionary.kind,
        "reads": list(subject.dictionary.reads),
        "writes": list(subject.dictionary.writes),
        "n_images": n_images,
        "n_images_spliced": min(config.splice_images, n_images),
        "readout": config.readout,
        "embeddings": config.embeddings,
    }
