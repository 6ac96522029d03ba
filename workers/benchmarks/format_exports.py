"""Our exports as the real libraries read them: what they compute from a folder of ours, for comparison with us.

Run inside the peers' environment: ``.venv-peers/bin/python -m workers.benchmarks.format_exports FOLDER``. Each case is
a folder with ``files/`` (what was exported), ``ours.safetensors`` (tokens, latents, reconstruction) and ``case.json``;
the library's latents and reconstruction are written beside them, as ``theirs.safetensors``.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.timm_loading import make_torchvision_importable

CPU = {"device": torch.device("cpu"), "dtype": torch.float32}


def fetched(name: str) -> Any:
    return importlib.import_module(name)


def load_saelens(folder: Path, tokens: Tensor) -> tuple[Tensor, Tensor]:
    sae = fetched("sae_lens").SAE.load_from_disk(str(folder))
    return sae.encode(tokens), sae(tokens)


def load_transcoder_set(folder: Path, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """``tokens`` [layer, token, d]."""
    single = fetched("circuit_tracer.transcoder.single_layer_transcoder")
    paths = {int(path.stem.rpartition("_")[2]): str(path) for path in folder.glob("layer_*.safetensors")}
    hooks = {"scan": "", "feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}
    layers = single.load_transcoder_set(paths, **hooks, **CPU)
    return layers.encode(tokens), torch.stack([layer(x) for layer, x in zip(layers, tokens, strict=True)])


def load_cross_layer(folder: Path, tokens: Tensor) -> tuple[Tensor, Tensor]:
    clt = fetched("circuit_tracer.transcoder.cross_layer_transcoder").load_clt(str(folder), **CPU)
    latents = clt.encode(tokens)
    return latents, clt.decode(latents.to_sparse())


LOADERS: dict[str, Callable[[Path, Tensor], tuple[Tensor, Tensor]]] = {
    "saelens": load_saelens,
    "circuit-tracer set": load_transcoder_set,
    "circuit-tracer cross-layer": load_cross_layer,
}


def main(root: Path) -> None:
    make_torchvision_importable()
    for path in sorted(root.rglob("case.json")):
        loader = LOADERS[json.loads(path.read_text())["loader"]]
        tokens = load_file(path.parent / "ours.safetensors")["tokens"]
        latents, reconstruction = loader(path.parent / "files", tokens)
        found = {"latents": latents.detach(), "reconstruction": reconstruction.detach()}
        found = {name: tensor.contiguous() for name, tensor in found.items()}
        save_file(found, path.parent / "theirs.safetensors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
