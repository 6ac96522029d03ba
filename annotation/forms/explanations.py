"""The form that makes a set of explanations: from a file, or from what people called features in a closed study."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.labels import open_to_all
from annotation.models import Study


class ExplanationsForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("What the set will be called."))
    source = forms.CharField(
        label=_("Source"), max_length=200, required=False, help_text=_("Which model, method or people wrote them.")
    )
    file = forms.FileField(
        label=_("File"),
        required=False,
        help_text=_("CSV or JSONL: text, and either feature (its number) or dictionary, hookpoint and latent."),
    )
    study = forms.ModelChoiceField(
        Study.objects.none(), label=_("Or the labels of a study"), required=False, empty_label=_("None"),
        help_text=_("Closed and unblinded ones; each feature gets the label that most people gave it."),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        studies = self.fields["study"]
        assert isinstance(studies, forms.ModelChoiceField)
        studies.queryset = open_to_all().distinct()

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors and bool(values.get("file")) == bool(values.get("study")):
            raise forms.ValidationError(_("Give either a file or a study."))
        return values
