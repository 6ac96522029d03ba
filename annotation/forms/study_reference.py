"""The form of a practice or gold item: the feature or pair, and which answers are accepted, as the protocol asks."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.launch_problems import wants_accepted
from annotation.domain.protocols import Kind, Question, protocol_of, questions_of
from annotation.domain.study_editing import ReferenceValues
from annotation.models import Feature, ReferenceItem, Study

NO_FEATURE = {"invalid_choice": _("There is no feature of this number.")}
CANNOT_TELL = "null"
WITH_TEXT = ("verification", "spurious")


def field_name(question: Question) -> str:
    return f"accepted__{question.name}"


class ReferenceForm(forms.Form):
    kind = forms.ChoiceField(label=_("Kind"), choices=ReferenceItem.Kind.choices, widget=forms.RadioSelect)
    feature = forms.ModelChoiceField(
        Feature.objects.all(),
        label=_("Feature"),
        widget=forms.NumberInput,
        help_text=_("Its number, or choose one below."),
        error_messages=NO_FEATURE,
    )
    other_feature = forms.ModelChoiceField(
        Feature.objects.all(),
        label=_("Second feature"),
        required=False,
        widget=forms.NumberInput,
        help_text=_("Left stands for the first feature, right for the second; the sides are drawn when it is frozen."),
        error_messages=NO_FEATURE,
    )
    text = forms.CharField(
        label=_("What it shows"), required=False, max_length=500,
        help_text=_("Empty: the explanation or class that the feature has."),
    )  # fmt: skip
    reason = forms.CharField(
        label=_("Reason"),
        widget=forms.Textarea(attrs={"rows": 3}),
        required=False,
        help_text=_("Shown after a practice answer: why these are right."),
    )

    def __init__(self, *args: Any, study: Study, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.study = study
        self.is_pair = protocol_of(study).builder == "pair"
        if not self.is_pair:
            del self.fields["other_feature"]
        if study.protocol not in WITH_TEXT:
            del self.fields["text"]
        self.questions = [one for one in questions_of(study) if one.can_be_scored] if wants_accepted(study) else []
        for question in self.questions:
            self.fields[field_name(question)] = forms.MultipleChoiceField(
                label=f"{question.text} Accepted:", choices=self.choices_of(question), required=False,
                widget=forms.CheckboxSelectMultiple,
            )  # fmt: skip

    def choices_of(self, question: Question) -> list[tuple[str, str]]:
        if question.kind is Kind.CATEGORY:
            return [(name, name) for name in self.study.categories.values_list("name", flat=True)]
        return [(as_text(choice.value), str(choice.word)) for choice in question.choices]

    def accepted_fields(self) -> list[forms.BoundField]:
        return [self[field_name(question)] for question in self.questions]

    @property
    def accepted(self) -> dict[str, list[Any]]:
        """By question; a question without a tick accepts any answer."""
        given = {question: self.cleaned_data.get(field_name(question)) or [] for question in self.questions}
        return {
            question.name: [value_of(question, text) for text in texts] for question, texts in given.items() if texts
        }

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if self.questions and not any(values.get(field_name(question)) for question in self.questions):
            raise forms.ValidationError(_("Tick the accepted answers of at least one question."))
        if self.is_pair and not values.get("other_feature") and "other_feature" not in self.errors:
            self.add_error("other_feature", _("Name the second feature of the pair."))
        if values.get("kind") == ReferenceItem.Kind.PRACTICE and not values.get("reason"):
            self.add_error("reason", _("Say why: it is what people learn from."))
        return values

    def reference_values(self) -> ReferenceValues:
        values = self.cleaned_data
        return ReferenceValues(
            kind=values["kind"], feature=values["feature"], accepted=self.accepted, reason=values["reason"],
            other_feature=values.get("other_feature"), text=values.get("text", ""),
        )  # fmt: skip


def initial_of(item: ReferenceItem) -> dict[str, Any]:
    """The form's values for an item that is there."""
    accepted = {f"accepted__{name}": [as_text(value) for value in values] for name, values in item.accepted.items()}
    shown = {"kind": item.kind, "feature": item.feature_id, "other_feature": item.other_feature_id}
    return shown | accepted | {"text": item.text, "reason": item.reason}


def as_text(value: Any) -> str:
    return CANNOT_TELL if value is None else str(value)


def value_of(question: Question, text: str) -> Any:
    """The value of the choice whose field value is `text`."""
    if question.kind is Kind.CATEGORY:
        return text
    return next(choice.value for choice in question.choices if as_text(choice.value) == text)
