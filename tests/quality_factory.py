"""Dictionaries with quality artefacts as the stage writes them, for the tests of the pages that show them."""

from __future__ import annotations

from typing import Any

from annotation.domain.recording import record_quality
from annotation.domain.storage import artifact_store
from annotation.models import Dictionary, Run
from tests.factories import make_dictionary

HOOKPOINTS = ("blocks.0", "blocks.1")


def losses(level: float, *, n_labeled: int = 20) -> dict[str, Any]:
    """One pass that loses so much; without labels there is no cross-entropy."""
    labeled = {"cross_entropy": 0.5 + level, "top_1": 0.9 - level / 4} if n_labeled else {
        "cross_entropy": None, "top_1": None,
    }  # fmt: skip
    rest = {"kl": level, "agreement": 1 - level / 4, "cosine_distance": level / 10, "relative_distance": level / 5}
    return {"n_images": 20, "n_labeled": n_labeled, **labeled, **rest}


def splice(level: float) -> dict[str, Any]:
    scores = {"cross_entropy": 1 - level, "kl": 1 - level, "cosine_distance": 1 - level}
    against_mean = {name: 1 - 2 * level for name in scores}
    passes = {"clean": losses(0), "dictionary": losses(level), "zero": losses(1), "mean": losses(0.5)}
    return {"passes": passes, "scores": {"zero": scores, "mean": against_mean}}


def hookpoint_record(explained: float, block: int) -> dict[str, Any]:
    fall = 0.05 * block
    by_tokens = {"cls": explained - 0.1 - fall, "patches": explained + 0.01 - fall, "all": explained - fall}
    similar = {"n": 60, "mean": 0.4, "median": 0.35, "share_above_null_99": 0.2, "null_mean": 0.3, "null_99": 0.5}
    return {
        "explained_variance": by_tokens, "explained_variance_normalized": by_tokens,
        "r_squared_by_dimension": by_tokens, "explained_variance_legacy": by_tokens, "l0": 16.0,
        "l0_positive": {"all": 15.0}, "l0_contributing": {"all": 12.5 + block}, "n_latents": 64, "n_dead": 4,
        "n_dense": 2, "n_tokens": {"cls": 20, "patches": 320, "all": 340},
        "density_histogram": {
            "log10_edges": [-6 + half / 2 for half in range(13)], "n_silent": 4,
            "counts": [0, 0, 0, 1, 2, 7, 12, 18, 11, 6, 2, 1],
        },
        "nearest_cosine": similar, "splice": splice(1 - explained + fall),
        "monosemanticity": {"n_latents": 60, "floor": 0.2, "mean": 0.45, "median": 0.4, "quantiles": [0.1] * 4},
    }  # fmt: skip


def block_pairs() -> dict[str, Any]:
    matrix = [[0.2, 0.6], [0.5, 0.1]]
    return {"reads": list(HOOKPOINTS), "mean": matrix, "share_above_null_99": matrix, "null_99": matrix}


def cross_layer_facts() -> dict[str, Any]:
    scores = [[0.9, 0.3], [None, 0.6], [0.1, 0.1]]
    return {
        "contributions": {
            "sources": [*HOOKPOINTS, "bias"], "targets": list(HOOKPOINTS), "scores": {"cls": scores, "patches": scores}
        },
        "passes": {f"cascade/all/{block}": losses(0.4 - 0.2 * block) for block in (0, 1)},
        "warning": "Chains become shallow sums.",
    }  # fmt: skip


def make_evaluated(
    name: str, explained: float = 0.8, *, kind: str = "topk_sae", image_set: str = "", **facts: Any
) -> Dictionary:
    """A dictionary with its quality artefact, recorded as the run that made it would be."""
    dictionary = make_dictionary(name, kind=kind)
    quality = {read: hookpoint_record(explained, block) for block, read in enumerate(HOOKPOINTS)}
    evaluation = {
        "dictionary": dictionary.digest, "image_set": image_set or dictionary.image_set.digest, "kind": kind,
        "n_images": 20, "n_images_spliced": 20, "splice_together": splice(1.2 * (1 - explained)),
        "block_pairs": block_pairs(), **facts,
    }  # fmt: skip
    with artifact_store().write("quality", config={"name": name}, parents=[dictionary.digest]) as writer:
        writer.write_json("quality.json", quality)
        writer.write_json("evaluation.json", evaluation)
    assert writer.artifact is not None
    record_quality(writer.artifact, None)
    dictionary.refresh_from_db()
    return dictionary


def side(share: float, *, n_bins: int = 10) -> dict[str, Any]:
    counts = [0] * n_bins
    counts[3], counts[8] = 40, 24
    return {
        "null_mean": 0.3, "null_percentiles": {"50": 0.3, "95": 0.4, "99": 0.45, "99.9": 0.5}, "n_null_directions": 64,
        "share_above": {"50": 0.8, "95": 0.5, "99": share, "99.9": 0.1}, "mean": 0.5, "n_latents": 64,
        "n_in_bin": counts,
    }  # fmt: skip


def make_alignment(first: Dictionary, second: Dictionary, **extra: Any) -> Run:
    """A finished run of align-dictionaries with its artefact."""
    both = {"a_to_b": side(0.375), "b_to_a": side(0.25)}
    with artifact_store().write("alignment", config={}, parents=[first.digest, second.digest]) as writer:
        writer.write_json("null.json", {read: both | extra for read in HOOKPOINTS})
        writer.write_json("alignment.json", {"dictionary_a": first.digest, "dictionary_b": second.digest})
    return Run.objects.create(
        stage="align-dictionaries", queue="gpu", state=Run.State.DONE, artifacts=[writer.digest],
        config={"dictionary": first.digest, "other": second.digest},
    )  # fmt: skip
