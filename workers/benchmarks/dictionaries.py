"""./run bench dictionaries: the training step, and what TopK coders make of shapes world.

On shapes world, with the small ViT that ships with it: explained variance and L0 by block on test images, and for each
known attribute the AUROC of the best single latent, beside random directions and the residual basis.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from workers.activations import image_activations
from workers.artifacts import Artifact, ArtifactStore
from workers.benchmarks.report import report, say
from workers.benchmarks.training_step import measure_steps
from workers.dictionaries.concept_recovery import ConceptScore, ImageScores, attribute_auroc, mean_by_attribute
from workers.dictionaries.store import Dictionary, load_dictionary
from workers.image_scan import scan_folder
from workers.images import ImageSetReader, write_image_set
from workers.stages.configs import EvaluateDictionaryConfig, MakeControlConfig, StageConfig, TrainDictionaryConfig
from workers.stages.local import ProgressBar, run_locally
from workers.synthetic import shapes_world
from workers.vision_model import ModelRequest, VisionModel, load_vision_model, register_vision_model

WEIGHTS = Path(shapes_world.__file__).parent / "weights" / "shapes_vit.safetensors"
CONTROLS = ("random_directions", "residual_basis")
NOT_CONCEPTS = ("split", "background_agrees")


class Images(NamedTuple):
    """An image set and the folder of its files."""

    artifact: Artifact
    root: Path


class Bench(NamedTuple):
    """What the measurements share."""

    store: ArtifactStore
    train: Images
    test: Images
    model: Artifact
    n_threads: int

    def run(self, stage: str, config: StageConfig) -> Artifact:
        roots = {images.artifact.digest: images.root for images in (self.train, self.test)}
        bar = ProgressBar(stage)
        return self.store.open(run_locally(stage, config, self.store, roots, reporter=bar, n_threads=self.n_threads)[0])


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("step", "shapes", "all"), default="all")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=2_000_000)
    parser.add_argument("--latents", type=int, default=1024)
    parser.add_argument("--k", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    is_met = True
    if options.part != "step":
        with TemporaryDirectory() as folder:
            is_met = measure_shapes(prepare(Path(folder), options.threads), options.tokens, options.latents, options.k)
    if options.part != "shapes":
        torch.set_num_threads(1)
        is_met = measure_steps(options.steps) and is_met
    return 0 if is_met else 1


def prepare(folder: Path, n_threads: int) -> Bench:
    store = ArtifactStore(folder / "artifacts")
    train = write_images(store, folder / "train", n_train=4000, n_test=0)
    test = write_images(store, folder / "test", n_train=0, n_test=1000)
    model = register_vision_model(store, ModelRequest(source="checkpoint", checkpoint=WEIGHTS))
    return Bench(store, train, test, model, n_threads)


def write_images(store: ArtifactStore, root: Path, *, n_train: int, n_test: int) -> Images:
    metadata = shapes_world.write_folder(root, n_train=n_train, n_test=n_test)
    scan = scan_folder(root, metadata=metadata)
    return Images(write_image_set(store, scan, name=root.name, licence="CC0", visibility="public"), root)


def measure_shapes(bench: Bench, n_tokens: int, n_latents: int, k: int) -> bool:
    """Train, compare with controls, print both tables; whether the coders beat the controls."""
    model = load_vision_model(bench.model)
    hookpoints = tuple(f"blocks.{block}" for block in range(model.n_blocks))
    config = TrainDictionaryConfig(
        bench.train.artifact.digest, bench.model.digest, hookpoints, n_latents=n_latents, k=k, n_tokens=n_tokens
    )
    trained = bench.run("train-dictionary", config)
    quality = bench.run("evaluate-dictionary", EvaluateDictionaryConfig(trained.digest, bench.test.artifact.digest))
    print_quality(quality.json("quality.json"), n_tokens, n_latents, k)
    dictionaries = {"topk_sae": load_dictionary(trained)}
    for kind in CONTROLS:
        made = bench.run("make-control", MakeControlConfig(trained.digest, bench.train.artifact.digest, kind=kind))
        dictionaries[kind] = load_dictionary(made)
    scores = recover_concepts(model, ImageSetReader(bench.test.artifact, bench.test.root), dictionaries)
    print_concepts(scores, hookpoints)
    return judge(scores, hookpoints)


@torch.no_grad()
def recover_concepts(
    model: VisionModel, reader: ImageSetReader, dictionaries: Mapping[str, Dictionary]
) -> dict[tuple[str, str], list[ConceptScore]]:
    """The best latents of each kind at each hookpoint."""
    places = [(kind, hookpoint) for kind, dictionary in dictionaries.items() for hookpoint in dictionary.reads]
    gathered = {place: ImageScores(len(reader), dictionaries[place[0]].n_latents(place[1])) for place in places}
    hookpoints = list(dict.fromkeys(hookpoint for _, hookpoint in places))
    for part in image_activations(model, reader, hookpoints, range(len(reader))):
        for (kind, hookpoint), scores in gathered.items():
            codes = dictionaries[kind].encode(hookpoint, part.activations[hookpoint].flatten(0, 1))
            scores.update(codes, len(part.indices))
    attributes = [known_attributes(reader, index) for index in range(len(reader))]
    return {place: attribute_auroc(scores.maxima, attributes) for place, scores in gathered.items()}


def known_attributes(reader: ImageSetReader, index: int) -> dict[str, Any]:
    attributes = {name: value for name, value in reader.attributes(index).items() if name not in NOT_CONCEPTS}
    return {"shape": reader.labels[index]} | attributes


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
