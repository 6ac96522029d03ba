"""Which hookpoints of two dictionaries are compared with one another, and in which terms.

Each hookpoint that the first dictionary reads goes with the same one of the second; or, where that does not read it,
with the one whose latents write what the same MLP adds to the residual stream. So the units of an MLP (read at
`.mlp.hidden`), a transcoder (`.mlp.in`) and an SAE (`.mlp.out`) meet at their block. Where one side writes before layer
scale and the other after it, the directions of the former are multiplied by γ of the block, so that cosines are those
of the residual stream:

    cos(γ ⊙ v_r, w_s),    v before, w after layer scale
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.feed_forward import block_at, layer_scale
from workers.dictionaries.store import Dictionary
from workers.hookpoints import block_of

BEFORE, AFTER = ".mlp.out", ".mlp.write"
SIDES = ("a", "b")


class Counterparts(NamedTuple):
    """What is read by each dictionary, and the side whose directions are multiplied by the layer scale, if one is."""

    a: str
    b: str
    scaled: str = ""

    def directions(
        self, first: Dictionary, second: Dictionary, scale: Float[Tensor, " d_out"] | None = None
    ) -> tuple[Float[Tensor, "n_a d_out"], Float[Tensor, "n_b d_out"]]:
        """What the latents of both write, in the same terms; `scale` is γ, wanted where a side is scaled."""
        a, b = first.decoder_directions(self.a).float(), second.decoder_directions(self.b).float()
        if not self.scaled:
            return a, b
        assert scale is not None, "γ is missing"
        scale = scale.to(a.device)
        return (a * scale, b) if self.scaled == "a" else (a, b * scale)


def counterparts_of(first: Dictionary, second: Dictionary, asked: Sequence[str] = ()) -> tuple[Counterparts, ...]:
    """Those of the hookpoints asked for, as the first reads them, or all; raises ValueError where there is none."""
    found = [pair for pair in (counterpart(first, second, read) for read in first.reads) if pair is not None]
    missing = [hookpoint for hookpoint in asked if hookpoint not in {pair.a for pair in found}]
    if missing or not found:
        what = f"do not both read {missing[0]}" if missing else "share no hookpoint"
        raise ValueError(
            f"The dictionaries {what} and do not write at one MLP either; the first reads {', '.join(first.reads)}, "
            f"the second {', '.join(second.reads)}."
        )
    by_name = {pair.a: pair for pair in found}
    chosen = tuple(by_name[hookpoint] for hookpoint in asked) or tuple(found)
    for pair in chosen:
        widths = [one.decoder_directions(read).shape[1] for one, read in ((first, pair.a), (second, pair.b))]
        if widths[0] != widths[1]:
            raise ValueError(
                f"The latents that read {pair.a} write vectors of width {widths[0]} in the first dictionary, those "
                f"that read {pair.b} write vectors of width {widths[1]} in the second; such directions cannot be "
                "compared."
            )
    return chosen


def counterpart(first: Dictionary, second: Dictionary, read: str) -> Counterparts | None:
    """The same hookpoint if the second reads it, or one that writes at the same MLP, at the same place if there is."""
    write = written(first, read)
    others = {other: written(second, other) for other in second.reads}
    near = [other for other, at in others.items() if is_same_mlp(write, at)]
    near.sort(key=lambda other: others[other] != write)
    chosen = read if read in others else next(iter(near), None)
    if chosen is None:
        return None
    if not is_same_mlp(write, others[chosen]) or write == others[chosen]:
        return Counterparts(read, chosen)
    return Counterparts(read, chosen, scaled="a" if write.endswith(BEFORE) else "b")


def written(dictionary: Dictionary, read: str) -> str:
    """The hookpoint that goes with one that is read."""
    return dictionary.writes[dictionary.reads.index(read)]


def is_same_mlp(one: str, other: str) -> bool:
    """Whether both are what one MLP puts out, before or after layer scale."""
    return one.endswith((BEFORE, AFTER)) and other.endswith((BEFORE, AFTER)) and block_of(one) == block_of(other)


def scale_of(model: Any, pair: Counterparts, first: Dictionary) -> Float[Tensor, " d_out"]:
    """γ of the block where both write, all ones where the model has none."""
    return layer_scale(block_at(model, written(first, pair.a)))
