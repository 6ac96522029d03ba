"""The simulated studies: few of each kind, to see that intervals cover and that truths are those of the population."""

from __future__ import annotations

from io import StringIO

import numpy as np
import pytest
from django.core.management import call_command

from analysis.benchmarks.coverage import KINDS, Coverage, cover
from analysis.benchmarks.simulated_studies import Design, Effects
from annotation.domain.protocols import PROTOCOLS

N_STUDIES = 60


def test_every_protocol_has_simulated_studies() -> None:
    assert set(KINDS) == set(PROTOCOLS)


@pytest.mark.parametrize("protocol", sorted(KINDS))
def test_intervals_cover_the_truth_and_estimates_lie_around_it(protocol: str) -> None:
    """With 60 studies, .95 gives 53 to 60 in 999 of 1,000 cases; the mean lies within a few standard errors."""
    for found in cover(protocol, N_STUDIES, seed=5):
        assert found.n_without_interval == 0
        assert 0.86 <= found.share <= 1.0, found
        assert abs(found.mean_value - found.truth) < 4 * found.mean_half_width / 1.96 / np.sqrt(N_STUDIES), found


def test_a_design_gives_each_feature_its_overlap_of_different_people() -> None:
    feature, annotator = Design(20, 6, 4).draw(np.random.default_rng(0))
    assert np.bincount(feature).tolist() == [4] * 20
    assert len(set(zip(feature.tolist(), annotator.tolist(), strict=True))) == 80


def test_the_mean_chance_is_that_of_the_population() -> None:
    effects = Effects(1.0, 1.5, 0.5)
    sampled = 1 / (1 + np.exp(-effects.population(np.random.default_rng(0))))
    assert effects.mean_chance() == pytest.approx(sampled.mean(), abs=1e-3)


def test_a_verdict_needs_the_share_asked_for() -> None:
    base = Coverage("p", "q", 0.5, 2000, 1900, 0, 0.5, 0.1)
    assert (base.is_met, base._replace(n_covering=1850).is_met, base._replace(n_covering=1995).is_met) == (
        True, False, False,
    )  # fmt: skip


def test_the_command_says_that_few_studies_measure_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    out = StringIO()
    call_command("bench_coverage", "--protocol", "intruder", "--studies", "20", stdout=out)
    assert "100 features, 6 of 20 people" in out.getvalue()
    line = capsys.readouterr().out
    assert line.startswith("NOT MEASURED  intruder, accuracy minus chance: truth 0.400")
