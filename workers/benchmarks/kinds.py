"""Each kind of dictionary on shapes world in one table: what it explains, what single latents know, what it costs.

All read the small ViT that ships with shapes world, at every block, with as many latents and the same k; JumpReLU and
ReLU are steered towards that k. Explained variance is of what a kind writes: the residual stream for an SAE, the output
of the MLP for a transcoder, its write for FF-KV; so kinds that write elsewhere are compared with care.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from workers.artifacts import Artifact
from workers.benchmarks.report import report, say
from workers.benchmarks.shapes_bench import Bench, recover_concepts
from workers.dictionaries.concept_recovery import ConceptScore
from workers.dictionaries.store import load_dictionary
from workers.stages.configs import (
    EvaluateDictionaryConfig,
    MakeControlConfig,
    ReadFeedForwardConfig,
    StageConfig,
    TrainDictionaryConfig,
)
from workers.vision_model import load_vision_model

TRAINED = ("topk_sae", "batch_topk_sae", "jumprelu_sae", "relu_sae", "transcoder", "cross_layer_transcoder")
TRANSCODERS = TRAINED[4:]
N_EVALUATED = 256
BATCH = 2048


class Made(NamedTuple):
    """A dictionary and the CPU seconds it took to make."""

    artifact: Artifact
    seconds: float


class Row(NamedTuple):
    """A kind, its quality by hookpoint and the best latent for each known value by hookpoint."""

    name: str
    made: Made
    quality: Mapping[str, Any]
    concepts: Mapping[str, Sequence[ConceptScore]]


def measure_kinds(bench: Bench, n_tokens: int, n_latents: int, k: int) -> bool:
    """Print the table; whether every trained kind knows more of the images than random directions."""
    every = make_all(bench, n_tokens, n_latents, k)
    model, reader = load_vision_model(bench.model), bench.test_images
    rows = []
    for name, made in every.items():
        config = EvaluateDictionaryConfig(
            made.artifact.digest,
            bench.test.artifact.digest,
            max_images=N_EVALUATED,
            splice_images=0,
            block_pairs="none",
        )
        quality = bench.run("evaluate-dictionary", config)[0].json("quality.json")
        dictionary = load_dictionary(made.artifact)
        own_model = model
        if dictionary.description.vision_model != model.digest:
            own_model = load_vision_model(bench.store.open(dictionary.description.vision_model))
        scores = recover_concepts(own_model, reader, {name: dictionary})
        rows.append(Row(name, made, quality, {place: found for (_, place), found in scores.items()}))
    print_rows(rows, n_tokens, n_latents, k, len(reader))
    return judge(rows)


def make_all(bench: Bench, n_tokens: int, n_latents: int, k: int) -> dict[str, Made]:
    """Every trained kind, FF-KV with all units and with k, and their controls."""
    images, model = bench.train.artifact.digest, bench.model.digest
    blocks = range(load_vision_model(bench.model).n_blocks)
    made: dict[str, Made] = {}
    for kind in TRAINED:
        place = "blocks.{}.mlp.in" if kind in TRANSCODERS else "blocks.{}"
        hookpoints = tuple(place.format(block) for block in blocks)
        config = TrainDictionaryConfig(
            images, model, hookpoints, name=kind, kind=kind, n_latents=n_latents, k=k, n_tokens=n_tokens,
            batch_tokens=BATCH, learning_rate=2e-3,
        )  # fmt: skip
        made[kind] = timed(bench, "train-dictionary", config)
    units = bench.run("read-feed-forward", ReadFeedForwardConfig(model, images, k=(0, k)))
    made |= {"ff_kv": Made(units[0], 0.0), f"topk_ff_kv, k = {k}": Made(units[1], 0.0)}
    for target, kind in (
        ("topk_sae", "random_directions"),
        ("topk_sae", "residual_basis"),
        ("topk_sae", "untrained_dictionary"),
        ("transcoder", "random_directions"),
        ("ff_kv", "random_directions"),
        ("ff_kv", "random_transformer"),
    ):
        asked = MakeControlConfig(made[target].artifact.digest, images, kind=kind, n_tokens=16_384)
        made[f"{kind} for {target}"] = timed(bench, "make-control", asked)
    return made


def timed(bench: Bench, stage: str, config: StageConfig) -> Made:
    """The last artefact of a run; before the dictionary there may be its model."""
    started = time.process_time()
    artifact = bench.run(stage, config)[-1]
    return Made(artifact, time.process_time() - started)


def mean_of(row: Row, value: Callable[[Mapping[str, Any]], float]) -> float:
    """Over the hookpoints."""
    return sum(value(figures) for figures in row.quality.values()) / len(row.quality)


def best_auroc(row: Row) -> tuple[str, float]:
    """The block whose latents know most, and the mean over all known values of its best latents' AUROC."""
    means = {place: sum(one.auroc for one in found) / len(found) for place, found in row.concepts.items()}
    place = max(means, key=lambda name: means[name])
    return place, means[place]


def print_rows(rows: Sequence[Row], n_tokens: int, n_latents: int, k: int, n_images: int) -> None:
    say(
        f"\nEvery kind on shapes world: {n_latents} latents at each block, k = {k}, {n_tokens:,} tokens each. Explained"
    )
    say(
        f"variance, L0, dead latents: mean over blocks, {N_EVALUATED} test images. AUROC of the best feature, chosen on"
    )
    say(f"one half of {n_images:,} test images and measured on the other: mean over known values, best block.\n")
    say("| kind | explained variance | L0 | dead | AUROC | at | CPU s |")
    say("|---|---|---|---|---|---|---|")
    for row in rows:
        place, auroc = best_auroc(row)
        explained = mean_of(row, lambda figures: figures["explained_variance"]["all"])
        l0 = mean_of(row, lambda figures: figures["l0"])
        dead = mean_of(row, lambda figures: figures["n_dead"] / figures["n_latents"])
        name = row.name.replace("_", " ")
        say(f"| {name} | {explained:.3f} | {l0:.1f} | {dead:.3f} | {auroc:.3f} | {place} | {row.made.seconds:.0f} |")
    say("")


def judge(rows: Sequence[Row]) -> bool:
    """Each trained kind against the random directions of the place it reads."""
    by_name = {row.name: best_auroc(row)[1] for row in rows}
    met = True
    for kind in TRAINED:
        control = by_name[f"random_directions for {'transcoder' if kind in TRANSCODERS else 'topk_sae'}"]
        is_met = by_name[kind] > control
        met = met and is_met
        name = f"mean AUROC at the best block, {kind.replace('_', ' ')} against random directions"
        report(is_met=is_met, name=name, figure=f"{by_name[kind]:.3f}", target=f"> {control:.3f}")
    return met
