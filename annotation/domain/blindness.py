"""Whether what is frozen tells what an item is: statistics of its stimuli, tried by a classifier, a control kind each.

A control that could be told from features by how many patches light up, how hot its maps are or how its pictures look
would not be blind. For every kind of control and group of statistics a logistic regression is fitted to nine tenths of
the items and asked about the last tenth, in turn, a control always in one tenth with the feature it is matched to (were
its twin among those fitted, it would be taken for the other). The area under its ROC curve is .5 where it cannot tell;
the standard error is that of Hanley and McNeil (1982) for an area of .5. Density and counts must lie within .05 of .5,
as far as so few items can say; a classifier that is wrong more often than not has told nothing, and copies of features
in the place of controls bring it to .45, so that its area may lie as far below .5 as it likes. Of how the pictures look
only the figure is given, since what a feature is about may well differ.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.controls import EVERY_CONTROL
from annotation.domain.stimuli import stimulus_record
from annotation.domain.storage import artifact_store
from annotation.models import Condition, Item, Study

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_FOLDS = 10
LEAST_ITEMS = 20  # of each side; fewer say nothing
TOLERANCE = 0.05
Z = 1.96
RIDGE = 1.0
THUMBNAIL = 32
ALONE = ("cells", "shown twice", "active patches", "heat mass", "density")
TOGETHER = "counts together"
SPRITE = ("brightness", "contrast", "saturation", "edges", "bytes")


class BlindnessError(Exception):
    """Nothing can be tested; the message is fit for the user."""


class Figure(NamedTuple):
    """How well one kind of control is told from features by one group of statistics."""

    kind: str
    statistic: str
    area: float
    error: float
    n_controls: int
    n_features: int
    is_judged: bool

    @property
    def is_blind(self) -> bool:
        """Within the tolerance, or not surely outside it for so few items."""
        beyond = self.area - 0.5 if self.statistic == TOGETHER else abs(self.area - 0.5)
        return not self.is_judged or beyond <= max(TOLERANCE, Z * self.error)

    @property
    def can_tell(self) -> bool:
        """Whether there are enough items to see a departure of the tolerance."""
        return Z * self.error <= TOLERANCE


class Described(NamedTuple):
    """The statistics of one item's stimulus, of its counts and of its sprite; a control's feature is its match."""

    condition: str
    feature: int
    counts: dict[str, float]
    looks: dict[str, float]


def blindness(study: Study, *, seed: int = 0) -> list[Figure]:
    """A figure per kind of control and statistic; raises BlindnessError where there is nothing to compare."""
    if not study.stimuli_digest:
        raise BlindnessError(_("This study has no frozen stimuli yet; launch it first."))
    by_kind: dict[str, list[Described]] = {}
    for one in described_items(study):
        by_kind.setdefault(one.condition, []).append(one)
    features = by_kind.get(Condition.REAL, [])
    kinds = [kind for kind in EVERY_CONTROL if len(by_kind.get(kind, [])) >= LEAST_ITEMS]
    if len(features) < LEAST_ITEMS or not kinds:
        raise BlindnessError(
            _("There are too few items to compare: at least %(least_items)s of features and of a control.")
            % {"least_items": LEAST_ITEMS}
        )
    return [figure for kind in kinds for figure in figures_of(kind, by_kind[kind], features, seed)]


def figures_of(kind: str, controls: Sequence[Described], features: Sequence[Described], seed: int) -> Iterator[Figure]:
    error = standard_error(len(controls), len(features))
    shown = [name for name in ALONE if name in features[0].counts]
    groups: list[tuple[str, bool, list[list[float]]]] = []
    for name in shown:
        groups.append((name, True, [[one.counts[name]] for one in (*controls, *features)]))
    groups.append((TOGETHER, True, [[one.counts[name] for name in shown] for one in (*controls, *features)]))
    groups.append(("sprite", False, [list(one.looks.values()) for one in (*controls, *features)]))
    labels = [1] * len(controls) + [0] * len(features)
    owners = [one.feature for one in (*controls, *features)]
    for name, is_judged, rows in groups:
        area = area_alone(rows, labels) if name in ALONE else area_of_classifier(rows, labels, owners, seed)
        yield Figure(kind, name, area, error, len(controls), len(features), is_judged)


def described_items(study: Study) -> Iterator[Described]:
    items = Item.objects.filter(study=study, condition__in=[Condition.REAL, *EVERY_CONTROL]).order_by("id")
    artifact = artifact_store().open(study.stimuli_digest, kind="stimuli")
    columns = ("condition", "stimulus_id", "feature_id", "matched_feature_id")
    for condition, stimulus_id, feature, matched in items.values_list(*columns):
        record = stimulus_record(study.stimuli_digest, stimulus_id)
        sprite = artifact.path(f"sprites/{stimulus_id}.webp").read_bytes()
        yield Described(condition, matched or feature, count_statistics(record), sprite_statistics(sprite))


def count_statistics(record: Mapping[str, Any]) -> dict[str, float]:
    """Cells, and how many show an image again; of their maps the active patches per cell, the heat and the density."""
    import numpy as np

    cells = cells_of(record)
    maps = [np.frombuffer(base64.b64decode(cell["map"]), np.uint8) for cell in cells if cell.get("map")]
    n_images = len({cell["image_index"] for cell in cells if "image_index" in cell})
    found = {"cells": float(len(cells)), "shown twice": float(len(cells) - n_images)}
    if maps:
        found["active patches"] = float(np.mean([np.count_nonzero(one) for one in maps]))
        found["heat mass"] = float(np.mean([one.mean() for one in maps]))
        found["density"] = float(np.mean([np.count_nonzero(one) / one.size for one in maps]))
    return found


def cells_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [cell for panel in record["panels"] for cell in panel["cells"]]


def sprite_statistics(sprite: bytes) -> dict[str, float]:
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(sprite)) as picture:
        small = picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL))
    pixels = np.asarray(small, np.float32) / 255
    grey = pixels.mean(axis=-1)
    edges = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    saturation = (pixels.max(axis=-1) - pixels.min(axis=-1)).mean()
    values = (grey.mean(), grey.std(), saturation, edges, math.log(len(sprite)))
    return dict(zip(SPRITE, map(float, values), strict=True))


def area_alone(rows: Sequence[Sequence[float]], labels: Sequence[int]) -> float:
    """The area under the ROC curve of one number as it is."""
    import numpy as np

    return area_under_curve(np.asarray(rows, float)[:, 0], np.asarray(labels))


def area_of_classifier(
    rows: Sequence[Sequence[float]], labels: Sequence[int], owners: Sequence[int], seed: int
) -> float:
    """That of a logistic regression's predictions for items it was not fitted to; those of one owner stay together."""
    import numpy as np

    x, y = np.asarray(rows, float), np.asarray(labels)
    names = sorted(set(owners))
    drawn = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % N_FOLDS, strict=True))
    fold = np.array([drawn[owner] for owner in owners])
    areas = []
    for held in range(N_FOLDS):
        inside, outside = fold != held, fold == held
        if len(set(y[outside])) < 2:
            continue
        mean, spread = x[inside].mean(axis=0), x[inside].std(axis=0) + 1e-9
        weights = fitted((x[inside] - mean) / spread, y[inside])
        areas.append(area_under_curve(((x[outside] - mean) / spread) @ weights[1:] + weights[0], y[outside]))
    return float(np.mean(areas))


