"""Forms of what comes in and goes out: imports, bundles, simulated annotators, webhooks."""

from __future__ import annotations

from typing import Any

import yaml
from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.bundles import MOST_PER_ITEM
from annotation.domain.protocols import PROTOCOLS
from annotation.domain.simulation import MOST_ANNOTATORS, alike, annotators_from
from annotation.domain.studies import StudyError
from annotation.domain.webhook_events import EVENTS
from annotation.models import Study

TABLES = ".csv,.tsv,.jsonl,.ndjson"
PROPERTIES = ("accuracy", "separation", "bias", "seconds", "lapse_rate")


def importable() -> list[tuple[str, str]]:
    return [(name, protocol.title) for name, protocol in PROTOCOLS.items() if protocol.panels]


class TableForm(forms.Form):
    """A table of features for a draft."""

    file = forms.FileField(label=_("Table"), widget=forms.FileInput(attrs={"accept": TABLES}))


class AnswersForm(forms.Form):
    file = forms.FileField(
        label=_("Table"), widget=forms.FileInput(attrs={"accept": TABLES}),
        help_text=_("CSV or JSON Lines: an export of Vitrine, or a line per answer with <code>annotator</code>, "
        "<code>item</code> (or <code>dictionary</code>, <code>hookpoint</code>, <code>latent</code>) and a column per "
        "question."),
    )  # fmt: skip
    name = forms.CharField(max_length=120, required=False, label=_("Name of the new study"))
    protocol = forms.ChoiceField(label=_("Protocol"), choices=importable, initial="rate-describe-categorise")
    study = forms.ModelChoiceField(
        Study.objects.none(), required=False, label=_("Or add to"), empty_label=_("a new study"),
        help_text=_("A study made by an earlier import; then its own protocol is taken."),
    )  # fmt: skip
    mapping = forms.CharField(
        label=_("Mapping"), required=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "annotator = rater\npatch_rating = q1"}),
        help_text=_("Where the columns have other names: ours = theirs, one per line."),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["study"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = Study.objects.filter(origin=Study.Origin.IMPORT)

    def clean_mapping(self) -> dict[str, str]:
        lines = [line for line in self.cleaned_data["mapping"].splitlines() if line.strip()]
        if not all(line.count("=") == 1 for line in lines):
            raise forms.ValidationError(_("Write each line as 'ours = theirs'."))
        return {ours.strip(): theirs.strip() for ours, theirs in (line.split("=") for line in lines)}

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not cleaned.get("study") and not str(cleaned.get("name", "")).strip():
            self.add_error("name", _("Give the new study a name, or choose one to add to."))
        return cleaned


class BundleFileForm(forms.Form):
    file = forms.FileField(label=_("Bundle"), widget=forms.FileInput(attrs={"accept": ".zip"}))


class BundleForm(forms.Form):
    per_item = forms.IntegerField(
        required=False, min_value=1, max_value=MOST_PER_ITEM, label=_("Judgements per item"),
        help_text=_("Empty: those that are still open here."),
    )  # fmt: skip


class SimulateForm(forms.Form):
    """So many annotators alike, or a list of them in YAML."""

    n = forms.IntegerField(min_value=1, max_value=MOST_ANNOTATORS, initial=6, label=_("Annotators"))
    accuracy = forms.FloatField(
        label=_("Accuracy"),
        min_value=0,
        max_value=1,
        initial=0.85,
        help_text=_("How often they are right where there is a right answer."),
    )
    separation = forms.FloatField(
        label=_("Separation"),
        min_value=0,
        max_value=10,
        initial=1.5,
        help_text=_("d′ between features and controls in what they perceive."),
    )
    bias = forms.FloatField(
        label=_("Bias"),
        min_value=-10,
        max_value=10,
        initial=0.0,
        help_text=_("Added to what they perceive: above 0 is lenient."),
    )
    seconds = forms.FloatField(min_value=0.1, max_value=3600, initial=12, label=_("Seconds per item"))
    lapse_rate = forms.FloatField(
        label=_("Lapse rate"), min_value=0, max_value=1, initial=0.02, help_text=_("How often they look away.")
    )
    limit = forms.IntegerField(
        required=False, min_value=1, label=_("Answers at most"), help_text=_("Empty: all wanted.")
    )
    by_sight = forms.BooleanField(
        required=False, label=_("Rate what is in the pictures"),
        help_text=_("Where the images have labels or masks; accuracy and separation are then not used."),
    )  # fmt: skip
    annotators = forms.CharField(
        required=False, label=_("Or each by themselves"),
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "- {name: ada, accuracy: 0.95, seconds: 20}"}),
        help_text=_("YAML, a list with name and the properties above; then the numbers above are not used."),
    )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if self.errors:
            return cleaned
        try:
            if str(cleaned.get("annotators", "")).strip():
                cleaned["rows"] = yaml.safe_load(cleaned["annotators"])
                annotators_from(cleaned["rows"])
            else:
                properties = {name: cleaned[name] for name in PROPERTIES}
                alike(cleaned["n"], **properties)
                cleaned["rows"] = [{"name": f"bot {k}"} | properties for k in range(1, cleaned["n"] + 1)]
        except yaml.YAMLError:
            self.add_error("annotators", _("This is not YAML."))
        except StudyError as error:
            self.add_error("annotators", str(error))
        return cleaned


class WebhookForm(forms.Form):
    url = forms.CharField(label=_("Address"), max_length=500, widget=forms.URLInput(attrs={"placeholder": "https://…"}))
    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(event, _(meaning)) for event, meaning in EVENTS.items()],
        widget=forms.CheckboxSelectMultiple,
    )
