"""Dictionaries as other libraries' files: SAELens, and circuit-tracer's per-layer and cross-layer transcoders.

SAELens has no TopK transcoder and circuit-tracer's loaders know ReLU and JumpReLU only, so TopK leaves as thresholds
calibrated on activations (``calibration``); the loss is in the result and in `README.md` beside the files. A folder is
written under another name and renamed when it is whole.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from workers.dictionaries.cross_layer import CrossLayerDictionary
from workers.dictionaries.formats.calibration import Activations, Loss, calibrate_coder, calibrate_cross_layer
from workers.dictionaries.formats.weights import FormatError, demand
from workers.dictionaries.sparse_coder import SparseCoder
from workers.dictionaries.store import CoderDictionary, Dictionary

EXPORT_FORMATS = ("saelens", "circuit-tracer")
SAELENS_NORMALIZATIONS = {"token": "layer_norm", "none": "none", "norm": "constant_norm_rescale"}
SAELENS_VERSION = "6.0.0"  # from which on its configurations are written like this
LENS_HOOKS = {"": "hook_resid_post", "mlp.in": "mlp.hook_in", "mlp.out": "hook_mlp_out", "mlp.hidden": "mlp.hook_post"}
TRACER_HOOKS = {"feature_input_hook": "mlp.hook_in", "feature_output_hook": "hook_mlp_out"}

GetActivations = Callable[[list[str]], Activations]


class Exported(NamedTuple):
    """Where the files are, and what calibrated thresholds cost ([] where none were needed)."""

    folder: Path
    losses: list[Loss]


def export_dictionary(dictionary: Dictionary, format_name: str, folder: Path, activations: GetActivations) -> Exported:
    """Write a dictionary as another library's files; ``activations`` is called only where TopK is calibrated.

    Raises FormatError where the format cannot hold the dictionary or the folder is there already.
    """
    demand(
        format_name in EXPORT_FORMATS,
        f"There is no export to '{format_name}'; there is one to {' and to '.join(EXPORT_FORMATS)}.",
    )
    demand(not folder.exists(), f"{folder} is there already; name a folder that is not.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        losses = write_files(dictionary, format_name, unfinished, activations)
        (unfinished / "README.md").write_text(readme(dictionary, format_name, losses))
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(folder, losses)


def write_files(dictionary: Dictionary, format_name: str, folder: Path, activations: GetActivations) -> list[Loss]:
    if isinstance(dictionary, CrossLayerDictionary):
        demand(format_name == "circuit-tracer", "SAELens has no cross-layer transcoders; export it to circuit-tracer.")
        return write_cross_layer(dictionary, folder, activations)
    if not isinstance(dictionary, CoderDictionary):
        raise FormatError(
            f"A dictionary of kind '{dictionary.kind}' is no sparse coder of one encoder and one decoder."
        )
    if format_name == "saelens":
        return write_saelens(dictionary, folder, activations)
    return write_transcoders(dictionary, folder, activations)


def write_saelens(dictionary: CoderDictionary, folder: Path, activations: GetActivations) -> list[Loss]:
    """One folder for each hookpoint, as SAE.load_from_disk reads it."""
    losses = []
    for read, write in zip(dictionary.reads, dictionary.writes, strict=True):
        coder = dictionary.coders[read].cpu()
        is_transcoder = dictionary.kind == "transcoder" or coder.shape.has_skip or read != write
        threshold, loss = None, None
        if is_transcoder and coder.shape.selection == "topk":
            threshold, loss = calibrated(coder, read, write, activations)
            losses.append(loss)
        target = folder / (read if len(dictionary.reads) > 1 else "")
        target.mkdir(exist_ok=True)
        config, tensors = saelens_parts(coder, threshold, is_transcoder=is_transcoder)
        config["metadata"] = saelens_metadata(dictionary, read, write)
        (target / "cfg.json").write_text(json.dumps(config, indent=1))
        save_tensors(tensors, target / "sae_weights.safetensors")
    return losses


def saelens_parts(
    coder: SparseCoder, threshold: Tensor | None, *, is_transcoder: bool
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    shape = coder.shape
    demand(
        not is_transcoder or shape.normalization == "none",
        "SAELens's transcoders read tokens as they are; this one normalizes each token.",
    )
    bias = coder.encoder_offset() if is_transcoder else coder.b_enc
    tensors: dict[str, Tensor] = {"W_enc": coder.W_enc.T, "W_dec": coder.W_dec, "b_enc": bias, "b_dec": coder.b_dec}
    selects = coder.threshold if shape.selection == "threshold" else threshold
    is_jump = selects is not None and bool((selects > 0).any())
    if is_jump and selects is not None:
        tensors["threshold"] = selects
    if shape.has_skip:
        tensors["W_skip"] = coder.W_skip
    config: dict[str, Any] = {
        "architecture": saelens_architecture(coder, is_jump=is_jump, is_transcoder=is_transcoder),
        "d_in": shape.d_model, "d_sae": shape.n_latents, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": shape.is_bias_tied and not is_transcoder,
        "normalize_activations": SAELENS_NORMALIZATIONS[shape.normalization], "reshape_activations": "none",
    }  # fmt: skip
    if config["architecture"] in ("topk", "abstopk"):
        config |= {"k": shape.k, "rescale_acts_by_decoder_norm": False}
    if is_transcoder:
        config["d_out"] = shape.width_written
    return config, tensors


def saelens_architecture(coder: SparseCoder, *, is_jump: bool, is_transcoder: bool) -> str:
    selection = coder.shape.selection
    if is_transcoder:
        demand(selection != "abs_topk", "SAELens has no transcoder whose latents may be negative.")
        return f"{'jumprelu_' if is_jump else ''}{'skip_' if coder.shape.has_skip else ''}transcoder"
    return {"topk": "topk", "abs_topk": "abstopk"}.get(selection, "jumprelu" if is_jump else "standard")


def saelens_metadata(dictionary: CoderDictionary, read: str, write: str) -> dict[str, Any]:
    metadata = {
        "sae_lens_version": SAELENS_VERSION, "model_name": dictionary.description.vision_model, "prepend_bos": False,
        "hook_name": lens_hook(read), "hook_head_index": None, "vitrine_dictionary": dictionary.digest,
    }  # fmt: skip
    return metadata | ({"hook_name_out": lens_hook(write)} if read != write else {})


def lens_hook(hookpoint: str) -> str:
    """TransformerLens' name of a hookpoint; ours where it has none (after layer scale)."""
    parts = hookpoint.split(".", 2)
    hook = LENS_HOOKS.get(parts[2] if len(parts) > 2 else "")
    return f"{parts[0]}.{parts[1]}.{hook}" if hook else hookpoint


