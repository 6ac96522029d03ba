"""A verdict by a form, made from the study's questions: what the player does by keys, for one item at a time."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.adjudication import as_given, judged_questions
from annotation.domain.categories import category_tree
from annotation.domain.protocols import Kind, Question
from annotation.models import Study, Verdict

MOST_MS = 2**31 - 1


class VerdictForm(forms.Form):
    """Its `payload` is what `annotation.domain.adjudication` validates; values of choices travel as JSON."""

    uuid_given = forms.UUIDField(widget=forms.HiddenInput)
    visible = forms.IntegerField(required=False, min_value=0, max_value=MOST_MS, widget=forms.HiddenInput)

    def __init__(self, data: Any = None, *, study: Study, verdict: Verdict | None = None) -> None:
        super().__init__(data)
        self.questions = judged_questions(study)
        given = as_given(verdict) if verdict else {}
        self.fields["uuid_given"].initial = uuid.uuid4()
        for question in self.questions:
            field = field_of(question, study)
            if question.name in given:
                field.initial = initial_of(question, given[question.name])
            self.fields[question.name] = field

    @property
    def uuid(self) -> uuid.UUID:
        given: uuid.UUID = self.cleaned_data["uuid_given"]
        return given

    @property
    def visible_ms(self) -> int | None:
        looked: int | None = self.cleaned_data.get("visible")
        return looked

    @property
    def payload(self) -> dict[str, Any]:
        return {
            question.name: value_in(question, self.cleaned_data[question.name])
            for question in self.questions
            if self.cleaned_data.get(question.name) not in ("", None) or question.kind in {Kind.CELLS, Kind.MARKS}
        }


def field_of(question: Question, study: Study) -> forms.Field:
    label = str(question.text)
    match question.kind:
        case Kind.CHOICE:
            choices = [(json.dumps(choice.value), str(choice.word)) for choice in question.choices]
            return forms.ChoiceField(
                label=label, choices=choices, widget=forms.RadioSelect, required=question.is_required
            )
        case Kind.CELL:
            cells = [(str(cell), str(cell + 1)) for cell in range(question.n_cells)]
            return forms.ChoiceField(
                label=label, choices=cells, widget=forms.RadioSelect, required=question.is_required
            )
        case Kind.CELLS:
            cells = [(str(cell), str(cell + 1)) for cell in range(question.n_cells)]
            return forms.MultipleChoiceField(
                label=label, choices=cells, widget=forms.CheckboxSelectMultiple, required=False
            )
        case Kind.CATEGORY:
            return forms.ChoiceField(label=label, choices=category_choices(study), required=False)
        case Kind.MARKS:
            return forms.JSONField(
                label=label, required=False, widget=forms.Textarea(attrs={"rows": 2, "class": "mono"}),
                help_text=_("Pairs [picture, patch], counted from 0; the player marks them by the mouse."),
            )  # fmt: skip
        case Kind.TEXT:
            rows = forms.Textarea(attrs={"rows": 3}) if question.max_length > 200 else forms.TextInput()
            return forms.CharField(
                label=label, max_length=question.max_length, required=question.is_required, widget=rows
            )


def category_choices(study: Study) -> list[tuple[str, str]]:
    """As the player shows them, those inside another after it."""
    choices = [("", "—")]
    for branch in category_tree(study):
        parent = branch.category.name
        choices.append((parent, parent))
        choices += [(child.name, f"{parent} › {child.name}") for child in branch.children]
    return choices


def initial_of(question: Question, value: Any) -> Any:
    match question.kind:
        case Kind.CHOICE:
            return json.dumps(value)
        case Kind.CELL:
            return "" if value is None else str(value)
        case Kind.CELLS:
            return [str(cell) for cell in value]
    return value


def value_in(question: Question, value: Any) -> Any:
    match question.kind:
        case Kind.CHOICE:
            return json.loads(value)
        case Kind.CELL:
            return int(value)
        case Kind.CELLS:
            return [int(cell) for cell in value]
        case Kind.MARKS:
            return value or []
    return value
