"""Forms of what is written down about a study: its pre-registration, and changes while people work in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import forms
from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy as _

from annotation.domain.preregistration import FIELDS, LONGEST_TEXT
from annotation.domain.versions import LONGEST_REASON
from annotation.forms.study_fields import PercentField
from annotation.forms.study_parts import GuidelineForm
from annotation.models import Study

ROWS = {"hypotheses": 4, "analysis": 4}


class PreregistrationForm(forms.Form):
    """Its fields are the lines of a pre-registration; shares are typed as percent."""

    def __init__(self, data: Mapping[str, Any] | None = None, *, initial: Mapping[str, Any] | None = None) -> None:
        shares = {line.name for line in FIELDS if line.kind == "share"}
        shown = {name: 100 * value if name in shares else value for name, value in (initial or {}).items()}
        super().__init__(data, initial=shown)
        for line in FIELDS:
            options: dict[str, Any] = {"label": _(line.label), "required": False, "help_text": _(line.help)}
            if line.kind == "text":
                widget = forms.Textarea(attrs={"rows": ROWS.get(line.name, 2)})
                self.fields[line.name] = forms.CharField(widget=widget, max_length=LONGEST_TEXT, **options)
            elif line.kind == "whole":
                self.fields[line.name] = forms.IntegerField(min_value=1, max_value=2**31 - 1, **options)
            else:
                self.fields[line.name] = PercentField(**options | {"label": format_lazy("{}, %", options["label"])})


class ReasonForm(forms.Form):
    reason = forms.CharField(
        label=_("Reason"),
        max_length=LONGEST_REASON,
        help_text=_("The report shows it."),
        widget=forms.TextInput(attrs={"size": 60}),
    )


class LiveStudyForm(ReasonForm):
    """The settings that can change while people work."""

    session_length = forms.IntegerField(label=_("Items in a session"), min_value=5, max_value=500)
    max_per_person = forms.IntegerField(
        label=_("Judgements per person, at most"),
        min_value=1,
        required=False,
        help_text=_("Empty: as many as there are."),
    )
    queue_order = forms.ChoiceField(label=_("Order of the queue"), choices=Study.QueueOrder.choices)
    repeat_share = PercentField(label=_("Share of own items repeated on a return, %"), max_value=20)
    min_viewing_ms = forms.IntegerField(
        label=_("Shortest time an item is looked at, ms"), min_value=0, max_value=60_000, help_text=_("A major change.")
    )
    consent_text = forms.CharField(
        label=_("Consent text"),
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=_("Changed: everybody is asked again."),
    )

    field_order = (
        "session_length", "max_per_person", "queue_order", "repeat_share", "min_viewing_ms", "consent_text", "reason",
    )  # fmt: skip

    @classmethod
    def of(cls, study: Study, data: Any = None) -> LiveStudyForm:
        names = [name for name in cls.base_fields if name != "reason"]
        values = {name: getattr(study, name) for name in names}
        return cls(data, initial=values | {"repeat_share": 100 * study.repeat_share})

    def values(self) -> dict[str, Any]:
        """The settings, without the reason; line ends as they are stored."""
        values = {name: value for name, value in self.cleaned_data.items() if name != "reason"}
        return values | {"consent_text": values["consent_text"].replace("\r\n", "\n")}


class LiveGuidelineForm(GuidelineForm, ReasonForm):
    """A guideline that people already work by: what kind of change it is, and why."""

    kind = forms.ChoiceField(
        label=_("What changes"),
        choices=[
            ("minor", _("the wording: answers before and after mean the same")),
            ("major", _("what is asked for: everybody reads it and practises again, answers are reported apart")),
        ],
        widget=forms.RadioSelect,
        initial="minor",
    )
    field_order = ("text", "kind", "reason")
