"""The form of a study: how it asks, what is sampled, how often it is judged, and what people agree to."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.controls import EVERY_CONTROL
from annotation.domain.planning_items import kinds_of
from annotation.domain.protocols import PROTOCOLS, Protocol
from annotation.domain.sampling import SampleSpec, SamplingError
from annotation.domain.studies import DEFAULT_CONSENT
from annotation.domain.study_samples import SampleRequest, reserved_features
from annotation.forms.study_fields import (
    MOST_FEATURES,
    DictionariesField,
    NumbersField,
    PercentField,
    ScheduleField,
    stopping_of,
    stopping_values,
)
from annotation.forms.study_protocol import ProtocolForm
from annotation.models import CONTROL_KINDS, Condition, Dictionary, Study

SPEC_FIELDS = ("n_features", "blocks", "n_density_bands", "feature_ids", "classes")
EXCLUSION_FIELDS = ("min_images", "max_prefix_share", "prefix_rule")
SHARES = ("core_share", "control_share", "catch_share", "gold_share", "repeat_share", "pass_mark")
PLAIN = (
    "name", "description", "protocol", "overlap", "core_overlap", "control_kinds", "session_length", "seed",
    "queue_order", "max_per_person", "gold_schedule", "min_viewing_ms", "practice_rounds", "vocabulary_mode",
    "consent_text", "consent_version", "explanations", "embeddings_digest", "alignment_digest",
)  # fmt: skip
MOST_CONTROLS, MOST_CHECKS, MOST_HALF_WIDTH = 0.6, 0.4, 0.5


class StudyForm(ProtocolForm):
    name = forms.CharField(label=_("Name"), max_length=120, help_text=_("Annotators see it."))
    description = forms.CharField(
        label=_("Description"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Shown where people join. Say what it is about, not what you expect. Markdown."),
    )
    dictionaries = DictionariesField(
        Dictionary.objects.none(),
        label=_("Dictionaries"),
        widget=forms.CheckboxSelectMultiple,
        help_text=_("Whose features are judged."),
    )
    n_features = forms.IntegerField(label=_("Features"), min_value=1, max_value=MOST_FEATURES, initial=60)
    n_density_bands = forms.IntegerField(label=_("Density bands"), min_value=1, max_value=10, initial=3)
    blocks = NumbersField(label=_("Blocks"), required=False, help_text=_("For instance 0 3 5; empty for all."))
    seed = forms.IntegerField(
        label=_("Seed"), initial=0, min_value=0, max_value=2**31, help_text=_("The same seed draws the same.")
    )
    feature_ids = NumbersField(
        label=_("Exactly these features"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=_("Numbers of features, as in the address of their page. Not empty: nothing is drawn by block."),
    )
    min_images = forms.IntegerField(
        label=_("Images it fires on, at least"), min_value=1, max_value=1_000_000, initial=16
    )
    max_prefix_share = PercentField(
        label=_("Prefix share, at most %"),
        initial=50.0,
        help_text=_("Of its images, those whose maximum sits on CLS or a register."),
    )
    prefix_rule = forms.ChoiceField(
        label=_("Features above that"),
        choices=[("exclude", _("are left out")), ("stratum", _("form a stratum of their own"))],
        initial="exclude",
    )
    overlap = forms.IntegerField(label=_("Per item"), min_value=1, max_value=50, initial=1)
    core_overlap = forms.IntegerField(label=_("Per core item"), min_value=1, max_value=50, initial=3)
    core_share = PercentField(
        label=_("Core, % of items"), initial=30.0, help_text=_("Judged by several people: agreement is measured there.")
    )
    queue_order = forms.ChoiceField(
        label=_("Order"), choices=Study.QueueOrder.choices, initial=Study.QueueOrder.BREADTH
    )
    max_per_person = forms.IntegerField(
        label=_("Per person, at most"),
        min_value=1,
        max_value=1_000_000,
        required=False,
        help_text=_("Empty: any number."),
    )
    session_length = forms.IntegerField(label=_("Session, items"), min_value=5, max_value=500, initial=60)
    half_width = PercentField(
        label=_("Stop at a half-width of, %"),
        required=False,
        help_text=_("Of the main figure's interval; empty: when all is judged."),
    )
    min_judgements = forms.IntegerField(
        label=_("But not before, judgements"), min_value=1, max_value=10_000_000, required=False
    )
    control_share = PercentField(
        label=_("Controls, %"),
        initial=10.0,
        help_text=_("Of features and controls. For guessing the origin 50: chance is ½."),
    )
    control_kinds = forms.MultipleChoiceField(
        label=_("Control kinds"),
        choices=[(kind.value, _(str(kind.label))) for kind in EVERY_CONTROL],
        widget=forms.CheckboxSelectMultiple,
        required=False,
        initial=[Condition.RANDOM_DIRECTIONS.value, Condition.SHUFFLED.value],
    )
    catch_share = PercentField(label=_("Catch items, %"), initial=5.0)
    gold_share = PercentField(label=_("Gold items, %"), initial=5.0)
    gold_schedule = ScheduleField(
        label=_("Gold by experience"),
        required=False,
        help_text=_(
            "For instance 0: 20, 40: 5 for a fifth at first and a twentieth from the fortieth answer on. "
            "Empty: gold lies among the rest."
        ),
    )
    repeat_share = PercentField(
        label=_("Own items again, %"), initial=3.0, help_text=_("On an invited return: how steady people are.")
    )
    min_viewing_ms = forms.IntegerField(
        label=_("Seen at least, ms"),
        min_value=0,
        max_value=60_000,
        initial=0,
        help_text=_("No answer is taken before."),
    )
    pass_mark = PercentField(
        label=_("Pass mark, %"),
        initial=0.0,
        help_text=_("Of the practice items, to be answered rightly; 0: reading is enough."),
    )
    practice_rounds = forms.IntegerField(
        label=_("Rounds of practice"), min_value=0, max_value=50, initial=3, help_text=_("0: any number.")
    )
    vocabulary_mode = forms.ChoiceField(
        label=_("Words for labels"), choices=Study.VocabularyMode.choices, initial=Study.VocabularyMode.OPEN
    )
    consent_text = forms.CharField(
        label=_("What people agree to"),
        widget=forms.Textarea(attrs={"rows": 5}),
        initial=DEFAULT_CONSENT,
        help_text=_("Markdown."),
    )
    consent_version = forms.CharField(
        label=_("Version of that text"),
        max_length=12,
        initial="1.0",
        help_text=_("Raise it, and everybody is asked again."),
    )

    def __init__(self, *args: Any, study: Study | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.study = study
        choices = self.fields["dictionaries"]
        assert isinstance(choices, forms.ModelMultipleChoiceField)
        choices.queryset = Dictionary.objects.exclude(kind__in=CONTROL_KINDS).select_related("vision_model")

    @classmethod
    def of(cls, study: Study) -> StudyForm:
        """The form filled with what a study has."""
        values: dict[str, Any] = {name: getattr(study, name) for name in PLAIN}
        values |= {name: 100 * getattr(study, name) for name in SHARES}
        spec = SampleSpec.from_dict(
            {key: value for key, value in study.sampler.items() if key != "dictionaries"} | study.exclusions
        ).as_dict()
        spec["max_prefix_share"] *= 100
        spec |= {name: " ".join(map(str, spec[name])) for name in ("blocks", "feature_ids")}
        spec["classes"] = "\n".join(spec["classes"])
        values |= spec | {"dictionaries": study.sampler.get("dictionaries", [])} | stopping_values(study.stopping)
        values |= cls.option_values(PROTOCOLS.get(study.protocol), study.protocol_options)
        return cls(initial=values, study=study)

    def clean(self) -> dict[str, Any]:
        values = super().clean()
        checks = sum(values.get(name) or 0 for name in ("catch_share", "gold_share"))
        if (values.get("control_share") or 0) > MOST_CONTROLS:
            self.add_error("control_share", _("%(most)s is the most.") % {"most": f"{MOST_CONTROLS:.0%}"})
        if checks > MOST_CHECKS:
            raise forms.ValidationError(
                _("Catch and gold items are %(share)s of all; %(most)s is the most.")
                % {"share": f"{checks:.0%}", "most": f"{MOST_CHECKS:.0%}"}
            )
        protocol = self.chosen
        if protocol is not None and protocol.conditions and values.get("control_share"):
            self.require_control_kind(protocol, values)
        if (values.get("core_overlap") or 50) < (values.get("overlap") or 1):
            self.add_error("core_overlap", _("The core needs at least as many judgements as the rest."))
        if (values.get("half_width") or 0) >= MOST_HALF_WIDTH:
            self.add_error("half_width", _("It must be below %(most)s.") % {"most": f"{MOST_HALF_WIDTH:.0%}"})
        if values.get("min_judgements") and not values.get("half_width"):
            self.add_error("half_width", _("Say at which half-width to stop."))
        return values

    def require_control_kind(self, protocol: Protocol, values: dict[str, Any]) -> None:
        if not kinds_of(protocol, values.get("control_kinds") or []) and "control_kinds" not in self.errors:
            self.add_error("control_kinds", _("Choose a kind of control, or set their share to 0."))

    def spec(self) -> SampleSpec:
        """How features are drawn, whatever the other fields hold; raises SamplingError."""
        if set(self.sample_fields()) & set(self.errors):
            raise SamplingError(_("Correct these fields, and the preview will show."))
        values = {name: self.cleaned_data[name] for name in (*SPEC_FIELDS, *EXCLUSION_FIELDS)}
        if self.cleaned_data["protocol"] != "spurious":
            values["classes"] = ()
        return SampleSpec.from_dict(values)

    @staticmethod
    def sample_fields() -> tuple[str, ...]:
        return (*SPEC_FIELDS, *EXCLUSION_FIELDS, "dictionaries", "seed", "protocol", "explanations", "alignment_digest")

    def sample_request(self) -> SampleRequest:
        """What would be drawn with these values; a saved study's practice and gold features stay out of it."""
        spec, values = self.spec(), self.cleaned_data
        return SampleRequest(
            protocol=values["protocol"], dictionaries=values["dictionaries"], spec=spec, seed=values["seed"],
            reserved=reserved_features(self.study) if self.study is not None else (),
            explanations=values["explanations"].pk if values["explanations"] else None,
            alignment=values["alignment_digest"],
        )  # fmt: skip

    def study_values(self) -> dict[str, Any]:
        """The fields of a Study."""
        values = self.cleaned_data
        spec = self.spec().as_dict()
        return {name: values[name] for name in (*PLAIN, *SHARES)} | {
            "protocol_options": self.protocol_options(),
            "sampler": {name: spec[name] for name in SPEC_FIELDS}
            | {"dictionaries": [dictionary.pk for dictionary in values["dictionaries"]]},
            "exclusions": {name: spec[name] for name in EXCLUSION_FIELDS},
            "stopping": stopping_of(values["half_width"], values["min_judgements"]),
        }
