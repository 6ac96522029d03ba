"""Compile the parts of a ViT between the places where it is read, so that hooks stay outside what is compiled.

A hook inside a compiled function would be traced into it and force it to be compiled anew for every batch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from workers.hookpoints import block_of


def compile_parts(module: Any, hookpoints: Iterable[str], backend: str = "inductor") -> None:
    """Compile each block as a whole, or its attention and MLP where something inside the block is read."""
    inside = {name for name in hookpoints if ".mlp." in name}
    opened = {block_of(name) for name in inside}
    for number, block in enumerate(module.blocks):
        if number not in opened:
            compile_forward(block, backend)
            continue
        compile_forward(block.attn, backend)
        if not any(block_of(name) == number and name.endswith(".mlp.hidden") for name in inside):
            compile_forward(block.mlp, backend)


def compile_forward(part: nn.Module, backend: str) -> None:
    part.forward = torch.compile(part.forward, backend=backend)
