"""How often each latent is on, counted over tokens of one hookpoint; counts of other images add up.

Three counts, because they differ for dense kinds: a latent *fires* where its value is not zero, is *positive* where it
is above zero, and *contributes* where |a| ‖v‖, v its decoder row, exceeds 1 % of the largest such product at its token.
With a GELU every neuron fires at every token, so that only the last says how many of them matter
(research/ffkv_saebench.md §1.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workers.dictionaries.sparse_coder import Codes

CONTRIBUTING_SHARE = 0.01  # of the largest contribution at the token
TOKEN_KINDS = ("cls", "patches")
COUNTS = ("n_fired", "n_positive", "n_contributing")
LOG_EDGES = tuple(-6 + half / 2 for half in range(13))  # of density, in powers of ten


class ActivityCounts:
    """Tokens at which each latent fires, is positive, contributes, by kind of token."""

    def __init__(self, n_latents: int, decoder_norms: Float[Tensor, " n_latents"] | None = None) -> None:
        self.norms = torch.ones(n_latents) if decoder_norms is None else decoder_norms.detach().cpu().float()
        self.counts = {
            (name, kind): torch.zeros(n_latents, dtype=torch.long) for name in COUNTS for kind in TOKEN_KINDS
        }

    def update(self, codes: Codes, is_patch: Bool[Tensor, " n_tokens"]) -> None:
        indices, values = codes.indices.cpu(), codes.values.cpu().float()
        is_dense = indices.shape[1] == self.norms.numel() and indices.stride(0) == 0  # one row of names, seen as many
        contribution = values.abs() * (self.norms[indices[:1]] if is_dense else self.norms[indices])
        largest = contribution.amax(dim=1, keepdim=True)
        is_on = {
            "n_fired": values != 0,
            "n_positive": values > 0,
            "n_contributing": contribution > CONTRIBUTING_SHARE * largest,
        }
        for kind, chosen in (("cls", ~is_patch), ("patches", is_patch)):
            for name, on in is_on.items():
                total = self.counts[name, kind]
                if is_dense:
                    total[indices[0]] += on[chosen].sum(dim=0)
                else:
                    total += torch.bincount(indices[chosen][on[chosen]], minlength=total.numel())

    def merge(self, other: ActivityCounts) -> None:
        for key, counts in self.counts.items():
            counts += other.counts[key]

    def total(self, name: str) -> Tensor:
        """Over both kinds of tokens."""
        return self.counts[name, "cls"] + self.counts[name, "patches"]

    def l0(self, name: str, n_tokens: Mapping[str, float]) -> dict[str, float]:
        """Latents per token by kind of token and over all; kinds without tokens are left out."""
        totals = {kind: self.counts[name, kind].sum() for kind in TOKEN_KINDS} | {"all": self.total(name).sum()}
        return {kind: float(total) / n_tokens[kind] for kind, total in totals.items() if n_tokens[kind] > 0}

    def tensors(self) -> dict[str, Tensor]:
        return {f"{name}.{kind}": counts for (name, kind), counts in self.counts.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.counts = {(name, kind): tensors[f"{name}.{kind}"] for name, kind in self.counts}


def density_histogram(density: Float[Tensor, " n_latents"]) -> dict[str, Any]:
    """Latents by half a power of ten of their density; the silent ones apart, the rarest in the first bin."""
    on = density[density > 0].double()
    edges = torch.tensor(LOG_EDGES, dtype=torch.float64)
    bins = torch.bucketize(on.log10(), edges[1:-1], right=True)
    counts = torch.bincount(bins, minlength=len(LOG_EDGES) - 1)
    return {"log10_edges": list(LOG_EDGES), "counts": counts.tolist(), "n_silent": int((density == 0).sum())}
