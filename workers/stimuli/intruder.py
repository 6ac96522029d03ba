"""The builder of intruders: images of one range of strength, one of them exchanged for an image without the feature.

Every image has a box at a patch. n images of a range are drawn; one of them is taken out, an image on which the feature
is silent stands in its place, and its box stays where the strongest patch of the image taken out was. So the places of
all boxes come from the same distribution and tell nothing. There is no heat map and there are no references, so any of
the feature's images may be shown.
"""

from __future__ import annotations

import random

from workers.stimuli.feature_images import ActiveImage, FeatureImages
from workers.stimuli.plan import IneligibleError, PlanLine, counted
from workers.stimuli.rendering import Board, Cell, Panel
from workers.stimuli.sources import NO_CONTRAST, Sources

N_IMAGES = 5
SIDE = 212


def compose(line: PlanLine, sources: Sources) -> Board:
    rng = line.generator()
    n = line.count("n_images", N_IMAGES)
    found = sources.images(line.feature)
    if not found.silent:
        raise IneligibleError(NO_CONTRAST)
    members = draw_members(found, n, rng)
    intruder = rng.randrange(n)
    lent = members.pop()
    cells = [Cell(one.image, patch=one.patch) for one in members]
    cells.insert(intruder, Cell(rng.choice(found.silent), patch=lent.patch))
    return Board([Panel("candidates", "images", cells, SIDE)], {"intruder": intruder, "range": members[0].band})


def draw_members(found: FeatureImages, n: int, rng: random.Random) -> list[ActiveImage]:
    """n images in random order: of one range, or the last of another where the range has one less.

    The last is the one taken out: only its place is shown.
    """
    if len(found.active) < n:
        raise IneligibleError(f"The feature has {counted(len(found.active), 'activating image')}; {n} are needed.")
    bands = [members for members in found.bands().values() if len(members) >= n - 1]
    if not bands:
        most = max(len(members) for members in found.bands().values())
        raise IneligibleError(f"No range of strength has {n - 1} activating images; {most} is the most.")
    members = rng.choice(bands)
    chosen = rng.sample(members, min(n, len(members)))
    if len(chosen) < n:
        chosen.append(rng.choice([one for one in found.active if one.band != members[0].band]))
    return chosen
