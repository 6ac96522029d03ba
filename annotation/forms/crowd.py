"""Forms of a study's crowd: how people come and are paid, invitations, a bonus."""

from __future__ import annotations

from datetime import datetime, time
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotation.domain.invitations import MOST_AT_ONCE, split_emails
from annotation.models import Recruitment

CURRENCIES = [(code, code) for code in ("GBP", "EUR", "USD", "CHF", "SEK", "DKK", "NOK", "PLN", "JPY", "CAD", "AUD")]


if TYPE_CHECKING:
    RecruitmentModelForm = forms.ModelForm[Recruitment]
else:
    RecruitmentModelForm = forms.ModelForm


class RecruitmentForm(RecruitmentModelForm):
    session_length = forms.IntegerField(
        label=_("Judgements in a session"), min_value=5, max_value=500,
        help_text=_("What people see as “23 of 60”. Of a study under way it changes for sessions that begin later."),
    )  # fmt: skip

    class Meta:
        model = Recruitment
        fields = (
            "by_link", "by_invitation", "by_prolific", "prolific_study_ids", "return_url", "sessions_per_person",
            "announced_minutes", "session_hours", "pay", "amount", "screen_out_amount", "minimum_hourly", "currency",
            "spending_cap", "completion_code", "early_leave_code", "screen_out_code", "no_consent_code", "contact",
            "may_disturb", "disturbing_text", "may_withdraw", "return_after_days", "retention_days",
        )  # fmt: skip
        labels = {
            "by_link": _("Anybody with the open link"),
            "by_invitation": _("Invitations, each for one person"),
            "by_prolific": _("Prolific"),
            "prolific_study_ids": _("Study IDs on Prolific"),
            "return_url": _("Where Prolific takes people back"),
            "sessions_per_person": _("Sessions per person"),
            "announced_minutes": _("Minutes per session"),
            "session_hours": _("Hours to finish a session"),
            "pay": _("What is paid"),
            "screen_out_amount": _("If practice fails"),
            "minimum_hourly": _("Minimum per hour"),
            "spending_cap": _("Spending cap"),
            "completion_code": _("Session complete"),
            "early_leave_code": _("Left early"),
            "screen_out_code": _("Practice not passed"),
            "no_consent_code": _("No consent"),
            "contact": _("Contact for people who take part"),
            "may_disturb": _("Some images may be disturbing"),
            "disturbing_text": _("What they may show"),
            "may_withdraw": _("People can take their answers back"),
            "return_after_days": _("Days before somebody can be invited back"),
            "retention_days": _("Days identities are kept"),
        }
        help_texts = {
            "prolific_study_ids": _("With commas between; empty takes any. Returns are a study of their own there."),
            "return_url": _("CODE stands for the code."),
            "sessions_per_person": _("Empty: any number. Invited returns come on top."),
            "announced_minutes": _("With guideline and practice."),
            "session_hours": _("Of a paid session: what was set aside for it is free again after that."),
            "screen_out_amount": _("For trying; 0: nothing."),
            "minimum_hourly": _("You are warned when the median pay falls below."),
            "spending_cap": _("No session begins that could cost more than what is left. Empty: none."),
            "contact": _("A name with an e-mail address; on the consent page."),
            "disturbing_text": _("One sentence; empty: that some pictures may be disturbing."),
            "may_withdraw": _("They are flagged as withdrawn and left out of every figure."),
            "retention_days": _("Prolific IDs and e-mail addresses, counted from the last visit."),
        }
        widgets = {
            "pay": forms.RadioSelect,
            "currency": forms.Select(choices=CURRENCIES),
            "contact": forms.TextInput(attrs={"autocomplete": "off"}),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        bounds = {
            "sessions_per_person": (1, 1000), "announced_minutes": (1, 600), "session_hours": (1, 24 * 60),
            "return_after_days": (0, 365), "retention_days": (1, 3650), "amount": (0, 10_000),
            "screen_out_amount": (0, 10_000), "minimum_hourly": (0, 10_000), "spending_cap": (0, 10_000_000),
        }  # fmt: skip
        for name, (low, high) in bounds.items():
            self.fields[name].widget.attrs |= {"min": low, "max": high}
            self.fields[name].validators += [between(low, high)]
        for name in ("amount", "screen_out_amount"):
            self.fields[name].required = False

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        for name in ("amount", "screen_out_amount"):
            if values.get(name) is None and name not in self.errors:
                values[name] = 0
        return values

    def recruitment_values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in self.Meta.fields}


def between(low: int, high: int) -> Any:
    def check(value: Any) -> None:
        if not low <= value <= high:
            raise forms.ValidationError(_("This can be %(low)s to %(high)s.") % {"low": low, "high": high})

    return check


class InviteForm(forms.Form):
    batch = forms.CharField(
        label=_("Name of the batch"),
        max_length=60,
        required=False,
        help_text=_("To find them again; work can be reserved for it."),
    )
    emails = forms.CharField(
        label=_("E-mail addresses"),
        required=False,
        max_length=300_000,
        widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false"}),
        help_text=_("One link for each, by line or comma. Vitrine sends nothing: download the links and send them."),
    )
    n_anonymous = forms.IntegerField(
        label=_("Links without a name"), min_value=0, max_value=MOST_AT_ONCE, required=False, initial=0
    )
    expires_on = forms.DateField(
        label=_("Good until"),
        required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
        help_text=_("Empty: for good."),
    )

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if not self.errors and not values.get("emails", "").strip() and not values.get("n_anonymous"):
            raise forms.ValidationError(_("Give e-mail addresses, or say how many links without a name you want."))
        return values

    def invitation_values(self) -> dict[str, Any]:
        values = self.cleaned_data
        day = values["expires_on"]
        return {
            "emails": split_emails(values["emails"]),
            "n_anonymous": values["n_anonymous"] or 0,
            "batch": values["batch"].strip(),
            "expires_at": timezone.make_aware(datetime.combine(day, time(23, 59))) if day else None,
        }
