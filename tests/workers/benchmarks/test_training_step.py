"""The benchmark of the training step: what is timed, and what it says where the libraries are not installed."""

from __future__ import annotations

import pytest

from workers.benchmarks import training_step
from workers.benchmarks.training_step import CASES, FLOORS, OURS, PLAIN, Case, measure_case, time_steps


def test_both_ways_are_timed_with_the_planted_dead() -> None:
    found = time_steps(Case(16, 8, 64, 0.1), None, n_steps=4)
    assert {name: len(seconds) for name, seconds in found.items()} == {OURS: 4, PLAIN: 4}
    assert all(second > 0 for seconds in found.values() for second in seconds)


def test_without_the_libraries_a_floor_is_not_measured_and_not_met(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = Case(16, 8, 64, 0.0)
    monkeypatch.setitem(training_step.FLOORS, case, 1.8)
    assert not measure_case(case, None, n_steps=3)
    printed = capsys.readouterr().out
    assert "public libraries                     NOT MEASURED (--peers)" in printed
    assert "NOT MEASURED  SAE step over the best public library, d 16 x8, 64 tokens, 0% dead" in printed
    assert ">= 1.8 x" in printed


def test_the_matrix_holds_every_size_with_and_without_dead_latents() -> None:
    assert len(CASES) == len(set(CASES)) == 24
    assert {Case(768, 16, 4096, 0.0): 1.8, Case(768, 16, 4096, 0.1): 1.3} == FLOORS
    assert set(FLOORS) < set(CASES)
