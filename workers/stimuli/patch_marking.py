"""The builder of patch marking: references with their maps, and held-out activating images whose maps are the truth."""

from __future__ import annotations

import base64

from workers.stimuli.matching import references
from workers.stimuli.plan import IneligibleError, PlanLine, counted
from workers.stimuli.rendering import Board, Cell, Panel
from workers.stimuli.sources import Sources, spread_over_bands

N_REFERENCES = 8
N_IMAGES = 4
QUERY_SIDE = 212


def compose(line: PlanLine, sources: Sources) -> Board:
    rng = line.generator()
    own, matched = sources.roles(line.feature), sources.roles(line.matched)
    n = line.count("n_images", N_IMAGES)
    shown = references(own.reference.active, matched.reference.active, line.count("n_references", N_REFERENCES))
    if len(own.query.active) < n:
        raise IneligibleError(
            f"The feature has {counted(len(own.query.active), 'activating image')} to mark; {n} are needed."
        )
    queries = spread_over_bands(own.query.bands(), n, rng)
    rng.shuffle(queries)
    asked = Panel("queries", "images", [Cell(one.image) for one in queries], QUERY_SIDE)
    truth = {
        "maps": [base64.b64encode(one.map.tobytes()).decode() for one in queries],
        "ranges": [one.band for one in queries],
    }
    return Board([Panel("reference", "images", shown), asked], truth)
