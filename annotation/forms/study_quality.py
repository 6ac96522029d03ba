"""Forms of the pages of quality and of the queue."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy

from annotation.domain.queue_settings import QueueSettings
from annotation.forms.study_fields import PercentField, stopping_of, stopping_values
from annotation.models import Cohort, Participation, Role, Study, User


class ExclusionForm(forms.Form):
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=200,
        help_text=gettext_lazy("One sentence. It stays with the answers, in the log and in exports."),
    )


class QueueForm(forms.Form):
    order = forms.ChoiceField(choices=Study.QueueOrder.choices, label=gettext_lazy("Order of the items"))
    max_per_person = forms.IntegerField(
        required=False,
        min_value=1,
        label=gettext_lazy("Judgements one person may give"),
        help_text=gettext_lazy("Empty: any number."),
    )
    half_width = PercentField(
        required=False, min_value=0.5, max_value=49, label=gettext_lazy("Pause when the interval is within ±, %"),
        help_text=gettext_lazy(
            "Half-width of the 95 % interval of the main quantity, pooled over all features. Empty: never."
        ),
    )  # fmt: skip
    min_judgements = forms.IntegerField(
        required=False, min_value=0, label=gettext_lazy("but not before so many judgements")
    )
    reason = forms.CharField(
        max_length=200,
        label=gettext_lazy("Why it changes"),
        help_text=gettext_lazy("For the study's versions and its report."),
    )

    @classmethod
    def of_study(cls, study: Study) -> QueueForm:
        limits = {"order": study.queue_order, "max_per_person": study.max_per_person}
        return cls(initial=limits | stopping_values(study.stopping))

    def settings(self) -> QueueSettings:
        data = self.cleaned_data
        rule = stopping_of(data["half_width"], data["min_judgements"])
        return QueueSettings(data["order"], data["max_per_person"], rule)


class ReservationForm(forms.Form):
    """For a person or a cohort, named by 'person:ID' and 'cohort:ID'; a share of the open items."""

    to = forms.ChoiceField(label=gettext_lazy("Reserve for"))
    share = PercentField(
        label=gettext_lazy("Share of the items, in %"), min_value=0.1, initial=20.0,
        help_text=gettext_lazy("Drawn among the items with open slots that are not reserved yet."),
    )  # fmt: skip

    def __init__(self, study: Study, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        people = Participation.objects.filter(study=study, role=Role.ANNOTATOR).select_related("user").order_by("id")
        cohorts = [
            (f"cohort:{one.pk}", gettext_lazy("cohort %(name)s") % {"name": one.name})
            for one in Cohort.objects.filter(study=study)
        ]
        self.study = study
        choices = [*cohorts, *((f"person:{one.user_id}", one.user.username) for one in people)]
        self.fields["to"].choices = choices  # type: ignore[attr-defined]

    def whom(self) -> Cohort | User:
        kind, _, number = self.cleaned_data["to"].partition(":")
        if kind == "cohort":
            return Cohort.objects.get(pk=number, study=self.study)
        return User.objects.get(pk=number)


class CohortForm(forms.Form):
    name = forms.CharField(max_length=60, label=gettext_lazy("Cohort"))
    people = forms.MultipleChoiceField(
        label=gettext_lazy("Its people"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("A person is in one cohort."),
    )

    def __init__(self, study: Study, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        people = Participation.objects.filter(study=study, role=Role.ANNOTATOR).select_related("user").order_by("id")
        self.fields["people"].choices = [(one.pk, one.user.username) for one in people]  # type: ignore[attr-defined]