def fitted(x: NDArray[Any], y: NDArray[Any]) -> NDArray[Any]:
    """Weights of a logistic regression, the constant first, both sides weighing alike."""
    import numpy as np
    from scipy.optimize import minimize

    design = np.column_stack([np.ones(len(y)), x])
    weight = np.where(y == 1, 0.5 / (y == 1).mean(), 0.5 / (y == 0).mean())
    sign = 2 * y - 1

    def loss(w: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        margin = sign * (design @ w)
        value = (weight * np.logaddexp(0, -margin)).sum() + 0.5 * RIDGE * (w[1:] ** 2).sum()
        slope = -(design * (weight * sign / (1 + np.exp(np.clip(margin, -500, 500))))[:, None]).sum(axis=0)
        slope[1:] += RIDGE * w[1:]
        return float(value), slope

    return np.asarray(minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x)


def area_under_curve(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """P(a control scores above a feature), ties half."""
    from scipy.stats import rankdata

    n_ones = int((labels == 1).sum())
    n_zeros = len(labels) - n_ones
    ranks = rankdata(scores)
    return float((ranks[labels == 1].sum() - n_ones * (n_ones + 1) / 2) / (n_ones * n_zeros))


def standard_error(n: int, m: int) -> float:
    """Of an area of .5 (Hanley and McNeil 1982)."""
    return math.sqrt((0.25 + (n + m - 2) * (1 / 3 - 0.25)) / (n * m))
