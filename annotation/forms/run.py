"""The form of a new run, built from the config dataclass of its stage: only the settings that have an effect now.

Which those are is told by ``workers.stages.configs.effects``; what came and what is kept aside by ``run_values``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields
from functools import cached_property
from typing import Any

from django import forms
from django.urls import reverse
from django.utils.datastructures import MultiValueDict
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotation.forms.run_values import (
    FOLLOWED,
    KEPT,
    SHOWN,
    TICKS,
    is_from_form,
    is_stale,
    plain_values,
    remembered_ticks,
    ticked,
)
from annotation.forms.stage_fields import PICKERS, IntegersField
from annotation.forms.training_fields import FIRST_ASKED, TRAINING, LinesField, set_by_preset, words_of_preset
from annotation.models import User, VisionModel
from workers.artifacts import ArtifactError
from workers.stages.configs import STAGES, ConfigError, StageConfig, config_from_dict, without_effect
from workers.stages.configs.effects import deciding, meaning_of_k
from workers.stages.configs.presets import PRESETS
from workers.stages.configs.training import ACTIVATIONS

FOLLOWS = {  # parts of the page that a deciding choice changes
    "hx-trigger": "change consume",
    "hx-include": "closest form",
    "hx-params": "not csrfmiddlewaretoken",
    "hx-select": "#run-usual",
    "hx-target": "#run-usual",
    "hx-select-oob": "#run-seldom,#run-kept,#estimate",
    "hx-swap": "outerHTML",
    "hx-sync": "closest form:replace",
}
WHILE_WRITING = {"hx-trigger": "input changed delay:500ms consume"}  # at `change` somebody writes in the next field
SHORT_SELECTS = ("image_set", "vision_model", "kind", "format", "block_pairs", "precision", "activation", "poles",
                 "selection", "scaling")  # fmt: skip
PARENT_CHOICES = ("dictionary", "other", "image_set")  # of an alignment, which decide about its hookpoints


class StageForm(forms.Form):
    """One field per setting that has an effect; ``config()`` is the validated config."""

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
        self.came = plain_values(data if data is not None else values or {})
        super().__init__(auto_id="setting-%s")
        self.stage = stage
        self.user = user
        self.cloned = dict(cloned or {})
        self.is_bound = data is not None
        config_class = STAGES[stage].config_class
        hidden = ("parent_fields", *getattr(config_class, "hidden_fields", ()))
        self.settings = {f.name: f for f in fields(config_class) if f.name not in hidden}
        for setting in self.settings.values():
            self.fields[setting.name] = self.field_for(setting)
        self.settle()
        self.rare = [name for name in self.fields if name in self.settings and self.about(name).get("is_rare")]
        first = FIRST_ASKED if stage == TRAINING else ()
        self.order_fields([*first, *self.settings, "title"])
        self.tell_what_follows()

    # what was chosen, before the fields are made

    @cached_property
    def preset(self) -> str:
        return str(self.came.get("preset") or "")

    @cached_property
    def kind(self) -> str:
        """The kind chosen; a preset's own where it was just chosen and the kind was left as it was."""
        usual = self.cloned.get("kind") or getattr(STAGES[self.stage].config_class, "kind", "")
        came = str(self.came.get("kind") or usual)
        if self.stage == TRAINING and came == usual and self.preset != self.shown_preset and self.preset in PRESETS:
            return str(PRESETS[self.preset].values.get("kind", came))
        return came

    @property
    def shown_preset(self) -> str:
        """The preset for which the fields were shown that sent this."""
        return str(self.came.get(f"{SHOWN}preset", self.cloned.get("preset", "") if self.is_bound else ""))

    @cached_property
    def vision_model(self) -> VisionModel | None:
        return VisionModel.objects.filter(digest=self.chosen("vision_model")).first()

    def chosen(self, name: str) -> str:
        """The value a picker has now, from the data or the address."""
        return str(self.came.get(name) or "")

    # the fields

    def about(self, name: str) -> Mapping[str, Any]:
        return self.settings[name].metadata

    def field_for(self, setting: Field[Any]) -> forms.Field:
        about: dict[str, Any] = {
            "label": translated(setting.metadata.get("label", "")) or setting.name,
            "help_text": translated(setting.metadata.get("help", "")),
            "required": setting.default is MISSING,
        }
        if setting.default is not MISSING:
            about["initial"] = setting.default
        if setting.name in PICKERS:
            return PICKERS[setting.name](self, about)
        return plain_field(str(setting.type), about, is_rare=bool(setting.metadata.get("is_rare")))

    def settle(self) -> None:
        """Tell what is set, what the preset sets, and what has no effect; the last is no field but kept aside."""
        self.left = {name for name in set_by_preset(self.preset) & set(self.settings) if self.is_left(name)} - {"kind"}
        visible = {name: raw for name in self.settings if (raw := self.raw(name)) is not None and name not in self.left}
        idle = without_effect(self.stage, self.cleaned_early(visible))
        back = {
            name: bool(self.came[KEPT + name]) if self.is_box(name) else self.came[KEPT + name]
            for name in self.settings
            if KEPT + name in self.came and name not in visible and name not in idle and name not in self.left
        }
        idle = without_effect(self.stage, self.cleaned_early(visible | back))
        self.kept = {name: raw for name in idle if name in self.settings and (raw := self.kept_aside(name)) is not None}
        for name in idle:
            self.fields.pop(name, None)
        shown = {name: raw for name, raw in (visible | back).items() if name in self.fields}
        shown["title"] = self.came.get("title", "")
        if self.is_bound:
            self.data = self.as_data(shown)
        self.initial = shown
        for name in self.left & set(self.fields):
            self.show_preset(name)

    def raw(self, name: str) -> Any:
        """A setting as it came; None where it did not."""
        if name == "kind" and "kind" in self.came:
            return self.kind
        if name == "hookpoints" and self.stage == TRAINING:
            return self.raw_hookpoints()
        if name == "activation" and self.came.get(name, "") not in ACTIVATIONS.get(self.kind, ()):
            return "" if name in self.came else None
        if name in self.came:
            value = self.came[name]
            return None if value in ("", None) and not self.is_bound else value
        return False if self.is_box(name) and is_from_form(self.came) and KEPT + name not in self.came else None

    def raw_hookpoints(self) -> list[str] | None:
        ticks = ticked(self.came, self.kind)
        if ticks is None or not is_from_form(self.came):
            return ticks
        known = {name for _group, choices in self.fields["hookpoints"].choices for name, _label in choices}  # type: ignore[attr-defined]
        there = [name for name in ticks if name in known]
        is_other_model = self.came.get(f"{SHOWN}vision_model", "") != self.chosen("vision_model")
        return None if is_other_model and not there and not self.is_bound else there

    def is_box(self, name: str) -> bool:
        return isinstance(self.fields[name], forms.BooleanField)

    def kept_aside(self, name: str) -> Any:
        """What is remembered of a setting without effect; a box that was not sent because it was not shown is usual."""
        value = self.came.get(KEPT + name, self.came.get(name))
        if value is None and self.is_box(name):
            value = "" if is_from_form(self.came) else self.cloned.get(name, self.fields[name].initial)
        if isinstance(value, bool):
            return "on" if value else ""
        return self.fields[name].prepare_value(value)

    def is_left(self, name: str) -> bool:
        """Whether a setting is the preset's: its field was empty, or as it was before the preset was chosen."""
        value = self.came.get(name)
        if value in ("", None):
            return True
        if not is_from_form(self.came) and not self.is_bound:
            return bool(plain(value) == plain(PRESETS[self.preset].values.get(name, self.usual_value(name))))
        if self.shown_preset == self.preset:
            return False
        return bool(plain(self.cleaned_early({name: value}).get(name)) == plain(self.usual_value(name)))

    def usual_value(self, name: str) -> Any:
        return self.cloned.get(name, self.settings[name].default)

    def cleaned_early(self, raw: Mapping[str, Any]) -> dict[str, Any]:
        """The values that are right so far, as the config would have them."""
        found = {}
        for name, value in raw.items():
            try:
                found[name] = self.or_default(name, self.fields[name].clean(value))
            except forms.ValidationError:
                continue
        return found

    def show_preset(self, name: str) -> None:
        """An empty field that says what the preset gives."""
        field = self.fields[name]
        field.required, field.initial = False, ""
        field.widget.is_required = False
        field.widget.attrs["placeholder"] = words_of_preset(self.preset, name)

    def tell_what_follows(self) -> None:
        followed = deciding(self.stage) | set(FOLLOWED) | (set(PARENT_CHOICES) if "other" in self.fields else set())
        if self.stage == TRAINING:
            followed.add("sparsity_weight")  # k means something else with it
        for name in followed & set(self.fields):
            is_chosen = isinstance(self.fields[name], forms.ChoiceField)
            when = {} if is_chosen else WHILE_WRITING
            self.fields[name].widget.attrs |= {"hx-get": reverse("run-new")} | FOLLOWS | when
        if self.stage == TRAINING and "k" in self.fields:
            label, help_text = meaning_of_k(self.cleaned_early(self.initial))
            self.fields["k"].label, self.fields["k"].help_text = translated(label), translated(help_text)

    # what the page shows

    def usual(self) -> Iterator[ShownField]:
        return (ShownField(self, name) for name in self.fields if name not in self.rare)

    def seldom(self) -> list[ShownField]:
        """The settings that are folded away."""
        return [ShownField(self, name) for name in self.rare]

    def is_unfolded(self) -> bool:
        """Whether something folded away is wrong, or not as usual."""
        return any(one.field.errors or not one.is_usual for one in self.seldom())

    def carried(self) -> list[tuple[str, Any]]:
        """The hidden inputs: what was shown, and what is kept aside."""
        shown = [(SHOWN + name, self.value_now(name)) for name in FOLLOWED if name in self.fields]
        kept = [(KEPT + name, value) for name, value in self.kept.items()]
        ticks = [
            (TICKS + family, name)
            for family, names in (remembered_ticks(self.came, self.kind) if self.stage == TRAINING else {}).items()
            for name in names
        ]
        return [("stage", self.stage), (f"{SHOWN}stage", self.stage), *shown, *kept, *ticks]

    def value_now(self, name: str) -> Any:
        value = self[name].value()
        return "" if value is None else value

    def as_sent(self) -> MultiValueDict[str, Any]:
        """What a browser would send of this form as it is shown."""
        values = {name: self.value_now(name) for name in self.fields}
        sent = self.as_data({name: value for name, value in values.items() if value is not False})
        for name, value in self.carried():
            sent.appendlist(name, value)
        return sent

    @staticmethod
    def as_data(values: Mapping[str, Any]) -> MultiValueDict[str, Any]:
        entries = {name: list(value) if isinstance(value, list | tuple) else [value] for name, value in values.items()}
        return MultiValueDict(entries)

    @property
    def is_stale(self) -> bool:
        """Whether a choice was changed that the form has not followed yet, as happens without a script."""
        return self.is_bound and is_from_form(self.came) and is_stale(self.came)

    # the config

    def clean(self) -> dict[str, Any]:
        values = super().clean() or {}
        empty = {name for name in self.left if values.get(name) in ("", None, [])}
        values = {name: self.or_default(name, value) for name, value in values.items() if name not in empty}
        if self.stage == TRAINING and not values.get("name"):
            values["name"] = str(values.get("kind", "")).replace("_", "-")
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

    def config_of(self, values: Mapping[str, Any]) -> StageConfig:
        return config_from_dict(self.stage, {name: value for name, value in values.items() if name != "title"})

    def config(self) -> StageConfig:
        """The config of a form that is valid."""
        return self.settled


