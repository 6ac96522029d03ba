"""The part of the study form that depends on the protocol: which one, its options, and what it needs besides."""

from __future__ import annotations

from typing import Any, NamedTuple

from django import forms
from django.db.models import Count
from django.utils.translation import gettext_lazy as _

from annotation.domain.protocols import PROTOCOLS, Option, OptionError, Protocol
from annotation.domain.study_artifacts import artifacts_of_kind
from annotation.forms.study_fields import ExplanationsField, NamesField
from annotation.models import ExplanationSet

LAUNCHABLE = [protocol for protocol in PROTOCOLS.values() if protocol.builder]
FIRST = "rate-describe-categorise"


class Row(NamedTuple):
    """The options of one protocol, bound for the template."""

    protocol: str
    fields: list[forms.BoundField]


def option_name(protocol: Protocol, option: Option) -> str:
    return f"{protocol.name}__{option.name}"


def option_field(option: Option) -> forms.Field:
    """A field for an option as its declaration says; left empty it has its default."""
    about: dict[str, Any] = {"label": _(option.label), "help_text": _(option.help), "required": False}
    choices = [(str(value), str(value)) for value in option.values]
    if isinstance(option.default, tuple | list):
        boxes = forms.CheckboxSelectMultiple
        return forms.MultipleChoiceField(choices=choices, initial=list(option.default), widget=boxes, **about)
    if option.values:
        return forms.ChoiceField(choices=choices, initial=str(option.default), **about)
    return forms.IntegerField(min_value=1, max_value=1000, initial=option.default, **about)


def settled(option: Option, value: Any) -> Any:
    """The value of a field as the option has it."""
    if isinstance(option.default, tuple | list):
        return list(value)
    if option.values:
        return next((one for one in option.values if str(one) == str(value)), option.default)
    return value


class ProtocolForm(forms.Form):
    protocol = forms.ChoiceField(
        label=_("Protocol"), choices=[(one.name, _(one.title)) for one in LAUNCHABLE], initial=FIRST,
        widget=forms.RadioSelect,
    )  # fmt: skip
    explanations = ExplanationsField(
        ExplanationSet.objects.none(), label=_("Explanations"), required=False, empty_label=_("None chosen")
    )
    embeddings_digest = forms.ChoiceField(
        label=_("Image embeddings"),
        required=False,
        help_text=_("Hard contrasts are the silent images that look most alike."),
    )
    alignment_digest = forms.ChoiceField(label=_("Alignment"), required=False, help_text=_("Its pairs are judged."))
    classes = NamesField(
        label=_("Only for these classes"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("One per line; empty for all. Each feature is asked about the class that it promotes most."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for protocol in LAUNCHABLE:
            for option in protocol.options:
                self.fields[option_name(protocol, option)] = option_field(option)
        sets = self.fields["explanations"]
        assert isinstance(sets, forms.ModelChoiceField)
        sets.queryset = ExplanationSet.objects.annotate(n=Count("explanations"))
        for name, kind in (("embeddings_digest", "image-embeddings"), ("alignment_digest", "alignment")):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            found = [(one.digest, f"{one.title} ({one.digest[:8]})") for one in artifacts_of_kind(kind)]
            chosen = self.initial.get(name)
            if chosen and chosen not in dict(found):
                found.append((chosen, chosen[:12]))
            field.choices = [("", _("None chosen")), *found]
            if found and not self.is_bound and not self.initial.get("protocol"):
                field.initial = found[0][0]

    @property
    def chosen(self) -> Protocol | None:
        return PROTOCOLS.get(self.cleaned_data.get("protocol", ""))

    def option_rows(self) -> list[Row]:
        return [
            Row(protocol.name, [self[option_name(protocol, option)] for option in protocol.options])
            for protocol in LAUNCHABLE
            if protocol.options
        ]

    def protocols(self) -> list[dict[str, Any]]:
        """What a person needs to know to choose one."""
        chosen = str(self["protocol"].value())
        return [
            {"protocol": one, "chance": one.chance(one.settle_options({})), "is_chosen": one.name == chosen}
            for one in LAUNCHABLE
        ]

    def control_kinds_by_protocol(self) -> dict[str, list[str]]:
        """For the script that hides what does not apply."""
        return {protocol.name: list(protocol.conditions) for protocol in LAUNCHABLE}

    def protocol_options(self) -> dict[str, Any]:
        """Those of the chosen protocol that were given; raises OptionError."""
        protocol = self.chosen
        if protocol is None:
            return {}
        given = {
            option.name: settled(option, value)
            for option in protocol.options
            if (value := self.cleaned_data.get(option_name(protocol, option))) not in (None, "", [])
        }
        return protocol.settle_options(given)

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        try:
            self.protocol_options()
        except OptionError as error:
            self.add_error("protocol", str(error))
        return values

    @staticmethod
    def option_values(protocol: Protocol | None, options: dict[str, Any]) -> dict[str, Any]:
        """Initial values of the option fields of a study."""
        if protocol is None:
            return {}
        return {
            option_name(protocol, option): options[option.name] for option in protocol.options if option.name in options
        }
