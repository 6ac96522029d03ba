"""The form of a training beside a preset: what was changed in it wins, what it only showed is the preset's."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import ImageSet, Role, Run, User, VisionModel
from workers.artifacts import ArtifactStore
from workers.stages.configs.presets import HALVES

pytestmark = pytest.mark.django_db

NEW = "?stage=train-dictionary"
USUAL = {"n_tokens": 8_000_000, "batch_tokens": 4096, "learning_rate": 1e-3, "clip_norm": 0.0}


@pytest.fixture
def sent(client: Client, artifact_root: Path) -> dict[str, object]:
    """What the form of a training sends of its own accord."""
    client.force_login(User.objects.create_user("rhea", role=Role.RESEARCHER))
    images, model = artifact(artifact_root, "image-set"), artifact(artifact_root, "vision-model")
    ImageSet.objects.create(name="pets", digest=images, n_images=100)
    VisionModel.objects.create(
        name="small", digest=model, architecture="vit_tiny_patch16_224", source="untrained", n_blocks=12, d_model=768,
        n_prefix_tokens=1, grid_height=14, grid_width=14, preprocessing=HALVES,
    )  # fmt: skip
    settings = {"hookpoints": ["blocks.0", "blocks.7"], "kind": "topk_sae", "n_latents": 1024, "k": 16, "seed": 0}
    return {"image_set": images, "vision_model": model, "precision": "float32"} | settings | USUAL


def artifact(root: Path, kind: str) -> str:
    with ArtifactStore(root).write(kind, config={"name": kind}) as writer:
        writer.write_json("about.json", kind)
    return writer.digest


def made(client: Client, query: str, values: dict[str, object]) -> Run:
    response = client.post(reverse("run-new") + query, values)
    run = Run.objects.latest("pk")
    assert response.headers["Location"] == reverse("run", args=[run.pk])
    return run


def budget(run: Run) -> tuple[int, int, float, float]:
    config = run.config
    return config["n_tokens"], config["batch_tokens"], config["learning_rate"], config["clip_norm"]


def test_a_preset_sets_what_was_left_as_the_form_showed_it(client: Client, sent: dict[str, object]) -> None:
    assert budget(made(client, NEW, sent | {"preset": "paper"})) == (50_000_000, 4096, 5e-4, 1.0)
    changed = sent | {"preset": "paper", "n_tokens": 5000, "learning_rate": 4e-3}
    assert budget(made(client, NEW, changed)) == (5000, 4096, 4e-3, 1.0)
    schedule = made(client, NEW, sent | {"preset": "rrm-vit-b16"}).config
    assert (schedule["k_each"], schedule["n_latents_each"]) == ([4, 160], [192, 3072])
    schedule = made(client, NEW, sent | {"preset": "rrm-vit-b16", "k": 8}).config
    assert (schedule["k"], schedule["k_each"], schedule["n_latents_each"]) == (8, [], [192, 3072])


def test_in_a_clone_the_settled_values_count_as_given(client: Client, sent: dict[str, object]) -> None:
    origin = made(client, NEW, sent | {"preset": "quick", "n_tokens": 5000})
    assert budget(origin) == (5000, 2048, 2e-3, 0.0)
    clone, shown = f"?clone={origin.pk}", sent | {name: origin.config[name] for name in USUAL}
    slower = made(client, clone, shown | {"preset": "quick", "learning_rate": 1e-3})
    assert budget(slower) == (5000, 2048, 1e-3, 0.0)
    longer = made(client, clone, shown | {"preset": "deep", "n_tokens": 6000})
    assert budget(longer) == (6000, 8192, 2e-4, 1.0)
