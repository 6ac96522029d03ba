"""Forms of a study's parts: guideline, people."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.study_editing import STUDY_ROLES


class GuidelineForm(forms.Form):
    text = forms.CharField(
        label=_("Guideline"),
        max_length=40_000,
        widget=forms.Textarea(attrs={"rows": 22}),
        help_text=_(
            "Markdown: # headings, - lists, **bold**, *italic*, > quotes, [links](https://…). One page will do."
        ),
    )


class PersonForm(forms.Form):
    username = forms.CharField(label=_("Username"), max_length=150)
    role = forms.ChoiceField(
        label=_("Role"), choices=[(role.value, role.label) for role in STUDY_ROLES], initial="reviewer"
    )
