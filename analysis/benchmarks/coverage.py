"""How often the 95 % interval of each protocol's quantity covers the truth, over simulated studies (`bench_coverage`).

Each kind of study says how it draws answers, which figures it asks the statistics for, and what the truth is. 93 to
99 % is asked for: an interval that misses more often misleads, one that never misses tells nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from analysis.benchmarks.simulated_studies import (
    FEATURE_SD,
    POPULATION,
    Answer,
    Design,
    Effects,
    Floats,
    chance_of,
    comparison_answers,
    encode_map,
    forced_choices,
    measured,
    nature_answers,
    panel_answers,
    rating_answers,
    ratings_of,
    verdict_answers,
    yes_no_answers,
)
from analysis.statistics import accuracy, bradley_terry, categories, detection
from analysis.statistics.adjudication import share_overturned
from analysis.statistics.alignment import share_matched_by_bin
from analysis.statistics.contrast import auc_over_controls
from analysis.statistics.figures import Figure
from analysis.statistics.ratings import make_ratings
from analysis.statistics.shares import share_interpretable
from annotation.domain.protocols.nature_origin import NATURES

N_STUDIES = 2000
N_RESAMPLES = 400
LOW, HIGH = 0.93, 0.99
SEED = 20_261_121


class Kind(NamedTuple):
    """`figures(rng)` draws one study and returns the figure of each quantity of `truth()`."""

    truth: Callable[[], dict[str, float]]
    figures: Callable[[np.random.Generator], dict[str, Figure]]
    design: str


class Coverage(NamedTuple):
    protocol: str
    quantity: str
    truth: float
    n_studies: int
    n_covering: int
    n_without_interval: int
    mean_value: float
    mean_half_width: float

    @property
    def share(self) -> float:
        return self.n_covering / self.n_studies

    @property
    def is_met(self) -> bool:
        return LOW <= self.share <= HIGH


def cover(protocol: str, n_studies: int = N_STUDIES, seed: int = SEED) -> list[Coverage]:
    kind = KINDS[protocol]
    truth = kind.truth()
    found: dict[str, list[Figure]] = {name: [] for name in truth}
    for rng in np.random.default_rng(seed).spawn(n_studies):
        for name, figure in kind.figures(rng).items():
            found[name].append(figure)
    return [_coverage(protocol, name, truth[name], figures) for name, figures in found.items()]


def _coverage(protocol: str, quantity: str, truth: float, figures: list[Figure]) -> Coverage:
    bounded = [(one.low, one.high) for one in figures if one.low is not None and one.high is not None]
    return Coverage(
        protocol,
        quantity,
        truth,
        len(figures),
        sum(low <= truth <= high for low, high in bounded),
        len(figures) - len(bounded),
        float(np.mean([one.value for one in figures if one.value is not None])),
        float(np.mean([(high - low) / 2 for low, high in bounded])),
    )


def _population() -> np.random.Generator:
    return np.random.default_rng(7)


# rate, describe, categorise: evidence of a feature, leniency of an annotator, noise; controls show less.

RATING = Design(150, 12, 3)
N_CONTROLS, REAL_MEAN, CONTROL_MEAN, RATER_SD = 30, 0.6, -0.6, 0.5


def _rating_truth() -> dict[str, float]:
    rng = _population()
    n = POPULATION // 4
    evidence = REAL_MEAN + rng.normal(0, 1, (n, 1)) + rng.normal(0, RATER_SD, (n, 3)) + rng.normal(0, 1, (n, 3))
    controls = CONTROL_MEAN + rng.normal(0, np.sqrt(2 + RATER_SD**2), n)
    real, control = (np.bincount(ratings_of(one), minlength=5)[1:] / n for one in (evidence[:, 0], controls))
    share = np.mean((ratings_of(evidence) >= 3).sum(axis=1) >= 2)
    auc = np.sum(real * (np.cumsum(control) - control / 2))
    return {"control-corrected AUC": float(auc), "share interpretable, by majority": float(share)}


def _rating_figures(rng: np.random.Generator) -> dict[str, Figure]:
    feature, annotator = RATING.draw(rng)
    is_control = np.arange(RATING.n_features) < N_CONTROLS
    features = rng.normal(np.where(is_control, CONTROL_MEAN, REAL_MEAN), 1)
    leniency = rng.normal(0, RATER_SD, RATING.n_annotators)
    evidence = features[feature] + leniency[annotator] + rng.normal(0, 1, feature.size)
    answers = rating_answers(ratings_of(evidence), is_control[feature])
    read = measured("rate-describe-categorise", {}, (feature, annotator), answers)
    ratings = make_ratings(read.feature, read.annotator, read.values[1])
    real = ratings.where(~is_control[ratings.feature])
    group = np.zeros(real.n_features, dtype=np.int64)
    return {
        "control-corrected AUC": auc_over_controls(
            ratings, rng, is_control=is_control, n_categories=4, of="", n_resamples=N_RESAMPLES
        ),
        "share interpretable, by majority": share_interpretable(
            real, rng, group=group, names=[""], n_resamples=N_RESAMPLES
        )[0].features,
    }


# two alternatives: every feature with references and, by other answers, without; guessing is right half the time.

TWO_WAY = Design(84, 20, 14)
N_WITHOUT = 4  # of the answers on each feature
WITH, WITHOUT = Effects(1.0), Effects(-0.5)


def _two_alternative_truth() -> dict[str, float]:
    right = (1 + WITH.mean_chance()) / 2
    return {"accuracy": right, "lift": right - (1 + WITHOUT.mean_chance()) / 2}


def _two_alternative_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = TWO_WAY.draw(rng)
    shown = np.arange(who[0].size) % TWO_WAY.overlap >= N_WITHOUT
    known = chance_of(WITH.draw(rng, TWO_WAY, who) + np.where(shown, 0, WITHOUT.mean - WITH.mean))
    right = rng.random(who[0].size) < 0.5 + known / 2
    answers = forced_choices("query", right, rng.integers(0, 2, right.size), 2)
    read = measured("two-alternative", {}, who, answers)
    return {
        "accuracy": accuracy.accuracy(read.where(shown), rng, of="", n_resamples=N_RESAMPLES),
        "lift": accuracy.difference(read, rng, of="", is_first=shown, n_resamples=N_RESAMPLES),
    }


# intruder: seen, or guessed from five.

INTRUDER = Design(100, 20, 6)
SEEN = Effects(0.0)


def _intruder_truth() -> dict[str, float]:
    return {"accuracy minus chance": 0.8 * SEEN.mean_chance()}


def _intruder_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = INTRUDER.draw(rng)
    right = rng.random(who[0].size) < 0.2 + 0.8 * chance_of(SEEN.draw(rng, INTRUDER, who))
    read = measured(
        "intruder", {"n_images": 5}, who, forced_choices("intruder", right, rng.integers(0, 5, right.size), 5)
    )
    return {"accuracy minus chance": accuracy.accuracy(read, rng, of="", minus=0.2, n_resamples=N_RESAMPLES)}


# verification: evidence of each image against an annotator's own criterion; explanations differ in how well they fit.

PANELS = Design(100, 12, 3)
FIT, FIT_SD, CRITERION, CRITERION_SD = 1.4, 0.8, 0.7, 0.4


def _verification_truth() -> dict[str, float]:
    from scipy.special import ndtr, ndtri

    hit = ndtr((FIT - CRITERION) / np.sqrt(1 + FIT_SD**2 + CRITERION_SD**2))
    alarm = ndtr(-CRITERION / np.sqrt(1 + CRITERION_SD**2))
    return {"balanced accuracy": float((hit + 1 - alarm) / 2), "d′": float(ndtri(hit) - ndtri(alarm))}


def _verification_figures(rng: np.random.Generator) -> dict[str, Figure]:
    feature, annotator = PANELS.draw(rng)
    fit = rng.normal(FIT, FIT_SD, PANELS.n_features)[feature]
    criterion = rng.normal(CRITERION, CRITERION_SD, PANELS.n_annotators)[annotator]
    evidence = rng.normal(0, 1, (feature.size, 8)) + fit[:, None] * (np.arange(8) < 4)
    read = measured("verification", {"n_images": 8}, (feature, annotator), panel_answers(evidence > criterion[:, None]))
    found = detection.detection(read._replace(values=read.values[:4]), rng, of="", n_resamples=N_RESAMPLES)
    return {"balanced accuracy": found.balanced_accuracy, "d′": found.d_prime}


# pairwise: three dictionaries; features differ within them, annotators in how they see a dictionary and in ties.

PAIRS = Design(150, 12, 3)
STRENGTHS = np.array([0.5, 0.0, -0.5])
PAIR_SD, PAIR_ANNOTATOR_SD, LOG_TIE = 0.8, 0.3, -0.5
SETS = bradley_terry.comparisons_of(3)


def _davidson(difference: Floats, tie: Floats) -> Floats:
    """Chances [3, n] of first, second and tie for a difference of log-strength."""
    odds = np.stack([np.exp(difference / 2), np.exp(-difference / 2), np.exp(tie)])
    return np.asarray(odds / odds.sum(axis=0))


def _pairwise_truth() -> dict[str, float]:
    """What the model fits to the expected outcomes: differences shrink where features and annotators vary."""
    rng = _population()
    n = POPULATION // 4
    expected = []
    for first, second in SETS.pairs:
        annotators = rng.normal(0, PAIR_ANNOTATOR_SD, (n, 3))
        difference = (
            STRENGTHS[first] - STRENGTHS[second] + rng.normal(0, PAIR_SD * np.sqrt(2), n)
            + annotators[:, first] - annotators[:, second]
        )  # fmt: skip
        expected.append(_davidson(difference, LOG_TIE + rng.normal(0, 0.5, n)).mean(axis=1))
    fitted = bradley_terry.fit(1e6 * np.concatenate(expected)[:, None], SETS)[:, 0]
    return {"log-strength difference": float(fitted[0] - fitted[1])}


def _pairwise_figures(rng: np.random.Generator) -> dict[str, Figure]:
    pair, annotator = PAIRS.draw(rng)
    kind = np.arange(PAIRS.n_features) % 3
    first, second = np.array(SETS.pairs)[kind].T
    between = STRENGTHS[first] - STRENGTHS[second] + rng.normal(0, PAIR_SD * np.sqrt(2), PAIRS.n_features)
    taste = rng.normal(0, PAIR_ANNOTATOR_SD, (PAIRS.n_annotators, 3))
    tie = LOG_TIE + rng.normal(0, 0.5, PAIRS.n_annotators)
    difference = between[pair] + taste[annotator, first[pair]] - taste[annotator, second[pair]]
    chances = np.cumsum(_davidson(difference, tie[annotator]), axis=0)
    outcomes = (rng.random(pair.size) > chances[:2]).sum(axis=0)
    read = measured("pairwise", {}, (pair, annotator), comparison_answers(outcomes, rng.random(pair.size) < 0.5))
    cells = read._replace(values=(3 * kind[read.feature] + read.values[0])[None].astype(np.int8))
    found = bradley_terry.strengths(cells, rng, names=["A", "B", "C"], n_resamples=N_RESAMPLES)
    return {"log-strength difference": found.differences[0]}


# patch marking: maps with one blotch; an annotator marks patches by the map and noise, some features being clearer.

MARKING = Design(60, 12, 3)
SIDE, N_MARKS, CLEAR, CLEAR_SD, MARKER_SD = 7, 6, 2.0, 1.0, 0.5
N_MAPS = 2


def _maps(rng: np.random.Generator, n: int) -> Floats:
    """[n, patch], smooth around one place, in whole 255ths as they are frozen."""
    at = np.indices((SIDE, SIDE)).reshape(2, 1, -1)
    middle = rng.uniform(1, SIDE - 2, (2, n, 1))
    height = np.exp(-((at - middle) ** 2).sum(axis=0) / (2 * 1.5**2))
    return np.asarray(np.floor(255 * height / height.max(axis=1, keepdims=True)) / 255)


def _marks(rng: np.random.Generator, maps: Floats, clarity: Floats) -> np.ndarray:
    """The patches [n, mark] where a noisy view of the map is highest."""
    seen = clarity[:, None] * maps + rng.gumbel(0, 1, maps.shape)
    return np.asarray(np.argpartition(-seen, N_MARKS, axis=1)[:, :N_MARKS])


def _marking_truth() -> dict[str, float]:
    from scipy.stats import rankdata

    rng = _population()
    n = POPULATION // 10
    maps = _maps(rng, n)
    clarity = rng.normal(CLEAR, CLEAR_SD, n) + rng.normal(0, MARKER_SD, n)
    ranks = rankdata(maps, axis=1)
    inside = np.take_along_axis(ranks, _marks(rng, maps, clarity), axis=1).sum(axis=1)
    areas = (inside - N_MARKS * (N_MARKS + 1) / 2) / (N_MARKS * (SIDE**2 - N_MARKS))
    return {"AUC minus shifted chance": float(areas.mean() - 0.5)}


def _marking_figures(rng: np.random.Generator) -> dict[str, Figure]:
    feature, annotator = MARKING.draw(rng)
    maps = _maps(rng, MARKING.n_features * N_MAPS).reshape(MARKING.n_features, N_MAPS, -1)
    truths = [{"maps": [encode_map(one) for one in pair]} for pair in maps]
    clarity = rng.normal(CLEAR, CLEAR_SD, MARKING.n_features)[feature] + rng.normal(0, MARKER_SD, 12)[annotator]
    marks = [_marks(rng, maps[feature, cell], clarity) for cell in range(N_MAPS)]
    answers = (
        Answer({"marks": [[cell, int(patch)] for cell in range(N_MAPS) for patch in marks[cell][row]]}, truths[one])
        for row, one in enumerate(feature)
    )
    read = measured("patch-marking", {"n_images": N_MAPS}, (feature, annotator), answers)
    area = accuracy.mean_value(read, rng, of="", bounds=(-0.5, 0.5), n_resamples=N_RESAMPLES)
    return {"AUC minus shifted chance": area}


# nature and origin: half of the items are controls; people can tell a little.

ORIGIN = Design(150, 10, 2)
TOLD, TOLD_SD, GUESS_SD, CONCEPTUAL = 0.6, 0.8, 0.5, Effects(-0.8, 1.5, 0.5)


def _origin_truth() -> dict[str, float]:
    rng = _population()
    lean = rng.normal(0, GUESS_SD, POPULATION) + rng.normal(0, TOLD_SD, POPULATION)
    right = (chance_of(TOLD + lean).mean() + 1 - chance_of(-TOLD + lean).mean()) / 2
    return {"origin, balanced accuracy": float(right), "share conceptual": CONCEPTUAL.mean_chance()}


def _origin_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = ORIGIN.draw(rng)
    is_control = (np.arange(ORIGIN.n_features) % 2 == 1)[who[0]]
    told = Effects(0.0, TOLD_SD, GUESS_SD).draw(rng, ORIGIN, who) + np.where(is_control, -TOLD, TOLD)
    is_conceptual = rng.random(told.size) < chance_of(CONCEPTUAL.draw(rng, ORIGIN, who))
    natures = [NATURES[1] if one else NATURES[0] for one in is_conceptual]
    answers = nature_answers(natures, rng.random(told.size) < chance_of(told), is_control)
    read = measured("nature-origin", {}, who, answers)
    guesses = categories.origin(read._replace(values=read.values[1:]), rng, of="", n_resamples=N_RESAMPLES)
    real = read.where(read.values[2] == 1)
    conceptual = real._replace(values=(real.values[:1] == NATURES.index("conceptual")))
    share = categories.share(conceptual, rng, of="", n_resamples=N_RESAMPLES)
    return {"origin, balanced accuracy": guesses.balanced_accuracy, "share conceptual": share}


# alignment: one bin of pairs.

BIN = Design(20, 10, 3)
SAME = Effects(0.3, 1.5, 0.5)


def _alignment_truth() -> dict[str, float]:
    return {"share matched in a bin of 20": SAME.mean_chance()}


def _alignment_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = BIN.draw(rng)
    same = rng.random(who[0].size) < chance_of(SAME.draw(rng, BIN, who))
    read = measured("alignment", {}, who, yes_no_answers("same", same, {"mcs": 0.6, "null_percentile": 99.0}))
    bins = np.zeros(read.feature.size, dtype=np.int64)
    [found] = share_matched_by_bin(
        read, rng, bins=bins, cosine=read.values[1], null_percentile=read.values[2], n_resamples=N_RESAMPLES
    )
    return {"share matched in a bin of 20": found.matched}


# spurious: by majority of three, and of the judgements.

SPURIOUS = Design(80, 8, 3)
BESIDE = Effects(-0.6, 1.5, 0.5)


def _spurious_truth() -> dict[str, float]:
    rng = _population()
    n = POPULATION // 2
    logits = rng.normal(BESIDE.mean, FEATURE_SD, (n, 1)) + rng.normal(0, BESIDE.annotator_sd, (n, 3))
    majority = np.mean((rng.random(logits.shape) < chance_of(logits)).sum(axis=1) >= 2)
    return {"share spurious, by majority": float(majority), "share of judgements": BESIDE.mean_chance()}


def _spurious_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = SPURIOUS.draw(rng)
    yes = rng.random(who[0].size) < chance_of(BESIDE.draw(rng, SPURIOUS, who))
    read = measured("spurious", {}, who, yes_no_answers("spurious", yes, {"class": "dog"}))
    ratings = make_ratings(read.feature, read.annotator, np.where(read.values[0] == 1, 4, 1))
    group = np.zeros(ratings.n_features, dtype=np.int64)
    [share] = share_interpretable(ratings, rng, group=group, names=[""], n_resamples=N_RESAMPLES)
    judgements = categories.share(read, rng, of="", n_resamples=N_RESAMPLES)
    return {"share spurious, by majority": share.features, "share of judgements": judgements}


# adjudication: each disagreement once, by one of four reviewers.

DISPUTES = Design(100, 4, 1)
OVERTURNED = Effects(-1.0, 1.5, 0.3)


def _adjudication_truth() -> dict[str, float]:
    return {"share overturned": OVERTURNED.mean_chance()}


def _adjudication_figures(rng: np.random.Generator) -> dict[str, Figure]:
    who = DISPUTES.draw(rng)
    overturned = rng.random(who[0].size) < chance_of(OVERTURNED.draw(rng, DISPUTES, who))
    read = measured("adjudication", {}, who, verdict_answers(overturned))
    return {"share overturned": share_overturned(read, rng, of="", n_resamples=N_RESAMPLES)}


KINDS: dict[str, Kind] = {
    "rate-describe-categorise": Kind(_rating_truth, _rating_figures, "120 features and 30 controls, 3 of 12 people"),
    "two-alternative": Kind(_two_alternative_truth, _two_alternative_figures, "84 features, 14 of 20 people"),
    "intruder": Kind(_intruder_truth, _intruder_figures, "100 features, 6 of 20 people"),
    "verification": Kind(_verification_truth, _verification_figures, "100 explanations, panels of 8, 3 of 12 people"),
    "pairwise": Kind(_pairwise_truth, _pairwise_figures, "150 pairs of 3 dictionaries, 3 of 12 people"),
    "patch-marking": Kind(_marking_truth, _marking_figures, "60 features, 2 images, 3 of 12 people"),
    "nature-origin": Kind(_origin_truth, _origin_figures, "75 features and 75 controls, 2 of 10 people"),
    "alignment": Kind(_alignment_truth, _alignment_figures, "20 pairs in a bin, 3 of 10 people"),
    "spurious": Kind(_spurious_truth, _spurious_figures, "80 features, 3 of 8 people"),
    "adjudication": Kind(_adjudication_truth, _adjudication_figures, "100 disagreements, 1 of 4 reviewers"),
}
