"""Fields of the study form: lists of numbers, shares shown as percent, schedules, dictionaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotation.models import Dictionary, ExplanationSet

MOST_FEATURES = 100_000


class NumbersField(forms.CharField):
    """Whole numbers separated by commas, spaces or lines."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
        wrong = [part for part in parts if not part.isdecimal()]
        if wrong:
            raise forms.ValidationError(_("'%(value)s' is no whole number.") % {"value": wrong[0]})
        if len(parts) > MOST_FEATURES:
            raise forms.ValidationError(
                _("%(n)s numbers are too many; %(most)s is the most.") % {"n": len(parts), "most": MOST_FEATURES}
            )
        return tuple(dict.fromkeys(int(part) for part in parts))


class NamesField(forms.CharField):
    """Names, one per line."""

    def clean(self, value: Any) -> Any:
        names = [line.strip() for line in super().clean(value).splitlines()]
        return tuple(dict.fromkeys(name for name in names if name))


class PercentField(forms.FloatField):
    """Shown as percent, kept as a share of 1; its limits are percent."""

    def __init__(self, *, min_value: float = 0, max_value: float = 100, **kwargs: Any) -> None:
        widget = forms.NumberInput(attrs={"step": "any", "min": f"{min_value:g}", "max": f"{max_value:g}"})
        super().__init__(min_value=min_value, max_value=max_value, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        given = super().clean(value)
        return None if given is None else round(float(given) / 100, 4)

    def prepare_value(self, value: Any) -> Any:
        return f"{value:g}" if isinstance(value, float) else value


def stopping_of(half_width: float | None, min_judgements: int | None) -> dict[str, Any]:
    if not half_width:
        return {}
    return {"half_width": half_width, "min_judgements": min_judgements or 0}


def stopping_values(stopping: dict[str, Any]) -> dict[str, Any]:
    half_width = stopping.get("half_width")
    return {
        "half_width": None if half_width is None else 100.0 * half_width,
        "min_judgements": stopping.get("min_judgements") or None,
    }


class ScheduleField(forms.CharField):
    """Shares of gold by experience: '0: 20, 40: 5' is 20 % from the first answer on and 5 % from the fortieth."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        rows: list[list[float]] = []
        for part in re.split(r"[,;\n]+", text):
            if not part.strip():
                continue
            found = re.fullmatch(r"\s*(\d{1,7})\s*:\s*(\d{1,2}(?:\.\d+)?)\s*%?\s*", part)
            if found is None:
                raise forms.ValidationError(
                    _("'%(part)s' must be a number of answers, a colon and a percentage.") % {"part": part.strip()}
                )
            rows.append([int(found[1]), round(float(found[2]) / 100, 4)])
        starts = [row[0] for row in rows]
        if starts != sorted(set(starts)) or (rows and rows[0][0] != 0) or any(row[1] > 0.5 for row in rows):
            raise forms.ValidationError(
                _("Begin at 0, in rising order, with at most 50 % each: for instance 0: 20, 40: 5.")
            )
        return rows

    def prepare_value(self, value: Any) -> Any:
        if isinstance(value, list):
            return ", ".join(f"{start}: {100 * share:g}" for start, share in value)
        return value


if TYPE_CHECKING:
    ManyDictionaries = forms.ModelMultipleChoiceField[Dictionary]
    OneExplanationSet = forms.ModelChoiceField[ExplanationSet]
else:
    ManyDictionaries = forms.ModelMultipleChoiceField
    OneExplanationSet = forms.ModelChoiceField


class DictionariesField(ManyDictionaries):
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} ({obj.vision_model.name})"


class ExplanationsField(OneExplanationSet):
    def label_from_instance(self, obj: Any) -> str:
        return gettext("%(name)s, %(n)s explanations") % {"name": obj.name, "n": obj.n}
