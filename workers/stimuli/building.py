"""From a line of a plan to a frozen stimulus."""

from __future__ import annotations

from collections.abc import Callable

from workers.stimuli import intruder, pairs, patch_marking, sheets, two_alternative, verification
from workers.stimuli.geometry import Geometry
from workers.stimuli.plan import PlanLine
from workers.stimuli.rendering import Board, LoadImage, Stimulus, render
from workers.stimuli.sources import Sources

BUILDERS: dict[str, Callable[[PlanLine, Sources], Board]] = {
    "sheet": lambda line, sources: sheets.compose(line, sources.sheets),
    "two-alternative": two_alternative.compose,
    "intruder": intruder.compose,
    "verification": verification.compose,
    "pair": pairs.compose,
    "patch-marking": patch_marking.compose,
}


def compose(line: PlanLine, sources: Sources) -> Board:
    """What the item shows and what is true of it; raises IneligibleError with the reason why it cannot be built."""
    if line.builder not in BUILDERS:
        raise ValueError(f"The plan asks for the builder '{line.builder}'; there are {', '.join(BUILDERS)}.")
    board = BUILDERS[line.builder](line, sources)
    return board._replace(truth={**line.truth, **board.truth})


def build_stimulus(line: PlanLine, *, sources: Sources, load: LoadImage, geometry: Geometry) -> Stimulus:
    """Render one item; `load(image)` may be cached."""
    return render(compose(line, sources), load, geometry, text=line.text)
