"""A timm ViT as an artefact: its weights, its preprocessing, its prefix tokens told apart from patches.

Source of the weights: `pretrained` (timm fetches them), `checkpoint` (a safetensors file with timm's names),
`untrained` (from a seed), `trained` (a run of this system). Where tokens are read is `workers/hookpoints.py`.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.artifacts import Artifact, ArtifactStore
from workers.hookpoints import hookpoint_names, hookpoint_width, read_hookpoints, splice
from workers.image_scan_names import bundled_synsets, bundled_text, make_unique
from workers.preprocessing import Preprocessing, preprocessing_from
from workers.timm_loading import import_timm

__all__ = [
    "ModelRequest", "VisionModel", "load_vision_model", "read_hookpoints", "register_vision_model", "splice",
    "write_vision_model",
]  # fmt: skip

SOURCES = ("pretrained", "checkpoint", "untrained", "trained")
N_IMAGENET = 1000


@dataclass(frozen=True)
class ModelRequest:
    """Which model to register. A checkpoint `x.safetensors` may have `x.json` beside it that gives what is left out."""

    architecture: str = ""
    source: str = "untrained"
    checkpoint: Path | None = None
    seed: int = 0
    timm_kwargs: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.source not in SOURCES:
            raise ValueError(f"The source '{self.source}' is unknown; give one of {', '.join(SOURCES)}.")
        if (self.source == "checkpoint") != (self.checkpoint is not None):
            raise ValueError("The source 'checkpoint' needs a safetensors file, and only that source takes one.")


@dataclass(frozen=True)
class ModelDescription:
    """What `model.json` says."""

    architecture: str
    timm_kwargs: dict[str, Any]
    preprocessing: Preprocessing
    classes: list[str]
    n_prefix_tokens: int
    grid: tuple[int, int]
    d_model: int
    n_blocks: int
    source: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "grid": list(self.grid), "preprocessing": self.preprocessing.to_json()}


class VisionModel:
    """A ViT in evaluation mode with its description."""

    def __init__(self, module: nn.Module, description: ModelDescription, digest: str = "") -> None:
        self.module: Any = module.eval()
        self.description = description
        self.digest = digest
        for parameter in self.module.parameters():
            parameter.requires_grad_(False)

    def __call__(self, images: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image n_classes"]:
        logits: Tensor = self.module(images)
        return logits

    def transform(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        return self.description.preprocessing(image)

    def hookpoints(self) -> list[str]:
        return hookpoint_names(self.module)

    def width_of(self, hookpoint: str) -> int:
        return hookpoint_width(self.module, hookpoint)

    def to(self, device: str) -> VisionModel:
        self.module.to(device)
        return self

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.module.parameters()).device
        return device

    @property
    def n_prefix_tokens(self) -> int:
        return self.description.n_prefix_tokens

    @property
    def grid(self) -> tuple[int, int]:
        return self.description.grid

    @property
    def n_patches(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def n_tokens(self) -> int:
        return self.n_prefix_tokens + self.n_patches

    @property
    def d_model(self) -> int:
        return self.description.d_model

    @property
    def n_blocks(self) -> int:
        return self.description.n_blocks

    @property
    def classes(self) -> list[str]:
        return self.description.classes


def register_vision_model(store: ArtifactStore, request: ModelRequest) -> Artifact:
    """Make the model, check that it is a ViT that fits its weights, and store it; raises ValueError with a sentence."""
    request = complete_from_sidecar(request)
    module = create_vit(
        request.architecture, request.timm_kwargs, seed=request.seed, is_pretrained=request.source == "pretrained"
    )
    require_vit(module, request.architecture)
    if request.checkpoint is not None:
        load_weights(module, read_checkpoint(request.checkpoint), str(request.checkpoint))
    return write_vision_model(store, module, describe(module, request))


def write_vision_model(
    store: ArtifactStore,
    module: nn.Module,
    description: ModelDescription,
    *,
    parents: Sequence[str] = (),
    config: Mapping[str, Any] | None = None,
    records: Mapping[str, Any] | None = None,
) -> Artifact:
    """Write the artefact `vision-model`: weights in single precision, `model.json`, and further JSON files."""
    weights = {name: tensor.detach().float().cpu().contiguous() for name, tensor in module.state_dict().items()}
    with store.write("vision-model", config=config or description.to_json(), parents=parents) as writer:
        save_file(weights, writer.folder / "model.safetensors")
        writer.write_json("model.json", description.to_json())
        for name, record in (records or {}).items():
            writer.write_json(name, record)
    assert writer.artifact is not None
    return writer.artifact


def load_vision_model(artifact: Artifact, device: str = "cpu") -> VisionModel:
    """The model of an artefact, ready to run."""
    assert artifact.kind == "vision-model", artifact.kind
    values = artifact.json("model.json")
    description = ModelDescription(
        **{**values, "grid": tuple(values["grid"]), "preprocessing": preprocessing_from(values["preprocessing"])}
    )
    module = create_vit(description.architecture, description.timm_kwargs)
    load_weights(module, load_file(artifact.path("model.safetensors")), "model.safetensors")
    return VisionModel(module, description, artifact.digest).to(device)


def complete_from_sidecar(request: ModelRequest) -> ModelRequest:
    """What the request leaves open, from the JSON file beside the checkpoint."""
    sidecar = request.checkpoint.with_suffix(".json") if request.checkpoint is not None else None
    given = json.loads(sidecar.read_text()) if sidecar is not None and sidecar.is_file() else {}
    architecture = request.architecture or given.get("architecture", "")
    if not architecture:
        raise ValueError("Give the timm name of the model, such as vit_base_patch16_224.")
    is_same = architecture == given.get("architecture")
    return ModelRequest(
        architecture=architecture,
        source=request.source,
        checkpoint=request.checkpoint,
        seed=request.seed,
        timm_kwargs={**(given.get("timm_kwargs", {}) if is_same else {}), **request.timm_kwargs},
        preprocessing={**(given.get("preprocessing", {}) if is_same else {}), **request.preprocessing},
        classes=request.classes or (given.get("classes", ()) if is_same else ()),
    )


def create_vit(
    architecture: str, timm_kwargs: Mapping[str, Any], *, seed: int = 0, is_pretrained: bool = False
) -> nn.Module:
    """A timm ViT, its weights drawn from the seed unless pretrained; the global random state is left as it was."""
    timm = import_timm()
    if not timm.is_model(architecture):
        names = timm.list_models()
        near = difflib.get_close_matches(architecture.split(".")[0], names, n=3)
        advice = f" Did you mean {', '.join(near)}?" if near else ""
        raise ValueError(f"timm knows no model '{architecture}'.{advice}")
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module: nn.Module = timm.create_model(architecture, pretrained=is_pretrained, **timm_kwargs)
    except (TypeError, AssertionError) as error:
        raise ValueError(f"timm cannot make '{architecture}' with {dict(timm_kwargs)}: {error}.") from error
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"The weights of '{architecture}' could not be fetched or do not fit: {reason}.") from error
    return module.eval()


def require_vit(module: Any, architecture: str) -> None:
    """Refuse a model whose blocks do not carry the same tokens, prefix then patches, from the first to the last."""
    kind = type(module).__name__
    advice = (
        f"'{architecture}' ({kind}) is no plain vision transformer; take a timm model such as vit_small_patch16_224."
    )
    patches = getattr(module, "patch_embed", None)
    if not hasattr(module, "blocks") or not hasattr(module, "num_prefix_tokens") or not hasattr(patches, "grid_size"):
        raise ValueError(advice)
    size = patches.img_size  # type: ignore[union-attr]
    n_tokens = module.num_prefix_tokens + patches.grid_size[0] * patches.grid_size[1]  # type: ignore[union-attr]
    names = [f"blocks.{i}" for i in range(len(module.blocks))]
    with torch.no_grad(), read_hookpoints(module, names) as read:
        module(torch.zeros(1, 3, *size))
    if any(name not in read or read[name].shape[1:] != (n_tokens, module.embed_dim) for name in names):
        raise ValueError(advice)


def describe(module: Any, request: ModelRequest) -> ModelDescription:
    timm_kwargs = {**request.timm_kwargs, "num_classes": module.num_classes}
    preprocessing = {**own_preprocessing(module), **request.preprocessing}
    size = module.patch_embed.img_size
    if size[0] != size[1] or preprocessing["size"] != size[0]:
        raise ValueError(
            f"The model takes images of {size[0]} x {size[1]} pixels, but its preprocessing makes "
            f"{preprocessing['size']} x {preprocessing['size']}; set the two alike (img_size, size)."
        )
    return ModelDescription(
        architecture=request.architecture,
        timm_kwargs=timm_kwargs,
        preprocessing=preprocessing_from(preprocessing),
        classes=class_names(module.num_classes, request),
        n_prefix_tokens=module.num_prefix_tokens,
        grid=(module.patch_embed.grid_size[0], module.patch_embed.grid_size[1]),
        d_model=module.embed_dim,
        n_blocks=len(module.blocks),
        source=request.source,
    )


def own_preprocessing(module: Any) -> dict[str, Any]:
    """What the model's own configuration asks for, at the size the model was made for."""
    config = import_timm().data.resolve_model_data_config(module)
    return {
        "size": module.patch_embed.img_size[0],
        "crop_mode": config["crop_mode"],
        "crop_pct": config["crop_pct"],
        "interpolation": config["interpolation"],
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }


