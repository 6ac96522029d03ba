"""The logit lens: the classes a latent's decoder direction promotes, W_dec · (class directions)ᵀ.

The final norm's division is left out, so values compare classes within a latent, not latents with each other.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Promoted(NamedTuple):
    """The classes promoted most by each latent, the strongest first."""

    classes: Int[Tensor, "n_latents n_classes"]
    values: Float[Tensor, "n_latents n_classes"]


@torch.no_grad()
def promoted_classes(
    decoder_directions: Float[Tensor, "n_latents d_model"],
    class_directions: Float[Tensor, "n_classes d_model"],
    n_classes: int = 5,
) -> Promoted:
    """At most ``n_classes`` classes per latent; fewer where the readout has fewer."""
    logits = decoder_directions @ class_directions.to(decoder_directions.dtype).T
    found = logits.topk(min(n_classes, logits.shape[1]), dim=1)
    return Promoted(found.indices, found.values)
