"""Files written by the libraries' own code, each with the latents that the library computed from it.

Run inside the peers' environment: ``.venv-peers/bin/python -m workers.benchmarks.format_fixtures FOLDER``. Each case is
a folder with the library's files in ``files/``, the tokens it read with its latents and reconstruction in
``expected.safetensors``, and ``case.json``; ``--pack`` puts those of each library into one zip, as the tests keep
them. Weights are random and scaled so that every trap shows: biases that are not
zero, decoder rows whose norms are not one, thresholds that silence some latents and not others.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from workers.timm_loading import make_torchvision_importable

D, F, K, N = 6, 12, 3, 6
LAYERS = 3
FACTOR = 1.7
ROWS_OF_DATA = 14


class Case(NamedTuple):
    """What the library made of the tokens it was given."""

    tokens: Tensor
    latents: Tensor
    reconstruction: Tensor
    facts: dict[str, Any]


Writer = Callable[[Path], Case]


def fetched(name: str) -> Any:
    return importlib.import_module(name)


def some_tokens(seed: int = 0, *shape: int) -> Tensor:
    return short(2.0 * torch.randn(*(shape or (N, D)), generator=torch.Generator().manual_seed(seed)) + 0.3)


def short(values: Tensor) -> Tensor:
    """Numbers of few digits, which pack well."""
    return values.bfloat16().float()


@torch.no_grad()
def stir(module: torch.nn.Module, seed: int = 1) -> None:
    """Random weights for every parameter; thresholds get values of their own by the cases."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.copy_(short(0.5 * torch.randn(parameter.shape, generator=generator)))


def result(tokens: Tensor, latents: Tensor, reconstruction: Tensor, **facts: Any) -> Case:
    return Case(tokens.detach(), latents.detach(), reconstruction.detach(), facts)


def saelens_plain(name: str, settings: dict[str, Any], prepare: Callable[[Any], None] = lambda sae: None) -> Writer:
    """What save_model writes of an inference class."""

    def write(folder: Path) -> Case:
        lens = fetched("sae_lens")
        hook = fetched("sae_lens.saes.sae").SAEMetadata(hook_name="blocks.1.hook_resid_post")
        sae = getattr(lens, name)(getattr(lens, f"{name}Config")(d_in=D, d_sae=F, metadata=hook, **settings))
        stir(sae)
        prepare(sae)
        sae.save_model(folder)
        loaded = lens.SAE.load_from_disk(str(folder))
        tokens = some_tokens()
        return result(tokens, loaded.encode(tokens), loaded(tokens), reads="blocks.1.hook_resid_post")

    return write


def saelens_trained(name: str, settings: dict[str, Any], *, is_checkpoint: bool) -> Writer:
    """What training leaves behind: latents are those of the saved inference model."""

    def write(folder: Path) -> Case:
        lens = fetched("sae_lens")
        sae = getattr(lens, name)(getattr(lens, f"{name}Config")(d_in=D, d_sae=F, **settings))
        stir(sae)
        if hasattr(sae, "topk_threshold"):
            sae.topk_threshold.fill_(0.6)
        final = folder.parent / "inference"
        sae.save_inference_model(final)
        loaded = lens.SAE.load_from_disk(str(final))
        (sae.save_model if is_checkpoint else sae.save_inference_model)(folder)
        tokens = some_tokens()
        case = result(tokens, loaded.encode(tokens), loaded(tokens))
        shutil.rmtree(final)
        return case

    return write


def saelens_scaled(folder: Path) -> Case:
    """A checkpoint whose activations were multiplied by a factor that lies beside it."""
    lens = fetched("sae_lens")
    settings = {"normalize_activations": "expected_average_only_in"}
    sae = lens.StandardTrainingSAE(lens.StandardTrainingSAEConfig(d_in=D, d_sae=F, **settings))
    stir(sae)
    sae.save_model(folder)
    scaler = fetched("sae_lens.training.activation_scaler").ActivationScaler(scaling_factor=FACTOR)
    scaler.save(str(folder / "activation_scaler.json"))
    tokens = some_tokens()
    read = scaler.scale(tokens)
    return result(tokens, sae.encode(read), scaler.unscale(sae(read)))


def set_thresholds(sae: Any) -> None:
    sae.threshold.data = torch.linspace(0.0, 1.5, F)


