"""Other libraries' names of places as hookpoints."""

from __future__ import annotations

import pytest

from workers.dictionaries.formats.exporting import lens_hook
from workers.dictionaries.formats.places import neighbors, our_hookpoint, write_of
from workers.dictionaries.formats.weights import FormatError

KNOWN = [f"blocks.{number}{place}" for number in range(12) for place in ("", ".mlp.in", ".mlp.out", ".mlp.write")]


@pytest.mark.parametrize(
    ("place", "hookpoint"),
    [
        ("", ""),
        ("blocks.7", "blocks.7"),
        ("blocks.7.mlp.write", "blocks.7.mlp.write"),
        ("blocks.7.hook_resid_post", "blocks.7"),
        ("blocks.7.hook_resid_pre", "blocks.6"),
        ("blocks.-2.hook_resid_post", "blocks.10"),
        ("blocks.3.hook_mlp_out", "blocks.3.mlp.out"),
        ("blocks.3.mlp.hook_in", "blocks.3.mlp.in"),
        ("blocks.3.mlp.hook_post", "blocks.3.mlp.hidden"),
        ("vision_model.encoder.layers.5", "blocks.5"),
        ("layers.11.mlp", "blocks.11.mlp.out"),
        ("transformer.resblocks.4", "blocks.4"),
    ],
)
def test_names_that_have_a_hookpoint(place: str, hookpoint: str) -> None:
    assert our_hookpoint(place, 12) == hookpoint


@pytest.mark.parametrize("place", ["blocks.3.hook_resid_mid", "blocks.3.hook_mlp_in", "blocks.3.attn.hook_z", "head"])
def test_names_that_have_none(place: str) -> None:
    with pytest.raises(FormatError, match=f"says it reads '{place}', which is no hookpoint here"):
        our_hookpoint(place, 12)


@pytest.mark.parametrize("place", ["blocks.12", "blocks.0.hook_resid_pre", "layers.40", "blocks.-13.hook_resid_post"])
def test_blocks_that_the_model_has_not(place: str) -> None:
    with pytest.raises(FormatError, match="the model has 12 blocks"):
        our_hookpoint(place, 12)


@pytest.mark.parametrize("hookpoint", ["blocks.7", "blocks.7.mlp.in", "blocks.7.mlp.out", "blocks.7.mlp.hidden"])
def test_a_name_goes_out_and_comes_back(hookpoint: str) -> None:
    assert our_hookpoint(lens_hook(hookpoint), 12) == hookpoint


def test_what_is_easily_mistaken_for_a_place() -> None:
    assert neighbors("blocks.0", KNOWN) == ["blocks.1", "blocks.0.mlp.out", "blocks.0.mlp.write"]
    assert neighbors("blocks.5.mlp.out", KNOWN) == [
        "blocks.4.mlp.out", "blocks.6.mlp.out", "blocks.5.mlp.write", "blocks.5",
    ]  # fmt: skip
    assert write_of("blocks.5.mlp.in") == "blocks.5.mlp.out"
