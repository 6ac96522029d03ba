"""Dictionaries as artefacts, and the one interface through which everything downstream uses them.

A dictionary reads hookpoints and writes hookpoints, pairwise: the same ones for an SAE, others for a transcoder. It has
a number of latents per hookpoint it reads, and one or two poles. Most kinds are one coder per hookpoint
(``CoderDictionary``); a kind that is not has another class with the methods of ``Dictionary``, named in ``LOADERS``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor

from workers.artifacts import Artifact, ArtifactError, ArtifactWriter
from workers.dictionaries.sparse_coder import CoderShape, Codes, SparseCoder

CODER_KINDS = ("topk_sae", "batch_topk_sae", "jumprelu_sae", "relu_sae", "transcoder")
CONTROL_KINDS = ("residual_basis", "random_directions", "untrained_dictionary")
FEED_FORWARD_KINDS = ("ff_kv", "topk_ff_kv")
RANDOM_TRANSFORMER = "random_transformer"
CROSS_LAYER = "cross_layer_transcoder"
DESCRIPTION = "dictionary.json"
WEIGHTS = "weights.safetensors"
POSITIVE, NEGATIVE = "positive", "negative"


class Dictionary(Protocol):
    """What everything downstream knows of a dictionary."""

    digest: str
    description: DictionaryDescription

    @property
    def kind(self) -> str: ...

    @property
    def reads(self) -> tuple[str, ...]:
        """The hookpoints whose activations are encoded."""

    @property
    def writes(self) -> tuple[str, ...]:
        """The hookpoints whose activations are reconstructed; the i-th goes with the i-th read."""

    @property
    def poles(self) -> tuple[str, ...]:
        """('positive',), or both where a latent's value may be negative."""

    def n_latents(self, hookpoint: str) -> int:
        """How many latents read there."""

    def width_read(self, hookpoint: str) -> int:
        """How many numbers it expects a token to have there."""

    def n_encoder_weights(self, hookpoint: str) -> int:
        """How many products encoding one token costs there."""

    def writes_of(self, hookpoint: str) -> tuple[str, ...]:
        """The hookpoints that the latents which read there write at; one, but for a cross-layer transcoder."""

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]) -> Codes: ...

    def decode(self, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        """What codes, given by the hookpoint they were read at, write by hookpoint, biases included."""

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """From activations at every hookpoint read to reconstructions at every hookpoint written."""

    def decoder_directions(self, hookpoint: str, write: str = "") -> Float[Tensor, "n_latents d_out"]:
        """What the latents that read at a hookpoint write, by default at the hookpoint that goes with it."""


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
    origin: str = ""  # where an imported dictionary came from
    form: str = ""  # of a random_transformer: the kind of dictionary it is, of an untrained model

    def __post_init__(self) -> None:
        if self.kind not in LOADERS:
            raise ValueError(f"The dictionary kind '{self.kind}' is unknown; it can be {', '.join(LOADERS)}.")
        if len(self.reads) != len(self.writes):
            raise ValueError("A dictionary writes at as many hookpoints as it reads.")


class DescribedDictionary:
    """What every class of dictionaries says by its description."""

    def __init__(self, description: DictionaryDescription, digest: str) -> None:
        self.description = description
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


class CoderDictionary(DescribedDictionary):
    """A dictionary of one coder per pair of hookpoints."""

    def __init__(self, description: DictionaryDescription, coders: Mapping[str, SparseCoder], digest: str = "") -> None:
        super().__init__(description, digest)
        self.coders = dict(coders)

    def n_latents(self, hookpoint: str) -> int:
        return self.coders[hookpoint].n_latents

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]) -> Codes:
        return self.coders[hookpoint].encode(activations)

    def width_read(self, hookpoint: str) -> int:
        return self.coders[hookpoint].d_model

    def n_encoder_weights(self, hookpoint: str) -> int:
        return self.coders[hookpoint].W_enc.numel()

    def writes_of(self, hookpoint: str) -> tuple[str, ...]:
        return (self.writes[self.reads.index(hookpoint)],)

    def decode(self, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        return {self.writes_of(read)[0]: self.coders[read].decode(found) for read, found in codes.items()}

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.decode({read: self.encode(read, activations[read]) for read in self.reads})

    def decoder_directions(self, hookpoint: str, write: str = "") -> Float[Tensor, "n_latents d_out"]:
        assert write in ("", *self.writes_of(hookpoint)), write
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
        "coders": {hookpoint: coder.shape.to_json() for hookpoint, coder in coders.items()},
    }
    writer.write_json(DESCRIPTION, asdict(description) | sizes)


def load_dictionary(artifact: Artifact, device: str = "cpu") -> Dictionary:
    """The dictionary of an artefact; raises ArtifactError if the artefact is none, or of a kind not known here."""
    if artifact.kind != "dictionary":
        raise ArtifactError(f"The artefact {artifact.digest[:12]} is of kind {artifact.kind}, not dictionary.")
    record = artifact.json(DESCRIPTION)
    if record["kind"] not in LOADERS:
        raise ArtifactError(
            f"The dictionary {artifact.digest[:12]} is of kind '{record['kind']}', which this version cannot load; "
            "update Vitrine."
        )
    return LOADERS[record["kind"]](artifact, record, device)


def read_description(record: Mapping[str, Any]) -> DictionaryDescription:
    """The description among the facts of ``dictionary.json``."""
    names = DictionaryDescription.__dataclass_fields__
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in record.items() if key in names
    }
    return DictionaryDescription(**values)


def load_coder_dictionary(artifact: Artifact, record: Mapping[str, Any], device: str) -> CoderDictionary:
    if "coders" not in record:
        raise ArtifactError(f"The dictionary {artifact.digest[:12]} is of an older version of Vitrine; make it again.")
    tensors = load_file(artifact.path(WEIGHTS))
    coders = {}
    for hookpoint in record["reads"]:
        coder = SparseCoder(CoderShape(**record["coders"][hookpoint]))
        coder.load_state_dict({name: tensors[f"{hookpoint}.{name}"] for name in coder.state_dict()})
        coders[hookpoint] = coder.requires_grad_(False)
    return CoderDictionary(read_description(record), coders, artifact.digest).to(device)


LOADERS: dict[str, Callable[[Artifact, Mapping[str, Any], str], Dictionary]] = dict.fromkeys(
    (*CODER_KINDS, *CONTROL_KINDS), load_coder_dictionary
)


def load_feed_forward(artifact: Artifact, record: Mapping[str, Any], device: str) -> Dictionary:
    from workers.dictionaries import feed_forward

    return feed_forward.load_feed_forward(artifact, record, device)


def load_random_transformer(artifact: Artifact, record: Mapping[str, Any], device: str) -> Dictionary:
    return LOADERS[record["form"]](artifact, record, device)


LOADERS |= dict.fromkeys(FEED_FORWARD_KINDS, load_feed_forward) | {RANDOM_TRANSFORMER: load_random_transformer}


def load_cross_layer(artifact: Artifact, record: Mapping[str, Any], device: str) -> Dictionary:
    from workers.dictionaries import cross_layer

    return cross_layer.load_cross_layer(artifact, record, device)


LOADERS |= {CROSS_LAYER: load_cross_layer}
