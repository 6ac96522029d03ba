"""A cross-layer transcoder as a dictionary: what it encodes, what it writes where, and the way to disk and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workers.dictionaries.dense import dense_codes
from workers.artifacts import ArtifactError, ArtifactStore
from workers.dictionaries.cross_layer import (
    CrossLayerCoder,
    CrossLayerDictionary,
    CrossLayerShape,
    initialize_cross_layer,
    write_cross_layer,
)
from workers.dictionaries.sparsifiers import Selected
from workers.dictionaries.store import NEGATIVE, POSITIVE, DictionaryDescription, load_dictionary

BLOCKS = (0, 2, 3)
READS = tuple(f"blocks.{i}.mlp.in" for i in BLOCKS)
WRITES = tuple(f"blocks.{i}.mlp.out" for i in BLOCKS)
N_LATENTS, K = (16, 12, 24), (3, 2, 5)
D_MODEL, D_OUT, N_TOKENS = 8, 6, 40


def seeded_coder(selection: str = "topk") -> CrossLayerCoder:
    coder = CrossLayerCoder(CrossLayerShape(D_MODEL, D_OUT, N_LATENTS, K, selection))
    generator = torch.Generator().manual_seed(2)
    initialize_cross_layer(coder, generator)
    with torch.no_grad():
        for weights in (coder.b_enc, coder.W_dec, coder.b_dec):
            for weight in weights:
                weight.copy_(torch.randn(weight.shape, generator=generator))
    return coder.requires_grad_(False)


def described(coder: CrossLayerCoder) -> DictionaryDescription:
    return DictionaryDescription(
        kind="cross_layer_transcoder",
        name="small",
        reads=READS,
        writes=WRITES,
        vision_model="m" * 64,
        image_set="i" * 64,
        poles=(POSITIVE, NEGATIVE) if coder.shape.is_signed else (POSITIVE,),
    )


def dictionary_of(coder: CrossLayerCoder) -> CrossLayerDictionary:
    return CrossLayerDictionary(described(coder), coder)


def seeded_activations() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return {read: torch.randn(N_TOKENS, D_MODEL, generator=generator) for read in READS}


@pytest.mark.parametrize("selection", ["topk", "abs_topk", "threshold"])
def test_a_reconstruction_is_the_sum_over_earlier_sources_and_one_bias(selection: str) -> None:
    coder, activations = seeded_coder(selection), seeded_activations()
    found = dictionary_of(coder).reconstruct(activations)
    offsets = (0, 16, 28, 52)
    for j, write in enumerate(WRITES):
        expected = coder.b_dec[j].expand(N_TOKENS, -1)
        for i in range(j + 1):
            pre = activations[READS[i]] @ coder.W_enc[i].T + coder.b_enc[i]
            z = torch.zeros_like(pre)
            if selection == "threshold":
                z = torch.where(pre > coder.log_threshold[i].exp(), pre, 0.0)
            else:
                kept = (pre.abs() if selection == "abs_topk" else pre).topk(K[i], dim=1).indices
                z = z.scatter(1, kept, pre.gather(1, kept))
                z = z if selection == "abs_topk" else z.relu()
            expected = expected + z @ coder.W_dec[j][offsets[i] : offsets[i + 1]]
        torch.testing.assert_close(found[write], expected, rtol=1e-5, atol=1e-5)
    assert list(found) == list(WRITES)


@pytest.mark.parametrize("selection", ["topk", "abs_topk"])
def test_wide_encoders_find_the_same_latents_by_whatever_way_is_fastest(selection: str) -> None:
    coder = CrossLayerCoder(CrossLayerShape(128, 8, (4096,), (8,), selection))
    generator = torch.Generator().manual_seed(0)
    initialize_cross_layer(coder, generator)
    tokens = torch.randn(60, 128, generator=generator)
    found = coder.encode(0, tokens)
    pre = tokens @ coder.W_enc[0].detach().T
    kept = (pre.abs() if selection == "abs_topk" else pre).topk(8, dim=1).indices
    assert torch.equal(found.indices.sort(dim=1).values, kept.sort(dim=1).values)
    torch.testing.assert_close(found.values, pre.gather(1, found.indices), rtol=1e-4, atol=1e-5)


def test_codes_of_some_reads_write_where_they_can_and_the_bias_once() -> None:
    coder, activations = seeded_coder(), seeded_activations()
    dictionary = dictionary_of(coder)
    codes = {read: dictionary.encode(read, activations[read]) for read in READS}
    alone = dictionary.decode({READS[1]: codes[READS[1]]})
    assert list(alone) == list(WRITES[1:])
    z = dense_codes(Selected(codes[READS[1]].indices, codes[READS[1]].values), N_LATENTS[1])
    expected = z @ dictionary.decoder_directions(READS[1], WRITES[2]) + coder.b_dec[2]
    torch.testing.assert_close(alone[WRITES[2]], expected, rtol=1e-5, atol=1e-5)
    assert dictionary.decode({}) == {}


def test_it_tells_sizes_and_places_as_every_dictionary_does() -> None:
    dictionary = dictionary_of(seeded_coder("abs_topk"))
    assert [dictionary.n_latents(read) for read in READS] == list(N_LATENTS)
    assert [dictionary.n_encoder_weights(read) for read in READS] == [n * D_MODEL for n in N_LATENTS]
    assert dictionary.writes_of(READS[1]) == WRITES[1:]
    assert dictionary.poles == (POSITIVE, NEGATIVE)
    codes = dictionary.encode(READS[2], seeded_activations()[READS[2]])
    assert codes.indices.shape == (N_TOKENS, K[2])
    assert bool((codes.values < 0).any())
    assert int(codes.indices.max()) < N_LATENTS[2]
    assert torch.equal(dictionary.decoder_directions(READS[1]), dictionary.decoder_directions(READS[1], WRITES[1]))
    assert dictionary.decoder_directions(READS[1]).shape == (N_LATENTS[1], D_OUT)


@pytest.mark.parametrize("selection", ["topk", "threshold"])
def test_a_dictionary_read_back_reconstructs_the_same(tmp_path: Path, selection: str) -> None:
    store, coder = ArtifactStore(tmp_path), seeded_coder(selection)
    with store.write("dictionary", config={}) as writer:
        write_cross_layer(writer, described(coder), coder)
    dictionary = load_dictionary(store.open(writer.digest))
    activations = seeded_activations()
    expected = dictionary_of(coder).reconstruct(activations)
    found = dictionary.reconstruct(activations)
    assert all(torch.equal(found[write], expected[write]) for write in WRITES)
    assert dictionary.description == described(coder)
    assert dictionary.digest == writer.digest
    record = store.open(writer.digest).json("dictionary.json")
    assert record["n_latents"] == dict(zip(READS, N_LATENTS, strict=True))
    assert record["d_model"] == dict.fromkeys(READS, D_MODEL)


def test_weights_that_do_not_fit_their_description_are_refused(tmp_path: Path) -> None:
    store, coder = ArtifactStore(tmp_path), seeded_coder()
    with store.write("dictionary", config={}) as writer:
        write_cross_layer(writer, described(coder), coder)
        record = json.loads((writer.folder / "dictionary.json").read_text())
        record["cross_layer"]["d_out"] = 7
        writer.write_json("dictionary.json", record)
    with pytest.raises(ArtifactError, match="do not fit its description"):
        load_dictionary(store.open(writer.digest))


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="k is 17; it must lie between 1 and the number of latents, 16"):
        CrossLayerShape(8, 8, (16, 16), (3, 17))
    with pytest.raises(ValueError, match="for each block it reads"):
        CrossLayerShape(8, 8, (16,), (3, 3))
    with pytest.raises(ValueError, match="'strange' is unknown"):
        CrossLayerShape(8, 8, (16,), (3,), "strange")
    with pytest.raises(ValueError, match="has 1 sources for 3 reads"):
        CrossLayerDictionary(described(seeded_coder()), CrossLayerCoder(CrossLayerShape(8, 8, (16,), (3,))))
