"""The cross-layer transcoder: latents that read one block's MLP input and write at the MLP output of every later one.

    z_i = select(x_i W_enc_iᵀ + b_enc_i)          x_i what the MLP of block i reads
    ŷ_j = Σ_{i ≤ j} z_i W_dec_{i→j} + b_dec_j     y_j what the MLP of block j puts out

``select`` is that of a sparse coder: ``topk`` of ReLU, ``abs_topk`` with signed values, or ``threshold`` (JumpReLU).
All decoders of one target are rows of one matrix, source after source: the rows of source i begin at ``offsets[i]``
whatever the target, so that a latent has one number in all of them (research/clt_peers.md §1.4).

Such a dictionary tends to write in one step what the model computes in several, because a shallow sum costs fewer
latents than a chain; its circuits must be read beside those of a per-layer transcoder (research/clt_peers.md §1.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from workers.artifacts import Artifact, ArtifactError, ArtifactWriter
from workers.dictionaries.screen import is_screened, screened_top_k
from workers.dictionaries.sparse_coder import (
    ROWS,
    ROWS_ON_ACCELERATOR,
    SELECTIONS,
    Codes,
    join_selected,
    no_codes,
    unit_rows,
)
from workers.dictionaries.sparsifiers import Selected, above_threshold, strongest, strongest_of_either_sign
from workers.dictionaries.store import (
    DESCRIPTION,
    WEIGHTS,
    DescribedDictionary,
    DictionaryDescription,
    read_description,
)


@dataclass(frozen=True)
class CrossLayerShape:
    """Sizes by source, in the order of the blocks; ``k`` is no limit where thresholds select."""

    d_model: int
    d_out: int
    n_latents: tuple[int, ...]
    k: tuple[int, ...]
    selection: str = "topk"

    def __post_init__(self) -> None:
        if len(self.n_latents) != len(self.k) or not self.k:
            raise ValueError("A cross-layer transcoder needs a number of latents and a k for each block it reads.")
        for n_latents, k in zip(self.n_latents, self.k, strict=True):
            if not 1 <= k <= n_latents:
                raise ValueError(f"k is {k}; it must lie between 1 and the number of latents, {n_latents}.")
        if self.selection not in SELECTIONS:
            raise ValueError(f"The selection '{self.selection}' is unknown; it can be {', '.join(SELECTIONS)}.")

    @property
    def n_sources(self) -> int:
        return len(self.k)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where each source's rows begin, and after the last the number of all."""
        return tuple(accumulate(self.n_latents, initial=0))

    def by_source(self, values: Shaped[Tensor, "n_rows ..."], n_sources: int = 0) -> list[Tensor]:
        """Rows of all latents, or of those of the first sources, source by source."""
        starts = self.offsets[: (n_sources or self.n_sources) + 1]
        return [values[start:stop] for start, stop in pairwise(starts)]

    @property
    def is_signed(self) -> bool:
        return self.selection == "abs_topk"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class CrossLayerCoder(nn.Module):
    """One encoder per source and one stack of decoders per target, their weights zero; see the module's formulas."""

    def __init__(self, shape: CrossLayerShape) -> None:
        super().__init__()
        self.shape = shape
        sources = range(shape.n_sources)
        self.W_enc = nn.ParameterList(torch.zeros(n, shape.d_model) for n in shape.n_latents)
        self.b_enc = nn.ParameterList(torch.zeros(n) for n in shape.n_latents)
        self.W_dec = nn.ParameterList(torch.zeros(shape.offsets[j + 1], shape.d_out) for j in sources)
        self.b_dec = nn.ParameterList(torch.zeros(shape.d_out) for _ in sources)
        if shape.selection == "threshold":
            self.log_threshold = nn.ParameterList(torch.zeros(n) for n in shape.n_latents)

    def thresholds(self, source: int) -> Float[Tensor, " n_latents"]:
        """What a latent must exceed; trained as a logarithm, so that it stays above zero."""
        threshold: Tensor = self.log_threshold[source].exp()
        return threshold

    def select(self, source: int, pre: Float[Tensor, "n_tokens n_latents"], margin: float = 0.0) -> Selected:
        """The latents that stay on, or with a margin all that come as near as that to their thresholds."""
        if self.shape.selection == "threshold":
            return above_threshold(pre, self.thresholds(source) - margin)
        if self.shape.is_signed:
            return strongest_of_either_sign(pre, self.shape.k[source])
        return strongest(pre, self.shape.k[source])

    @torch.no_grad()
    def encode(self, source: int, tokens: Float[Tensor, "n_tokens d_model"], margin: float = 0.0) -> Selected:
        """In slices of rows, so that the dense ``[n_tokens, n_latents]`` product never exists as a whole."""
        n_tokens, W_enc, k = tokens.shape[0], self.W_enc[source], self.shape.k[source]
        if self.shape.selection != "threshold" and is_screened(W_enc, k):
            return screened_top_k(tokens, W_enc, self.b_enc[source], k, self.shape.is_signed)
        n_rows = min(n_tokens, ROWS if tokens.device.type == "cpu" else ROWS_ON_ACCELERATOR)
        buffer = tokens.new_empty(n_rows, W_enc.shape[0])
        parts = []
        for start in range(0, n_tokens, max(n_rows, 1)):
            rows = tokens[start : start + n_rows]
            pre = torch.addmm(self.b_enc[source], rows, W_enc.T, out=buffer[: rows.shape[0]])
            parts.append(self.select(source, pre, margin))
        return join_selected(parts) if parts else no_codes(tokens)

    @torch.no_grad()
    def decode(self, target: int, selected: Mapping[int, Selected]) -> Float[Tensor, "n_tokens d_out"]:
        """ŷ of one target from the codes of the sources at or before it, its bias once."""
        sources = [source for source in sorted(selected) if source <= target]
        offsets = self.shape.offsets
        indices = torch.cat([selected[source].indices + offsets[source] for source in sources], dim=1)
        values = torch.cat([selected[source].values for source in sources], dim=1)
        written: Tensor = gather_rows(indices, values, self.W_dec[target].detach()) + self.b_dec[target]
        return written

    @torch.no_grad()
    def term(self, source: int, target: int, selected: Selected) -> Float[Tensor, "n_tokens d_out"]:
        """c_{i→j}: what one source alone adds at one target."""
        return gather_rows(selected.indices, selected.values, self.directions(source, target))

    def directions(self, source: int, target: int) -> Float[Tensor, "n_latents d_out"]:
        offsets = self.shape.offsets
        rows: Tensor = self.W_dec[target].detach()[offsets[source] : offsets[source + 1]]
        return rows


