"""The figures of a dictionary at a hookpoint: where each is in the quality artefact, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BASELINE = "BASELINE"  # stands in a path for the one that splice scores are relative to
BASELINES = ("zero", "mean")


@dataclass(frozen=True)
class Measure:
    """One column: where its number is in a hookpoint's record, and what it says to who has not read the code."""

    key: str
    name: str
    path: tuple[str, ...]
    meaning: str
    style: str = "fixed"  # fixed: three decimals; digits: three figures; count: whole; percent
    is_shown: bool = True
    is_share: bool = False  # of the latents

    def value(self, record: Mapping[str, Any], baseline: str) -> float | None:
        """Its number in the record of a hookpoint; None where it was not measured."""
        found: Any = record
        for name in self.path:
            found = found.get(baseline if name == BASELINE else name) if isinstance(found, Mapping) else None
        if not isinstance(found, int | float):
            return None
        if not self.is_share:
            return found
        return found / record["n_latents"] if record.get("n_latents") else None


EXPLAINED, SPLICE = "explained_variance", ("splice", "scores", BASELINE)
PASSES = ("splice", "passes")
MEASURES = (
    Measure("n_latents", "Latents", ("n_latents",), "How many latents read at the hookpoint.", "count"),
    Measure(
        "explained", "Explained variance", (EXPLAINED, "all"),
        "1 − Σ‖x − x̂‖² / Σ‖x − μ‖² over all tokens: 1 rebuilds everything, 0 is no better than the mean activation.",
    ),
    Measure("explained_cls", "CLS", (EXPLAINED, "cls"), "Explained variance over CLS and register tokens alone."),
    Measure("explained_patches", "Patches", (EXPLAINED, "patches"), "Explained variance over patches alone."),
    Measure(
        "explained_normalized", "Explained, normalized", ("explained_variance_normalized", "all"),
        "The same after each token is brought to zero mean and unit variance, so that loud tokens do not decide.",
        is_shown=False,
    ),
    Measure(
        "r_squared", "R² by dimension", ("r_squared_by_dimension", "all"),
        "R² of each dimension, averaged over dimensions, so that quiet dimensions count as much.", is_shown=False,
    ),
    Measure(
        "explained_legacy", "Explained, legacy", ("explained_variance_legacy", "all"),
        "The mean over tokens of 1 − ‖x − x̂‖² / ‖x − x̄‖², as many papers report it; for comparison with them only.",
        is_shown=False,
    ),
    Measure("l0", "L0", ("l0",), "Latents on per token: those whose value is not zero.", "digits"),
    Measure(
        "l0_positive", "L0, positive", ("l0_positive", "all"), "Latents per token whose value is above zero.", "digits",
        is_shown=False,
    ),
    Measure(
        "l0_contributing", "L0 > 1 %", ("l0_contributing", "all"),
        "Latents per token whose |a| ‖v‖ exceeds 1 % of the largest at that token; it tells how many matter where a "
        "dense dictionary (FF-KV) has all of them on.", "digits",
    ),
    Measure(
        "dead", "Dead", ("n_dead",), "Share of the latents that never fire on these images.", "percent", is_share=True,
    ),
    Measure(
        "dense", "Dense", ("n_dense",), "Share of the latents that fire on over 10 % of the tokens.", "percent",
        is_share=True,
    ),
    Measure(
        "splice_cross_entropy", "Splice, CE", (*SPLICE, "cross_entropy"),
        "The model runs on reconstructions: (CE of the baseline − CE) / (CE of the baseline − CE of the clean model). "
        "1 loses nothing of what the labels ask, 0 is as bad as the baseline; where the baseline itself loses little, "
        "the score says little. Needs labels that the readout knows.",
    ),
    Measure(
        "splice_kl", "Splice, KL", (*SPLICE, "kl"),
        "The model runs on reconstructions: 1 − KL / KL of the baseline, both from the clean model's class "
        "probabilities. 1 changes nothing, 0 is as bad as the baseline. Needs a head or a readout, no labels.",
    ),
    Measure(
        "splice_distance", "Splice, distance", (*SPLICE, "cosine_distance"),
        "The model runs on reconstructions: 1 − distance / distance of the baseline, with 1 − cosine between the final "
        "CLS token and the clean one (the mean patch where there is no CLS). Needs neither head nor labels.",
    ),
    Measure("cross_entropy", "CE", (*PASSES, "dictionary", "cross_entropy"),
            "Cross-entropy with the labels, the model running on reconstructions.", is_shown=False),
    Measure("cross_entropy_clean", "CE, clean", (*PASSES, "clean", "cross_entropy"),
            "Cross-entropy of the untouched model on the same images.", is_shown=False),
    Measure("cross_entropy_baseline", "CE, baseline", (*PASSES, BASELINE, "cross_entropy"),
            "Cross-entropy with zeros, or the mean activation, in the place of reconstructions.", is_shown=False),
    Measure("kl", "KL", (*PASSES, "dictionary", "kl"),
            "KL divergence from the clean model's class probabilities, on reconstructions.", is_shown=False),
    Measure("kl_baseline", "KL, baseline", (*PASSES, BASELINE, "kl"),
            "The same with zeros, or the mean activation, in the place of reconstructions.", is_shown=False),
    Measure("distance", "Distance", (*PASSES, "dictionary", "cosine_distance"),
            "1 − cosine between the final CLS token on reconstructions and the clean one.", is_shown=False),
    Measure(
        "top_1", "Top-1", ("splice", "passes", "dictionary", "top_1"),
        "Share of the labeled images that the model gets right on reconstructions.", "percent",
    ),
    Measure(
        "top_1_clean", "Top-1, clean", ("splice", "passes", "clean", "top_1"),
        "Share of the same images that the untouched model gets right.", "percent",
    ),
    Measure(
        "agreement", "Same top-1", ("splice", "passes", "dictionary", "agreement"),
        "Share of the images for which the model's first class stays what it was.", "percent", is_shown=False,
    ),
    Measure(
        "nearest", "Nearest other", ("nearest_cosine", "median"),
        "The median over live latents of the cosine between a decoder direction and the nearest other one; near 1, "
        "latents were learned twice.",
    ),
    Measure(
        "nearest_null", "Nearest, null", ("nearest_cosine", "null_99"),
        "What 99 of 100 random directions stay below among as many random ones; a median below it is no duplication.",
        is_shown=False,
    ),
    Measure(
        "monosemanticity", "Monosemanticity", ("monosemanticity", "mean"),
        "How alike the images are that drive a latent, by another model's embeddings, weighted by activation; mean "
        "over latents. Its floor is what a latent scores that ignores the images.",
    ),
    Measure(
        "monosemanticity_floor", "Its floor", ("monosemanticity", "floor"),
        "The mean cosine of two different images of the set.", is_shown=False,
    ),
)  # fmt: skip
BY_KEY = {measure.key: measure for measure in MEASURES}