def saelens_cases() -> Iterator[tuple[str, Writer]]:
    wide = {"d_out": D, "apply_b_dec_to_input": False}
    yield "standard", saelens_plain("StandardSAE", {})
    yield "standard-bias-kept", saelens_plain("StandardSAE", {"apply_b_dec_to_input": False})
    yield "layer-norm", saelens_plain("StandardSAE", {"normalize_activations": "layer_norm"})
    yield "norm-rescale", saelens_plain("StandardSAE", {"normalize_activations": "constant_norm_rescale"})
    yield "gated", saelens_plain("GatedSAE", {})
    yield "jumprelu", saelens_plain("JumpReLUSAE", {}, set_thresholds)
    yield "topk", saelens_trained("TopKTrainingSAE", {"k": K}, is_checkpoint=False)
    yield "topk-checkpoint", saelens_trained("TopKTrainingSAE", {"k": K}, is_checkpoint=True)
    yield "abstopk", saelens_plain("AbsTopKSAE", {"k": K})
    yield "batchtopk", saelens_trained("BatchTopKTrainingSAE", {"k": K}, is_checkpoint=False)
    yield "batchtopk-checkpoint", saelens_trained("BatchTopKTrainingSAE", {"k": K}, is_checkpoint=True)
    yield "jumprelu-checkpoint", saelens_trained("JumpReLUTrainingSAE", {}, is_checkpoint=True)
    yield "scaled-checkpoint", saelens_scaled
    yield "transcoder", saelens_plain("Transcoder", wide)
    yield "skip-transcoder", saelens_plain("SkipTranscoder", wide)
    yield "jumprelu-transcoder", saelens_plain("JumpReLUTranscoder", wide, set_thresholds)


def sparsify_cases() -> Iterator[tuple[str, Writer]]:
    coder_class = fetched("sparsify.sparse_coder").SparseCoder
    config_class = fetched("sparsify.config").SparseCoderConfig

    def coder(settings: dict[str, Any]) -> Writer:
        def write(folder: Path) -> Case:
            sae = coder_class(D, config_class(num_latents=F, k=K, **settings))
            stir(sae)
            sae.save_to_disk(folder / "layers.1")
            loaded = coder_class.load_from_disk(folder / "layers.1")
            tokens = some_tokens()
            values, indices, pre = loaded.encode(tokens)
            latents = torch.zeros_like(pre).scatter(1, indices, values)
            return result(tokens, latents, sparsify_output(loaded, tokens, values, indices), reads="layers.1")

        return write

    yield "topk", coder({})
    yield "skip", coder({"skip_connection": True})
    yield "skip-transcoder", coder({"skip_connection": True, "transcode": True})


def sparsify_output(sae: Any, tokens: Tensor, values: Tensor, indices: Tensor) -> Tensor:
    """What its forward pass computes, without the autocast of a GPU."""
    dense = torch.zeros(tokens.shape[0], F).scatter(1, indices, values)
    skip = tokens @ sae.W_skip.mT if sae.W_skip is not None else 0.0
    output: Tensor = dense @ sae.W_dec + sae.b_dec + skip
    return output


