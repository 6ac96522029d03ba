"""The form of a new run, built from the config dataclass of its stage: pickers for artefacts, numbers for numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any

from django import forms
from django.urls import reverse
from django.utils.translation import gettext_lazy as _

from annotation.domain.counterparts import hookpoints_compared
from annotation.domain.import_sources import importable
from annotation.forms.training_fields import (
    FIRST_ASKED,
    TRAINING,
    TRAINING_PICKERS,
    LinesField,
    left_to_preset,
    precision_field,
    usual_hookpoints,
)
from annotation.models import Dictionary, Readout, User, VisionModel
from workers.artifacts import ArtifactError
from workers.stages.configs import BLOCK_PAIRS, CONTROL_KINDS, STAGES, ConfigError, StageConfig, config_from_dict
from workers.stages.configs.feed_forward import CHOICES as FEED_FORWARD_CHOICES
from workers.stages.configs.importing import IMPORT_FORMATS

ALIGNMENT, EVALUATION, FEED_FORWARD = "align-dictionaries", "evaluate-dictionary", "read-feed-forward"
IMPORT = "import-dictionary"
UNTRAINED = "untrained"
PLACES = (
    ("After each block", ""),
    ("MLP inputs", ".mlp.in"),
    ("MLP outputs", ".mlp.out"),
    ("MLP hidden", ".mlp.hidden"),
)


class IntegersField(forms.CharField):
    """Whole numbers with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> list[int]:
        words = str(super().clean(self.prepare_value(value))).replace(",", " ").split()
        try:
            return [int(word) for word in words]
        except ValueError as error:
            raise forms.ValidationError(_("Write whole numbers with commas between them, such as 0, 10.")) from error


class StageForm(forms.Form):
    """One field per setting; ``config()`` is the validated config."""

    title = forms.CharField(
        label=_("Title"),
        max_length=200,
        required=False,
        help_text=_("For the list of runs; the stage's name otherwise."),
    )

    def __init__(
        self,
        stage: str,
        user: User,
        values: Mapping[str, Any] | None = None,
        *,
        data: Any = None,
        cloned: Mapping[str, Any] | None = None,
    ) -> None:
        """``values`` to begin with, or ``data`` that was sent; ``cloned`` is the config that the fields began with."""
        initial = {name: value for name, value in (values or {}).items() if value not in ("", None)}
        super().__init__(data, initial=initial, auto_id="setting-%s")
        self.stage = stage
        self.user = user
        self.cloned = dict(cloned or {})
        config_class = STAGES[stage].config_class
        hidden = ("parent_fields", *getattr(config_class, "hidden_fields", ()))
        settings = [f for f in fields(config_class) if f.name not in hidden]
        self.rare = [setting.name for setting in settings if setting.metadata.get("is_rare")]
        for setting in settings:
            self.fields[setting.name] = self.field_for(setting)
        first = FIRST_ASKED if stage == TRAINING else ()
        self.order_fields([*first, *(setting.name for setting in settings), "title"])

    def field_for(self, setting: Field[Any]) -> forms.Field:
        about: dict[str, Any] = {
            "label": setting.metadata.get("label") or setting.name,
            "help_text": setting.metadata.get("help", ""),
            "required": setting.default is MISSING,
        }
        if setting.default is not MISSING:
            about["initial"] = setting.default
        if self.stage == TRAINING and setting.name in TRAINING_PICKERS:
            field = TRAINING_PICKERS[setting.name](about)
            if setting.name in {"kind", "preset"}:
                field.widget.attrs |= hookpoints_follow() | {"hx-params": "not hookpoints,csrfmiddlewaretoken"}
            return field
        if setting.name in PICKERS:
            return PICKERS[setting.name](self, about)
        if setting.type == "tuple[str, ...]":
            return LinesField(**about)
        if setting.type == "bool":
            return forms.BooleanField(**about | {"required": False})
        is_rare = bool(setting.metadata.get("is_rare"))
        if setting.type == "int":
            return forms.IntegerField(**about | {"required": not is_rare})
        if setting.type == "tuple[int, ...]":
            return IntegersField(**about)
        if setting.type == "float":
            widget = forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"})
            return forms.FloatField(**about | {"required": not is_rare, "widget": widget})
        return forms.CharField(**about)

    def chosen(self, name: str) -> str:
        """The value a picker has now, from the data or the address."""
        value = self.data.get(name) if self.is_bound else self.initial.get(name)
        return str(value or "")

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        values = {name: self.or_default(name, value) for name, value in values.items()}
        if self.stage == TRAINING and not values.get("name"):
            values["name"] = str(values.get("kind", "")).replace("_", "-")
        if self.stage == TRAINING:
            values = {name: value for name, value in values.items() if name not in left_to_preset(values, self.cloned)}
        if not self.errors:
            try:
                self.settled = self.config_of(values)
            except ConfigError as error:
                self.refuse(error)
        return values

    def refuse(self, error: ConfigError | ArtifactError) -> None:
        """Say the sentence above the form and, where it is known which setting is to be changed, beside its field."""
        name = getattr(error, "setting_name", "")
        if name not in self.fields:
            self.add_error(None, str(error))
            return
        self.add_error(name, str(error))
        self.add_error(None, f"{self.fields[name].label}: {error}")

    def or_default(self, name: str, value: Any) -> Any:
        """A setting that was left empty has its default, if it has one."""
        initial = self.fields[name].initial
        return initial if value is None or (value == "" and isinstance(initial, str)) else value

    def usual(self) -> list[forms.BoundField]:
        return [self[name] for name in self.fields if name not in self.rare]

    def seldom(self) -> list[forms.BoundField]:
        """The settings that are folded away."""
        return [self[name] for name in self.rare]

    def is_unfolded(self) -> bool:
        """Whether something folded away is wrong, or not as usual."""
        return any(field.errors or str(field.value()) != self.usual_text(field.name) for field in self.seldom())

    def usual_text(self, name: str) -> str:
        """A setting's default as its field shows it and sends it; an empty list of numbers is an empty text there."""
        return str(self.fields[name].prepare_value(self.fields[name].initial))

    def config_of(self, values: Mapping[str, Any]) -> StageConfig:
        return config_from_dict(self.stage, {name: value for name, value in values.items() if name != "title"})

    def config(self) -> StageConfig:
        """The config of a form that is valid."""
        return self.settled


