"""Whether a study file is well formed: known names, values of the right kind; a sentence for the first fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.controls import EVERY_CONTROL
from annotation.domain.preregistration import settle
from annotation.domain.protocols import PROTOCOLS, OptionError
from annotation.domain.stopping import validate_stopping
from annotation.domain.studies import StudyError
from annotation.models import Study

KEYS = (
    "name", "description", "protocol", "options", "dictionaries", "sampler", "exclusions", "explanations", "embeddings",
    "alignment", "settings", "guideline", "consent", "categories", "practice", "gold",
)  # fmt: skip
SAMPLER = ("n_features", "blocks", "n_density_bands", "feature_ids", "classes")
EXCLUSIONS = ("min_images", "max_prefix_share", "prefix_rule")
SETTINGS: dict[str, tuple[type, ...]] = {
    "seed": (int,), "overlap": (int,), "core_overlap": (int,), "core_share": (int, float),
    "control_share": (int, float), "control_kinds": (list,), "catch_share": (int, float), "gold_share": (int, float),
    "session_length": (int,), "consent_version": (str,), "is_simulated": (bool,), "queue_order": (str,),
    "max_per_person": (int, type(None)), "gold_schedule": (list,), "repeat_share": (int, float),
    "min_viewing_ms": (int,), "pass_mark": (int, float), "practice_rounds": (int,), "vocabulary_mode": (str,),
    "stopping": (dict,), "preregistration": (dict,),
}  # fmt: skip
SHARES = ("core_share", "control_share", "catch_share", "gold_share", "repeat_share", "pass_mark")
RANGES = {
    "seed": (0, 2**31), "overlap": (1, 50), "core_overlap": (1, 50), "session_length": (5, 500),
    "max_per_person": (1, 1_000_000), "min_viewing_ms": (0, 60_000), "practice_rounds": (0, 50),
}  # fmt: skip
CHOICES = {"queue_order": Study.QueueOrder.values, "vocabulary_mode": Study.VocabularyMode.values}
KIND_WORDS = {
    int: gettext_noop("a whole number"),
    float: gettext_noop("a number"),
    list: gettext_noop("a list"),
    str: gettext_noop("text"),
    bool: gettext_noop("true or false"),
    dict: gettext_noop("names with values"),
}
NAMED, TEXT = (dict, gettext_noop("a list of 'name: value'")), (str, gettext_noop("text"))
SHAPES: dict[str, tuple[type, str]] = {
    "settings": NAMED, "sampler": NAMED, "exclusions": NAMED, "categories": NAMED, "options": NAMED,
    "dictionaries": (list, gettext_noop("a list")),
    "guideline": TEXT, "consent": TEXT, "description": TEXT, "protocol": TEXT,
    "explanations": TEXT, "embeddings": TEXT, "alignment": TEXT,
}  # fmt: skip
REFERENCE = ("feature", "accepted", "reason", "other_feature", "text")
MOST_CHECKS = 0.9  # at least a tenth of the items are the study's own


class StudyFileError(Exception):
    """The file does not describe a study; the message is fit for the user."""


def check_file(values: Mapping[str, Any]) -> None:
    """Raises StudyFileError naming the first part that is wrong."""
    reject_unknown(values, KEYS, _("The study file"))
    for name, (kind, words) in SHAPES.items():
        if name in values and not isinstance(values[name], kind):
            raise StudyFileError(_("The part '%(name)s' must be %(words)s.") % {"name": name, "words": _(words)})
    reject_unknown(values.get("sampler", {}), SAMPLER, _("The part 'sampler'"))
    reject_unknown(values.get("exclusions", {}), EXCLUSIONS, _("The part 'exclusions'"))
    reject_unknown(values.get("settings", {}), tuple(SETTINGS), _("The part 'settings'"))
    if not str(values.get("name", "")).strip():
        raise StudyFileError(_("The study file needs a 'name'."))
    if not all(isinstance(key, str) for key in values.get("categories", {}).values()):
        raise StudyFileError(_("Each of the categories needs a key, such as 'color: v'."))
    for name in ("practice", "gold"):
        check_references(name, values.get(name, []))
    check_protocol(values)
    check_settings(values.get("settings", {}))


def reject_unknown(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    unknown = sorted(str(name) for name in set(values) - set(known))
    if unknown:
        raise StudyFileError(
            _("%(where)s has an unknown entry '%(unknown)s'; it can have %(values)s.")
            % {"where": where, "unknown": unknown[0], "values": ", ".join(known)}
        )


def check_references(name: str, wanted: Any) -> None:
    is_draw = isinstance(wanted, dict) and set(wanted) == {"draw"} and type(wanted["draw"]) is int
    is_listed = isinstance(wanted, list) and all(
        isinstance(row, dict) and type(row.get("feature")) is int for row in wanted
    )
    if not (is_draw or is_listed):
        raise StudyFileError(
            _("The part '%(name)s' must be 'draw: NUMBER' or a list of entries with a 'feature'.") % {"name": name}
        )
    for row in wanted if is_listed else []:
        reject_unknown(row, REFERENCE, _("An entry of '%(name)s'") % {"name": name})


def check_protocol(values: Mapping[str, Any]) -> None:
    name = values.get("protocol", "rate-describe-categorise")
    known = [protocol.name for protocol in PROTOCOLS.values() if protocol.builder]
    if name not in known:
        raise StudyFileError(
            _("There is no protocol '%(name)s' to launch; there are %(values)s.")
            % {"name": name, "values": ", ".join(known)}
        )
    try:
        PROTOCOLS[name].settle_options(values.get("options", {}))
    except OptionError as error:
        raise StudyFileError(str(error)) from error


def check_settings(settings: Mapping[str, Any]) -> None:
    for name, value in settings.items():
        kinds = SETTINGS[name]
        if type(value) not in kinds:
            words = KIND_WORDS[kinds[-1] if kinds[-1] is not type(None) else kinds[0]]
            raise StudyFileError(
                _("The setting '%(name)s' is %(value)s; it must be %(words)s.")
                % {"name": name, "value": repr(value), "words": _(words)}
            )
    for name, (least, most) in RANGES.items():
        if settings.get(name) is not None and not least <= settings[name] <= most:
            raise StudyFileError(
                _("The setting '%(name)s' is %(settings)s; it must be from %(least)s to %(most)s.")
                % {"name": name, "settings": settings[name], "least": least, "most": most}
            )
    for name, allowed in CHOICES.items():
        if settings.get(name, allowed[0]) not in allowed:
            raise StudyFileError(
                _("The setting '%(name)s' is '%(settings)s'; it can be %(values)s.")
                % {"name": name, "settings": settings[name], "values": ", ".join(allowed)}
            )
    unknown = [kind for kind in settings.get("control_kinds", []) if kind not in EVERY_CONTROL]
    if unknown:
        raise StudyFileError(
            _("'%(unknown)s' is no kind of control; it can be %(values)s.")
            % {"unknown": unknown[0], "values": ", ".join(EVERY_CONTROL)}
        )
    checks = sum(settings.get(name, 0) for name in ("control_share", "catch_share", "gold_share"))
    if not all(0 <= settings.get(name, 0) <= 1 for name in SHARES) or checks > MOST_CHECKS:
        raise StudyFileError(
            _(
                "The shares must lie between 0 and 1; controls, catch and gold items must not be above "
                "%(most_checks)s in all."
            )
            % {"most_checks": MOST_CHECKS}
        )
    check_schedule(settings.get("gold_schedule", []))
    try:
        validate_stopping(settings.get("stopping", {}))
        settle(settings.get("preregistration", {}))
    except StudyError as error:
        raise StudyFileError(str(error)) from error


def check_schedule(schedule: Sequence[Any]) -> None:
    """[[from how many answers, share of gold], ...], the first from 0."""
    rows = [row for row in schedule if isinstance(row, list) and len(row) == 2 and type(row[0]) is int]
    starts = [row[0] for row in rows]
    is_right = len(rows) == len(schedule) and starts == sorted(set(starts))
    if not is_right or not all(isinstance(row[1], int | float) and 0 <= row[1] <= 0.5 for row in rows):
        raise StudyFileError(
            _("The gold schedule must be a list such as [[0, 0.2], [40, 0.05]]: from how many answers, which share.")
        )
