"""Settings of a study as people read them: names as words, shares as percent, rules as sentences."""

from __future__ import annotations

from typing import Any, NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.sampling import SampleSpec, SamplingError
from annotation.domain.study_samples import study_spec
from annotation.domain.versions import RULES
from annotation.models import Study

SHARES = {"repeat_share"}


class ChangeInWords(NamedTuple):
    """One setting that a version changed."""

    label: str
    before: str
    after: str


def share_words(share: float) -> str:
    """0.025 → '2.5 %'."""
    return f"{100 * share:.3g} %"


def setting_label(name: str) -> str:
    if name == "guideline":
        return _("Guideline")
    return _(RULES[name].label) if name in RULES else name


def change_in_words(change: list[Any]) -> ChangeInWords:
    """Of [name, before, after] as a version keeps it."""
    name, before, after = change
    return ChangeInWords(setting_label(name), setting_words(name, before), setting_words(name, after))


def setting_words(name: str, value: Any) -> str:
    if name == "stopping":
        return stopping_words(value or {})
    if value is None:
        return _("none")
    if name in SHARES:
        return share_words(value)
    if name == "queue_order":
        return str(dict(Study.QueueOrder.choices).get(value, value))
    return str(value)


def stopping_words(rule: dict[str, Any]) -> str:
    """A stopping rule, or that there is none."""
    if not rule:
        return _("none")
    return _("within ±%(width)s, from %(n)s judgements on") % {
        "width": share_words(rule["half_width"]), "n": rule.get("min_judgements") or 0,
    }  # fmt: skip


def never_drawn(study: Study) -> list[str]:
    """The rules that kept features out of the sample, a phrase each; none for a study that was not drawn here."""
    if not study.exclusions:
        return []
    try:
        spec = study_spec(study)
    except SamplingError:  # a study of an older or another site, whose sampler knows other settings
        return []
    return [_("those that fire on no image"), *rules_of(spec)]


def rules_of(spec: SampleSpec) -> list[str]:
    n = spec.min_images
    rules = []
    if n > 1:
        words = ngettext("those that fire on fewer than %(n)s image", "those that fire on fewer than %(n)s images", n)
        rules.append(words % {"n": n})
    if spec.prefix_rule == "exclude":
        rules.append(
            _("those whose maximum sits on CLS or a register in more than %(share)s of their images")
            % {"share": share_words(spec.max_prefix_share)}
        )
    return rules
