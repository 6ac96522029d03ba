"""Readouts: what turns a ViT's final tokens into scores of classes, so that DINOv2 and CLIP have logits too.

`head` is the model's own; `cls_mean_patch` a linear probe on [CLS; mean patch] of the final tokens; `text_embeddings`
the cosine of the image's embedding (the head's output) with one embedding per class. Final tokens are those after the
last norm, as `forward_features` gives them.

Class directions are what the logit lens reads: the gradient of a class score in the residual stream, but for the scale
1/σ of the final norm. With γ the norm's weights and w the class's weights, w ⊙ γ less its mean (the norm takes off the
token's mean).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.activations import FORWARD_BATCH
from workers.artifacts import Artifact, ArtifactStore
from workers.images import ImageSetReader, image_batches
from workers.vision_model import VisionModel, load_vision_model

POOLINGS = ("head", "cls_mean_patch", "text_embeddings")
PROBE_ITERATIONS = 200


@dataclass(frozen=True)
class Readout:
    """Weights per class; their width depends on the pooling: d_model, 2 · d_model, or that of the embeddings."""

    pooling: str
    weight: Float[Tensor, "n_classes width"]
    bias: Float[Tensor, " n_classes"] | None
    classes: list[str]
    name: str = ""
    digest: str = ""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"The pooling '{self.pooling}' is unknown; give one of {', '.join(POOLINGS)}.")
        if len(self.classes) != len(self.weight):
            raise ValueError(
                f"The readout has {len(self.weight)} rows of weights, but {len(self.classes)} class names."
            )

    def scores(
        self, model: VisionModel, tokens: Float[Tensor, "image token d_model"]
    ) -> Float[Tensor, "image n_classes"]:
        """The scores of the classes from final tokens."""
        if self.pooling == "cls_mean_patch":
            return F.linear(cls_and_mean_patch(model, tokens), self.weight.to(tokens), bias_like(self.bias, tokens))
        output: Tensor = model.module.forward_head(tokens)
        if self.pooling == "head":
            return output
        return F.normalize(output, dim=1) @ F.normalize(self.weight, dim=1).to(output).T


def own_head(model: VisionModel) -> Readout:
    """The readout that the model brings; the distilled DeiT averages its two heads. Raises ValueError without one."""
    heads = [head for name in ("head", "head_dist") if (head := getattr(model.module, name, None)) is not None]
    if not heads or not all(isinstance(head, nn.Linear) for head in heads):
        raise ValueError("This model has no head of its own; fit a linear probe, or give class text embeddings.")
    weight = torch.stack([head.weight.detach() for head in heads]).mean(dim=0)
    bias = None if heads[0].bias is None else torch.stack([head.bias.detach() for head in heads]).mean(dim=0)
    return Readout("head", weight, bias, model.classes, name="head")


def text_embeddings(weight: Float[Tensor, "n_classes width"], classes: Sequence[str], model: VisionModel) -> Readout:
    """A matrix with one text embedding per class, for a model whose head gives the image's embedding."""
    width = model.description.timm_kwargs["num_classes"]
    if weight.ndim != 2 or weight.shape[1] != width:
        raise ValueError(
            f"Text embeddings are {list(weight.shape)}, but the model's image embeddings have width {width}."
        )
    return Readout("text_embeddings", weight, None, list(classes), name="text embeddings")


def read_text_embeddings(path: Path) -> Float[Tensor, "n_classes width"]:
    """The one tensor of a safetensors file; raises ValueError with a sentence."""
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"The text embeddings '{path}' cannot be read as safetensors ({error}).") from error
    if len(tensors) != 1:
        raise ValueError(f"The file '{path}' holds {len(tensors)} tensors; it must hold one, [class, width].")
    return next(iter(tensors.values()))


def fit_probe(
    model: VisionModel, reader: ImageSetReader, indices: Sequence[int], *, penalty: float = 1e-4, n_threads: int = 2
) -> Readout:
    """Logistic regression on [CLS; mean patch] of these images, by L-BFGS from zero, so that nothing is random."""
    labels = torch.from_numpy(reader.label_indices)[list(indices)]
    if len(set(labels.tolist())) < 2 or min(labels.tolist()) < 0:
        raise ValueError("A linear probe needs labeled images of at least two classes.")
    batches = final_tokens(model, reader, indices, n_threads)
    features = torch.cat([cls_and_mean_patch(model, tokens).cpu() for tokens in batches])
    weight, bias = logistic_regression(features, labels, len(reader.classes), penalty)
    return Readout("cls_mean_patch", weight, bias, reader.classes, name="linear probe")