def image_set_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    from annotation.domain.visibility import visible_image_sets

    rows = visible_image_sets(form.user)
    return choice_field(about, [(row.digest, f"{row.name} ({row.n_images:,} images)") for row in rows], "image set")


def hookpoints_follow() -> dict[str, str]:
    """Attributes of a picker after whose change other hookpoints can be chosen."""
    return {
        "hx-get": reverse("run-new"),
        "hx-include": "closest form",
        "hx-select": "#part-hookpoints",
        "hx-target": "#part-hookpoints",
        "hx-swap": "outerHTML",
    }


def vision_model_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    rows = VisionModel.objects.all()
    field = choice_field(about, [(row.digest, f"{row.name} ({row.architecture})") for row in rows], "vision model")
    field.widget.attrs |= hookpoints_follow()
    return field


def dictionary_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    field = choice_field(about, [(row.digest, dictionary_name(row)) for row in dictionaries(form)], "dictionary")
    if form.stage == ALIGNMENT:
        field.widget.attrs |= hookpoints_follow()
    return field


def dictionaries_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    choices = [(row.digest, dictionary_name(row)) for row in dictionaries(form)]
    return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **about)


def dictionaries(form: StageForm) -> list[Dictionary]:
    from annotation.domain.visibility import visible_dictionaries

    return list(visible_dictionaries(form.user).select_related("vision_model").order_by("-id"))


def dictionary_name(row: Dictionary) -> str:
    where = f"{len(row.hookpoints)} hookpoints of {row.vision_model.name}"
    return f"{row.name} ({row.kind_name}, {where}, {row.digest[:8]})"


