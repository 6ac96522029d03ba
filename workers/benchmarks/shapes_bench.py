"""Shapes world and the small ViT that ships with it, as the dictionary benchmarks share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch

from workers.activations import image_activations
from workers.artifacts import Artifact, ArtifactStore
from workers.dictionaries.concept_recovery import ConceptScore, ImageScores, attribute_auroc
from workers.dictionaries.store import Dictionary, pole_codes
from workers.image_scan import scan_folder
from workers.images import ImageSetReader, write_image_set
from workers.stages.configs import StageConfig
from workers.stages.local import ProgressBar, run_locally
from workers.synthetic import shapes_world
from workers.vision_model import ModelRequest, VisionModel, register_vision_model

WEIGHTS = Path(shapes_world.__file__).parent / "weights" / "shapes_vit.safetensors"
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

    def run(self, stage: str, config: StageConfig) -> list[Artifact]:
        roots = {images.artifact.digest: images.root for images in (self.train, self.test)}
        bar = ProgressBar(stage)
        digests = run_locally(stage, config, self.store, roots, reporter=bar, n_threads=self.n_threads)
        return [self.store.open(digest) for digest in digests]

    @property
    def test_images(self) -> ImageSetReader:
        return ImageSetReader(self.test.artifact, self.test.root)


@contextmanager
def shapes_bench(n_threads: int, *, n_train: int = 4000, n_test: int = 1000) -> Iterator[Bench]:
    """Images drawn and the model registered in a folder that goes away afterwards."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        store = ArtifactStore(folder / "artifacts")
        train = write_images(store, folder / "train", n_train=n_train, n_test=0)
        test = write_images(store, folder / "test", n_train=0, n_test=n_test)
        model = register_vision_model(store, ModelRequest(source="checkpoint", checkpoint=WEIGHTS))
        yield Bench(store, train, test, model, n_threads)


def write_images(store: ArtifactStore, root: Path, *, n_train: int, n_test: int) -> Images:
    metadata = shapes_world.write_folder(root, n_train=n_train, n_test=n_test)
    scan = scan_folder(root, metadata=metadata)
    return Images(write_image_set(store, scan, name=root.name, licence="CC0", visibility="public"), root)


@torch.no_grad()
def recover_concepts(
    model: VisionModel, reader: ImageSetReader, dictionaries: Mapping[str, Dictionary]
) -> dict[tuple[str, str], list[ConceptScore]]:
    """The best features of each dictionary at each hookpoint; both poles of a signed one stand side by side."""
    places = [(name, hookpoint) for name, dictionary in dictionaries.items() for hookpoint in dictionary.reads]
    gathered = {
        (name, hookpoint, pole): ImageScores(len(reader), dictionaries[name].n_latents(hookpoint))
        for name, hookpoint in places
        for pole in dictionaries[name].poles
    }
    hookpoints = list(dict.fromkeys(hookpoint for _, hookpoint in places))
    for part in image_activations(model, reader, hookpoints, range(len(reader))):
        for name, hookpoint in places:
            codes = dictionaries[name].encode(hookpoint, part.activations[hookpoint].flatten(0, 1))
            for pole in dictionaries[name].poles:
                gathered[name, hookpoint, pole].update(pole_codes(codes, pole), len(part.indices))
    attributes = [known_attributes(reader, index) for index in range(len(reader))]
    scores = {}
    for name, hookpoint in places:
        maxima = [gathered[name, hookpoint, pole].maxima for pole in dictionaries[name].poles]
        scores[name, hookpoint] = attribute_auroc(torch.cat(maxima, dim=1), attributes)
    return scores


def known_attributes(reader: ImageSetReader, index: int) -> dict[str, Any]:
    attributes = {name: value for name, value in reader.attributes(index).items() if name not in NOT_CONCEPTS}
    return {"shape": reader.labels[index]} | attributes
