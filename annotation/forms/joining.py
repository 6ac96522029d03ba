"""Joining a study by its link: under a name or none; with a password for who would rather sign in than keep a link."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.validators import UnicodeUsernameValidator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.models import User


class JoinForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("A name for yourself"),
        max_length=60,
        required=False,
        validators=[
            UnicodeUsernameValidator(message=gettext_lazy("Use letters, digits and @ . + - _ only, without spaces."))
        ],
        help_text=gettext_lazy(
            "The researchers see it; exports show a code in its place. Leave it empty to be known by the code."
        ),
        widget=forms.TextInput(attrs={"autocomplete": "username", "autofocus": True}),
    )
    password = forms.CharField(
        label=gettext_lazy("A password"),
        min_length=8,
        required=False,
        strip=False,
        help_text=gettext_lazy(
            "Only if you would rather sign in than keep a personal link to come back by; then together with a name."
        ),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if name and User.objects.filter(username__iexact=name).exists():
            raise forms.ValidationError(_("This name is taken. If it is yours, sign in; else choose another."))
        return name

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        if values.get("password") and not values.get("name") and "name" not in self.errors:
            self.add_error("name", _("Choose a name to sign in with beside the password."))
        return values

    def settle(self, user: User) -> None:
        """Give a newly made annotator the name and password of this form."""
        if self.cleaned_data["name"]:
            user.username = self.cleaned_data["name"]
        if self.cleaned_data["password"]:
            user.set_password(self.cleaned_data["password"])
        user.save(update_fields=["username", "password"])