def write_transcoders(dictionary: CoderDictionary, folder: Path, activations: GetActivations) -> list[Loss]:
    """circuit-tracer's set: a file for each layer from 0, and config.yaml."""
    demand(dictionary.kind == "transcoder", "circuit-tracer holds transcoders, not dictionaries of one hookpoint.")
    check_layers(dictionary.reads, dictionary.writes)
    widths = {coder.n_latents for coder in dictionary.coders.values()}
    demand(len(widths) == 1, "circuit-tracer wants as many latents in every layer.")
    losses: list[Loss] = []
    for layer, (read, write) in enumerate(zip(dictionary.reads, dictionary.writes, strict=True)):
        coder = dictionary.coders[read].cpu()
        demand(coder.shape.normalization == "none", "circuit-tracer reads tokens as they are; these are normalized.")
        demand(coder.shape.selection != "abs_topk", "circuit-tracer has no latents that may be negative.")
        threshold, cost = thresholds_for(coder, read, write, activations)
        losses += cost
        tensors: dict[str, Tensor] = {
            "W_enc": coder.W_enc,
            "W_dec": coder.W_dec,
            "b_enc": coder.encoder_offset(),
            "b_dec": coder.b_dec,
        }
        if bool((threshold > 0).any()):
            tensors["activation_function.threshold"] = threshold
        if coder.shape.has_skip:
            tensors["W_skip"] = coder.W_skip
        save_tensors(tensors, folder / f"layer_{layer}.safetensors")
    write_config(folder, {"model_kind": "transcoder_set", "scan": dictionary.description.name})
    return losses