class ShownField:
    """A field with what stands beside it: its unit and its default."""

    def __init__(self, form: StageForm, name: str) -> None:
        self.form, self.name = form, name
        self.field = form[name]
        self.unit = translated(form.about(name).get("unit", "")) if name in form.settings else ""

    @property
    def type(self) -> str:
        widget = self.field.field.widget
        return "box" if isinstance(widget, forms.CheckboxInput) else getattr(widget, "input_type", "text")

    @property
    def is_wide(self) -> bool:
        widget = self.field.field.widget
        is_long = isinstance(widget, forms.CheckboxSelectMultiple | forms.Textarea)
        return is_long or (isinstance(widget, forms.Select) and self.name not in SHORT_SELECTS)

    @property
    def is_set_by_preset(self) -> bool:
        return self.name in self.form.left

    @property
    def is_usual(self) -> bool:
        """Whether it is the default, as its field shows it; an empty list of numbers is an empty text there."""
        value, initial = self.field.value(), self.field.field.prepare_value(self.field.field.initial)
        return bool(value) == bool(initial) if self.type == "box" else words(value) == words(initial)

    @property
    def default(self) -> str:
        """The default in words; '' where the field is empty by default or has none."""
        if self.name not in self.form.settings:
            return ""
        value = self.form.settings[self.name].default
        if value is MISSING or value in ("", ()) or value != self.field.field.initial:
            return ""
        if isinstance(value, bool):
            return gettext("on") if value else gettext("off")
        if isinstance(value, int):
            return f"{value:,}"
        if isinstance(value, float):
            return f"{value:g}"
        known = dict(getattr(self.field.field, "choices", ()))
        return str(known.get(value, self.field.field.prepare_value(value)))


def plain_field(kind: str, about: dict[str, Any], *, is_rare: bool) -> forms.Field:
    """A field for a value of this type, where no picker knows the setting."""
    if kind == "tuple[str, ...]":
        return LinesField(**about)
    if kind == "bool":
        return forms.BooleanField(**about | {"required": False})
    if kind == "int":
        return forms.IntegerField(**about | {"required": not is_rare})
    if kind == "tuple[int, ...]":
        return IntegersField(**about)
    if kind == "float":
        widget = forms.NumberInput(attrs={"step": "any", "inputmode": "decimal"})
        return forms.FloatField(**about | {"required": not is_rare, "widget": widget})
    return forms.CharField(**about)


def translated(text: str) -> str:
    """A text of a stage's config, which config/stage_texts.py has collected; an empty one stays empty."""
    return gettext(text) if text else ""


def words(value: Any) -> str:
    return "" if value is None else str(value)


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
