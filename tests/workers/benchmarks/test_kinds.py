"""The table of kinds: means over blocks, the best block, and who must beat whom."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from workers.artifacts import Artifact
from workers.benchmarks import dictionaries
from workers.benchmarks.kinds import TRAINED, Made, Row, best_auroc, judge, mean_of
from workers.dictionaries.concept_recovery import ConceptScore

MADE = Made(Artifact("d" * 64, "dictionary", Path()), 3.0)


def row(name: str, aurocs: dict[str, list[float]]) -> Row:
    quality = {place: {"l0": 4.0 + number, "n_dead": number, "n_latents": 8} for number, place in enumerate(aurocs)}
    concepts = {
        place: [ConceptScore("color", str(i), i, auroc, auroc, 50) for i, auroc in enumerate(values)]
        for place, values in aurocs.items()
    }
    return Row(name, MADE, quality, concepts)


def test_the_best_block_is_that_of_the_highest_mean() -> None:
    one = row("topk_sae", {"blocks.0": [0.6, 0.6], "blocks.1": [0.5, 0.9], "blocks.2": [0.65, 0.65]})
    place, auroc = best_auroc(one)
    assert place == "blocks.1"
    assert auroc == pytest.approx(0.7)
    assert mean_of(one, lambda figures: figures["l0"]) == 5.0
    assert mean_of(one, lambda figures: figures["n_dead"] / figures["n_latents"]) == pytest.approx(0.125)


def test_every_trained_kind_must_beat_the_random_directions_of_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    controls = [
        row("random_directions for topk_sae", {"blocks.0": [0.7]}),
        row("random_directions for transcoder", {"blocks.0.mlp.in": [0.8]}),
    ]
    trained = [row(kind, {"blocks.0": [0.9]}) for kind in TRAINED]
    assert judge([*trained, *controls])
    assert capsys.readouterr().out.count("PASS") == len(TRAINED)
    trained[-1] = row("cross_layer_transcoder", {"blocks.0.mlp.in": [0.75]})
    assert not judge([*trained, *controls])
    assert "FALL SHORT    mean AUROC at the best block, cross layer transcoder" in capsys.readouterr().out


def test_all_means_every_part_and_one_failure_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def part(name: str) -> Any:
        def measure(options: argparse.Namespace) -> bool:
            asked.append((name, options.peers))
            return name != "second"

        return measure

    monkeypatch.setattr(dictionaries, "PARTS", {name: part(name) for name in ("first", "second")})
    assert dictionaries.main(["--part", "first", "--peers"]) == 0
    assert dictionaries.main([]) == 1
    assert asked == [("first", True), ("first", False), ("second", False)]
