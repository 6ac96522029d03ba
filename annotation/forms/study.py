"""The form of a study: what is sampled, what is left out, how often it is judged, and what people agree to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms

from annotation.domain.controls import CONTROL_CONDITIONS
from annotation.domain.sampling import SampleSpec, SamplingError
from annotation.domain.studies import DEFAULT_CONSENT
from annotation.models import CONTROL_KINDS, Condition, Dictionary, Study

SPEC_FIELDS = ("n_features", "blocks", "n_density_bands", "feature_ids")
EXCLUSION_FIELDS = ("min_images", "max_prefix_share", "prefix_rule")
SHARES = ("core_share", "control_share", "catch_share", "gold_share")
MOST_FEATURES = 100_000


class NumbersField(forms.CharField):
    """Whole numbers separated by commas, spaces or lines."""

    def clean(self, value: Any) -> Any:
        text = super().clean(value)
        parts = [part for part in re.split(r"[\s,;]+", text) if part]
        wrong = [part for part in parts if not part.isdecimal()]
        if wrong:
            raise forms.ValidationError(f"'{wrong[0]}' is no whole number.")
        if len(parts) > MOST_FEATURES:
            raise forms.ValidationError(f"{len(parts)} numbers are too many; {MOST_FEATURES} is the most.")
        return tuple(dict.fromkeys(int(part) for part in parts))


class PercentField(forms.FloatField):
    """Shown as percent, kept as a share of 1."""

    def __init__(self, **kwargs: Any) -> None:
        widget = forms.NumberInput(attrs={"step": "1", "min": "0", "max": "100"})
        super().__init__(min_value=0, max_value=100, widget=widget, **kwargs)

    def clean(self, value: Any) -> Any:
        return round(float(super().clean(value)) / 100, 4)

    def prepare_value(self, value: Any) -> Any:
        return f"{value:g}" if isinstance(value, float) else value


if TYPE_CHECKING:
    ManyDictionaries = forms.ModelMultipleChoiceField[Dictionary]
else:
    ManyDictionaries = forms.ModelMultipleChoiceField


class DictionariesField(ManyDictionaries):
    def label_from_instance(self, obj: Any) -> str:
        return f"{obj.name} ({obj.vision_model.name})"


class StudyForm(forms.Form):
    name = forms.CharField(max_length=120, help_text="Annotators see it.")
    description = forms.CharField(
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Shown where people join. Say what it is about, not what you expect. Markdown.",
    )
    dictionaries = DictionariesField(
        Dictionary.objects.none(), widget=forms.CheckboxSelectMultiple, help_text="Whose features are judged."
    )
    n_features = forms.IntegerField(label="Features", min_value=1, max_value=MOST_FEATURES, initial=60)
    n_density_bands = forms.IntegerField(label="Density bands", min_value=1, max_value=10, initial=3)
    blocks = NumbersField(required=False, help_text="For instance 0 3 5; empty for all.")
    seed = forms.IntegerField(initial=0, min_value=0, max_value=2**31, help_text="The same seed draws the same.")
    feature_ids = NumbersField(
        label="Exactly these features",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text="Numbers of features, as in the address of their page. Not empty: nothing is drawn by block.",
    )
    min_images = forms.IntegerField(label="Images it fires on, at least", min_value=1, max_value=1_000_000, initial=16)
    max_prefix_share = PercentField(
        label="Prefix share, at most %",
        initial=50.0,
        help_text="Of its images, those whose maximum sits on CLS or a register.",
    )
    prefix_rule = forms.ChoiceField(
        label="Features above that",
        choices=[("exclude", "are left out"), ("stratum", "form a stratum of their own")],
        initial="exclude",
    )
    overlap = forms.IntegerField(label="Per item", min_value=1, max_value=50, initial=1)
    core_overlap = forms.IntegerField(label="Per core item", min_value=1, max_value=50, initial=3)
    core_share = PercentField(
        label="Core, % of items", initial=30.0, help_text="Judged by several people: agreement is measured there."
    )
    control_share = PercentField(label="Controls, %", initial=10.0)
    control_kinds = forms.MultipleChoiceField(
        choices=[(kind.value, kind.label) for kind in CONTROL_CONDITIONS],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        initial=[Condition.RANDOM_DIRECTIONS.value, Condition.SHUFFLED.value],
    )
    catch_share = PercentField(label="Catch items, %", initial=5.0)
    gold_share = PercentField(label="Gold items, %", initial=5.0)
    session_length = forms.IntegerField(label="Session, items", min_value=5, max_value=500, initial=60)
    consent_text = forms.CharField(
        label="What people agree to",
        widget=forms.Textarea(attrs={"rows": 5}),
        initial=DEFAULT_CONSENT,
        help_text="Markdown.",
    )
    consent_version = forms.CharField(
        label="Version of that text", max_length=12, initial="1.0", help_text="Raise it, and everybody is asked again."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choices = self.fields["dictionaries"]
        assert isinstance(choices, forms.ModelMultipleChoiceField)
        choices.queryset = Dictionary.objects.exclude(kind__in=CONTROL_KINDS).select_related("vision_model")

    @classmethod
    def of(cls, study: Study) -> StudyForm:
        """The form filled with what a study has."""
        plain = ("name", "description", "overlap", "core_overlap", "control_kinds", "session_length", "seed")
        values: dict[str, Any] = {name: getattr(study, name) for name in (*plain, "consent_text", "consent_version")}
        values |= {name: 100 * getattr(study, name) for name in SHARES}
        spec = SampleSpec.from_dict(
            {key: value for key, value in study.sampler.items() if key != "dictionaries"} | study.exclusions
        ).as_dict()
        spec["max_prefix_share"] *= 100
        spec |= {name: " ".join(map(str, spec[name])) for name in ("blocks", "feature_ids")}
        return cls(initial=values | spec | {"dictionaries": study.sampler.get("dictionaries", [])})

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        shares = sum(values.get(name) or 0 for name in ("control_share", "catch_share", "gold_share"))
        if shares > 0.6:
            raise forms.ValidationError(f"Controls, catch and gold items are {shares:.0%} of all; 60% is the most.")
        if values.get("control_share") and not values.get("control_kinds") and "control_kinds" not in self.errors:
            self.add_error("control_kinds", "Choose a kind of control, or set their share to 0.")
        return values

    def spec(self) -> SampleSpec:
        """How features are drawn, whatever the other fields hold; raises SamplingError."""
        needed = {*SPEC_FIELDS, *EXCLUSION_FIELDS, "dictionaries", "seed"}
        if needed & set(self.errors):
            raise SamplingError("Correct these fields, and the preview will show.")
        values = {name: self.cleaned_data[name] for name in (*SPEC_FIELDS, *EXCLUSION_FIELDS)}
        return SampleSpec.from_dict(values)

    def study_values(self) -> dict[str, Any]:
        """The fields of a Study."""
        values = self.cleaned_data
        spec = self.spec().as_dict()
        plain = ("name", "description", "overlap", "core_overlap", "control_kinds", "session_length", "seed")
        return {name: values[name] for name in (*plain, *SHARES, "consent_text", "consent_version")} | {
            "sampler": {name: spec[name] for name in SPEC_FIELDS}
            | {"dictionaries": [dictionary.pk for dictionary in values["dictionaries"]]},
            "exclusions": {name: spec[name] for name in EXCLUSION_FIELDS},
        }
