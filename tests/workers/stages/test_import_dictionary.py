"""Importing through the stage: what fits the model becomes a dictionary, what does not is refused with its reason."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.workers.stages.tiny_world import TinyWorld, make_tiny_world
from workers.artifacts import Artifact
from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.formats.checking import fit_coder, refuse_wrong
from workers.dictionaries.formats.detection import FORMATS
from workers.dictionaries.formats.weights import FormatError, Weights, read_as
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.store import CoderDictionary, load_dictionary
from workers.stages.configs import ConfigError, ImportDictionaryConfig
from workers.stages.configs.importing import IMPORT_FORMATS, fingerprint, import_source
from workers.stages.context import SilentReporter
from workers.stages.local import run_locally


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> TinyWorld:
    return make_tiny_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def trained(world: TinyWorld) -> Artifact:
    return world.train(0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "to-import"
    folder.mkdir()
    return folder


def ask(world: TinyWorld, path: str, **changes: Any) -> ImportDictionaryConfig:
    return replace(ImportDictionaryConfig(path, world.image_set.digest, world.vision_model.digest), **changes)


def run_import(world: TinyWorld, root: Path, config: ImportDictionaryConfig) -> Artifact:
    """As the site does it: the files are part of the request."""
    config = config if config.files else replace(config, files=fingerprint(import_source(root, config.path)))
    roots = {world.image_set.digest: world.root}
    silent = SilentReporter()
    digests = run_locally(
        "import-dictionary", config, world.store, roots, reporter=silent, n_threads=1, import_root=root
    )
    return world.store.open(digests[0])


def coder_of(trained: Artifact, hookpoint: str) -> SparseCoder:
    dictionary = load_dictionary(trained)
    assert isinstance(dictionary, CoderDictionary)
    return dictionary.coders[hookpoint]


def write_as_saelens(folder: Path, coder: SparseCoder, hook: str, config: Mapping[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True)
    settings = {
        "architecture": "topk", "k": coder.k, "d_in": coder.d_model, "d_sae": coder.n_latents,
        "apply_b_dec_to_input": True, "normalize_activations": "layer_norm", "metadata": {"hook_name": hook},
    }  # fmt: skip
    (folder / "cfg.json").write_text(json.dumps(settings | dict(config or {})))
    tensors = {"W_enc": coder.W_enc.T, "W_dec": coder.W_dec, "b_enc": coder.b_enc, "b_dec": coder.b_dec}
    save_file(
        {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, folder / "sae_weights.safetensors"
    )
    return folder


def test_an_import_is_the_dictionary_it_was_with_its_origin_and_its_check(
    world: TinyWorld, trained: Artifact, root: Path
) -> None:
    for number in (0, 1):
        coder = coder_of(trained, f"blocks.{number}")
        write_as_saelens(root / "saes" / f"layer_{number}", coder, f"blocks.{number}.hook_resid_post")
    artifact = run_import(world, root, ask(world, "saes", name="borrowed"))
    imported = load_dictionary(artifact)
    assert (imported.kind, imported.reads) == ("topk_sae", ("blocks.0", "blocks.1"))
    assert imported.description.origin == "SAELens: saes"
    tokens = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    original = load_dictionary(trained)
    for read in imported.reads:
        ours, theirs = imported.encode(read, tokens), original.encode(read, tokens)
        assert torch.allclose(imported.decode({read: ours})[read], original.decode({read: theirs})[read], atol=1e-5)
    facts = artifact.json("import.json")
    assert (facts["format"], facts["path"], facts["is_forced"]) == ("saelens", "saes", False)
    figures = [fit["explained_variance"] for fit in facts["check"]["fits"]]
    assert min(figures) > 0.5
    assert artifact.config["name"] == "borrowed"
    assert artifact.manifest["parents"] == [world.image_set.digest, world.vision_model.digest]


def refusal(world: TinyWorld, root: Path, config: ImportDictionaryConfig) -> str:
    before = {artifact.digest for artifact in world.store.of_kind("dictionary")}
    with pytest.raises(ValueError) as caught:
        run_import(world, root, config)
    assert {artifact.digest for artifact in world.store.of_kind("dictionary")} == before
    assert list((world.store.root / "unfinished").glob("*")) == []
    return str(caught.value)


def test_the_wrong_normalization_is_refused_and_named(world: TinyWorld, trained: Artifact, root: Path) -> None:
    coder = coder_of(trained, "blocks.1")
    write_as_saelens(root / "sae", coder, "blocks.1.hook_resid_post", {"normalize_activations": "none"})
    sentence = refusal(world, root, ask(world, "sae"))
    assert "of the variance at blocks.1: wrong hookpoint, wrong normalization or wrong model." in sentence
    assert "used otherwise: each token normalized to mean 0 and deviation 1: 9" in sentence
    forced = run_import(world, root, ask(world, "sae", is_forced=True))
    assert forced.json("import.json")["is_forced"] is True


def test_the_wrong_hookpoint_is_refused_and_the_right_one_named(
    world: TinyWorld, trained: Artifact, root: Path
) -> None:
    write_as_saelens(root / "sae", coder_of(trained, "blocks.0"), "blocks.1.mlp.hook_out")
    sentence = refusal(world, root, ask(world, "sae"))
    assert "at blocks.1.mlp.out: wrong hookpoint" in sentence
    assert run_import(world, root, ask(world, "sae", hookpoints=("blocks.0",))).json("dictionary.json")["reads"] == [
        "blocks.0"
    ]


def test_a_place_that_is_a_lot_worse_than_the_one_the_file_names_is_refused() -> None:
    """At blocks.0 the weights explain all; at blocks.4, which is no neighbor, over the floor and far less than that."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q
    codes = torch.zeros(800, 16).scatter(1, torch.rand(800, 16, generator=generator).argsort(1)[:, :4], 1.0)
    tokens = codes @ rows
    activations = {"blocks.0": tokens, "blocks.4": tokens + 0.35 * torch.randn(800, 16, generator=generator)}
    reading = read_as(Weights(rows, rows, torch.zeros(16), k=4), "sae")
    _, fit = fit_coder([reading], "sae", "blocks.4", "blocks.4", activations)
    assert not fit.is_wrong
    assert 0.4 < fit.explained_variance < 0.8
    _, fit = fit_coder([reading], "sae", "blocks.4", "blocks.4", activations, ("blocks.0", "blocks.0"))
    assert fit.is_wrong
    with pytest.raises(FormatError, match="which the file names: 100 %"):
        refuse_wrong([fit], is_forced=False, log=print)
    _, fit = fit_coder([reading], "sae", "blocks.0", "blocks.0", activations, ("blocks.4", "blocks.4"))
    assert not fit.is_wrong


