"""Configs of the stages that control, show, measure and compare dictionaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from workers.stages.configs.base import PER_CHUNK_HELP, SEED_HELP, parent, require, require_limits, setting
from workers.stages.configs.training import PRECISIONS

MOST_IMAGES = 10**9
MOST_PER_CHUNK = 10**6
MOST_CALIBRATION_TOKENS = 10**8

CONTROL_KINDS = ("residual_basis", "random_directions", "untrained_dictionary", "random_transformer")
BLOCK_PAIRS = ("all", "consecutive", "none")


@dataclass(frozen=True)
class MakeControlConfig:
    """A control dictionary at the hookpoints and densities of the dictionary it controls."""

    dictionary: str = parent("Dictionary", "The dictionary to control for.")
    image_set: str = parent("Image set", "The images on which densities are matched.")
    kind: str = setting("random_directions", "Kind", f"One of {', '.join(CONTROL_KINDS)}.")
    name: str = setting("", "Name", "Left empty, the kind is its name.")
    n_tokens: int = setting(
        65_536,
        "Tokens",
        "How many activations the densities are matched on.",
        unit="tokens",
        most=MOST_CALIBRATION_TOKENS,
    )
    trained: str = setting(
        "", "Trained on an untrained model", "The same kind of dictionary, trained on the untrained model."
    )
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set", "trained")

    def __post_init__(self) -> None:
        require_limits(self)
        require(
            self.kind in CONTROL_KINDS,
            f"The control kind '{self.kind}' is unknown; it can be {', '.join(CONTROL_KINDS)}.",
            "kind",
        )
        require(self.n_tokens >= 1, f"n_tokens is {self.n_tokens}; densities need at least one token.", "n_tokens")
        is_used = not self.trained or self.kind == "random_transformer"
        require(is_used, f"A control of kind {self.kind} is not trained; leave 'trained' empty.", "trained")


@dataclass(frozen=True)
class CollectExemplarsConfig:
    """One pass over an image set for several dictionaries of one vision model."""

    image_set: str = parent("Image set", "The images among which exemplars are looked for.")
    dictionaries: tuple[str, ...] = parent("Dictionaries", "One pass serves all of them; they read the same model.")
    readout: str = setting("", "Readout", "Gives the class each feature promotes (logit lens).")
    n_top: int = setting(
        24, "Top images", "A sheet shows 16 patches and other images than theirs.", unit="per feature", most=1000
    )
    images_per_chunk: int = setting(
        4096,
        "Images per chunk",
        "At most; fewer where they take over half a minute.",
        unit="images",
        most=MOST_PER_CHUNK,
        is_rare=True,
    )
    precision: str = setting("float32", "Precision", "bfloat16 is faster on a GPU and the same on a CPU.", is_rare=True)
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "dictionaries", "readout")

    def __post_init__(self) -> None:
        require_limits(self)
        require(len(self.dictionaries) > 0, "Name at least one dictionary.", "dictionaries")
        require(len(set(self.dictionaries)) == len(self.dictionaries), "Name each dictionary once.", "dictionaries")
        require(self.n_top >= 1, f"n_top is {self.n_top}; keep at least one image per feature.", "n_top")
        require(self.images_per_chunk >= 1, "A chunk needs at least one image.", "images_per_chunk")
        known = ", ".join(PRECISIONS)
        require(
            self.precision in PRECISIONS,
            f"The precision '{self.precision}' is unknown; it can be {known}.",
            "precision",
        )


@dataclass(frozen=True)
class EvaluateDictionaryConfig:
    """Quality of a dictionary on an image set: what it explains, what living on it costs the model, what is in it."""

    dictionary: str = parent("Dictionary", "The dictionary to measure.")
    image_set: str = parent("Image set", "Best images that the dictionary was not trained on.")
    readout: str = setting(
        "", "Readout", "Scores classes in the splice; left empty, the model's own head if it has one."
    )
    embeddings: str = setting("", "Image embeddings", "Of another model, for the monosemanticity score.")
    max_images: int = setting(2000, "Images at most", "At even distances in the set.", unit="images", most=MOST_IMAGES)
    splice_images: int = setting(
        200,
        "Images spliced",
        "The model runs on reconstructions of these, three passes per hookpoint; 0 leaves it out.",
        unit="images",
        most=MOST_IMAGES,
    )
    block_pairs: str = setting("all", "Blocks compared", "all, consecutive or none: decoder directions across blocks.")
    images_per_chunk: int = setting(
        256, "Images per chunk", PER_CHUNK_HELP, unit="images", most=MOST_PER_CHUNK, is_rare=True
    )

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "image_set", "readout", "embeddings")

    def __post_init__(self) -> None:
        require_limits(self)
        require(self.max_images >= 1, "Quality needs at least one image.", "max_images")
        require(self.images_per_chunk >= 1, "A chunk needs at least one image.", "images_per_chunk")
        require(
            self.splice_images >= 0, f"splice_images is {self.splice_images}; it must be 0 or more.", "splice_images"
        )
        require(
            self.block_pairs in BLOCK_PAIRS,
            f"block_pairs is '{self.block_pairs}'; it can be {', '.join(BLOCK_PAIRS)}.",
            "block_pairs",
        )


@dataclass(frozen=True)
class AlignDictionariesConfig:
    """Find for each latent its nearest in another dictionary, and draw pairs to show to people."""

    dictionary: str = parent("Dictionary", "For each of its latents the nearest in the other is found.")
    other: str = parent("Other dictionary", "Of the same vision model.")
    hookpoints: tuple[str, ...] = setting((), "Hookpoints", "Of the first; left empty: all that have a counterpart.")
    n_bins: int = setting(10, "Bins", "Equal ranges of the cosine between 0 and 1.", unit="bins")
    pairs_per_bin: int = setting(
        50, "Pairs per bin", "At each hookpoint, as far as there are so many.", unit="pairs", most=10**6
    )
    image_set: str = setting("", "Image set", "Latents are matched by their activations on it too.")
    n_tokens: int = setting(
        16_384,
        "Tokens",
        "On how many tokens activations are correlated, at even distances.",
        unit="tokens",
        most=MOST_CALIBRATION_TOKENS,
    )
    seed: int = setting(0, "Seed", SEED_HELP)

    parent_fields: ClassVar[tuple[str, ...]] = ("dictionary", "other", "image_set")

    def __post_init__(self) -> None:
        require_limits(self)
        require(self.dictionary != self.other, "Choose two different dictionaries.", "other")
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.", "hookpoints")
        require(1 <= self.n_bins <= 100, f"n_bins is {self.n_bins}; it must lie between 1 and 100.", "n_bins")
        require(self.pairs_per_bin >= 1, "Draw at least one pair per bin.", "pairs_per_bin")
        require(
            self.n_tokens >= 2, f"n_tokens is {self.n_tokens}; a correlation needs at least two tokens.", "n_tokens"
        )
