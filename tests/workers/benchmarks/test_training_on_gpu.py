"""The benchmark of training on a GPU at a small size: it trains, and its rows can say that nothing was measured."""

from __future__ import annotations

import pytest

from workers.benchmarks import training_on_gpu
from workers.benchmarks.exemplars_on_gpu import Load, loaded, tell
from workers.benchmarks.training_on_gpu import PARTS, make_training, measure_training, run_training
from workers.vision_model import ModelRequest

SMALL = ModelRequest(
    "vit_tiny_patch16_224",
    timm_kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3},
)
LOAD = Load(SMALL, expansion=2, k=4, n_images=32, n_files=4, batch_size=8, n_threads=2)


def test_the_load_runs_at_any_size_in_bfloat16() -> None:
    found = measure_training(LOAD, "cpu")
    assert found.images_per_second > 0
    assert list(found.shares) == list(PARTS)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) > 0


def test_every_batch_of_images_is_a_step_that_trains() -> None:
    with loaded(LOAD, "cpu") as (model, reader):
        training = make_training(model, LOAD)
        before = training.trainable.parameters()["W_enc"].detach().clone()
        run_training(LOAD, model, reader, training, n_images=24, is_waiting=True)
    assert (training.trainable.parameters()["W_enc"] != before).any()


def test_without_a_gpu_its_rows_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    tell(None, training_on_gpu.NAME, PARTS)
    verdicts = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["NOT MEASURED"] * 4