def gather_rows(
    indices: Int[Tensor, "n_tokens k"], values: Float[Tensor, "n_tokens k"], matrix: Float[Tensor, "n_rows d_out"]
) -> Float[Tensor, "n_tokens d_out"]:
    """Σ values · matrix[indices] by token; ``matrix`` must not ask for gradients, which would cost a second index."""
    written: Tensor = nn.functional.embedding_bag(indices, matrix, per_sample_weights=values, mode="sum")
    return written


@torch.no_grad()
def initialize_cross_layer(coder: CrossLayerCoder, generator: torch.Generator) -> None:
    """Encoder rows drawn on the unit sphere, decoder rows zero: at first it writes its biases alone."""
    for W_enc in coder.W_enc:
        W_enc.copy_(unit_rows(torch.randn(W_enc.shape, generator=generator, device=generator.device)))


class CrossLayerDictionary(DescribedDictionary):
    """A cross-layer transcoder as everything downstream uses it: see ``store.Dictionary``."""

    def __init__(self, description: DictionaryDescription, coder: CrossLayerCoder, digest: str = "") -> None:
        if len(description.reads) != coder.shape.n_sources:
            raise ValueError(f"The transcoder has {coder.shape.n_sources} sources for {len(description.reads)} reads.")
        super().__init__(description, digest)
        self.coder = coder

    def n_latents(self, hookpoint: str) -> int:
        return self.coder.shape.n_latents[self.reads.index(hookpoint)]

    def width_read(self, hookpoint: str) -> int:
        return self.coder.shape.d_model

    def n_encoder_weights(self, hookpoint: str) -> int:
        return self.n_latents(hookpoint) * self.coder.shape.d_model

    def writes_of(self, hookpoint: str) -> tuple[str, ...]:
        return self.writes[self.reads.index(hookpoint) :]

    def encode(self, hookpoint: str, activations: Float[Tensor, "n_tokens d_model"]) -> Codes:
        selected = self.coder.encode(self.reads.index(hookpoint), activations)
        return Codes(selected.indices, selected.values, None)

    def decode(self, codes: Mapping[str, Codes]) -> dict[str, Tensor]:
        """Every hookpoint that some of these codes write at; a reconstruction needs the codes of all reads."""
        selected = {self.reads.index(read): Selected(found.indices, found.values) for read, found in codes.items()}
        targets = range(min(selected), len(self.writes)) if selected else ()
        return {self.writes[target]: self.coder.decode(target, selected) for target in targets}

    def reconstruct(self, activations: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return self.decode({read: self.encode(read, activations[read]) for read in self.reads})

    def decoder_directions(self, hookpoint: str, write: str = "") -> Float[Tensor, "n_latents d_out"]:
        assert write in ("", *self.writes_of(hookpoint)), write
        source = self.reads.index(hookpoint)
        return self.coder.directions(source, self.writes.index(write) if write else source)

    def to(self, device: str) -> CrossLayerDictionary:
        self.coder.to(device)
        return self


def write_cross_layer(writer: ArtifactWriter, description: DictionaryDescription, coder: CrossLayerCoder) -> None:
    """Put a cross-layer transcoder's files into an artefact being written."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in coder.state_dict().items()}
    save_file(tensors, writer.folder / WEIGHTS)
    shape = coder.shape
    sizes = {
        "n_latents": dict(zip(description.reads, shape.n_latents, strict=True)),
        "d_model": dict.fromkeys(description.reads, shape.d_model),
        "cross_layer": shape.to_json(),
    }
    writer.write_json(DESCRIPTION, asdict(description) | sizes)


def load_cross_layer(artifact: Artifact, record: Mapping[str, Any], device: str) -> CrossLayerDictionary:
    """The loader that ``store.LOADERS`` names; raises ArtifactError where weights and description disagree."""
    facts = record["cross_layer"]
    shape = CrossLayerShape(**{**facts, "n_latents": tuple(facts["n_latents"]), "k": tuple(facts["k"])})
    coder = CrossLayerCoder(shape)
    try:
        coder.load_state_dict(load_file(artifact.path(WEIGHTS)))
    except RuntimeError as error:
        raise ArtifactError(
            f"The weights of the dictionary {artifact.digest[:12]} do not fit its description; make it again."
        ) from error
    return CrossLayerDictionary(read_description(record), coder.requires_grad_(False), artifact.digest).to(device)
