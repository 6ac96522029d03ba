"""Formats whose library cannot be installed, and traps of research/clt_peers.md §2.1 that a real file does not show."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.workers.dictionaries.formats.layouts import (
    D,
    F,
    K,
    dense,
    kept,
    normalized,
    numbers,
    pickled_class,
    relu_latents,
    some_tokens,
    square_state,
    write_saelens,
)
from workers.dictionaries.formats.detection import read_path
from workers.dictionaries.formats.weights import FormatError, Hints, Reading, Site

PRISMA = ("vit_prisma.sae.config", "VisionModelSAERunnerConfig")
PATCHSAE = ("src.sae_training.config", "ViTSAERunnerConfig")


def only(path: Path, format_name: str, *, k: int = 0) -> tuple[Site, Reading]:
    found = read_path(path, "auto", Hints(k=k))
    assert found.format == format_name
    (site,) = found.sites
    return site, site.readings[0]


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert theirs.abs().max() > 0
    assert torch.allclose(ours, theirs, atol=1e-5, rtol=1e-5)


def test_rrm_normalizes_each_token_never_uses_b_enc_and_has_k_in_its_path(tmp_path: Path) -> None:
    state = square_state()
    folder = tmp_path / f"K{K}_R2" / "L1"
    folder.mkdir(parents=True)
    torch.save({"epoch": 50, "model_state_dict": state, "optimizer_state_dict": {}}, folder / "epoch50.pth")
    site, reading = only(tmp_path, "rrm")
    tokens = some_tokens()
    read = (normalized(tokens) - state["b_dec"]) @ state["W_enc"]
    latents = kept(read.relu(), K)
    assert_same(dense(reading.coder, tokens), latents)
    deviation = tokens.std(dim=1, keepdim=True)
    rebuilt = (latents @ state["W_dec"] + state["b_dec"]) * deviation + tokens.mean(dim=1, keepdim=True)
    assert_same(reading.coder.decode(reading.coder.encode(tokens)), rebuilt)
    assert (site.reads, reading.kind) == ("blocks.1", "topk_sae")


def test_a_plain_state_dict_of_its_fork_needs_k(tmp_path: Path) -> None:
    torch.save(square_state(), tmp_path / "sae.pt")
    with pytest.raises(FormatError, match="how many latents may be active per token"):
        read_path(tmp_path / "sae.pt")
    _, reading = only(tmp_path / "sae.pt", "rrm", k=K)
    assert (reading.coder.k, reading.coder.shape.normalization) == (K, "token")


def write_prisma(path: Path, monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor], **config: Any) -> None:
    made = pickled_class(*PRISMA, monkeypatch)
    values = {"hook_point_layer": 2, "layer_subtype": "hook_resid_post", "normalize_activations": "layer_norm"}
    content = {"cfg": made(**(values | config), device=torch.device("cpu"), dtype=torch.float32), "state_dict": state}
    if path.suffix == ".gz":
        with gzip.open(path, "wb") as file:
            pickle.dump(content, file)
    else:
        torch.save(content, path)
    monkeypatch.undo()


@pytest.mark.parametrize("name", ["sae.pt", "sae.pkl.gz"])
def test_prisma_with_a_pickled_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    state = square_state()
    write_prisma(tmp_path / name, monkeypatch, state)
    site, reading = only(tmp_path / name, "vit-prisma")
    tokens = some_tokens()
    assert_same(dense(reading.coder, tokens), relu_latents(normalized(tokens), state))
    assert site.reads == "blocks.2.hook_resid_post"


def test_prisma_topk_gated_and_without_normalization(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokens, state = some_tokens(), square_state()
    settings = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "normalize_activations": "none"}
    write_prisma(tmp_path / "topk.pt", monkeypatch, state, **settings)
    _, reading = only(tmp_path / "topk.pt", "vit-prisma")
    assert_same(dense(reading.coder, tokens), kept(relu_latents(tokens, state), K))
    gates = {"b_gate": numbers(F, seed=5), "r_mag": numbers(F, seed=6), "b_mag": numbers(F, seed=7)}
    write_prisma(tmp_path / "gated.pt", monkeypatch, state | gates, architecture="gated")
    _, reading = only(tmp_path / "gated.pt", "vit-prisma")
    read = (normalized(tokens) - state["b_dec"]) @ state["W_enc"]
    is_open = (read + gates["b_gate"] > 0).float()
    assert_same(dense(reading.coder, tokens), is_open * (read * gates["r_mag"].exp() + gates["b_mag"]).relu())
    assert reading.kind == "jumprelu_sae"


def test_a_prisma_transcoder_has_an_output_bias_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"b_dec_out": numbers(D, seed=8), "W_skip": numbers(D, D, seed=10)}
    settings = {"is_transcoder": True, "normalize_activations": "none", "layer_subtype": "hook_mlp_in"}
    settings |= {"out_hook_point_layer": 2, "layer_out_subtype": "hook_mlp_out"}
    state = square_state() | more
    write_prisma(tmp_path / "sae.pt", monkeypatch, state, **settings)
    site, reading = only(tmp_path / "sae.pt", "vit-prisma")
    tokens = some_tokens()
    latents = relu_latents(tokens, state)
    assert_same(dense(reading.coder, tokens), latents)
    rebuilt = latents @ state["W_dec"] + more["b_dec_out"] + tokens @ more["W_skip"].T
    assert_same(reading.coder.decode(reading.coder.encode(tokens)), rebuilt)
    assert (site.reads, site.writes) == ("blocks.2.hook_mlp_in", "blocks.2.hook_mlp_out")
    write_prisma(tmp_path / "norm.pt", monkeypatch, state, **settings | {"normalize_activations": "layer_norm"})
    with pytest.raises(FormatError, match="skip connection reads tokens that are not normalized"):
        read_path(tmp_path / "norm.pt")


def test_prisma_from_the_hub_has_its_configuration_beside_it(tmp_path: Path) -> None:
    state = square_state()
    torch.save(state, tmp_path / "n_images_2600058.pt")
    settings = {"hook_point_layer": 1, "layer_subtype": "hook_mlp_out", "normalize_activations": "layer_norm"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    site, reading = only(tmp_path, "vit-prisma")
    assert_same(dense(reading.coder, some_tokens()), relu_latents(normalized(some_tokens()), state))
    assert site.reads == "blocks.1.hook_mlp_out"


def test_patchsae_with_a_layer_counted_from_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = square_state()
    made = pickled_class(*PATCHSAE, monkeypatch)
    torch.save({"cfg": made(block_layer=-2, module_name="resid"), "state_dict": state}, tmp_path / "sae.pt")
    monkeypatch.undo()
    site, reading = only(tmp_path / "sae.pt", "patchsae")
    assert_same(dense(reading.coder, some_tokens()), relu_latents(some_tokens(), state))
    assert site.reads == "blocks.-2.hook_resid_post"


def write_saev(path: Path, header: dict[str, Any], state: dict[str, Tensor]) -> Path:
    with path.open("wb") as file:
        file.write((json.dumps(header) + "\n").encode())
        torch.save(state, file)
    return path


SAEV_TOPK = {"cls": "TopK", "params": {"top_k": K}}


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"d_vit": D, "exp_factor": 2, "ghost_grads": False}, "relu"),
        ({"schema": 1, "cls": "TopK", "cfg": {"d_vit": D, "top_k": K}}, "topk"),
        ({"schema": 1, "cls": "SparseAutoencoderConfig", "cfg": {"d_vit": D, "activation": SAEV_TOPK}}, "topk"),
        ({"schema": 2, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": K}}}}, "topk"),
        ({"schema": 3, "cfg": {"activation": {"cls": "Relu", "params": {}}}}, "relu"),
        ({"schema": 4, "cfg": {"activation": SAEV_TOPK}, "commit": "abc", "lib": "0.2"}, "topk"),
        ({"schema": 5, "cfg": {"activation": {"cls": "BatchTopK", "params": {"top_k": K}}}}, "threshold"),
    ],
)
def test_every_schema_of_saev_and_both_treatments_of_its_bias(
    tmp_path: Path, header: dict[str, Any], expected: str
) -> None:
    state = square_state()
    if expected == "threshold":
        state["activation.threshold"] = torch.tensor(0.4)
    path = write_saev(tmp_path / "sae.pt", header, state)
    found = read_path(path)
    assert found.format == "saev"
    labels = [reading.label for reading in found.sites[0].readings]
    assert labels == ["b_dec not taken from what is read", "b_dec taken from what is read"]
    tokens = some_tokens()
    for reading, is_taken in zip(found.sites[0].readings, (False, True), strict=True):
        latents = relu_latents(tokens, state, is_bias_taken=is_taken)
        if expected == "topk":
            latents = kept(latents, K)
        if expected == "threshold":
            latents = latents * (latents > 0.4)
        assert_same(dense(reading.coder, tokens), latents)


def test_a_saev_file_without_a_bias_is_not_ambiguous(tmp_path: Path) -> None:
    path = write_saev(tmp_path / "sae.pt", {"d_vit": D}, square_state(b_dec=torch.zeros(D)))
    assert [reading.label for reading in read_path(path).sites[0].readings] == [""]


def test_an_unknown_schema_of_saev_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="schema 9, which is not known here"):
        read_path(write_saev(tmp_path / "sae.pt", {"schema": 9, "cfg": {}}, square_state()))


def test_topk_and_batchtopk_of_dictionary_learning_are_both_tried_without_a_configuration(tmp_path: Path) -> None:
    state = {
        "encoder.weight": numbers(F, D, seed=1), "encoder.bias": numbers(F, seed=2), "b_dec": numbers(D, seed=4),
        "decoder.weight": numbers(D, F, seed=3), "k": torch.tensor(K), "threshold": torch.tensor(0.3),
    }  # fmt: skip
    torch.save(state, tmp_path / "ae.pt")
    (site,) = read_path(tmp_path / "ae.pt").sites
    assert [reading.kind for reading in site.readings] == ["topk_sae", "batch_topk_sae"]
    (tmp_path / "config.json").write_text(json.dumps({"trainer": {"dict_class": "BatchTopKSAE"}}))
    (site,) = read_path(tmp_path).sites
    assert [(reading.kind, reading.label) for reading in site.readings] == [("batch_topk_sae", "")]


def test_old_saelens_configurations_mean_the_same(tmp_path: Path) -> None:
    config = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}, "hook_point": "blocks.3.hook_resid_post"}
    site, reading = only(write_saelens(tmp_path / "old", config | {"metadata": {}}), "saelens")
    assert (reading.coder.k, reading.kind, site.reads) == (K, "topk_sae", "blocks.3.hook_resid_post")
    factor = 1 + numbers(F, seed=11).abs()
    tuned = {"finetuning_scaling_factor": True}
    _, reading = only(write_saelens(tmp_path / "tuned", tuned, finetuning_scaling_factor=factor), "saelens")
    assert_same(reading.coder.W_dec, square_state()["W_dec"] * factor[:, None])


def test_a_checkpoint_without_its_factor_is_refused(tmp_path: Path) -> None:
    write_saelens(tmp_path / "sae", {"normalize_activations": "expected_average_only_in"})
    with pytest.raises(FormatError, match=r"put activation_scaler\.json beside it"):
        read_path(tmp_path / "sae")


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"architecture": "temporal"}, "architecture 'temporal' is no coder"),
        ({"activation_fn": "tanh-relu"}, "activation 'tanh-relu' is not known"),
        ({"normalize_activations": "covariance_whitening"}, "which only the training run knows"),
        ({"architecture": "topk", "k": F + 1}, f"k is {F + 1}, more than the {F} latents"),
        ({"architecture": "topk"}, "k is 0; it must be 1 or more"),
        ({"architecture": "topk", "k": "many"}, "k is 'many'"),
    ],
)
def test_saelens_files_that_cannot_be_used(tmp_path: Path, config: dict[str, Any], sentence: str) -> None:
    with pytest.raises(FormatError, match=sentence):
        read_path(write_saelens(tmp_path / "sae", config))


def test_sparsify_turned_round_is_refused(tmp_path: Path) -> None:
    state = {"encoder.weight": numbers(F, D), "encoder.bias": numbers(F), "b_dec": numbers(D), "W_dec": numbers(D, F)}
    save_file(state, tmp_path / "sae.safetensors")
    (tmp_path / "cfg.json").write_text(json.dumps({"k": K, "d_in": D}))
    with pytest.raises(FormatError, match="lies the other way round"):
        read_path(tmp_path)
    save_file(state | {"W_dec": numbers(F, D)}, tmp_path / "sae.safetensors")
    assert read_path(tmp_path).sites[0].readings[0].coder.n_latents == F
    (tmp_path / "cfg.json").write_text(json.dumps({"k": K, "d_in": D, "activation": "groupmax"}))
    with pytest.raises(FormatError, match="activation is 'groupmax'"):
        read_path(tmp_path)


def test_overcomplete_normalizes_the_stored_rows_and_wants_k(tmp_path: Path) -> None:
    rows = numbers(F, D, seed=3)
    state = {
        "encoder.final_block.0.weight": numbers(F, D, seed=1), "encoder.final_block.0.bias": numbers(F, seed=2),
        "dictionary._weights": rows, "dictionary.multiplier": torch.tensor(0.7),
    }  # fmt: skip
    torch.save(state, tmp_path / "sae.pth")
    with pytest.raises(FormatError, match="how many latents may be active per token; give k"):
        read_path(tmp_path / "sae.pth")
    _, reading = only(tmp_path / "sae.pth", "overcomplete", k=K)
    assert_same(reading.coder.W_dec, rows / rows.norm(dim=1, keepdim=True) * torch.tensor(0.7).exp())
    state["encoder.final_block.1.weight"] = state["encoder.final_block.1.bias"] = numbers(F)
    torch.save(state, tmp_path / "sae.pth")
    with pytest.raises(FormatError, match="a layer norm follows its linear encoder"):
        read_path(tmp_path / "sae.pth", hints=Hints(k=K))


def test_a_tree_of_hookpoints_is_read_in_natural_order(tmp_path: Path) -> None:
    for layer in (10, 2, 1):
        write_saelens(tmp_path / f"layer_{layer}", {"metadata": {"hook_name": f"blocks.{layer}.hook_resid_post"}})
    found = read_path(tmp_path)
    assert [site.reads.split(".")[1] for site in found.sites] == ["1", "2", "10"]


def test_files_of_two_formats_are_not_guessed_between(tmp_path: Path) -> None:
    write_saelens(tmp_path / "a")
    torch.save({"epoch": 1, "model_state_dict": square_state()}, tmp_path / "K3.pth")
    with pytest.raises(FormatError, match=r"files of several formats \(rrm, saelens\)"):
        read_path(tmp_path)
    assert read_path(tmp_path, "saelens").format == "saelens"