def dictionary_learning_cases() -> Iterator[tuple[str, Writer]]:
    dictionary = fetched("dictionary_learning.dictionary")

    def saved(build: Callable[[], Any], class_name: str, load: Callable[[str], Any] | None = None) -> Writer:
        def write(folder: Path) -> Case:
            sae = build()
            torch.save(sae.state_dict(), folder / "ae.pt")
            settings = {"trainer": {"dict_class": class_name, "layer": 1}, "buffer": None}
            (folder / "config.json").write_text(json.dumps(settings))
            loaded = load(str(folder / "ae.pt")) if load is not None else sae
            tokens = some_tokens()
            latents = loaded.encode(tokens)
            return result(tokens, latents, loaded.decode(latents), reads="layers.1")

        return write

    def stirred(sae: Any) -> Any:
        stir(sae)
        if hasattr(sae, "threshold") and sae.threshold.numel() == 1:
            sae.threshold.fill_(0.4)
        elif hasattr(sae, "threshold"):
            sae.threshold.data = torch.linspace(0.0, 1.5, F)
        return sae

    top = fetched("dictionary_learning.trainers.top_k").AutoEncoderTopK
    batch = fetched("dictionary_learning.trainers.batch_top_k").BatchTopKSAE
    nested = fetched("dictionary_learning.trainers.matryoshka_batch_top_k").MatryoshkaBatchTopKSAE
    yield "topk", saved(lambda: stirred(top(D, F, K)), "AutoEncoderTopK", top.from_pretrained)
    yield "batchtopk", saved(lambda: stirred(batch(D, F, K)), "BatchTopKSAE", batch.from_pretrained)
    halves = [F // 2, F // 2]
    yield "matryoshka", saved(lambda: stirred(nested(D, F, K, halves)), "MatryoshkaBatchTopKSAE")
    relu = dictionary.AutoEncoder
    yield "standard", saved(lambda: stirred(relu(D, F)), "AutoEncoder", partial(quietly, relu.from_pretrained))
    new = dictionary.AutoEncoderNew
    yield "standard-new", saved(lambda: stirred(new(D, F)), "AutoEncoderNew", new.from_pretrained)
    gated = dictionary.GatedAutoEncoder
    yield "gated", saved(lambda: stirred(gated(D, F)), "GatedAutoEncoder", gated.from_pretrained)
    jump = dictionary.JumpReluAutoEncoder
    yield "jumprelu", saved(lambda: stirred(jump(D, F)), "JumpReluAutoEncoder", jump.from_pretrained)


def quietly(call: Callable[[str], Any], path: str) -> Any:
    """The library prints while it rescales, and asserts with tolerances of its own."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()):
        return call(path)


def overcomplete_cases() -> Iterator[tuple[str, Writer]]:
    sae_module = fetched("overcomplete.sae")
    archetypal = fetched("overcomplete.sae.rasae").RATopKSAE

    def saved(build: Callable[[], Any], *, is_whole: bool, prepare: Callable[[Any], None] = lambda sae: None) -> Writer:
        def write(folder: Path) -> Case:
            sae = build().train()
            stir(sae)
            prepare(sae)
            torch.save(sae if is_whole else sae.state_dict(), folder / "sae.pth")
            sae.eval()
            tokens = some_tokens()
            _, latents = sae.encode(tokens)
            return result(tokens, latents, sae.decode(latents), k=0 if is_whole else K)

        return write

    def warm_up(sae: Any) -> None:
        sae.encode(some_tokens(5))

    def points() -> Tensor:
        return some_tokens(3, ROWS_OF_DATA, D)

    yield "topk", saved(lambda: sae_module.TopKSAE(D, F, top_k=K), is_whole=False)
    parameters = {"use_multiplier": True}
    yield (
        "topk-multiplier",
        saved(lambda: sae_module.TopKSAE(D, F, top_k=K, dictionary_params=parameters), is_whole=False),
    )
    yield "topk-whole", saved(lambda: sae_module.TopKSAE(D, F, top_k=K), is_whole=True)
    yield "topk-batch-norm", saved(lambda: sae_module.TopKSAE(D, F, top_k=K, encoder_module="mlp_bn_1"), is_whole=False)
    yield "topk-tied", saved(lambda: sae_module.TopKSAE(D, F, top_k=K).tied(), is_whole=False)
    yield "batchtopk-whole", saved(lambda: sae_module.BatchTopKSAE(D, F, top_k=K * N), is_whole=True, prepare=warm_up)
    yield "jumprelu", saved(lambda: sae_module.JumpSAE(D, F), is_whole=False)
    yield "archetypal", saved(lambda: archetypal(D, F, points(), top_k=K), is_whole=False)


def saev_cases() -> Iterator[tuple[str, Writer]]:
    """Version 0.1.0, the one that is published: no schema in the header, b_dec taken from what is read."""
    nn, config = fetched("saev.nn"), fetched("saev.config")

    def write(folder: Path) -> Case:
        sae = nn.SparseAutoencoder(config.SparseAutoencoder(d_vit=D, exp_factor=F // D))
        stir(sae)
        nn.dump(str(folder / "sae.pt"), sae)
        loaded = nn.load(str(folder / "sae.pt"))
        tokens = some_tokens()
        reconstruction, latents, _ = loaded(tokens)
        return result(tokens, latents, reconstruction, label="b_dec taken from what is read")

    yield "relu", write


def circuit_tracer_cases() -> Iterator[tuple[str, Writer]]:
    single = fetched("circuit_tracer.transcoder.single_layer_transcoder")
    crossed = fetched("circuit_tracer.transcoder.cross_layer_transcoder")
    jump = fetched("circuit_tracer.transcoder.activation_functions").JumpReLU
    hooks = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "mlp.hook_out"}
    cpu = {"device": torch.device("cpu"), "dtype": torch.float32}

    def save_config(folder: Path, kind: str) -> None:
        lines = [f"{name}: {value}\n" for name, value in {"model_kind": kind, **hooks}.items()]
        (folder / "config.yaml").write_text("".join(lines))

    def per_layer(*, is_jump: bool, has_skip: bool) -> Writer:
        def write(folder: Path) -> Case:
            activation = jump(torch.zeros(F), 0.1) if is_jump else torch.nn.functional.relu
            coder = single.SingleLayerTranscoder(D, F, activation, 0, skip_connection=has_skip, **cpu)
            stir(coder)
            if is_jump:
                coder.activation_function.threshold.data = torch.linspace(0.0, 1.5, F)
            coder.to_safetensors(str(folder / "layer_0.safetensors"))
            save_config(folder, "transcoder_set")
            loaded = single.load_relu_transcoder(str(folder / "layer_0.safetensors"), 0, **cpu)
            tokens = some_tokens()
            latents = loaded.encode(tokens)
            return result(tokens, latents, loaded(tokens), reads="blocks.0.mlp.hook_in", writes="blocks.0.mlp.hook_out")

        return write

    def cross_layer(*, is_jump: bool) -> Writer:
        def write(folder: Path) -> Case:
            name = "jump_relu" if is_jump else "relu"
            clt = crossed.CrossLayerTranscoder(LAYERS, F, D, activation_function=name, lazy_decoder=False, **cpu)
            stir(clt)
            if is_jump:
                clt.activation_function.threshold.data = torch.linspace(0.0, 1.5, F).expand(LAYERS, 1, F).clone()
            clt.to_safetensors(str(folder))
            save_config(folder, "cross_layer_transcoder")
            loaded = crossed.load_clt(str(folder), lazy_decoder=False, **cpu)
            tokens = some_tokens(0, LAYERS, N, D)
            latents = loaded.encode(tokens)
            return result(tokens, latents, loaded.decode(latents.to_sparse()))

        return write

    yield "per-layer", per_layer(is_jump=False, has_skip=False)
    yield "per-layer-jump-skip", per_layer(is_jump=True, has_skip=True)
    yield "cross-layer", cross_layer(is_jump=False)
    yield "cross-layer-jump", cross_layer(is_jump=True)


LIBRARIES: dict[str, tuple[str, Callable[[], Iterator[tuple[str, Writer]]]]] = {
    "saelens": ("sae-lens", saelens_cases),
    "sparsify": ("eai-sparsify", sparsify_cases),
    "dictionary_learning": ("dictionary-learning", dictionary_learning_cases),
    "overcomplete": ("overcomplete", overcomplete_cases),
    "saev": ("saev", saev_cases),
    "circuit-tracer": ("circuit-tracer", circuit_tracer_cases),
}


def write_case(folder: Path, writer: Writer, about: dict[str, Any]) -> None:
    files = folder / "files"
    files.mkdir(parents=True)
    torch.manual_seed(0)
    case = writer(files)
    tensors = {"tokens": case.tokens, "latents": case.latents, "reconstruction": case.reconstruction}
    save_file(
        {name: tensor.to_dense().contiguous() for name, tensor in tensors.items()}, folder / "expected.safetensors"
    )
    (folder / "case.json").write_text(json.dumps(about | case.facts, sort_keys=True) + "\n")


def pack(folder: Path) -> None:
    """The cases of a library as FOLDER.zip, the same bytes for the same files."""
    with zipfile.ZipFile(folder.with_suffix(".zip"), "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), date_time=(2026, 1, 1, 0, 0, 0))
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 9)
    shutil.rmtree(folder)


def main(target: Path, *, is_packed: bool) -> None:
    make_torchvision_importable()
    for name, (package, cases) in LIBRARIES.items():
        about = {"format": name, "library": package, "version": metadata.version(package)}
        for case, writer in cases():
            write_case(target / name / case, writer, about)
            sys.stdout.write(f"{name}/{case}\n")
        if is_packed:
            pack(target / name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), is_packed="--pack" in sys.argv[2:])
