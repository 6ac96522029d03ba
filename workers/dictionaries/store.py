"""Dictionaries as artefacts, and the one interface through which everything downstream uses them.

A dictionary reads hookpoints and writes hookpoints (the same ones for an SAE, others for a transcoder), has a number
of latents per hookpoint it reads, and one or two poles. A kind that is not made of one coder per hookpoint, such as a
cross-layer transcoder, is another class with the methods of ``Dictionary``, chosen in ``load_dictionary``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.artifacts import Artifact, ArtifactError, ArtifactWriter
from workers.dictionaries.sparse_coder import Codes, SparseCoder, ThresholdCoder

TRAINED_KINDS = ("topk_sae",)
CONTROL_KINDS = ("residual_basis", "random_directions", "untrained_dictionary")
DESCRIPTION = "dictionary.json"
WEIGHTS = "weights.safetensors"
NORMALIZATION = "each token to zero mean and unit deviation (ddof 1, epsilon 1e-5)"
POSITIVE, NEGATIVE = "positive", "negative"


class Dictionary(Protocol):
    """What everything downstream knows of a dictionary."""

    digest: str

    @property
    def kind(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The hookpoints whose activations are encoded."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The hookpoints whose activations are reconstructed."""

    @property
    def poles(self) -> tuple[str, ...]:
        """('positive',), or both where a latent's value may be negative."""

    def n_latents(self, hookpoint: str) -> int: ...

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]) -> Codes: ...

    def decode(self, hookpoint: str, codes: Codes) -> Float[Tensor, "n_tokens d_model"]:
        """What codes of this hookpoint write at the hookpoint that goes with it."""

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From activations at every hookpoint read to reconstructions at every hookpoint written."""

    def decoder_directions(self, hookpoint: str) -> Float[Tensor, "n_latents d_model"]: ...


@dataclass(frozen=True)
class DictionaryDescription:
    """What ``dictionary.json`` says beside the sizes, which are those of the weights."""

    kind: str
    name: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    vision_model: str
    image_set: str
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    poles: tuple[str, ...] = (POSITIVE,)
    n_trained_tokens: int = 0
    controls: str = ""

    def __post_init__(self) -> None:
        known = TRAINED_KINDS + CONTROL_KINDS
        if self.kind not in known:
            raise ValueError(f"The dictionary kind '{self.kind}' is unknown; it can be {', '.join(known)}.")


class CoderDictionary:
    """A dictionary of one coder per hookpoint, which writes where it reads."""

    def __init__(self, description: DictionaryDescription, coders: Mapping[str, SparseCoder], digest: str = "") -> None:
        self.description = description
        self.coders = dict(coders)
        self.digest = digest

    @property
    def kind(self) -> str:
        return self.description.kind

    @property
    def reads(self) -> tuple[str, ...]:
        return self.description.reads

    @property
    def writes(self) -> tuple[str, ...]:
        return self.description.writes

    @property
    def poles(self) -> tuple[str, ...]:
        return self.description.poles

    def n_latents(self, hookpoint: str) -> int:
        return self.coders[hookpoint].n_latents

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]) -> Codes:
        return self.coders[hookpoint].encode(activations)

    def decode(self, hookpoint: str, codes: Codes) -> Float[Tensor, "n_tokens d_model"]:
        return self.coders[hookpoint].decode(codes)

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        pairs = zip(self.reads, self.writes, strict=True)
        return {write: self.decode(read, self.encode(read, activations[read])) for read, write in pairs}

    def decoder_directions(self, hookpoint: str) -> Float[Tensor, "n_latents d_model"]:
        return self.coders[hookpoint].W_dec.detach()

    def to(self, device: str) -> CoderDictionary:
        for coder in self.coders.values():
            coder.to(device)
        return self


def pole_codes(codes: Codes, pole: str) -> Codes:
    """The codes as one pole sees them: its own side of zero counts as activation."""
    return codes if pole == POSITIVE else codes._replace(values=-codes.values)


def write_coders(writer: ArtifactWriter, description: DictionaryDescription, coders: Mapping[str, SparseCoder]) -> None:
    """Put a dictionary's files into an artefact being written."""
    tensors = {
        f"{hookpoint}.{name}": weight.detach().cpu().contiguous()
        for hookpoint, coder in coders.items()
        for name, weight in coder.named_parameters()
    }
    save_file(tensors, writer.folder / WEIGHTS)
    sizes = {
        "n_latents": {hookpoint: coder.n_latents for hookpoint, coder in coders.items()},
        "d_model": {hookpoint: coder.d_model for hookpoint, coder in coders.items()},
        "k": {hookpoint: coder_k(coder) for hookpoint, coder in coders.items()},
        "selection": {hookpoint: selection_name(coder) for hookpoint, coder in coders.items()},
        "normalization": NORMALIZATION,
    }
    writer.write_json(DESCRIPTION, asdict(description) | sizes)


def selection_name(coder: SparseCoder) -> str:
    return "threshold" if isinstance(coder, ThresholdCoder) else "topk"


def coder_k(coder: SparseCoder) -> int | None:
    return None if isinstance(coder, ThresholdCoder) else coder.k


def load_dictionary(artifact: Artifact, device: str = "cpu") -> CoderDictionary:
    """The dictionary of an artefact; raises ArtifactError if the artefact is none, or of a kind not known here."""
    if artifact.kind != "dictionary":
        raise ArtifactError(f"The artefact {artifact.digest[:12]} is of kind {artifact.kind}, not dictionary.")
    record = artifact.json(DESCRIPTION)
    if record["kind"] not in TRAINED_KINDS + CONTROL_KINDS:
        raise ArtifactError(
            f"The dictionary {artifact.digest[:12]} is of kind '{record['kind']}', which this version cannot load; "
            "update Vitrine."
        )
    tensors = load_file(artifact.path(WEIGHTS))
    coders = {hookpoint: load_coder_weights(record, hookpoint, tensors) for hookpoint in record["reads"]}
    names = DictionaryDescription.__dataclass_fields__
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items() if key in names
    }
    return CoderDictionary(DictionaryDescription(**values), coders, artifact.digest).to(device)


def load_coder_weights(record: Mapping[str, Any], hookpoint: str, tensors: Mapping[str, Tensor]) -> SparseCoder:
    d_model, n_latents = record["d_model"][hookpoint], record["n_latents"][hookpoint]
    coder: SparseCoder
    if record["selection"][hookpoint] == "threshold":
        coder = ThresholdCoder(d_model=d_model, n_latents=n_latents)
    else:
        coder = SparseCoder(d_model=d_model, n_latents=n_latents, k=record["k"][hookpoint])
    coder.load_state_dict({name: tensors[f"{hookpoint}.{name}"] for name in coder.state_dict()})
    return coder.requires_grad_(False)
