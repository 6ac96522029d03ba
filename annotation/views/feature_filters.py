"""The filter form above a list of features: every choice is in the address, so that a list can be shared."""

from __future__ import annotations

from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from annotation.domain.feature_list import LABELLED, ORDERS, STATES, FeatureFilter, has_two_poles
from annotation.models import Dictionary

POLES = [("", _("both")), ("positive", _("values above zero")), ("negative", _("values below zero"))]


class PercentField(forms.FloatField):
    """Typed in percent, cleaned to a fraction."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, min_value=0, max_value=100, **options)
        self.widget.attrs |= {"step": "any", "style": "width: 6em", "inputmode": "decimal"}

    def clean(self, value: Any) -> float | None:
        percent = super().clean(value)
        return None if percent is None else percent / 100


class FeatureFilterForm(forms.Form):
    hookpoint = forms.ChoiceField(label=_("Hookpoint"), required=False)
    pole = forms.ChoiceField(label=_("Pole"), required=False, choices=POLES)
    sort = forms.ChoiceField(
        label=_("Order"), required=False, choices=[(key, _(words)) for key, (_order, words) in ORDERS.items()]
    )
    state = forms.ChoiceField(
        label=_("Features"), required=False, choices=[(key, _(words)) for key, words in STATES.items()]
    )
    labelled = forms.ChoiceField(
        label=_("Labels"), required=False, choices=[(key, _(words)) for key, words in LABELLED.items()]
    )
    density_min = PercentField(label=_("Density from %"))
    density_max = PercentField(label=_("to %"))
    prefix_max = PercentField(label=_("CLS at most %"))
    promoted_class = forms.CharField(label=_("Promotes class"), required=False)

    def __init__(self, data: QueryDict, dictionary: Dictionary) -> None:
        super().__init__(data, auto_id="filter-%s", label_suffix="")
        hookpoints = [(hookpoint, hookpoint) for hookpoint in dictionary.hookpoints]
        self.fields["hookpoint"].choices = [("", _("all")), *hookpoints]  # type: ignore[attr-defined]
        if not has_two_poles(dictionary):
            del self.fields["pole"]
        self.fields["promoted_class"].widget.attrs |= {"list": "class-names", "style": "width: 9em"}

    def wanted(self) -> FeatureFilter:
        """The filter the address asks for; what is not understood is left out, and said beside its field."""
        self.full_clean()
        given = {name: value for name, value in self.cleaned_data.items() if value not in ("", None)}
        return FeatureFilter(**given)


def filter_query(query: QueryDict) -> str:
    """The part of an address that holds the filter, without the cursor: '' or '?…'."""
    kept = query.copy()
    for name in [name for name in kept if name not in FeatureFilterForm.base_fields or not kept[name]]:
        del kept[name]
    return f"?{kept.urlencode()}" if kept else ""