@torch.no_grad()
def final_tokens(
    model: VisionModel, reader: ImageSetReader, indices: Sequence[int], n_threads: int = 2
) -> Iterator[Float[Tensor, "image token d_model"]]:
    """Final tokens of these images, a batch at a time."""
    for images in image_batches(reader, model.transform, indices, FORWARD_BATCH, n_threads):
        tokens: Tensor = model.module.forward_features(images.to(model.device))
        yield tokens


def cls_and_mean_patch(
    model: VisionModel, tokens: Float[Tensor, "image token d_model"]
) -> Float[Tensor, "image two_d_model"]:
    if model.n_prefix_tokens == 0:
        raise ValueError("This model has no CLS token; a probe on [CLS; mean patch] does not apply to it.")
    return torch.cat([tokens[:, 0], tokens[:, model.n_prefix_tokens :].mean(dim=1)], dim=1)


def logistic_regression(
    features: Float[Tensor, "n width"], labels: Int[Tensor, " n"], n_classes: int, penalty: float
) -> tuple[Tensor, Tensor]:
    """Weights and biases on the features as they are; fitted on standardized ones, so that the penalty is fair."""
    mean, deviation = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    standard = ((features - mean) / deviation).double()
    weight = torch.zeros(n_classes, features.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(n_classes, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=PROBE_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(standard @ weight.T + bias, labels) + penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    plain = weight.detach() / deviation
    return plain.float(), (bias.detach() - plain @ mean.double()).float()


def class_directions(model: VisionModel, readout: Readout) -> Float[Tensor, "n_classes d_model"]:
    """What each class rewards in the residual stream of the tokens that the readout pools.

    A probe's two parts are added: the direction is of something written to CLS and to every patch alike.
    """
    weight = readout.weight.float().cpu()
    if readout.pooling == "cls_mean_patch":
        weight = weight[:, : model.d_model] + weight[:, model.d_model :]
    elif readout.pooling == "text_embeddings":
        weight = F.normalize(weight, dim=1) @ own_head(model).weight.float().cpu()
    scaled = weight * norm_weight(model, readout.pooling)
    return scaled - scaled.mean(dim=1, keepdim=True)


def norm_weight(model: VisionModel, pooling: str) -> Float[Tensor, " d_model"]:
    """The weights of the norms between the last block and the readout, multiplied; `fc_norm` belongs to the head."""
    names = ("norm",) if pooling == "cls_mean_patch" else ("norm", "fc_norm")
    weight = torch.ones(model.d_model)
    for name in names:
        own: Any = getattr(getattr(model.module, name, None), "weight", None)
        weight = weight if own is None else weight * own.detach().float().cpu()
    return weight


def write_readout(
    store: ArtifactStore, model: VisionModel, readout: Readout, *, image_set: str | None = None
) -> Artifact:
    """Write the artefact `readout`; its first parent is the model, the second the images a probe was fitted on."""
    assert model.digest, "a readout belongs to a registered model"
    tensors = {"weight": readout.weight.float().cpu().contiguous()}
    if readout.bias is not None:
        tensors["bias"] = readout.bias.float().cpu().contiguous()
    record = {
        "pooling": readout.pooling,
        "classes": readout.classes,
        "name": readout.name,
        "vision_model": model.digest,
    }
    parents = [model.digest, *([image_set] if image_set else [])]
    with store.write("readout", config={"pooling": readout.pooling, "name": readout.name}, parents=parents) as writer:
        save_file(tensors, writer.folder / "readout.safetensors")
        writer.write_json("readout.json", record)
    assert writer.artifact is not None
    return writer.artifact


def write_own_head(store: ArtifactStore, artifact: Artifact) -> Artifact | None:
    """The head of a registered model as a readout; None where the model has none."""
    model = load_vision_model(artifact)
    return write_readout(store, model, own_head(model)) if has_own_head(model) else None


def has_own_head(model: VisionModel) -> bool:
    return isinstance(getattr(model.module, "head", None), nn.Linear)


def load_readout(artifact: Artifact) -> Readout:
    record = artifact.json("readout.json")
    tensors = load_file(artifact.path("readout.safetensors"))
    return Readout(
        record["pooling"], tensors["weight"], tensors.get("bias"), record["classes"], record["name"], artifact.digest
    )


def bias_like(bias: Tensor | None, tokens: Tensor) -> Tensor | None:
    return None if bias is None else bias.to(tokens)