def class_names(n_classes: int, request: ModelRequest) -> list[str]:
    """Exactly one name per output: those given, ImageNet's for pretrained weights, or a number."""
    if request.classes:
        if len(request.classes) != n_classes:
            raise ValueError(f"The model has {n_classes} outputs, but {len(request.classes)} class names were given.")
        return list(request.classes)
    if request.source == "pretrained" and n_classes == N_IMAGENET:
        synsets, names = bundled_text("imagenet_synsets.txt").split(), bundled_synsets()
        return list(make_unique({synset: names.get(synset, synset) for synset in synsets}).values())
    return [f"class {i}" for i in range(n_classes)]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    if path.suffix != ".safetensors":
        raise ValueError(f"The checkpoint '{path}' is no .safetensors file; convert it first (pickles are not read).")
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The checkpoint '{path}' cannot be read ({error}).") from error


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Load all weights, in the module's precision; raises ValueError naming the first that does not fit."""
    own = module.state_dict()
    missing = [name for name in own if name not in weights]
    surplus = [name for name in weights if name not in own]
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    if missing or surplus:
        what = f"lacks '{missing[0]}'" if missing else f"has '{surplus[0]}', which the model has not"
        raise ValueError(
            f"The checkpoint '{source}' does not fit {type(module).__name__}: it {what} ({len(missing)} missing, "
            f"{len(surplus)} surplus); check the architecture and its settings."
        )
    if shapes:
        name = shapes[0]
        raise ValueError(
            f"The checkpoint '{source}' does not fit: '{name}' is {list(weights[name].shape)} there, but "
            f"{list(own[name].shape)} in the model; check img_size, patch_size and num_classes."
        )
    module.load_state_dict({name: weights[name].to(own[name].dtype) for name in own})
