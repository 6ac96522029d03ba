"""Other libraries' names of places in a transformer, as hookpoints of ours.

Names follow TransformerLens (`blocks.7.hook_resid_post`), Hugging Face (`layers.7.mlp`) or say a layer's number only.
What a name does not settle, the check against activations does: layer scale and the norm's affine part are treated
differently by different libraries. `hook_mlp_in` is read before the norm there, and so is no hookpoint of ours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from workers.dictionaries.formats.weights import FormatError

LENS = re.compile(r"(?:^|\.)blocks\.(-?\d+)\.(.+)$")
MODULES = re.compile(r"(?:^|\.)(?:layers?|blocks|h|resblocks)\.(-?\d+)(?:\.(mlp|mlp\.output|mlp\.input))?$")
OURS = re.compile(r"^blocks\.\d+(\.mlp\.(in|out|write|hidden))?$")
LENS_PLACES = {
    "hook_resid_post": "",
    "hook_mlp_out": ".mlp.out",
    "ln2.hook_normalized": ".mlp.in",
    "mlp.hook_in": ".mlp.in",
    "mlp.hook_out": ".mlp.out",
    "mlp.hook_post": ".mlp.hidden",
}


def our_hookpoint(place: str, n_blocks: int) -> str:
    """The hookpoint that a place means; '' for '', and FormatError for a place that has none here."""
    if place == "":
        return ""
    if OURS.match(place):
        return checked(place, place, n_blocks)
    lens = LENS.search(place)
    if lens is not None and lens[2] == "hook_resid_pre":
        return checked(f"blocks.{from_the_end(int(lens[1]), n_blocks) - 1}", place, n_blocks)
    if lens is not None and lens[2] in LENS_PLACES:
        return checked(f"blocks.{from_the_end(int(lens[1]), n_blocks)}{LENS_PLACES[lens[2]]}", place, n_blocks)
    module = MODULES.search(place)
    if module is not None:
        suffix = {"mlp": ".mlp.out", "mlp.output": ".mlp.out", "mlp.input": ".mlp.in"}.get(module[2] or "", "")
        return checked(f"blocks.{from_the_end(int(module[1]), n_blocks)}{suffix}", place, n_blocks)
    raise FormatError(f"The file says it reads '{place}', which is no hookpoint here; name the hookpoint to use.")


def from_the_end(number: int, n_blocks: int) -> int:
    return number + n_blocks if number < 0 else number


def checked(hookpoint: str, place: str, n_blocks: int) -> str:
    number = int(hookpoint.split(".")[1])
    if not 0 <= number < n_blocks:
        raise FormatError(
            f"The file says it reads '{place}', but the model has {n_blocks} blocks, numbered from 0; it was trained "
            "on another model, or name the hookpoint to use."
        )
    return hookpoint


def write_of(read: str) -> str:
    """Where a transcoder that reads there writes."""
    return f"{read.removesuffix('.in')}.out" if read.endswith(".mlp.in") else read


def neighbors(hookpoint: str, known: Sequence[str]) -> list[str]:
    """The same place one block earlier and later, and the other places that are easily mistaken for it."""
    number, rest = hookpoint.split(".")[1], hookpoint.split(".")[2:]
    suffix = "".join(f".{part}" for part in rest)
    near = [f"blocks.{int(number) + step}{suffix}" for step in (-1, 1)]
    twins = {".mlp.out": [".mlp.write", ""], ".mlp.write": [".mlp.out", ""], "": [".mlp.out", ".mlp.write"]}
    near += [f"blocks.{number}{other}" for other in twins.get(suffix, [])]
    return [name for name in near if name in known]
