"""The benchmark of exemplars at a small size: what needs a GPU runs, and each row can fail."""

from __future__ import annotations

import pytest

from workers.benchmarks.exemplar_checks import judge_growth
from workers.benchmarks.exemplars import Seconds, judge, make_bench, noise_images, registered, run_batches
from workers.benchmarks.exemplars_on_gpu import PARTS, Load, Throughput, measure_load, tell
from workers.vision_model import ModelRequest

SMALL = ModelRequest(
    "vit_tiny_patch16_224",
    timm_kwargs={"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "num_classes": 3},
)


def test_the_load_of_a_gpu_runs_at_any_size_in_bfloat16() -> None:
    load = Load(SMALL, expansion=2, k=4, n_images=32, n_files=4, batch_size=8, n_threads=2)
    found = measure_load(load, "cpu")
    assert found.images_per_second > 0
    assert list(found.shares) == list(PARTS)
    assert sum(found.shares.values()) == pytest.approx(1)
    assert min(found.shares.values()) > 0


def test_without_a_gpu_its_rows_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    tell(None)
    tell(Throughput(1234.5, dict.fromkeys(PARTS, 0.25)))
    verdicts = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert verdicts == ["NOT MEASURED"] * 5 + ["PASS"] * 5


def test_every_batch_is_timed_and_every_image_taken_in() -> None:
    bench = make_bench(registered(SMALL), [(32, 4), (16, 2)])
    timings = run_batches(bench, noise_images(bench.model, 40))
    assert len(timings) == 2
    assert all(min(part) > 0 for part in timings)
    assert [a.n_images for accumulators in bench.accumulators for a in accumulators.values()] == [40] * 4
    assert all(not a.waiting for accumulators in bench.accumulators for a in accumulators.values())


def test_a_ratio_above_the_floor_falls_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge("fast", [Seconds(1.0, 1.0, 0.2)])
    assert not judge("slow", [Seconds(1.0, 1.0, 0.2), Seconds(1.0, 1.0, 0.5)])
    lines = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == ["PASS", "FALL"]
    assert "1.175" in lines[1]


def test_memory_that_grows_falls_short(capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_growth(600.0, 629.0, 1_000, 20_000)
    assert not judge_growth(600.0, 631.0, 1_000, 20_000)
    assert "FALL SHORT" in capsys.readouterr().out
