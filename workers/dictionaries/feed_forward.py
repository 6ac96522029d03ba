"""The ViT's own MLPs as dictionaries, without training: a hidden unit is a latent, its column of fc2 what it writes.

    write = γ ⊙ (W₂ a + b) = Σ_i a_i v_i + γ ⊙ b,    v_i = γ ⊙ W₂[:, i]

``a`` is the input of fc2, after the gate of a gated MLP and after the norm inside an MLP that has one, so that the sum
is exact in every one of timm's MLPs; γ is the layer scale, where there is one. All units together (``ff_kv``) explain
the write wholly; the k strongest of each token (``topk_ff_kv``) are those of the largest value, the largest absolute
value, or the largest contribution |a_i| ‖v_i‖. Normalized, the norms of the value vectors go into the activations:
a_i ‖v_i‖ and v_i / ‖v_i‖, in encoding too, so that features are ranked by what they write (research/ffkv_saebench.md
§1.1 tells how the paper's text and code differ in this).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.artifacts import Artifact, ArtifactWriter
from workers.dictionaries.sparse_coder import Codes
from workers.dictionaries.sparsifiers import largest
from workers.dictionaries.store import (
    DESCRIPTION,
    WEIGHTS,
    DescribedDictionary,
    DictionaryDescription,
    read_description,
)
from workers.hookpoints import block_of, find_place

SELECTIONS = ("absolute", "value", "contribution")
HIDDEN, WRITE = ".mlp.hidden", ".mlp.write"
TENSORS = ("W_dec", "b_dec", "norms")
ACTIVATIONS_ABOVE_ZERO = (nn.ReLU, nn.ReLU6, nn.Sigmoid)


@dataclass(frozen=True)
class FeedForwardShape:
    """How the hidden units of one MLP are read; k = 0 keeps them all."""

    n_latents: int
    d_out: int
    k: int = 0
    selection: str = "absolute"
    is_normalized: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.k <= self.n_latents:
            raise ValueError(f"k is {self.k}; it must lie between 0 and the number of hidden units, {self.n_latents}.")
        if self.selection not in SELECTIONS:
            raise ValueError(f"The selection '{self.selection}' is unknown; it can be {', '.join(SELECTIONS)}.")


class FeedForwardCoder(nn.Module):
    """The hidden units of one MLP and their value vectors, as the shape says; its weights are zero until filled."""

    def __init__(self, shape: FeedForwardShape) -> None:
        super().__init__()
        self.shape = shape
        self.W_dec = nn.Parameter(torch.zeros(shape.n_latents, shape.d_out), requires_grad=False)
        self.b_dec = nn.Parameter(torch.zeros(shape.d_out), requires_grad=False)
        self.norms = nn.Parameter(torch.zeros(shape.n_latents), requires_grad=False)  # of the value vectors

    @property
    def n_latents(self) -> int:
        return self.shape.n_latents

    @torch.no_grad()
    def encode(self, hidden: Float[Tensor, "n_tokens n_latents"]) -> Codes:
        values = hidden * self.norms if self.shape.is_normalized else hidden
        if self.shape.k == 0:
            return Codes(torch.arange(self.n_latents, device=hidden.device).expand_as(values), values, None)
        indices = largest(self.score(values), self.shape.k).indices
        return Codes(indices, values.gather(1, indices), None)

    def score(self, values: Float[Tensor, "n_tokens n_latents"]) -> Float[Tensor, "n_tokens n_latents"]:
        """By what the k strongest are chosen."""
        if self.shape.selection == "value":
            return values
        is_scaled = self.shape.selection == "contribution" and not self.shape.is_normalized
        return values.abs() * self.norms if is_scaled else values.abs()

    @torch.no_grad()
    def decode(self, codes: Codes) -> Float[Tensor, "n_tokens d_out"]:
        if has_every_latent(codes, self.n_latents):
            return torch.addmm(self.b_dec, codes.values, self.W_dec)
        return self.b_dec + nn.functional.embedding_bag(
            codes.indices, self.W_dec, per_sample_weights=codes.values, mode="sum"
        )


def has_every_latent(codes: Codes, n_latents: int) -> bool:
    """Whether each row names all latents in their order, so that decoding is one dense product."""
    if codes.indices.shape[1] != n_latents:
        return False
    if codes.indices.stride(0) == 0:  # one row, seen as many
        codes = codes._replace(indices=codes.indices[:1])
    return bool((codes.indices == torch.arange(n_latents, device=codes.indices.device)).all())


class FeedForwardDictionary(DescribedDictionary):
    """The MLPs of several blocks; see ``Dictionary`` in store.py for the methods."""

    def __init__(
        self, description: DictionaryDescription, coders: Mapping[str, FeedForwardCoder], digest: str = ""
    ) -> None:
        super().__init__(description, digest)
        self.coders = dict(coders)

    def n_latents(self, hookpoint: str) -> int:
        return self.coders[hookpoint].n_latents

    def width_read(self, hookpoint: str) -> int:
        return self.coders[hookpoint].n_latents

    def n_encoder_weights(self, hookpoint: str) -> int:
        """The model has computed the units; at most their norms are multiplied in."""
        return self.coders[hookpoint].n_latents

    def writes_of(self, hookpoint: str) -> tuple[str, ...]:
        return (self.writes[self.reads.index(hookpoint)],)

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens n_latents"]) -> Codes:
        return self.coders[hookpoint].encode(activations)

    def decode(self, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        return {self.writes_of(read)[0]: self.coders[read].decode(found) for read, found in codes.items()}

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.decode({read: self.encode(read, activations[read]) for read in self.reads})

    def decoder_directions(self, hookpoint: str, write: str = "") -> Float[Tensor, "n_latents d_out"]:
        assert write in ("", *self.writes_of(hookpoint)), write
        return self.coders[hookpoint].W_dec

    def to(self, device: str) -> FeedForwardDictionary:
        for coder in self.coders.values():
            coder.to(device)
        return self


def read_feed_forward(
    model: Any, hookpoint: str, *, k: int = 0, selection: str = "absolute", is_normalized: bool = False
) -> FeedForwardCoder:
    """The coder of the MLP with this hidden hookpoint, in single precision; raises ValueError where there is none."""
    if not hookpoint.endswith(HIDDEN):
        raise ValueError(f"'{hookpoint}' is not the hidden layer of an MLP; name it as blocks.7{HIDDEN}.")
    find_place(model, hookpoint)
    block = block_at(model, hookpoint)
    scale = layer_scale(block)
    weight, bias = block.mlp.fc2.weight.detach().float().cpu(), block.mlp.fc2.bias
    values = scale[:, None] * weight
    norms = values.norm(dim=0)
    coder = FeedForwardCoder(FeedForwardShape(values.shape[1], values.shape[0], k, selection, is_normalized))
    with torch.no_grad():
        coder.norms.copy_(norms)
        coder.W_dec.copy_((values / norms.clamp_min(torch.finfo(torch.float32).tiny) if is_normalized else values).T)
        if bias is not None:
            coder.b_dec.copy_(scale * bias.detach().float().cpu())
    return coder


def block_at(model: Any, hookpoint: str) -> Any:
    return getattr(model, "module", model).blocks[block_of(hookpoint)]


def layer_scale(block: Any) -> Float[Tensor, " d_model"]:
    """γ of the block's MLP: of a module in most of timm's ViTs, a parameter in BEiT and EVA, or all ones."""
    gamma = getattr(getattr(block, "ls2", None), "gamma", None)
    gamma = getattr(block, "gamma_2", None) if gamma is None else gamma
    ones = torch.ones(block.mlp.fc2.out_features)
    return ones if gamma is None else gamma.detach().float().cpu() * ones


def has_negative_values(model: Any, hookpoint: str) -> bool:
    """Whether a hidden unit may be below zero: always, but where a plain ReLU is the last thing before fc2."""
    mlp = block_at(model, hookpoint).mlp
    has_norm = not isinstance(getattr(mlp, "norm", None), nn.Identity | None)
    is_plain = not is_gated(mlp) and not has_norm
    return not (is_plain and isinstance(getattr(mlp, "act", None), ACTIVATIONS_ABOVE_ZERO))


def is_gated(mlp: nn.Module) -> bool:
    """Whether the first layer, or the two of them, make more numbers than the second reads."""
    width_read = getattr(mlp.fc2, "in_features", 0)
    return hasattr(mlp, "fc1_g") or getattr(getattr(mlp, "fc1", None), "out_features", 0) != width_read


def write_feed_forward(
    writer: ArtifactWriter, description: DictionaryDescription, coders: Mapping[str, FeedForwardCoder]
) -> None:
    """Put a dictionary's files into an artefact being written."""
    tensors = {f"{read}.{name}": getattr(coder, name).cpu() for read, coder in coders.items() for name in TENSORS}
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, writer.folder / WEIGHTS)
    sizes = {
        "n_latents": {read: coder.n_latents for read, coder in coders.items()},
        "d_model": {read: coder.n_latents for read, coder in coders.items()},
        "feed_forward": {read: asdict(coder.shape) for read, coder in coders.items()},
    }
    writer.write_json(DESCRIPTION, asdict(description) | sizes)


def load_feed_forward(artifact: Artifact, record: Mapping[str, Any], device: str) -> FeedForwardDictionary:
    """The dictionary of an artefact whose ``dictionary.json`` is ``record``."""
    tensors = load_file(artifact.path(WEIGHTS))
    coders = {}
    for read in record["reads"]:
        coder = FeedForwardCoder(FeedForwardShape(**record["feed_forward"][read]))
        coder.load_state_dict({name: tensors[f"{read}.{name}"] for name in TENSORS})
        coders[read] = coder
    return FeedForwardDictionary(read_description(record), coders, artifact.digest).to(device)
