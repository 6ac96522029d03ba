"""What people decided about features, as an artefact of kind feature-set: ids with frozen labels and their origin.

Debiasing and circuits read it, never the database. Only a closed and unblinded study can be written, only real
features are in it, and answers that are excluded, late or repeats do not count.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.protocols.rate_describe import INTERPRETABLE_FROM
from annotation.domain.storage import artifact_store
from annotation.domain.studies import StudyError
from annotation.domain.unblinding import unblinding_of
from annotation.models import Annotation, Condition, Feature, Study
from workers.artifacts import Artifact, canonical_json

PURPOSES = {"spurious": "spurious", "rate-describe-categorise": "labels"}


class Said(NamedTuple):
    """One answer about a feature."""

    payload: dict[str, Any]
    text: str
    is_simulated: bool


def write_feature_set(*, study: Study) -> Artifact:
    """The features of a study with what most people said; raises StudyError for a blind one, or another protocol."""
    if study.protocol not in PURPOSES:
        raise StudyError(
            _("The protocol %(protocol)s decides nothing about single features.") % {"protocol": study.protocol}
        )
    if unblinding_of(study) is None:
        raise StudyError(_("'%(name)s' is blind: close it and unblind it first.") % {"name": study.name})
    said = answers_by_feature(study)
    features = Feature.objects.select_related("dictionary", "exemplar_set").in_bulk(sorted(said))
    rows = [row_of(features[pk], said[pk], study.protocol) for pk in sorted(said)]
    parents = sorted({feature.dictionary.digest for feature in features.values()})
    settings = {
        "purpose": PURPOSES[study.protocol], "study": study.slug, "settings_hash": study.locked_hash,
        "n_answers": sum(len(answers) for answers in said.values()),
        "is_simulated": any(one.is_simulated for answers in said.values() for one in answers),
    }  # fmt: skip
    with artifact_store().write("feature-set", config=settings, parents=parents) as writer:
        lines = (canonical_json(row) + "\n" for row in rows)
        (writer.folder / "features.jsonl").write_text("".join(lines))
    assert writer.artifact is not None
    return writer.artifact


def answers_by_feature(study: Study) -> dict[int, list[Said]]:
    rows = (
        Annotation.objects.filter(
            study=study, item__condition=Condition.REAL, item__repeat_of=None, is_current=True, is_late_extra=False,
            excluded_reason="",
        )
        .order_by("id")
        .values_list("item__feature_id", "payload", "item__text", "is_simulated")
    )  # fmt: skip
    said: dict[int, list[Said]] = defaultdict(list)
    for feature_id, payload, text, is_simulated in rows:
        said[feature_id].append(Said(payload, text, is_simulated))
    return said


def row_of(feature: Feature, said: list[Said], protocol: str) -> dict[str, Any]:
    row = {
        "dictionary": feature.dictionary.digest, "hookpoint": feature.hookpoint, "latent": feature.latent,
        "pole": feature.pole, "n_answers": len(said), "label": most_frequent(one.payload["label"] for one in said),
    }  # fmt: skip
    return row | (spurious_part(said) if protocol == "spurious" else rated_part(said))


def spurious_part(said: list[Said]) -> dict[str, Any]:
    """Spurious by the majority of those who could tell; a tie is not."""
    votes = Counter(one.payload["spurious"] for one in said)
    return {
        "class": said[0].text, "n_spurious": votes["yes"], "n_part": votes["no"], "n_cannot_tell": votes[None],
        "is_spurious": votes["yes"] > votes["no"],
    }  # fmt: skip


def rated_part(said: list[Said]) -> dict[str, Any]:
    """Interpretable by the majority, at each level; "cannot tell" counts against it."""

    def is_interpretable(level: str) -> bool:
        ratings = [one.payload[level] or 0 for one in said]
        return bool(sum(rating >= INTERPRETABLE_FROM for rating in ratings) > len(ratings) / 2)

    return {
        "category": most_frequent(one.payload["category"] for one in said),
        "is_patch_interpretable": is_interpretable("patch_rating"),
        "is_image_interpretable": is_interpretable("image_rating"),
    }


def most_frequent(words: Iterable[str]) -> str:
    """The commonest that is not empty, of equal ones the first in the alphabet."""
    counts = Counter(word for word in words if word)
    return min(counts, key=lambda word: (-counts[word], word)) if counts else ""
