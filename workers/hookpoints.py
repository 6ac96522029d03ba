"""Named places in a ViT, read or replaced while it runs, by hooks that are always taken away again.

`blocks.7` is the residual stream after block 7; `blocks.7.mlp.in` what its MLP reads (after the norm), `.mlp.out` what
it puts out (before layer scale), `.mlp.write` what it adds to the residual stream (after layer scale), `.mlp.hidden`
the input of its second linear layer. Reading leaves every output the same to the last bit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn

PATTERN = re.compile(r"blocks\.(\d+)(?:\.mlp\.(in|out|write|hidden))?$")
Tokens = Float[Tensor, "image token width"]
Replace = Callable[[Tensor], Tensor]


class Place(NamedTuple):
    """A submodule, and whether its input or its output is meant."""

    module: nn.Module
    is_input: bool


def hookpoint_names(module: Any) -> list[str]:
    """All hookpoints of the model, block by block."""
    suffixes = ("", ".mlp.in", ".mlp.hidden", ".mlp.out", ".mlp.write")
    return [f"blocks.{i}{s}" for i, block in enumerate(module.blocks) for s in suffixes if not s or has_mlp(block)]


def has_mlp(block: nn.Module) -> bool:
    """Whether the block has the MLP of two linear layers, and the place after layer scale, that timm's ViTs have."""
    is_known = isinstance(getattr(getattr(block, "mlp", None), "fc2", None), nn.Linear)
    return is_known and after_layer_scale(block) is not None


def after_layer_scale(block: nn.Module) -> nn.Module | None:
    """What puts out that which the MLP adds to the residual stream; None where a norm comes after the MLP.

    BEiT and EVA have their layer scale as a parameter; the drop path after it puts out what it is given.
    """
    has_parameter = hasattr(block, "gamma_2")
    found = getattr(block, "drop_path2" if has_parameter else "ls2", None)
    return found if isinstance(found, nn.Module) else None


def block_of(hookpoint: str) -> int:
    """The number of the block in the name; raises ValueError for what is no hookpoint."""
    found = PATTERN.match(hookpoint)
    if found is None:
        raise ValueError(
            f"'{hookpoint}' is no hookpoint; they are named as blocks.7, blocks.7.mlp.in, .mlp.hidden, .mlp.out, "
            ".mlp.write."
        )
    return int(found[1])


def find_place(model: Any, hookpoint: str) -> Place:
    module = getattr(model, "module", model)
    number = block_of(hookpoint)
    if number >= len(module.blocks):
        raise ValueError(f"There is no '{hookpoint}': the model has {len(module.blocks)} blocks, numbered from 0.")
    block, part = module.blocks[number], hookpoint.rpartition(".mlp.")[2] if ".mlp." in hookpoint else ""
    if not part:
        return Place(block, is_input=False)
    after = after_layer_scale(block)
    if not has_mlp(block) or after is None:
        raise ValueError(f"There is no '{hookpoint}': the blocks of this model have no MLP of two linear layers.")
    if part == "hidden":
        return Place(block.mlp.fc2, is_input=True)
    if part == "write":
        return Place(after, is_input=False)
    return Place(block.mlp, is_input=part == "in")


def hookpoint_width(model: Any, hookpoint: str) -> int:
    """How many numbers a token has there."""
    place = find_place(model, hookpoint)
    if hookpoint.endswith(".mlp.hidden"):
        return int(place.module.in_features)  # type: ignore[arg-type]
    return int(getattr(model, "module", model).embed_dim)


@contextmanager
def read_hookpoints(model: Any, names: Sequence[str]) -> Iterator[dict[str, Tokens]]:
    """Within the block, each forward pass fills the dictionary with `[image, token, width]` by hookpoint."""
    read: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name in names:
            attach(stack, find_place(model, name), partial(read.__setitem__, name))
        yield read


@contextmanager
def splice(model: Any, replacements: Mapping[str, Replace]) -> Iterator[None]:
    """Within the block, the tokens at each hookpoint are replaced by what the function makes of them."""
    with ExitStack() as stack:
        for name, replace in replacements.items():
            attach(stack, find_place(model, name), replace)
        yield


def attach(stack: ExitStack, place: Place, act: Callable[[Tensor], Tensor | None]) -> None:
    """Call `act` on the tokens at this place; where it returns some, they take the place of those read."""

    def on_input(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        replaced = act(inputs[0])
        return None if replaced is None else (replaced, *inputs[1:])

    def on_output(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        return act(output)

    handle = (
        place.module.register_forward_pre_hook(on_input)
        if place.is_input
        else place.module.register_forward_hook(on_output)
    )
    stack.callback(handle.remove)
