"""./run bench dictionaries: what training costs, what it finds of a known truth, and what it makes of shapes world.

    step         the training step of a sparse coder, beside plain autograd and, with --peers, beside public libraries
    cross-layer  the training step of a cross-layer transcoder over dense decoding
    planted      recovery of a planted dictionary by every trained kind, against sparsity, width and noise
    shapes       TopK coders at every block of the small ViT, beside random directions and the residual basis
    kinds        every kind of dictionary in one table
    formats      dictionaries of public libraries, read and written
    gpu          training a TopK SAE of ViT-B/16 on a GPU, where there is one

Without --part all of them are measured, of planted the first case only.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from workers.benchmarks.cross_layer_step import measure_cross_layer
from workers.benchmarks.formats import measure_formats
from workers.benchmarks.kinds import measure_kinds
from workers.benchmarks.planted import CASES, measure_planted
from workers.benchmarks.report import report, say
from workers.benchmarks.shapes_bench import Bench, recover_concepts, shapes_bench
from workers.benchmarks.training_on_gpu import measure_training_on_gpu
from workers.benchmarks.training_step import measure_steps
from workers.dictionaries.concept_recovery import ConceptScore, mean_by_attribute
from workers.dictionaries.store import load_dictionary
from workers.stages.configs import EvaluateDictionaryConfig, MakeControlConfig, TrainDictionaryConfig
from workers.vision_model import load_vision_model

CONTROLS = ("random_directions", "residual_basis")
QUICK_STEPS, QUICK_TOKENS = 300, 100_000


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=(*PARTS, "all"), default="all")
    parser.add_argument("--steps", type=int, default=20, help="of each training step that is timed")
    parser.add_argument("--planted-steps", type=int, default=2000, help="of each training on planted tokens")
    parser.add_argument("--tokens", type=int, default=2_000_000, help="a training on shapes world sees")
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1, help="where no single thread is prescribed")
    parser.add_argument("--peers", action="store_true", help="make and use the environment of the public libraries")
    parser.add_argument("--quick", action="store_true", help="less of everything: figures are rough")
    options = parser.parse_args(argv)
    met = []
    for name in [options.part] if options.part != "all" else PARTS:
        torch.set_num_threads(options.threads if name in ON_THREADS else 1)
        met.append(PARTS[name](options))
    return 0 if all(met) else 1


def part_step(options: argparse.Namespace) -> bool:
    return measure_steps(options.steps, with_peers=options.peers, is_quick=options.quick)


def part_cross_layer(options: argparse.Namespace) -> bool:
    return measure_cross_layer(max(3, options.steps // 4))


def part_planted(options: argparse.Namespace) -> bool:
    cases = CASES if options.part == "planted" and not options.quick else CASES[:1]
    return measure_planted(QUICK_STEPS if options.quick else options.planted_steps, cases)


def part_shapes(options: argparse.Namespace) -> bool:
    with shapes_bench(options.threads) as bench:
        return measure_shapes(bench, tokens_of(options, 1.0), options.latents, options.k)


def part_kinds(options: argparse.Namespace) -> bool:
    with shapes_bench(options.threads) as bench:
        return measure_kinds(bench, tokens_of(options, 0.2), options.latents // 2, options.k)


def part_gpu(options: argparse.Namespace) -> bool:
    return measure_training_on_gpu()


def part_formats(options: argparse.Namespace) -> bool:
    return measure_formats(options.peers)


def tokens_of(options: argparse.Namespace, share: float) -> int:
    return QUICK_TOKENS if options.quick else round(share * options.tokens)


PARTS: dict[str, Callable[[argparse.Namespace], bool]] = {
    "step": part_step,
    "cross-layer": part_cross_layer,
    "planted": part_planted,
    "shapes": part_shapes,
    "kinds": part_kinds,
    "formats": part_formats,
    "gpu": part_gpu,
}
ON_THREADS = ("shapes", "kinds")


def measure_shapes(bench: Bench, n_tokens: int, n_latents: int, k: int) -> bool:
    """Train, compare with controls, print both tables; whether the coders beat the controls."""
    model = load_vision_model(bench.model)
    hookpoints = tuple(f"blocks.{block}" for block in range(model.n_blocks))
    config = TrainDictionaryConfig(
        bench.train.artifact.digest, bench.model.digest, hookpoints, n_latents=n_latents, k=k, n_tokens=n_tokens
    )
    [trained] = bench.run("train-dictionary", config)
    asked = EvaluateDictionaryConfig(
        trained.digest, bench.test.artifact.digest, max_images=1000, splice_images=0, block_pairs="none"
    )
    [quality] = bench.run("evaluate-dictionary", asked)
    print_quality(quality.json("quality.json"), n_tokens, n_latents, k)
    dictionaries = {"topk_sae": load_dictionary(trained)}
    for kind in CONTROLS:
        [made] = bench.run("make-control", MakeControlConfig(trained.digest, bench.train.artifact.digest, kind=kind))
        dictionaries[kind] = load_dictionary(made)
    scores = recover_concepts(model, bench.test_images, dictionaries)
    print_concepts(scores, hookpoints)
    return judge(scores, hookpoints)


def print_quality(quality: Mapping[str, Any], n_tokens: int, n_latents: int, k: int) -> None:
    say(f"\nTopK coders on shapes world, {n_latents} latents, k = {k}, {n_tokens:,} tokens; 1,000 test images\n")
    say("| block | explained variance | CLS | patches | normalized | L0 | dead | dense |")
    say("|---|---|---|---|---|---|---|---|")
    for hookpoint, figures in quality.items():
        explained = figures["explained_variance"]
        normalized = figures["explained_variance_normalized"]["all"]
        say(
            f"| {hookpoint} | {explained['all']:.3f} | {explained['cls']:.3f} | {explained['patches']:.3f} "
            f"| {normalized:.3f} | {figures['l0']:.1f} | {figures['n_dead']} | {figures['n_dense']} |"
        )


def print_concepts(scores: Mapping[tuple[str, str], Sequence[ConceptScore]], hookpoints: Sequence[str]) -> None:
    say("\nAUROC of the best single latent, chosen on one half of the test images and measured on the other;")
    say("mean over the values of the attribute: TopK coder / random directions / residual basis\n")
    table = {place: mean_by_attribute(found) for place, found in scores.items()}
    names = list(next(iter(table.values())))
    say("| attribute | " + " | ".join(hookpoints) + " |")
    say("|---|" + "---|" * len(hookpoints))
    for name in names:
        cells = [" / ".join(f"{table[kind, h][name]:.2f}" for kind in ("topk_sae", *CONTROLS)) for h in hookpoints]
        say(f"| {name} | " + " | ".join(cells) + " |")
    say("")


def judge(scores: Mapping[tuple[str, str], Sequence[ConceptScore]], hookpoints: Sequence[str]) -> bool:
    """The mean over all attribute values, the best block of each kind."""
    best = {}
    for kind in ("topk_sae", *CONTROLS):
        means = [[score.auroc for score in scores[kind, hookpoint]] for hookpoint in hookpoints]
        best[kind] = max(sum(values) / len(values) for values in means)
    met = True
    for kind in CONTROLS:
        is_met = best["topk_sae"] > best[kind]
        met = met and is_met
        name = f"mean AUROC at the best block, TopK coder against {kind.replace('_', ' ')}"
        report(is_met=is_met, name=name, figure=f"{best['topk_sae']:.3f}", target=f"> {best[kind]:.3f}")
    return met


if __name__ == "__main__":
    raise SystemExit(main())
