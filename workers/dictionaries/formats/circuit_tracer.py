"""circuit-tracer (Hanna et al.): cross-layer transcoders and sets of per-layer transcoders, as safetensors.

A cross-layer one has for each layer i `W_enc_i.safetensors` (W_enc_i [F, d], b_enc_i, b_dec_i, threshold_i where it
jumps, W_skip_i) and `W_dec_i.safetensors` (W_dec_i [F, L − i, d]: slice j writes at layer i + j). A set has one file
per layer (W_enc [F, d], W_dec [F, d], b_enc, b_dec, `activation_function.threshold`, W_skip). `config.yaml` names the
hooks, and for a set also an activation of top-k.

Traps. A set's skip connection is x W_skipᵀ and a cross-layer one's x W_skip; the latter has no counterpart here and is
refused. b_dec_i belongs to the layer that is written. Files may be of bfloat16. Decoders are read a layer at a time.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerShape
from workers.dictionaries.formats.files import Candidate, TensorFile, shown, whole_number
from workers.dictionaries.formats.weights import FormatError, Hints, Site, Weights, demand, read_as

NAME, TITLE = "circuit-tracer", "circuit-tracer"
CONFIG = "config.yaml"
CONFIG_BYTES = 1 << 20
LAYER_FILE = re.compile(r"^(?:layer_?|transcoder_?)?(\d+)\.safetensors$")
ENCODER_FILE = re.compile(r"^W_enc_(\d+)\.safetensors$")
KEYS = {"W_enc", "W_dec", "b_enc", "b_dec"}
THRESHOLDS = ("activation_function.threshold", "threshold")


def claims(candidate: Candidate) -> bool:
    if candidate.is_folder:
        return is_folder_of_layers(candidate)
    return candidate.path.suffix == ".safetensors" and set(TensorFile(candidate.path).names) >= KEYS


def is_folder_of_layers(candidate: Candidate) -> bool:
    return is_cross_layer(candidate) or any(LAYER_FILE.match(name) for name in candidate.names)


def is_cross_layer(candidate: Candidate) -> bool:
    return candidate.has("W_enc_0.safetensors")


def read_config(candidate: Candidate) -> dict[str, Any]:
    path = (candidate.path if candidate.is_folder else candidate.path.parent) / CONFIG
    if not path.is_file():
        return {}
    try:
        demand(path.stat().st_size <= CONFIG_BYTES, f"{CONFIG} is larger than a configuration can be.")
        found = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FormatError(f"{CONFIG} cannot be read as YAML: {error}.") from error
    return dict(found) if isinstance(found, dict) else {}


def read(candidate: Candidate, hints: Hints) -> tuple[Site, ...]:
    """The transcoders of a set, in the order of their layers."""
    config = read_config(candidate)
    layers = layer_files(candidate)
    return tuple(read_layer(path, layer, config, hints) for layer, path in layers)


def layer_files(candidate: Candidate) -> list[tuple[int | None, Path]]:
    if not candidate.is_folder:
        found = LAYER_FILE.match(candidate.name)
        return [(int(found[1]) if found else None, candidate.path)]
    numbered = [(int(found[1]), name) for name in candidate.names if (found := LAYER_FILE.match(name))]
    return [(number, candidate.path / name) for number, name in sorted(numbered)]


def read_layer(path: Path, layer: int | None, config: dict[str, Any], hints: Hints) -> Site:
    tensors = TensorFile(path)
    weights = Weights(
        encoder=tensors.get("W_enc"),
        decoder=tensors.get("W_dec"),
        decoder_bias=tensors.get("b_dec"),
        encoder_bias=tensors.get("b_enc"),
        skip=tensors.optional("W_skip"),
    )
    threshold = next((tensors.get(name) for name in THRESHOLDS if name in tensors), None)
    activation = config.get("activation") or ("jump_relu" if threshold is not None else "relu")
    if activation == "topk":
        weights = replace(weights, k=whole_number(config.get("k") or hints.k, f"{path.name}: k"))
    elif threshold is not None:
        flat = threshold.flatten()
        weights = replace(
            weights, threshold=flat.expand(weights.encoder.shape[0]).clone() if flat.numel() == 1 else flat
        )
    reading = read_as(weights, path.name, kind="transcoder")
    return Site(path.name, hook(config, "input", layer), hook(config, "output", layer), (reading,))


def hook(config: dict[str, Any], which: str, layer: int | None) -> str:
    """The full name of a layer's hook; '' where the configuration or the file's name does not give it."""
    name = str(config.get(f"feature_{which}_hook") or "")
    if not name or layer is None:
        return ""
    if "{layer}" in name:
        return name.format(layer=layer)
    return name if name.startswith("blocks.") else f"blocks.{layer}.{name}"


def read_cross_layer(candidate: Candidate) -> CrossLayerCoder:
    """The whole transcoder; each decoder file is read once and let go."""
    files = encoder_files(candidate)
    n_layers = len(files)
    sizes = [file.shape(f"W_enc_{i}") for i, file in enumerate(files)]
    n_latents, d_model = check_sizes(sizes)
    for i, file in enumerate(files):
        demand(
            f"W_skip_{i}" not in file,
            f"{file.path.name}: a cross-layer transcoder with a skip connection cannot be used here.",
        )
    shape = CrossLayerShape(d_model, d_model, (n_latents,) * n_layers, (n_latents,) * n_layers, "threshold")
    coder = CrossLayerCoder(shape)
    with torch.no_grad():
        for i, file in enumerate(files):
            fill_source(coder, i, file, candidate.path / f"W_dec_{i}.safetensors")
    check_finite(coder, candidate.name)
    return coder.requires_grad_(False)


def encoder_files(candidate: Candidate) -> list[TensorFile]:
    numbers = sorted(int(found[1]) for name in candidate.names if (found := ENCODER_FILE.match(name)))
    demand(
        numbers == list(range(len(numbers))),
        f"{candidate.name} holds encoders of the layers {shown(str(number) for number in numbers)}; every layer from 0 "
        "must be there.",
    )
    missing = [f"W_dec_{i}.safetensors" for i in numbers if not candidate.has(f"W_dec_{i}.safetensors")]
    demand(not missing, f"{candidate.name} lacks {shown(missing)}.")
    return [TensorFile(candidate.path / f"W_enc_{i}.safetensors") for i in numbers]


def check_sizes(sizes: list[tuple[int, ...]]) -> tuple[int, int]:
    demand(
        len(set(sizes)) == 1 and len(sizes[0]) == 2,
        f"The encoders have the shapes {shown(str(list(size)) for size in sizes)}; those of one transcoder are equal.",
    )
    return sizes[0][0], sizes[0][1]


def fill_source(coder: CrossLayerCoder, i: int, encoder: TensorFile, decoder_path: Path) -> None:
    n_latents, n_layers = coder.shape.n_latents[i], coder.shape.n_sources
    decoder = TensorFile(decoder_path)
    wanted = (n_latents, n_layers - i, coder.shape.d_out)
    demand(
        decoder.shape(f"W_dec_{i}") == wanted,
        f"{decoder_path.name}: W_dec_{i} has the shape {list(decoder.shape(f'W_dec_{i}'))}, not {list(wanted)}.",
    )
    coder.W_enc[i].copy_(encoder.get(f"W_enc_{i}"))
    coder.b_enc[i].copy_(vector(encoder, f"b_enc_{i}", n_latents))
    coder.b_dec[i].copy_(vector(encoder, f"b_dec_{i}", coder.shape.d_out))
    name = f"threshold_{i}"
    threshold = vector(encoder, name, n_latents) if name in encoder else torch.zeros(n_latents)
    coder.log_threshold[i].copy_(threshold.clamp_min(0).log())
    rows = decoder.get(f"W_dec_{i}")
    start = coder.shape.offsets[i]
    for step in range(n_layers - i):
        coder.W_dec[i + step][start : start + n_latents].copy_(rows[:, step])


def vector(file: TensorFile, name: str, length: int) -> torch.Tensor:
    found = file.get(name).flatten()
    demand(found.numel() == length, f"{file.path.name}: {name} has {found.numel()} entries, not {length}.")
    return found


def check_finite(coder: CrossLayerCoder, source: str) -> None:
    for name, weight in coder.named_parameters():
        is_whole = (
            bool(torch.isfinite(weight).all()) if not name.startswith("log_threshold") else not weight.isnan().any()
        )
        demand(is_whole, f"{source}: the weights hold NaN or infinity; the file is damaged.")