def write_cross_layer(dictionary: CrossLayerDictionary, folder: Path, activations: GetActivations) -> list[Loss]:
    """For each layer W_enc_i and W_dec_i [F, L − i, d], as load_clt reads them."""
    check_layers(dictionary.reads, dictionary.writes)
    coder = dictionary.coder.cpu()
    shape = coder.shape
    demand(not shape.is_signed, "circuit-tracer has no latents that may be negative.")
    demand(len(set(shape.n_latents)) == 1, "circuit-tracer wants as many latents in every layer.")
    demand(shape.d_model == shape.d_out, "circuit-tracer wants layers that read and write as many dimensions.")
    losses: list[Loss] = []
    thresholds = [coder.thresholds(i) for i in range(shape.n_sources)] if shape.selection == "threshold" else []
    if not thresholds:
        needed = activations(list(dict.fromkeys([*dictionary.reads, *dictionary.writes])))
        thresholds, losses = calibrate_cross_layer(coder, dictionary.reads, dictionary.writes, needed)
    for i in range(shape.n_sources):
        encoder = {f"W_enc_{i}": coder.W_enc[i], f"b_enc_{i}": coder.b_enc[i], f"b_dec_{i}": coder.b_dec[i]}
        save_tensors(encoder | {f"threshold_{i}": thresholds[i]}, folder / f"W_enc_{i}.safetensors")
        rows = torch.stack([coder.directions(i, j) for j in range(i, shape.n_sources)], dim=1)
        save_tensors({f"W_dec_{i}": rows}, folder / f"W_dec_{i}.safetensors")
    write_config(folder, {"model_kind": "cross_layer_transcoder", "scan": dictionary.description.name})
    return losses


def thresholds_for(coder: SparseCoder, read: str, write: str, activations: GetActivations) -> tuple[Tensor, list[Loss]]:
    """A coder's own thresholds, or calibrated ones and what they cost."""
    if coder.shape.selection == "threshold":
        return coder.threshold, []
    threshold, loss = calibrated(coder, read, write, activations)
    return threshold, [loss]


def calibrated(coder: SparseCoder, read: str, write: str, activations: GetActivations) -> tuple[Tensor, Loss]:
    tokens = activations(list(dict.fromkeys([read, write])))
    return calibrate_coder(coder, f"{read} to {write}", tokens[read].cpu(), tokens[write].cpu())


def check_layers(reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
    wanted = [(f"blocks.{i}.mlp.in", f"blocks.{i}.mlp.out") for i in range(len(reads))]
    demand(
        list(zip(reads, writes, strict=True)) == wanted,
        "circuit-tracer wants one transcoder for the MLP of every block from 0, in that order; this dictionary reads "
        f"{', '.join(reads)}.",
    )


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    (folder / "config.yaml").write_text(yaml.safe_dump(dict(config) | TRACER_HOOKS, sort_keys=False))


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().float().contiguous().clone() for name, tensor in tensors.items()}, path)


def readme(dictionary: Dictionary, format_name: str, losses: list[Loss]) -> str:
    """What a reader of the folder must know."""
    description = dictionary.description
    pairs = zip(dictionary.reads, dictionary.writes, strict=True)
    places = ", ".join(read if read == write else f"{read} to {write}" for read, write in pairs)
    lines = [
        f"# {description.name}\n",
        f"A dictionary of kind {dictionary.kind}, written for {format_name} by Vitrine from the artefact "
        f"{dictionary.digest}, of the vision model {description.vision_model}: {places}.\n",
        f"Preprocessing of images: `{json.dumps(dict(description.preprocessing), sort_keys=True)}`.\n",
    ]
    if losses:
        lines += ["TopK is replaced by one threshold per latent, which fires on as many tokens as before:\n"]
        lines += [f"- {loss.sentence()}" for loss in losses]
    return "\n".join(lines) + "\n"
