"""Compiled parts of a model: what is read between them is the same, and hooks do not compile anything anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.workers.stages.tiny_world import make_tiny_world
from workers.compilation import compile_parts
from workers.vision_model import load_vision_model, read_hookpoints


@pytest.mark.parametrize(
    ("hookpoints", "n_compiled"),
    [
        (("blocks.0", "blocks.1"), 1),  # both blocks whole: they share one graph
        (("blocks.0", "blocks.1.mlp.in", "blocks.1.mlp.out"), 3),  # block 1 in two parts
        (("blocks.0.mlp.hidden",), 2),  # the attention of block 0, and block 1
    ],
)
def test_what_is_read_between_compiled_parts_is_the_same(
    tmp_path: Path, hookpoints: tuple[str, ...], n_compiled: int
) -> None:
    artifact = make_tiny_world(tmp_path).vision_model
    images = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plain, compiled = load_vision_model(artifact), load_vision_model(artifact)
    compile_parts(compiled.module, hookpoints, backend="eager")
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    with torch.no_grad():
        for _pass in range(3):  # each with fresh hooks, as for every batch
            with read_hookpoints(plain, hookpoints) as expected, read_hookpoints(compiled, hookpoints) as found:
                logits = plain(images), compiled(images)
            assert torch.equal(*logits)
            assert list(found) == list(expected)
            assert all(torch.equal(found[name], expected[name]) for name in hookpoints)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == n_compiled
    assert not torch._dynamo.utils.counters["graph_break"]
