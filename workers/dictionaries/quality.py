"""How well a dictionary explains activations, accumulated over shards of images in double precision.

    explained variance = 1 − Σ‖x − x̂‖² / Σ‖x − μ‖²         μ the mean over all tokens of the kind, sums over all of them
    R² by dimension    = mean over d of 1 − Σ(x_d − x̂_d)² / Σ(x_d − μ_d)²
    legacy             = mean over tokens of 1 − ‖x − x̂‖² / ‖x − x̄‖², x̄ the mean of the token's batch

The first is the right one (research/ffkv_saebench.md §2.1 shows how others go wrong); the last is there for comparison
with published figures. ``normalized`` is the first in the coder's own units, where each token has zero mean and unit
variance. CLS and register tokens are kept apart from patches. Moments are merged by Chan, Golub and LeVeque's formula.
How often latents are on is counted in activity.py. Where a dictionary writes elsewhere than it reads, the activations
are those it should write.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workers.dictionaries.activity import TOKEN_KINDS, ActivityCounts, density_histogram
from workers.dictionaries.sparse_coder import Codes, normalize_tokens

DENSE_DENSITY = 0.1
SCALES = ("own", "normalized")


class VarianceSums:
    """Sums over tokens of one kind: count, mean, squared deviations and squared errors by dimension."""

    def __init__(self, d_model: int) -> None:
        self.n = torch.zeros((), dtype=torch.float64)
        self.mean = torch.zeros(d_model, dtype=torch.float64)
        self.deviation = torch.zeros(d_model, dtype=torch.float64)
        self.error = torch.zeros(d_model, dtype=torch.float64)
        self.legacy = torch.zeros((), dtype=torch.float64)

    def update(self, tokens: Float[Tensor, "n d_model"], reconstruction: Float[Tensor, "n d_model"]) -> None:
        if tokens.shape[0] == 0:
            return
        values, error = tokens.double(), (tokens.double() - reconstruction.double()).square()
        mean = values.mean(0)
        squared = (values - mean).square()
        batch = VarianceSums(tokens.shape[1])
        batch.n, batch.mean, batch.deviation = torch.tensor(float(tokens.shape[0])).double(), mean, squared.sum(0)
        batch.error = error.sum(0)
        ratio = error.sum(1) / squared.sum(1).clamp_min(torch.finfo(torch.float64).tiny)
        batch.legacy = (1 - ratio).sum()
        self.merge(batch)

    def merge(self, other: VarianceSums) -> None:
        n = self.n + other.n
        if n == 0:
            return
        shift = other.mean - self.mean
        self.mean = self.mean + shift * (other.n / n)
        self.deviation = self.deviation + other.deviation + shift.square() * (self.n * other.n / n)
        self.error = self.error + other.error
        self.legacy = self.legacy + other.legacy
        self.n = n

    def explained_variance(self) -> float | None:
        return ratio_or_none(self.error.sum(), self.deviation.sum())

    def mean_r_squared(self) -> float | None:
        varies = self.deviation > 0
        if not bool(varies.any()):
            return None
        return float((1 - self.error[varies] / self.deviation[varies]).mean())

    def mean_legacy(self) -> float | None:
        return float(self.legacy / self.n) if self.n > 0 else None

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {f"{prefix}.{name}": tensor for name, tensor in vars(self).items()}

    def restore(self, prefix: str, tensors: Mapping[str, Tensor]) -> None:
        for name in list(vars(self)):
            setattr(self, name, tensors[f"{prefix}.{name}"])


class QualityAccumulator:
    """Quality of a dictionary at one hookpoint; accumulators of other images merge.

    ``decoder_norms`` weigh what latents contribute; without them all count alike. ``group_sums`` are of the activations
    by prefix token and, in the last row, over patches: their means are what the mean baseline of a splice puts there.
    """

    def __init__(
        self,
        *,
        d_model: int,
        n_latents: int,
        n_prefix_tokens: int,
        decoder_norms: Tensor | None = None,
        has_one_pole: bool = False,
    ) -> None:
        self.n_prefix_tokens = n_prefix_tokens
        self.sums = {(kind, scale): VarianceSums(d_model) for kind in TOKEN_KINDS for scale in SCALES}
        self.activity = ActivityCounts(n_latents, decoder_norms)
        self.firing = "n_positive" if has_one_pole else "n_fired"
        self.group_sums = torch.zeros(n_prefix_tokens + 1, d_model, dtype=torch.float64)
        self.n_patches = torch.zeros((), dtype=torch.float64)

    @torch.no_grad()
    def update(
        self,
        activations: Float[Tensor, "image token d_model"],
        reconstruction: Float[Tensor, "image token d_model"],
        codes: Codes,
    ) -> None:
        """Take in a batch; ``codes`` holds the tokens of the first image, then of the second, and so on."""
        n_images, n_tokens = activations.shape[:2]
        is_patch = (torch.arange(n_tokens) >= self.n_prefix_tokens).repeat(n_images)
        tokens, rebuilt = activations.flatten(0, 1).cpu().float(), reconstruction.flatten(0, 1).cpu().float()
        own = normalize_tokens(tokens)
        rebuilt_normalized = (rebuilt - own.scale.mean) / own.scale.deviation.clamp_min(torch.finfo(torch.float32).tiny)
        for kind, chosen in (("cls", ~is_patch), ("patches", is_patch)):
            self.sums[kind, "own"].update(tokens[chosen], rebuilt[chosen])
            self.sums[kind, "normalized"].update(own.tokens[chosen], rebuilt_normalized[chosen])
        self.activity.update(codes, is_patch)
        by_token = activations.cpu().double().sum(0)
        self.group_sums[:-1] += by_token[: self.n_prefix_tokens]
        self.group_sums[-1] += by_token[self.n_prefix_tokens :].sum(0)
        self.n_patches += n_images * (n_tokens - self.n_prefix_tokens)

    def merge(self, other: QualityAccumulator) -> None:
        for key, sums in self.sums.items():
            sums.merge(other.sums[key])
        self.activity.merge(other.activity)
        self.group_sums = self.group_sums + other.group_sums
        self.n_patches = self.n_patches + other.n_patches

    def both_kinds(self, scale: str) -> VarianceSums:
        both = VarianceSums(self.sums["patches", scale].mean.numel())
        for kind in TOKEN_KINDS:
            both.merge(self.sums[kind, scale])
        return both

    def density(self) -> Float[Tensor, " n_latents"]:
        """The share of tokens, prefix included, at which each latent fires; with one pole, is above zero."""
        return self.share_of_tokens(self.firing)

    def share_of_tokens(self, name: str) -> Float[Tensor, " n_latents"]:
        n_tokens = max(sum(float(self.sums[kind, "own"].n) for kind in TOKEN_KINDS), 1.0)
        return (self.activity.total(name) / n_tokens).float()

    def finish(self) -> dict[str, Any]:
        """What ``quality.json`` says of this hookpoint; None where there are no tokens of a kind."""
        density = self.density()
        by_kind = {kind: self.sums[kind, "own"] for kind in TOKEN_KINDS} | {"all": self.both_kinds("own")}
        normalized = {kind: self.sums[kind, "normalized"] for kind in TOKEN_KINDS}
        normalized |= {"all": self.both_kinds("normalized")}
        n_tokens = {kind: float(sums.n) for kind, sums in by_kind.items()}
        l0 = self.activity.l0("n_fired", n_tokens)
        return {
            "explained_variance": {kind: sums.explained_variance() for kind, sums in by_kind.items()},
            "explained_variance_normalized": {kind: sums.explained_variance() for kind, sums in normalized.items()},
            "r_squared_by_dimension": {kind: sums.mean_r_squared() for kind, sums in by_kind.items()},
            "explained_variance_legacy": {kind: sums.mean_legacy() for kind, sums in by_kind.items()},
            "l0": l0.get("all", 0.0),
            "l0_by_token": l0,
            "l0_positive": self.activity.l0("n_positive", n_tokens),
            "l0_contributing": self.activity.l0("n_contributing", n_tokens),
            "n_tokens": {kind: int(sums.n) for kind, sums in by_kind.items()},
            "n_latents": density.numel(),
            "n_dead": int((density == 0).sum()),
            "n_dense": int((density > DENSE_DENSITY).sum()),
            "density_quantiles": density.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95])).tolist(),
            "density_histogram": density_histogram(density),
            "contributing_histogram": density_histogram(self.share_of_tokens("n_contributing")),
        }

    def tensors(self) -> dict[str, Tensor]:
        tensors = self.activity.tensors() | {"group_sums": self.group_sums, "n_patches": self.n_patches}
        for (kind, scale), sums in self.sums.items():
            tensors |= sums.tensors(f"{kind}.{scale}")
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.activity.restore(tensors)
        self.group_sums, self.n_patches = tensors["group_sums"], tensors["n_patches"]
        for (kind, scale), sums in self.sums.items():
            sums.restore(f"{kind}.{scale}", tensors)


def ratio_or_none(error: Tensor, deviation: Tensor) -> float | None:
    """1 − error / deviation; None where nothing varies."""
    return float(1 - error / deviation) if deviation > 0 else None


def token_means(
    group_sums: Float[Tensor, "n_groups d_model"], n_patches: float, patches_per_image: int
) -> Float[Tensor, "n_groups d_model"]:
    """The mean activation of each prefix token, and of the patches in the last row, from an accumulator's sums."""
    counts = torch.full((group_sums.shape[0], 1), n_patches / patches_per_image, dtype=torch.float64)
    counts[-1] = n_patches
    return (group_sums / counts).float()
