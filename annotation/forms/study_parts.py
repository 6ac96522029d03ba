"""Forms of a study's parts: guideline, categories, practice and gold items, people."""

from __future__ import annotations

from typing import Any

from django import forms

from annotation.domain.study_editing import STUDY_ROLES
from annotation.models import Feature, ReferenceItem, Study

RATING_CHOICES = [("1", "no"), ("2", "a hint"), ("3", "mostly"), ("4", "clearly"), ("null", "can’t tell")]


class GuidelineForm(forms.Form):
    text = forms.CharField(
        label="Guideline",
        max_length=40_000,
        widget=forms.Textarea(attrs={"rows": 22}),
        help_text="Markdown: # headings, - lists, **bold**, *italic*, > quotes, [links](https://…). One page will do.",
    )


class CategoriesForm(forms.Form):
    rows = forms.CharField(
        label="Categories",
        widget=forms.Textarea(attrs={"rows": 10, "class": "mono", "spellcheck": "false"}),
        help_text="One per line: its key, a space, its name. The order is that of the buttons.",
    )

    def clean_rows(self) -> list[tuple[str, str]]:
        pairs = []
        for line in self.cleaned_data["rows"].splitlines():
            key, _, name = line.strip().partition(" ")
            if not key:
                continue
            if not name.strip() or len(name.strip()) > 60:
                raise forms.ValidationError(
                    f"The line '{line.strip()}' needs a key, a space and a name of 1 to 60 letters."
                )
            pairs.append((name.strip(), key))
        return pairs


class ReferenceForm(forms.Form):
    """A practice or gold item with its accepted answers."""

    kind = forms.ChoiceField(choices=ReferenceItem.Kind.choices, widget=forms.RadioSelect)
    feature = forms.ModelChoiceField(
        Feature.objects.all(),
        label="Feature",
        widget=forms.NumberInput,
        help_text="Its number, or choose one below.",
        error_messages={"invalid_choice": "There is no feature of this number."},
    )
    patch_rating = forms.MultipleChoiceField(
        label="Patches: accepted", choices=RATING_CHOICES, widget=forms.CheckboxSelectMultiple, required=False
    )
    image_rating = forms.MultipleChoiceField(
        label="Images: accepted", choices=RATING_CHOICES, widget=forms.CheckboxSelectMultiple, required=False
    )
    category = forms.MultipleChoiceField(
        label="Category: accepted", widget=forms.CheckboxSelectMultiple, required=False
    )
    reason = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 3}),
        required=False,
        help_text="Shown after a practice answer: why these are right.",
    )

    def __init__(self, *args: Any, study: Study, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        category = self.fields["category"]
        assert isinstance(category, forms.MultipleChoiceField)
        category.choices = [(name, name) for name in study.categories.values_list("name", flat=True)]

    @property
    def accepted(self) -> dict[str, list[Any]]:
        """By question; a question without a tick accepts any answer."""
        values = self.cleaned_data
        ratings = {
            name: [None if value == "null" else int(value) for value in values[name]]
            for name in ("patch_rating", "image_rating")
        }
        return {name: answers for name, answers in (ratings | {"category": values["category"]}).items() if answers}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not any(values.get(name) for name in ("patch_rating", "image_rating", "category")):
            raise forms.ValidationError("Tick the accepted answers of at least one question.")
        if values.get("kind") == ReferenceItem.Kind.PRACTICE and not values.get("reason"):
            self.add_error("reason", "Say why: it is what people learn from.")
        return values


class PersonForm(forms.Form):
    username = forms.CharField(max_length=150)
    role = forms.ChoiceField(choices=[(role.value, role.label) for role in STUDY_ROLES], initial="reviewer")
