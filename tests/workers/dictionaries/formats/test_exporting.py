"""Exports: the files give the same latents when they are read again; TopK as thresholds says what it costs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.workers.dictionaries.formats.layouts import dense
from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerDictionary, CrossLayerShape
from workers.dictionaries.formats.calibration import calibrate_coder, count_active, matched_thresholds
from workers.dictionaries.formats.detection import read_path
from workers.dictionaries.formats.exporting import export_dictionary
from workers.dictionaries.formats.weights import FormatError
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.sparsifiers import Selected
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription

D, F, K, N = 8, 32, 4, 600


def random_coder(shape: CoderShape, seed: int = 0) -> SparseCoder:
    coder = SparseCoder(shape)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            if name != "b_enc" or shape.has_encoder_bias:
                parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
        if shape.selection == "threshold":
            coder.threshold.copy_(torch.linspace(0, 1.5, F))
    return coder.requires_grad_(False)


def dictionary_of(kind: str, coders: dict[str, SparseCoder]) -> CoderDictionary:
    writes = tuple(read.replace(".mlp.in", ".mlp.out") for read in coders)
    description = DictionaryDescription(kind, "borrowed", tuple(coders), writes, "model", "images")
    return CoderDictionary(description, coders, "digest")


def tokens_of(seed: int = 5) -> Tensor:
    return 2 * torch.randn(N, D, generator=torch.Generator().manual_seed(seed))


def never(hookpoints: list[str]) -> dict[str, Tensor]:
    raise AssertionError("nothing is calibrated here")


SHAPES = {
    "topk_sae": CoderShape(D, F, K),
    "topk_sae, no normalization": CoderShape(D, F, K, normalization="none", has_encoder_bias=True),
    "topk_sae, norm": CoderShape(D, F, K, normalization="norm", is_bias_tied=False),
    "topk_sae, signed": CoderShape(D, F, K, selection="abs_topk"),
    "jumprelu_sae": CoderShape(D, F, F, selection="threshold", has_encoder_bias=True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_saelens_files_read_again_are_the_same(tmp_path: Path, name: str) -> None:
    coder = random_coder(SHAPES[name])
    exported = export_dictionary(
        dictionary_of(name.partition(",")[0], {"blocks.3": coder}), "saelens", tmp_path / "out", never
    )
    (site,) = read_path(exported.folder).sites
    read = site.readings[0].coder
    tokens = tokens_of()
    assert torch.allclose(dense(read, tokens), dense(coder, tokens), atol=1e-5)
    assert torch.allclose(read.decode(read.encode(tokens)), coder.decode(coder.encode(tokens)), atol=1e-4)
    assert (site.reads, exported.losses) == ("blocks.3.hook_resid_post", [])


def test_several_hookpoints_have_a_folder_each(tmp_path: Path) -> None:
    coders = {f"blocks.{number}": random_coder(CoderShape(D, F, K), number) for number in (1, 10, 2)}
    exported = export_dictionary(dictionary_of("topk_sae", coders), "saelens", tmp_path / "out", never)
    assert [site.reads.split(".")[1] for site in read_path(exported.folder).sites] == ["1", "2", "10"]


def transcoders(selection: str, *, has_skip: bool = False) -> CoderDictionary:
    k = K if selection == "topk" else F
    shape = CoderShape(D, F, k, D, selection, "none", False, True, has_skip)
    return dictionary_of("transcoder", {f"blocks.{i}.mlp.in": random_coder(shape, i) for i in range(2)})


@pytest.mark.parametrize("format_name", ["saelens", "circuit-tracer"])
def test_transcoders_with_thresholds_lose_nothing(tmp_path: Path, format_name: str) -> None:
    dictionary = transcoders("threshold", has_skip=True)
    exported = export_dictionary(dictionary, format_name, tmp_path / "out", never)
    found = read_path(exported.folder)
    assert found.format == format_name
    tokens = tokens_of()
    for site, read in zip(found.sites, dictionary.reads, strict=True):
        ours, theirs = site.readings[0].coder, dictionary.coders[read]
        assert torch.allclose(dense(ours, tokens), dense(theirs, tokens), atol=1e-5)
        assert torch.allclose(ours.decode(ours.encode(tokens)), theirs.decode(theirs.encode(tokens)), atol=1e-4)
        assert (site.readings[0].kind, exported.losses) == ("transcoder", [])


@pytest.mark.parametrize("format_name", ["saelens", "circuit-tracer"])
def test_topk_transcoders_leave_as_thresholds_with_their_cost(tmp_path: Path, format_name: str) -> None:
    dictionary = transcoders("topk")
    tokens = tokens_of()
    activations = {name: tokens for name in dictionary.reads}
    activations |= {
        write: coder.decode(coder.encode(tokens))
        for write, coder in zip(dictionary.writes, dictionary.coders.values(), strict=True)
    }
    exported = export_dictionary(
        dictionary, format_name, tmp_path / "out", lambda names: {n: activations[n] for n in names}
    )
    for loss in exported.losses:
        assert loss.explained_by_topk == pytest.approx(1.0, abs=1e-5)
        assert loss.explained_by_topk > loss.explained_by_thresholds > 0.5
        assert loss.l0_of_thresholds == pytest.approx(loss.l0_of_topk, rel=0.1)
        assert 0.7 < loss.kept_share < 1.0
        assert loss.sentence() in (exported.folder / "README.md").read_text()
    assert len(exported.losses) == 2
    assert all(site.readings[0].coder.shape.selection == "threshold" for site in read_path(exported.folder).sites)


def test_thresholds_keep_each_latents_density_on_the_tokens_they_are_made_on() -> None:
    coder = random_coder(CoderShape(D, F, K, normalization="none"))
    tokens = tokens_of()
    thresholds, _ = calibrate_coder(coder, "here", tokens, tokens)
    fitted = tokens[::2]
    wanted = count_active(coder.encode_normalized(fitted), F)
    pre = coder.pre_activations(fitted)
    assert torch.equal((pre > thresholds).sum(0), wanted)


def test_a_latent_that_never_fired_stays_silent() -> None:
    pre = torch.tensor([[1.0, 5.0], [2.0, 4.0], [3.0, 3.0]])
    thresholds = matched_thresholds(lambda some: pre[:, some], torch.tensor([0, 2]))
    assert thresholds.tolist() == [3.0, 3.5]
    assert count_active(Selected(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]])), 2).tolist() == [1, 0]


def cross_layer(selection: str) -> CrossLayerDictionary:
    n = 3
    coder = CrossLayerCoder(CrossLayerShape(D, D, (F,) * n, (K if selection != "threshold" else F,) * n, selection))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in coder.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(values - 1 if name.startswith("log_threshold") else 0.5 * values)
    reads = tuple(f"blocks.{i}.mlp.in" for i in range(n))
    writes = tuple(f"blocks.{i}.mlp.out" for i in range(n))
    description = DictionaryDescription("cross_layer_transcoder", "clt", reads, writes, "model", "images")
    return CrossLayerDictionary(description, coder.requires_grad_(False), "digest")


def test_a_cross_layer_transcoder_goes_to_circuit_tracer_and_back(tmp_path: Path) -> None:
    dictionary = cross_layer("threshold")
    exported = export_dictionary(dictionary, "circuit-tracer", tmp_path / "out", never)
    read = read_path(exported.folder).cross_layer
    assert read is not None
    activations = {name: tokens_of(i) for i, name in enumerate(dictionary.reads)}
    expected = dictionary.reconstruct(activations)
    again = CrossLayerDictionary(dictionary.description, read).reconstruct(activations)
    for write in dictionary.writes:
        assert torch.allclose(again[write], expected[write], atol=1e-4)


def test_a_topk_cross_layer_transcoder_is_calibrated_source_by_source(tmp_path: Path) -> None:
    dictionary = cross_layer("topk")
    activations = {name: tokens_of(i) for i, name in enumerate(dictionary.reads)}
    activations |= dictionary.reconstruct(activations)
    exported = export_dictionary(dictionary, "circuit-tracer", tmp_path / "out", lambda names: activations)
    assert [loss.place for loss in exported.losses] == list(dictionary.writes)
    for loss in exported.losses:
        assert loss.explained_by_topk > loss.explained_by_thresholds > 0.5


def test_what_a_format_cannot_hold_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "out"
    signed = dictionary_of(
        "transcoder", {"blocks.0.mlp.in": random_coder(CoderShape(D, F, K, D, "abs_topk", "none", False))}
    )
    normalized = dictionary_of(
        "transcoder", {"blocks.0.mlp.in": random_coder(CoderShape(D, F, K, D, is_bias_tied=False))}
    )
    later = dictionary_of(
        "transcoder", {"blocks.1.mlp.in": random_coder(CoderShape(D, F, K, D, "topk", "none", False))}
    )
    one_place = dictionary_of("topk_sae", {"blocks.0": random_coder(CoderShape(D, F, K))})
    cases: list[tuple[Dictionary, str, str]] = [
        (signed, "circuit-tracer", "no latents that may be negative"),
        (normalized, "circuit-tracer", "these are normalized"),
        (later, "circuit-tracer", "for the MLP of every block from 0"),
        (one_place, "circuit-tracer", "holds transcoders"),
        (cross_layer("topk"), "saelens", "SAELens has no cross-layer transcoders"),
        (one_place, "onnx", "There is no export to 'onnx'"),
    ]
    for dictionary, format_name, sentence in cases:
        with pytest.raises(FormatError, match=sentence):
            export_dictionary(dictionary, format_name, target, lambda names: {name: tokens_of() for name in names})
        assert list(tmp_path.iterdir()) == []
    target.mkdir()
    with pytest.raises(FormatError, match="is there already"):
        export_dictionary(one_place, "saelens", target, never)
