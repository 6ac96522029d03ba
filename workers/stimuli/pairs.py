"""The builder of pairs: two features side by side, each by its strongest references with their maps.

Serves the comparison of feature sets and the alignment of two dictionaries. Which feature stands left is drawn.
"""

from __future__ import annotations

from workers.stimuli.matching import references
from workers.stimuli.plan import IneligibleError, PlanLine, counted
from workers.stimuli.rendering import Board, Panel
from workers.stimuli.sources import Sources

N_IMAGES = 8


def compose(line: PlanLine, sources: Sources) -> Board:
    if line.other is None:
        raise IneligibleError("The item names no second feature.")
    n = line.count("n_images", N_IMAGES)
    own = sources.roles(line.feature).reference.active
    other = sources.roles(line.other).reference.active
    if len(other) < n:
        raise IneligibleError(
            f"The second feature has {counted(len(other), 'activating image')} to show; {n} are needed."
        )
    shown = references(own, sources.roles(line.matched).reference.active, n)
    sides = {"feature": shown, "other": [one.shown() for one in other[:n]]}
    left, right = ("feature", "other") if line.generator().random() < 0.5 else ("other", "feature")
    panels = [Panel("left", "images", sides[left]), Panel("right", "images", sides[right])]
    return Board(panels, {"left": left})
