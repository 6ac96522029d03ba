"""Small random dictionaries of every shape that is exported, and what they compute: our side of the comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerCoder, CrossLayerDictionary, CrossLayerShape
from workers.dictionaries.formats.exporting import export_dictionary
from workers.dictionaries.sparse_coder import CoderShape, SparseCoder
from workers.dictionaries.store import CoderDictionary, Dictionary, DictionaryDescription

D, F, K, N, LAYERS = 12, 32, 4, 64, 2
SHAPES = {
    "topk": CoderShape(D, F, K),
    "topk-plain": CoderShape(D, F, K, normalization="none", has_encoder_bias=True),
    "topk-norm": CoderShape(D, F, K, normalization="norm"),
    "abs-topk": CoderShape(D, F, K, selection="abs_topk"),
    "jumprelu": CoderShape(D, F, F, selection="threshold", has_encoder_bias=True),
}


class ExportCase(NamedTuple):
    """A dictionary, the format it leaves in, and the way the library loads it."""

    name: str
    dictionary: Dictionary
    format: str
    loader: str


def random_numbers(shape: torch.Size, generator: torch.Generator) -> Tensor:
    return 0.5 * torch.randn(shape, generator=generator)


@torch.no_grad()
def random_coder(shape: CoderShape, seed: int) -> SparseCoder:
    coder, generator = SparseCoder(shape), torch.Generator().manual_seed(seed)
    for name, parameter in coder.named_parameters():
        if name != "b_enc" or shape.has_encoder_bias:
            parameter.copy_(random_numbers(parameter.shape, generator))
    if shape.selection == "threshold":
        coder.threshold.copy_(torch.linspace(0.0, 1.0, shape.n_latents))
    return coder.requires_grad_(False)


def coders_at(kind: str, coders: Mapping[str, SparseCoder]) -> CoderDictionary:
    writes = tuple(read.replace(".mlp.in", ".mlp.out") for read in coders)
    return CoderDictionary(DictionaryDescription(kind, "random", tuple(coders), writes, "model", "images"), coders)


def transcoders(n: int) -> CoderDictionary:
    shape = CoderShape(D, F, F, D, "threshold", "none", False, True, True)
    return coders_at("transcoder", {f"blocks.{i}.mlp.in": random_coder(shape, i) for i in range(n)})


@torch.no_grad()
def cross_layer() -> CrossLayerDictionary:
    coder = CrossLayerCoder(CrossLayerShape(D, D, (F,) * LAYERS, (F,) * LAYERS, "threshold"))
    generator = torch.Generator().manual_seed(0)
    for name, parameter in coder.named_parameters():
        parameter.copy_(random_numbers(parameter.shape, generator) - (1.0 if name.startswith("log_") else 0.0))
    places = [(f"blocks.{i}.mlp.in", f"blocks.{i}.mlp.out") for i in range(LAYERS)]
    reads, writes = tuple(read for read, _ in places), tuple(write for _, write in places)
    description = DictionaryDescription("cross_layer_transcoder", "random", reads, writes, "model", "images")
    return CrossLayerDictionary(description, coder.requires_grad_(False))


def export_cases() -> Iterator[ExportCase]:
    for name, shape in SHAPES.items():
        kind = "jumprelu_sae" if shape.selection == "threshold" else "topk_sae"
        yield ExportCase(name, coders_at(kind, {"blocks.1": random_coder(shape, 0)}), "saelens", "saelens")
    yield ExportCase("transcoder", transcoders(1), "saelens", "saelens")
    yield ExportCase("set", transcoders(LAYERS), "circuit-tracer", "circuit-tracer set")
    yield ExportCase("cross-layer", cross_layer(), "circuit-tracer", "circuit-tracer cross-layer")


def write_exports(root: Path) -> None:
    """A folder for each case: what was exported, and what we compute."""
    for case in export_cases():
        folder = root / case.format / case.name
        export_dictionary(case.dictionary, case.format, folder / "files", calibrate_nothing)
        (folder / "case.json").write_text(json.dumps({"format": case.format, "loader": case.loader}))
        ours = computed(case.dictionary)
        is_single = case.loader == "saelens"
        flat = {name: (tensor[0] if is_single else tensor).contiguous() for name, tensor in ours.items()}
        save_file(flat, folder / "ours.safetensors")


def calibrate_nothing(hookpoints: list[str]) -> Mapping[str, Tensor]:
    raise AssertionError("these dictionaries leave without calibration")


def computed(dictionary: Dictionary) -> dict[str, Tensor]:
    """Tokens, latents and reconstruction, [place, token, ...]."""
    generator = torch.Generator().manual_seed(1)
    tokens = {read: 2 * torch.randn(N, D, generator=generator) + 0.3 for read in dictionary.reads}
    codes = {read: dictionary.encode(read, tokens[read]) for read in dictionary.reads}
    rebuilt = dictionary.decode(codes)
    latents = [torch.zeros(N, F).scatter_add(1, found.indices, found.values) for found in codes.values()]
    return {
        "tokens": torch.stack(list(tokens.values())),
        "latents": torch.stack(latents),
        "reconstruction": torch.stack([rebuilt[write] for write in dictionary.writes]),
    }
