"""Sparse codes made dense, for small data that tests look at whole."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.sparsifiers import Selected


def dense_codes(selected: Selected, n_latents: int) -> Float[Tensor, "n_tokens n_latents"]:
    """Codes with a dense latent axis."""
    zeros = selected.values.new_zeros(selected.values.shape[0], n_latents)
    return zeros.scatter_add(1, selected.indices, selected.values)