def readout_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    rows = Readout.objects.select_related("vision_model").order_by("vision_model__name", "name")
    none = "none: the model's own head, if it has one" if form.stage == EVALUATION else "none: no promoted classes"
    choices = [("", none)] + [(row.digest, f"{row.vision_model.name}: {row.name}") for row in rows]
    return forms.ChoiceField(choices=choices, **about)


def embeddings_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    from annotation.domain.study_artifacts import artifacts_of_kind

    found = artifacts_of_kind("image-embeddings")
    none = "none: no monosemanticity score" if found else "none yet; the stage embed-images makes them"
    return forms.ChoiceField(choices=[("", none), *((one.digest, one.title) for one in found)], **about)


def block_pairs_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    about["help_text"] = "Cosines of decoder directions between these; all takes time with many latents."
    return forms.ChoiceField(choices=[(name, name) for name in BLOCK_PAIRS], **about)


def hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return shared_hookpoints_field(form, about) if form.stage == ALIGNMENT else model_hookpoints_field(form, about)


def shared_hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of the first dictionary that can be compared with the other; none ticked means all."""
    found = {row.digest: row for row in dictionaries(form)}
    first, second = found.get(form.chosen("dictionary")), found.get(form.chosen("other"))
    names = hookpoints_compared(first, second) if first and second else []
    if not names:
        about["help_text"] = "Left empty: all that can be compared. Choose the dictionaries to see which."
    choices = [(name, name) for name in names]
    return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **about)


def model_hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of the chosen model: the residual stream after each block, then inside the MLPs."""
    model = VisionModel.objects.filter(digest=form.chosen("vision_model")).first()
    if model is None:
        about["help_text"] = "Choose a vision model first."
        return forms.MultipleChoiceField(choices=[], widget=forms.CheckboxSelectMultiple, **about)
    places = [one for one in PLACES if form.stage != FEED_FORWARD or one[1] == ".mlp.hidden"]
    groups = [(title, [f"blocks.{n}{place}" for n in range(model.n_blocks)]) for title, place in places]
    if form.stage == TRAINING:
        about["initial"] = usual_hookpoints(form.chosen("preset"), form.chosen("kind"), groups[0][1])
    elif form.stage != IMPORT:
        about["initial"] = groups[0][1]
    choices = [(title, [(name, name) for name in names]) for title, names in groups]
    return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **about)


def trained_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of untrained models, one of which a random transformer may be made of."""
    found = [row for row in dictionaries(form) if row.vision_model.source == UNTRAINED]
    none = "none: the untrained model is made, and for FF-KV read"
    return forms.ChoiceField(choices=[("", none), *((row.digest, dictionary_name(row)) for row in found)], **about)


def format_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return forms.ChoiceField(choices=[(name, name) for name in IMPORT_FORMATS], **about)


def path_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return forms.CharField(**about | {"help_text": importable()})


def words_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """A setting that can have a few values, by its label."""
    known = FEED_FORWARD_CHOICES[about["label"].lower()]
    return forms.ChoiceField(choices=[(word, word) for word in known], **about)


def any_precision_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return precision_field(about)


def kind_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    about["help_text"] = ""
    return forms.ChoiceField(choices=[(kind, kind.replace("_", " ")) for kind in CONTROL_KINDS], **about)


def choice_field(about: dict[str, Any], choices: list[tuple[str, str]], noun: str) -> forms.Field:
    article = "an" if noun[0] in "aeiou" else "a"
    empty = f"choose {article} {noun}" if choices else f"there is no {noun} yet"
    return forms.ChoiceField(choices=[("", empty), *choices], **about)


PICKERS = {
    "image_set": image_set_field,
    "vision_model": vision_model_field,
    "dictionary": dictionary_field,
    "other": dictionary_field,
    "dictionaries": dictionaries_field,
    "readout": readout_field,
    "embeddings": embeddings_field,
    "block_pairs": block_pairs_field,
    "hookpoints": hookpoints_field,
    "kind": kind_field,
    "format": format_field,
    "path": path_field,
    "trained": trained_field,
    "selection": words_field,
    "scaling": words_field,
    "poles": words_field,
    "precision": any_precision_field,
}