def test_the_place_that_a_file_names_is_tried_too(world: TinyWorld, trained: Artifact, root: Path) -> None:
    write_as_saelens(root / "sae", coder_of(trained, "blocks.0"), "blocks.0.hook_resid_post")
    (fit,) = run_import(world, root, ask(world, "sae", hookpoints=("blocks.1",))).json("import.json")["check"]["fits"]
    assert "blocks.0, which the file names" in [trial["what"] for trial in fit["tried"]]


def test_a_k_that_the_file_says_otherwise_is_refused(world: TinyWorld, trained: Artifact, root: Path) -> None:
    coder = coder_of(trained, "blocks.1")
    write_as_saelens(root / "sae", coder, "blocks.1.hook_resid_post")
    assert refusal(world, root, ask(world, "sae", k=900)) == f"sae says that k is {coder.k}, not 900; leave k out."
    assert run_import(world, root, ask(world, "sae", k=coder.k)).json("import.json")["format"] == "saelens"
    folder = write_as_saelens(root / "relu", coder, "blocks.1.hook_resid_post", {"architecture": "standard"})
    assert "relu has thresholds" in refusal(world, root, ask(world, folder.name, k=4))


def test_another_models_dictionary_is_refused(world: TinyWorld, trained: Artifact, root: Path) -> None:
    coder = coder_of(trained, "blocks.0")
    shuffled = SparseCoder(coder.shape)
    shuffled.load_state_dict(coder.state_dict())
    order = torch.randperm(16, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for name in ("W_enc", "W_dec"):
            getattr(shuffled, name).copy_(getattr(coder, name)[:, order] * -1)
    write_as_saelens(root / "sae", shuffled, "blocks.0.hook_resid_post")
    sentence = refusal(world, root, ask(world, "sae"))
    assert "wrong hookpoint, wrong normalization or wrong model." in sentence
    assert "its dimensions shuffled: " in sentence


def test_a_width_that_does_not_match(world: TinyWorld, root: Path) -> None:
    from tests.workers.dictionaries.formats.layouts import write_saelens

    write_saelens(root / "narrow")
    assert refusal(world, root, ask(world, "narrow")) == (
        "narrow is for activations of 6 dimensions, and blocks.1 of the model has 16: it was trained on another model, "
        "or at another hookpoint."
    )


@pytest.mark.parametrize(
    ("hook", "sentence"),
    [
        ("", "sae does not say where it reads; name its hookpoint."),
        ("blocks.7.hook_resid_post", "but the model has 2 blocks, numbered from 0"),
        ("blocks.1.attn.hook_z", "which is no hookpoint here; name the hookpoint to use."),
    ],
)
def test_a_place_the_model_has_not(world: TinyWorld, trained: Artifact, root: Path, hook: str, sentence: str) -> None:
    write_as_saelens(root / "sae", coder_of(trained, "blocks.1"), hook)
    assert sentence in refusal(world, root, ask(world, "sae"))


def test_hookpoints_must_be_the_models_and_one_for_each_coder(world: TinyWorld, trained: Artifact, root: Path) -> None:
    write_as_saelens(root / "sae", coder_of(trained, "blocks.1"), "blocks.1.hook_resid_post")
    assert "The model has no hookpoint 'blocks.9'" in refusal(world, root, ask(world, "sae", hookpoints=("blocks.9",)))
    both = ("blocks.0", "blocks.1")
    assert "holds 1 coders (sae) and 2 hookpoints are named" in refusal(world, root, ask(world, "sae", hookpoints=both))
    write_as_saelens(root / "two" / "a", coder_of(trained, "blocks.1"), "blocks.1.hook_resid_post")
    write_as_saelens(root / "two" / "b", coder_of(trained, "blocks.1"), "blocks.1.hook_resid_post")
    assert "Several coders read blocks.1 (a, b)" in refusal(world, root, ask(world, "two"))


def test_files_that_changed_after_the_import_was_asked_for(world: TinyWorld, trained: Artifact, root: Path) -> None:
    folder = write_as_saelens(root / "sae", coder_of(trained, "blocks.1"), "blocks.1.hook_resid_post")
    config = ask(world, "sae", files=fingerprint(import_source(root, "sae")))
    (folder / "cfg.json").write_text((folder / "cfg.json").read_text() + " ")
    assert "changed after the import was asked for" in refusal(world, root, config)


def test_only_the_folder_for_imports_is_read(world: TinyWorld, root: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "cfg.json").write_text("{}")
    (root / "link").symlink_to(secret)
    (root / "folder").mkdir()
    (root / "folder" / "cfg.json").symlink_to(secret / "cfg.json")
    for path in ("../secret", str(secret), "link", "folder/../../secret"):
        assert "lies outside of the folder for imports" in refusal(world, root, ask(world, path))
    assert "'cfg.json' in 'folder' is a link to a file outside" in refusal(world, root, ask(world, "folder"))
    assert "There is no 'missing'" in refusal(world, root, ask(world, "missing"))
    assert "not the folder for imports itself" in refusal(world, root, ask(world, "."))
    (root / "ring").symlink_to("ring")
    os.mkfifo(root / "pipe")
    for path in ("a\0b", "x" * 5000, "ring"):
        with pytest.raises(ConfigError, match="The path cannot be one of a file"):
            import_source(root, path)
    with pytest.raises(ConfigError, match="There is no 'pipe'"):
        import_source(root, "pipe")
    (root / "rings").mkdir()
    (root / "rings" / "ring").symlink_to("ring")
    with pytest.raises(ConfigError, match="'ring' in 'rings' is a link to a file outside"):
        import_source(root, "rings")
    with pytest.raises(ConfigError, match="has no folder for imports; set VITRINE_IMPORT_ROOT"):
        import_source(None, "sae")


def test_a_cross_layer_transcoder_of_circuit_tracer(world: TinyWorld, root: Path) -> None:
    """Random weights explain nothing, so the import says so; forced, it is the same transcoder."""
    folder, n_latents, d = root / "clt", 24, 16
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(2):
        encoder = {
            f"W_enc_{i}": torch.randn(n_latents, d, generator=generator), f"b_enc_{i}": torch.zeros(n_latents),
            f"b_dec_{i}": torch.randn(d, generator=generator), f"threshold_{i}": torch.full((n_latents,), 0.5),
        }  # fmt: skip
        save_file(encoder, folder / f"W_enc_{i}.safetensors")
        decoder = torch.randn(n_latents, 2 - i, d, generator=generator)
        save_file({f"W_dec_{i}": decoder}, folder / f"W_dec_{i}.safetensors")
    sentence = refusal(world, root, ask(world, "clt"))
    assert "clt explains" in sentence
    assert "at blocks.0.mlp.in to blocks.0.mlp.out" in sentence or "at blocks.1.mlp.in" in sentence
    imported = load_dictionary(run_import(world, root, ask(world, "clt", is_forced=True)))
    assert isinstance(imported, CrossLayerDictionary)
    assert imported.writes_of("blocks.0.mlp.in") == ("blocks.0.mlp.out", "blocks.1.mlp.out")
    with pytest.raises(ValueError, match="is a cross-layer transcoder of 2 layers, and 1 hookpoints"):
        run_import(world, root, ask(world, "clt", hookpoints=("blocks.0.mlp.in",)))


def test_the_formats_of_the_config_are_those_that_are_read() -> None:
    assert set(IMPORT_FORMATS) == {"auto", *FORMATS}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"path": " "}, "Name the file or folder"),
        ({"format": "onnx"}, "The format 'onnx' is unknown"),
        ({"k": -1}, "k is -1"),
        ({"n_images": 0}, "The check reads 0 images"),
        ({"hookpoints": ("blocks.0", "blocks.0")}, "Name each hookpoint once"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        ImportDictionaryConfig(**({"path": "sae", "image_set": "a", "vision_model": "b"} | changes))
