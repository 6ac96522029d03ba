"""Verification of an explanation: does the sentence fit the image, or which of eight images does it fit?

Half of the images activate the feature and were not used to explain it; a quarter are random silent ones, a quarter
silent ones that look alike. With *shuffled explanation* as its control other images of the feature stand under another
feature's sentence: the difference is what the sentence tells.
"""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import Option, Options, Panel, Payload, Protocol, Truth
from annotation.domain.protocols.choices import CANNOT_TELL, cell_choices, digit
from annotation.domain.protocols.questions import Choice, Kind, Question

FITS_FROM = 3
WORDS = (_("surely not"), _("rather not"), _("rather yes"), _("surely"))


def n_cells(options: Options) -> int:
    return int(options.get("n_images", 8))


def questions(options: Options) -> tuple[Question, ...]:
    if n_cells(options) == 1:
        choices = [Choice(n, word, digit(n), str(n)) for n, word in enumerate(WORDS, start=1)]
        choices.append(Choice(None, CANNOT_TELL, digit(0), "0"))
        return (Question("match", Kind.CHOICE, _("Does the sentence fit the image?"), tuple(choices), column="choice"),)
    asked = _("Mark every image that the sentence fits.")
    n = n_cells(options)
    return (Question("matches", Kind.CELLS, asked, cell_choices(n), panel="queries", n_cells=n),)


def score(payload: Payload, truth: Truth, options: Options) -> float | None:
    """Share of the images judged rightly; cannot tell is none."""
    if "matches" not in truth:
        return None
    judged = judgements(payload, len(truth["matches"]))
    right = [given == bool(is_match) for given, is_match in zip(judged, truth["matches"], strict=True)]
    return sum(right) / len(right)


def judgements(payload: Payload, n: int) -> list[bool | None]:
    """Whether the person says that the sentence fits, image by image; None where they cannot tell."""
    if "matches" in payload:
        return [index in payload["matches"] for index in range(n)]
    return [None if payload["match"] is None else payload["match"] >= FITS_FROM]


def accepted(truth: Truth, options: Options) -> dict[str, list[Any]]:
    if "matches" not in truth or n_cells(options) != 1:
        return {}
    return {"match": [3, 4] if truth["matches"][0] else [1, 2]}


PROTOCOL = Protocol(
    name="verification",
    version="1.0",
    title=_("Verify an explanation"),
    summary=_("A sentence about a feature and one image, or a panel of eight: say which images it fits."),
    layout="verification",
    builder="verification",
    quantity=_("balanced accuracy and d′ of the explanation on unseen images"),
    panels=(Panel("queries", _("Does the sentence fit?")),),
    questions=questions,
    chance=lambda options: 0.5,
    options=(
        Option("n_images", 8, (1, 8), _("Images per item")),
        Option("items_per_feature", 1, (), _("Items per feature")),
    ),
    score=score,
    accepted=accepted,
    conditions=("shuffled_explanation",),
    needs=frozenset({"explanations"}),
    answers_needed=_("With panels of eight, 3 people on 100 explanations give balanced accuracy within .04."),
)
