"""Which hookpoints of two dictionaries an alignment compares, told by names and kinds before any artefact is opened.

The stage itself decides by what the dictionaries write (workers/dictionaries/counterparts.py).
"""

from __future__ import annotations

from annotation.domain.features import block_of
from annotation.models import Dictionary
from annotation.models.catalog import FEED_FORWARD_KINDS
from workers.stages.configs.training import TRANSCODERS


def hookpoints_compared(one: Dictionary, other: Dictionary) -> list[str]:
    """Those of the first that the second reads too, or at whose MLP it writes."""
    blocks = {block_of(name) for name in other.hookpoints if writes_at_mlp(other, name)}
    return [
        name
        for name in one.hookpoints
        if name in other.hookpoints or (writes_at_mlp(one, name) and block_of(name) in blocks)
    ]


def writes_at_mlp(one: Dictionary, hookpoint: str) -> bool:
    """Whether what is read there is written as an MLP's output."""
    if hookpoint.endswith(".mlp.hidden"):
        target = one.control_of or one  # a control of units writes where they do
        return target.kind in FEED_FORWARD_KINDS
    if hookpoint.endswith(".mlp.in"):
        return one.kind in TRANSCODERS
    return hookpoint.endswith((".mlp.out", ".mlp.write"))
