"""Rate, describe, categorise: do the patches, do the images share something one could name, and what is it?

1 no, 2 a hint, 3 mostly, 4 clearly, or cannot tell; a judgement counts as interpretable at 3 or 4. Category and label
may stay empty.
"""

from __future__ import annotations

from django.utils.translation import gettext_noop as _

from annotation.domain.protocols.base import SHEET_CONTROLS, Options, Panel, Protocol
from annotation.domain.protocols.choices import label, rating_choices, second_rating_choices
from annotation.domain.protocols.questions import Kind, Question

INTERPRETABLE_FROM = 3
SHEET_PANELS = (
    Panel("patches", _("Patches"), _("where it fires most, with what surrounds them"), "patches"),
    Panel("images", _("Images")),
)


def questions(options: Options) -> tuple[Question, ...]:
    return (
        Question(
            "patch_rating", Kind.CHOICE, _("Do the patches share something you could name?"), rating_choices(),
            column="patch_rating",
        ),
        Question("image_rating", Kind.CHOICE, _("Do the images?"), second_rating_choices(), column="image_rating"),
        Question("category", Kind.CATEGORY, _("What kind of thing is it?"), is_required=False, column="category"),
        label(_("In a few words")),
    )  # fmt: skip


def is_interpretable(rating: int | None) -> bool:
    return rating is not None and rating >= INTERPRETABLE_FROM


PROTOCOL = Protocol(
    name="rate-describe-categorise",
    version="1.0",
    title=_("Rate, describe, categorise"),
    summary=_(
        "A feature's strongest patches and images: rate whether they share something, say what, and of what kind."
    ),
    layout="sheet",
    builder="sheet",
    quantity=_("share of features that most people find interpretable; P(a feature is rated above a control)"),
    panels=SHEET_PANELS,
    questions=questions,
    chance=lambda options: 0.5,
    conditions=SHEET_CONTROLS,
    answers_needed=_("3 people on 300 features give agreement within .06; everything else may be judged once."),
)
