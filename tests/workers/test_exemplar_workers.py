"""Exemplars by real workers on the real database: two of them equal to one process, and an image that goes bad."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from django.core.management import call_command
from django.db import transaction
from django.db.models import QuerySet
from PIL import Image

from annotation.domain.recording import record_dictionary, record_vision_model
from annotation.domain.runs import create_run, retry_run
from annotation.models import Chunk, ImageSet, Run
from tests.servers import WorkerProcess, poll
from workers.artifacts import ArtifactStore
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder, initialize_coder
from workers.dictionaries.store import DictionaryDescription, write_coders
from workers.stages.configs import config_from_dict
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally
from workers.tasks import execute_next
from workers.vision_model import ModelRequest, register_vision_model

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = {"VITRINE_POLL_SECONDS": "1", "VITRINE_TORCH_THREADS": "1"}
TINY_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 64, "num_heads": 2, "num_classes": 3}
HOOKPOINTS = ("blocks.0", "blocks.1")
N_IMAGES, N_PER_CHUNK = 384, 32
SECONDS = 120


class Asked(NamedTuple):
    """Exemplars to collect, those that one process collected, and where the images are."""

    config: dict[str, object]
    digests: list[str]
    pictures: Path


@pytest.fixture
def asked(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    for number in range(N_IMAGES):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(pictures / f"{number:03}.png")
    call_command("import_images", "tiles", str(pictures), stdout=io.StringIO(), stderr=io.StringIO())
    image_set, store = ImageSet.objects.get(), ArtifactStore(artifact_root)
    model = register_vision_model(store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=TINY_VIT))
    record_vision_model(model, None, name="tiny")
    dictionary = write_random_dictionary(store, model.digest, image_set.digest)
    config: dict[str, object] = {
        "image_set": image_set.digest,
        "dictionaries": [dictionary],
        "images_per_chunk": N_PER_CHUNK,
    }
    calm = ArtifactStore(tmp_path / "calm")
    shutil.copytree(artifact_root, calm.root)
    digests = run_locally(
        "collect-exemplars", config_from_dict("collect-exemplars", config), calm, lambda _: pictures,
        reporter=SilentReporter(), n_threads=1,
    )  # fmt: skip
    return Asked(config, digests, pictures)


def write_random_dictionary(store: ArtifactStore, model: str, image_set: str) -> str:
    coders = {hookpoint: SparseCoder(CoderShape(d_model=64, n_latents=512, k=8)) for hookpoint in HOOKPOINTS}
    for seed, coder in enumerate(coders.values()):
        initialize_coder(coder, torch.Generator().manual_seed(seed))
    description = DictionaryDescription("topk_sae", "random", HOOKPOINTS, HOOKPOINTS, model, image_set)
    with store.write("dictionary", config={"n_latents": 512}, parents=[image_set, model]) as writer:
        write_coders(writer, description, coders)
    record_dictionary(store.open(writer.digest), None)
    return writer.digest


def chunks_of(run: Run) -> QuerySet[Chunk]:
    return run.chunks.filter(kind=Chunk.Kind.WORK)


def wait_until_over(run: Run) -> None:
    poll(lambda: Run.objects.get(pk=run.pk).is_over, "the end of the run", seconds=SECONDS)
    run.refresh_from_db()


def hold_until_each_has_a_chunk(run: Run, start_worker: Callable[..., WorkerProcess], n_workers: int) -> None:
    """No chunk completes without the run's row: while we hold it, no worker can take more than one."""
    execute_next(queue="gpu", run=run)
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        for _ in range(n_workers):
            start_worker("gpu", **SETTINGS)
        owners = chunks_of(run).exclude(owner="").values_list("owner", flat=True).distinct()
        poll(lambda: owners.count() == n_workers, "a chunk in the hand of each worker", seconds=SECONDS)


def test_two_workers_on_their_shards_make_what_one_makes(
    asked: Asked, start_worker: Callable[..., WorkerProcess], artifact_root: Path
) -> None:
    run = create_run(stage="collect-exemplars", config={**asked.config, "n_top": 24}, user=None)
    hold_until_each_has_a_chunk(run, start_worker, 2)
    wait_until_over(run)
    assert (run.state, run.error) == (Run.State.DONE, "")
    assert chunks_of(run).count() == N_IMAGES // N_PER_CHUNK
    assert len(set(chunks_of(run).values_list("owner", flat=True))) == 2
    assert run.artifacts == asked.digests
    for digest in run.artifacts:
        ArtifactStore(artifact_root).open(digest).verify()


def test_an_image_that_went_bad_fails_the_run_by_name_and_the_next_is_unharmed(
    asked: Asked, start_worker: Callable[..., WorkerProcess], artifact_root: Path
) -> None:
    path = asked.pictures / "200.png"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    start_worker("gpu", **SETTINGS)
    run = create_run(stage="collect-exemplars", config=asked.config, user=None)
    wait_until_over(run)
    assert run.state == Run.State.FAILED
    assert "'200.png'" in run.error
    assert "is not the one that was imported; put it back" in run.error
    assert not (artifact_root / "exemplars").exists()
    assert list((artifact_root / "unfinished").glob("*")) == []
    path.write_bytes(content)
    retry_run(run=run)
    wait_until_over(run)
    assert (run.state, run.artifacts) == (Run.State.DONE, asked.digests)
