"""Trainings as runs and by command: what they cost beforehand, and how their failures read on the page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.core.management import CommandError

from annotation.domain.runs import create_run, run_folder
from annotation.models import Dictionary, ImageSet, Run, VisionModel
from tests.workers.test_recording import TINY_VIT, command, image_set, roots
from workers import tasks
from workers.stages import probe
from workers.stages.configs import ConfigError

__all__ = ["image_set", "roots"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def settings_of_training(image_set: ImageSet, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    monkeypatch.setattr(probe, "READING_SECONDS", 0.1)
    monkeypatch.setattr(probe, "STEPPING_SECONDS", 0.1)
    command("register_model", "tiny", "vit_tiny_patch16_224", "--timm", TINY_VIT)
    return {
        "image_set": "pets", "vision_model": "tiny", "hookpoints": "[blocks.0, blocks.1]", "n_latents": 32, "k": 4,
        "n_tokens": 2000, "batch_tokens": 64, "variants": "[kind=jumprelu_sae name=jump]",
    }  # fmt: skip


def run_stage(settings: dict[str, object], *more: str) -> str:
    sets = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    return command("run_stage", "train-dictionary", *more, *sets)


def test_a_dry_run_says_what_it_measured_and_starts_nothing(
    settings_of_training: dict[str, object], artifact_root: Path
) -> None:
    before = sorted(artifact_root.rglob("*"))
    time, memory, disk = run_stage(settings_of_training, "--dry-run").splitlines()
    assert re.fullmatch(
        r"time: About \d+ (s|min) for 2,000 tokens at [\d,]+ per second, \d+% of it reading images; measured over "
        r"[\d,]+ images and \d+ steps on this machine\.",
        time,
    )
    assert re.fullmatch(r"memory: About .* held (by this process|on the GPU)\.", memory)
    assert re.fullmatch(r"disk: About \d+ kB while it runs; \d+ kB stay\.", disk)
    assert not Run.objects.exists()
    assert sorted(artifact_root.rglob("*")) == before


def test_a_dry_run_refuses_what_the_run_would_refuse(settings_of_training: dict[str, object]) -> None:
    with pytest.raises(CommandError, match=r"There is no 'blocks\.7': the model has 2 blocks"):
        run_stage(settings_of_training | {"hookpoints": "[blocks.7]"}, "--dry-run")
    with pytest.raises(CommandError, match="k is 64; it must lie between 1 and n_latents"):
        run_stage(settings_of_training | {"k": 64}, "--dry-run")


def test_a_run_of_several_dictionaries_gives_each_its_row(settings_of_training: dict[str, object]) -> None:
    run_stage(settings_of_training)
    assert list(Dictionary.objects.order_by("id").values_list("name", "kind")) == [
        ("topk-sae", "topk_sae"),
        ("jump", "jumprelu_sae"),
    ]


def test_a_hookpoint_the_model_lacks_fails_the_run_with_that_sentence_and_harms_no_other(
    settings_of_training: dict[str, object],
) -> None:
    config = {
        "image_set": ImageSet.objects.get().digest, "vision_model": VisionModel.objects.get().digest, "n_latents": 32,
        "k": 4, "n_tokens": 500, "batch_tokens": 64,
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"has the blocks 0 to 1; there is no blocks\.7\."):
        create_run(stage="train-dictionary", config=config | {"hookpoints": ["blocks.7"]}, user=None)
    wrong = create_run(stage="train-dictionary", config=config | {"hookpoints": ["blocks.1.gate"]}, user=None)
    right = create_run(stage="train-dictionary", config=config | {"hookpoints": ["blocks.1"]}, user=None)
    with pytest.raises(ValueError, match=r"'blocks\.1\.gate'"):
        tasks.execute_next(queue="gpu")
    while tasks.execute_next(queue="gpu"):
        continue
    wrong.refresh_from_db()
    right.refresh_from_db()
    assert wrong.state == Run.State.FAILED
    assert "'blocks.1.gate'" in wrong.error
    assert [path for path in run_folder(wrong).rglob("*") if path.is_file()] == []
    assert (right.state, right.error) == (Run.State.DONE, "")
