"""The figures of a dictionary at a hookpoint: where each is in the quality artefact, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext_noop as _

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
    Measure("n_latents", _("Latents"), ("n_latents",), _("How many latents read at the hookpoint."), "count"),
    Measure(
        "explained",
        _("Explained variance"),
        (EXPLAINED, "all"),
        _("1 − Σ‖x − x̂‖² / Σ‖x − μ‖² over all tokens: 1 rebuilds everything, 0 is no better than the mean activation."),
    ),
    Measure("explained_cls", _("CLS"), (EXPLAINED, "cls"), _("Explained variance over CLS and register tokens alone.")),
    Measure("explained_patches", _("Patches"), (EXPLAINED, "patches"), _("Explained variance over patches alone.")),
    Measure(
        "explained_normalized",
        _("Explained, normalized"),
        ("explained_variance_normalized", "all"),
        _("The same after each token is brought to zero mean and unit variance, so that loud tokens do not decide."),
        is_shown=False,
    ),
    Measure(
        "r_squared",
        _("R² by dimension"),
        ("r_squared_by_dimension", "all"),
        _("R² of each dimension, averaged over dimensions, so that quiet dimensions count as much."),
        is_shown=False,
    ),
    Measure(
        "explained_legacy",
        _("Explained, legacy"),
        ("explained_variance_legacy", "all"),
        _("The mean over tokens of 1 − ‖x − x̂‖² / ‖x − x̄‖², as many papers report it; for comparison with them only."),
        is_shown=False,
    ),
    Measure("l0", "L0", ("l0",), _("Latents on per token: those whose value is not zero."), "digits"),
    Measure(
        "l0_positive",
        _("L0, positive"),
        ("l0_positive", "all"),
        _("Latents per token whose value is above zero."),
        "digits",
        is_shown=False,
    ),
    Measure(
        "l0_contributing",
        "L0 > 1 %",
        ("l0_contributing", "all"),
        _(
            "Latents per token whose |a| ‖v‖ exceeds 1 % of the largest at that token; it tells how many matter "
            "where a dense dictionary (FF-KV) has all of them on."
        ),
        "digits",
    ),
    Measure(
        "dead",
        _("Dead"),
        ("n_dead",),
        _("Share of the latents that never fire on these images."),
        "percent",
        is_share=True,
    ),
    Measure(
        "dense",
        _("Dense"),
        ("n_dense",),
        _("Share of the latents that fire on over 10 % of the tokens."),
        "percent",
        is_share=True,
    ),
    Measure(
        "splice_cross_entropy",
        _("Splice, CE"),
        (*SPLICE, "cross_entropy"),
        _(
            "The model runs on reconstructions: (CE of the baseline − CE) / (CE of the baseline − CE of the "
            "clean model). 1 loses nothing of what the labels ask, 0 is as bad as the baseline; where the "
            "baseline itself loses little, the score says little. Needs labels that the readout knows."
        ),
    ),
    Measure(
        "splice_kl",
        _("Splice, KL"),
        (*SPLICE, "kl"),
        _(
            "The model runs on reconstructions: 1 − KL / KL of the baseline, both from the clean model's class "
            "probabilities. 1 changes nothing, 0 is as bad as the baseline. Needs a head or a readout, no labels."
        ),
    ),
    Measure(
        "splice_distance",
        _("Splice, distance"),
        (*SPLICE, "cosine_distance"),
        _(
            "The model runs on reconstructions: 1 − distance / distance of the baseline, with 1 − cosine between "
            "the final CLS token and the clean one (the mean patch where there is no CLS). Needs neither head "
            "nor labels."
        ),
    ),
    Measure(
        "cross_entropy",
        _("CE"),
        (*PASSES, "dictionary", "cross_entropy"),
        _("Cross-entropy with the labels, the model running on reconstructions."),
        is_shown=False,
    ),
    Measure(
        "cross_entropy_clean",
        _("CE, clean"),
        (*PASSES, "clean", "cross_entropy"),
        _("Cross-entropy of the untouched model on the same images."),
        is_shown=False,
    ),
    Measure(
        "cross_entropy_baseline",
        _("CE, baseline"),
        (*PASSES, BASELINE, "cross_entropy"),
        _("Cross-entropy with zeros, or the mean activation, in the place of reconstructions."),
        is_shown=False,
    ),
    Measure(
        "kl",
        _("KL"),
        (*PASSES, "dictionary", "kl"),
        _("KL divergence from the clean model's class probabilities, on reconstructions."),
        is_shown=False,
    ),
    Measure(
        "kl_baseline",
        _("KL, baseline"),
        (*PASSES, BASELINE, "kl"),
        _("The same with zeros, or the mean activation, in the place of reconstructions."),
        is_shown=False,
    ),
    Measure(
        "distance",
        _("Distance"),
        (*PASSES, "dictionary", "cosine_distance"),
        _("1 − cosine between the final CLS token on reconstructions and the clean one."),
        is_shown=False,
    ),
    Measure(
        "top_1",
        _("Top-1"),
        ("splice", "passes", "dictionary", "top_1"),
        _("Share of the labeled images that the model gets right on reconstructions."),
        "percent",
    ),
    Measure(
        "top_1_clean",
        _("Top-1, clean"),
        ("splice", "passes", "clean", "top_1"),
        _("Share of the same images that the untouched model gets right."),
        "percent",
    ),
    Measure(
        "agreement",
        _("Same top-1"),
        ("splice", "passes", "dictionary", "agreement"),
        _("Share of the images for which the model's first class stays what it was."),
        "percent",
        is_shown=False,
    ),
    Measure(
        "nearest",
        _("Nearest other"),
        ("nearest_cosine", "median"),
        _(
            "The median over live latents of the cosine between a decoder direction and the nearest other one; "
            "near 1, latents were learned twice."
        ),
    ),
    Measure(
        "nearest_null",
        _("Nearest, null"),
        ("nearest_cosine", "null_99"),
        _(
            "What 99 of 100 random directions stay below among as many random ones; a median below it is no "
            "duplication."
        ),
        is_shown=False,
    ),
    Measure(
        "monosemanticity",
        _("Monosemanticity"),
        ("monosemanticity", "mean"),
        _(
            "How alike the images are that drive a latent, by another model's embeddings, weighted by "
            "activation; mean over latents. Its floor is what a latent scores that ignores the images."
        ),
    ),
    Measure(
        "monosemanticity_floor",
        _("Its floor"),
        ("monosemanticity", "floor"),
        _("The mean cosine of two different images of the set."),
        is_shown=False,
    ),
)
BY_KEY = {measure.key: measure for measure in MEASURES}
