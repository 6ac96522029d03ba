"""Accidents at random moments: kill -9 of the worker, a flush of the broker, a restart of the database.

Each round trains a dictionary or collects its exemplars with one accident in the middle. The run must complete with at
most one chunk computed again, and its files must be those of an undisturbed run, byte for byte.
`./run test tests/workers/test_faults.py --fault-rounds 20` does many rounds; the default suite does a few.
"""

from __future__ import annotations

import io
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from django.core.management import call_command
from django.db import connection
from django.db.models import F, Sum
from PIL import Image

from annotation.domain.recording import record_vision_model
from annotation.domain.runs import create_run
from annotation.models import Chunk, ImageSet, Run
from tests.servers import BrokerServer, TestDatabase, WorkerProcess, poll
from workers.artifacts import ArtifactStore
from workers.stages.configs import config_from_dict
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally
from workers.tasks import patiently
from workers.vision_model import ModelRequest, register_vision_model

pytestmark = pytest.mark.django_db(transaction=True)

SETTINGS = {"VITRINE_CHUNK_LEASE_SECONDS": "4", "VITRINE_POLL_SECONDS": "1", "VITRINE_CHUNK_SECONDS": "1"}
TINY_VIT = {"img_size": 32, "patch_size": 8, "depth": 2, "embed_dim": 64, "num_heads": 2, "num_classes": 3}
ROUND_SECONDS = 180


class Undisturbed(NamedTuple):
    """What each stage makes when nothing happens to it, with the config that asks for it."""

    stage: str
    config: dict[str, object]
    digests: list[str]


@pytest.fixture
def image_set(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ImageSet:
    monkeypatch.setattr("django.conf.settings.DATA_ROOT", tmp_path / "data")
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for number in range(160):
        pixels = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "pictures" / f"{number:03}.png")
    call_command("import_images", "noise", str(tmp_path / "pictures"), stdout=io.StringIO(), stderr=io.StringIO())
    return ImageSet.objects.get()


@pytest.fixture
def undisturbed(image_set: ImageSet, artifact_root: Path, tmp_path: Path) -> list[Undisturbed]:
    """Both stages once, in this process and in another store."""
    store = ArtifactStore(artifact_root)
    model = register_vision_model(store, ModelRequest("vit_tiny_patch16_224", timm_kwargs=TINY_VIT))
    record_vision_model(model, None, name="tiny")
    calm = ArtifactStore(tmp_path / "calm")
    shutil.copytree(artifact_root, calm.root)
    training = {
        "image_set": image_set.digest, "vision_model": model.digest, "hookpoints": ["blocks.0", "blocks.1"],
        "n_latents": 1024, "k": 8, "n_tokens": 150_000, "batch_tokens": 512,
    }  # fmt: skip
    trained = execute_calmly("train-dictionary", training, calm, tmp_path / "pictures")
    collecting = {"image_set": image_set.digest, "dictionaries": trained.digests, "images_per_chunk": 6}
    return [trained, execute_calmly("collect-exemplars", collecting, calm, tmp_path / "pictures")]


def execute_calmly(stage: str, config: dict[str, object], store: ArtifactStore, images: Path) -> Undisturbed:
    digests = run_locally(
        stage, config_from_dict(stage, config), store, lambda _: images, reporter=SilentReporter(), n_threads=1
    )
    return Undisturbed(stage, config, digests)


class World:
    """The worker and the servers, and what may befall them."""

    def __init__(
        self, start_worker: Callable[..., WorkerProcess], broker: BrokerServer, database: TestDatabase
    ) -> None:
        self.start_worker, self.broker, self.database = start_worker, broker, database
        self.worker = start_worker("gpu", **SETTINGS)

    def kill(self) -> None:
        self.worker.kill()
        self.worker = self.start_worker("gpu", **SETTINGS)

    def flush(self) -> None:
        self.broker.flush()

    def restart(self) -> None:
        self.database.restart()
        connection.close()


ACCIDENTS = ("kill", "kill", "flush", "restart")


def test_whatever_happens_each_run_completes_with_the_same_bytes(
    undisturbed: list[Undisturbed],
    start_worker: Callable[..., WorkerProcess],
    broker: BrokerServer,
    database_server: TestDatabase,
    artifact_root: Path,
    request: pytest.FixtureRequest,
) -> None:
    n_rounds = request.config.getoption("--fault-rounds")
    world = World(start_worker, broker, database_server)
    for number in range(n_rounds):
        rng = random.Random(number)
        accident = ACCIDENTS[number % len(ACCIDENTS)]
        expected = undisturbed[(number + number // len(ACCIDENTS)) % 2]
        run = one_round(world, expected, accident, rng, artifact_root)
        print(  # noqa: T201
            f"round {number + 1}: {accident} while {run.stage} was at {run.title}; "
            f"{n_repeated(run)} chunks computed again, files equal"
        )


def one_round(world: World, expected: Undisturbed, accident: str, rng: random.Random, root: Path) -> Run:
    forget_results(expected, root)
    run = create_run(stage=expected.stage, config=expected.config, user=None)
    n_chunks_before = wait_for_a_moment(run, rng)
    Run.objects.filter(pk=run.pk).update(title=f"chunk {n_chunks_before}")
    getattr(world, accident)()
    poll(
        lambda: patiently(lambda: Run.objects.get(pk=run.pk).is_over),
        f"the end of the run after {accident}; the worker said:\n{world.worker.log[-3000:]}",
        seconds=ROUND_SECONDS,
    )
    run.refresh_from_db()
    assert (run.state, run.error) == (Run.State.DONE, ""), accident
    assert run.artifacts == expected.digests, accident
    for digest in run.artifacts:
        ArtifactStore(root).open(digest).verify()
    assert n_repeated(run) <= 1, accident
    return run


def forget_results(expected: Undisturbed, root: Path) -> None:
    """So that the same request has to be computed again; dictionaries stay while exemplars of them are collected."""
    shutil.rmtree(root / "requests", ignore_errors=True)
    shutil.rmtree(root / ("dictionary" if expected.stage == "train-dictionary" else "exemplars"), ignore_errors=True)


def wait_for_a_moment(run: Run, rng: random.Random) -> int:
    """Some time in the middle: after a random number of chunks, and then a random fraction of a second."""
    poll(lambda: run.chunks.count() > 1, "the plan", seconds=ROUND_SECONDS)
    n_work = run.chunks.filter(kind=Chunk.Kind.WORK).count()
    assert n_work >= 4
    wanted = rng.randrange(n_work)

    def n_done() -> int:
        return run.chunks.filter(kind=Chunk.Kind.WORK, state=Chunk.State.DONE).count()

    poll(lambda: n_done() >= wanted, f"chunk {wanted} of {run.stage}", seconds=ROUND_SECONDS)
    moment = time.monotonic() + 0.7 * rng.random()
    poll(lambda: time.monotonic() > moment, "a moment")
    return n_done()


def n_repeated(run: Run) -> int:
    """How many chunks were begun more than once."""
    return run.chunks.filter(attempt__gt=1).aggregate(n=Sum(F("attempt") - 1))["n"] or 0
