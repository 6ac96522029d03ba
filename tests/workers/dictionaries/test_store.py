"""Dictionaries written and read back through the one interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from workers.artifacts import Artifact, ArtifactError, ArtifactStore
from workers.dictionaries.sparse_coder import CoderShape, Codes, SparseCoder, initialize_coder
from workers.dictionaries.store import (
    NEGATIVE,
    POSITIVE,
    DictionaryDescription,
    load_dictionary,
    pole_codes,
    write_coders,
)

HOOKPOINTS = ("blocks.0", "blocks.1.mlp.out")
DESCRIPTION = DictionaryDescription(
    kind="topk_sae",
    name="small",
    reads=HOOKPOINTS,
    writes=HOOKPOINTS,
    vision_model="m" * 64,
    image_set="i" * 64,
    preprocessing={"size": 64},
    n_trained_tokens=4096,
)


def coders() -> dict[str, SparseCoder]:
    made: dict[str, SparseCoder] = {
        "blocks.0": SparseCoder(CoderShape(d_model=8, n_latents=32, k=3)),
        "blocks.1.mlp.out": SparseCoder(CoderShape(d_model=6, n_latents=12, k=12, selection="threshold")),
    }
    for seed, coder in enumerate(made.values()):
        initialize_coder(coder, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        made["blocks.1.mlp.out"].get_parameter("threshold").fill_(0.7)
    return made


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    store = ArtifactStore(tmp_path)
    with store.write("dictionary", config={"name": "small"}) as writer:
        write_coders(writer, DESCRIPTION, coders())
    return store.open(writer.digest)


def test_a_dictionary_read_back_encodes_and_decodes_as_before(artifact: Artifact) -> None:
    dictionary = load_dictionary(artifact)
    assert dictionary.digest == artifact.digest
    assert (dictionary.kind, dictionary.reads, dictionary.writes) == ("topk_sae", HOOKPOINTS, HOOKPOINTS)
    assert dictionary.poles == (POSITIVE,)
    assert [dictionary.n_latents(h) for h in HOOKPOINTS] == [32, 12]
    assert dictionary.description == DESCRIPTION
    activations = {
        h: torch.randn(5, d, generator=torch.Generator().manual_seed(9))
        for h, d in zip(HOOKPOINTS, (8, 6), strict=True)
    }
    for hookpoint, coder in coders().items():
        found, expected = dictionary.encode(hookpoint, activations[hookpoint]), coder.encode(activations[hookpoint])
        assert torch.equal(found.values, expected.values)
        assert torch.equal(found.indices, expected.indices)
        assert torch.equal(dictionary.decode({hookpoint: found})[hookpoint], coder.decode(expected))
        assert torch.equal(dictionary.decoder_directions(hookpoint), coder.W_dec)
        assert torch.equal(dictionary.reconstruct(activations)[hookpoint], coder.decode(expected))


def test_the_record_names_sizes_and_selection(artifact: Artifact) -> None:
    record = artifact.json("dictionary.json")
    assert record["n_latents"] == {"blocks.0": 32, "blocks.1.mlp.out": 12}
    assert record["d_model"] == {"blocks.0": 8, "blocks.1.mlp.out": 6}
    assert [record["coders"][h]["k"] for h in HOOKPOINTS] == [3, 12]
    assert [record["coders"][h]["selection"] for h in HOOKPOINTS] == ["topk", "threshold"]


def test_the_negative_pole_counts_what_lies_below_zero() -> None:
    codes = Codes(torch.tensor([[0, 1]]), torch.tensor([[2.0, -3.0]]), None)
    assert pole_codes(codes, POSITIVE).values.tolist() == [[2.0, -3.0]]
    assert pole_codes(codes, NEGATIVE).values.tolist() == [[-2.0, 3.0]]


def test_an_artefact_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path)
    with store.write("quality", config={}) as writer:
        writer.write_json("quality.json", {})
    with pytest.raises(ArtifactError, match="is of kind quality, not dictionary"):
        load_dictionary(store.open(writer.digest))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'mystery' is unknown"):
        DictionaryDescription(kind="mystery", name="", reads=(), writes=(), vision_model="", image_set="")
