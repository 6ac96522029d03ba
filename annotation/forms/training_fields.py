"""The fields of the form that starts a training, and what follows from a preset or a kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from workers.stages.configs.presets import PRESETS
from workers.stages.configs.training import (
    ACTIVATIONS,
    MLP_IN,
    PRECISIONS,
    TRAINED_KINDS,
    TRANSCODERS,
    TrainDictionaryConfig,
)

TRAINING = "train-dictionary"
FIRST_ASKED = ("image_set", "vision_model", "preset", "kind")  # the hookpoints to tick follow from them
KIND_NAMES = {
    "topk_sae": _("TopK autoencoder"),
    "batch_topk_sae": _("BatchTopK autoencoder"),
    "jumprelu_sae": _("JumpReLU autoencoder"),
    "relu_sae": _("ReLU autoencoder"),
    "transcoder": _("transcoder, one per MLP"),
    "cross_layer_transcoder": _("cross-layer transcoder"),
}


class LinesField(forms.CharField):
    """Texts, one per line."""

    widget = forms.Textarea(attrs={"rows": 2, "spellcheck": "false"})

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def clean(self, value: Any) -> list[str]:
        lines = str(super().clean(self.prepare_value(value))).splitlines()
        return [line.strip() for line in lines if line.strip()]


def name_field(about: dict[str, Any]) -> forms.Field:
    return forms.CharField(**about | {"initial": "", "help_text": _("Left empty, its kind.")})


def trained_kind_field(about: dict[str, Any]) -> forms.Field:
    return forms.ChoiceField(choices=[(kind, KIND_NAMES[kind]) for kind in TRAINED_KINDS], **about)


def preset_field(about: dict[str, Any]) -> forms.Field:
    choices = [
        ("", _("none: the settings below")),
        *((name, f"{name}: {one.summary}") for name, one in PRESETS.items()),
    ]
    return forms.ChoiceField(choices=choices, **about)


def activation_field(about: dict[str, Any]) -> forms.Field:
    known = dict.fromkeys(name for kind in TRANSCODERS for name in ACTIVATIONS[kind])
    return forms.ChoiceField(choices=[("", _("the kind's own")), *((name, name) for name in known)], **about)


def precision_field(about: dict[str, Any]) -> forms.Field:
    return forms.ChoiceField(choices=[(name, name) for name in PRECISIONS], **about)


TRAINING_PICKERS = {
    "name": name_field,
    "kind": trained_kind_field,
    "preset": preset_field,
    "activation": activation_field,
    "precision": precision_field,
}


def usual_hookpoints(preset: str, kind: str, residual: list[str]) -> list[str]:
    """Those ticked at first: a preset's, a transcoder's MLP inputs, or the residual stream after each block."""
    if preset in PRESETS and "hookpoints" in PRESETS[preset].values:
        return list(PRESETS[preset].values["hookpoints"])
    return [name + MLP_IN for name in residual] if kind in TRANSCODERS else residual


def left_to_preset(values: Mapping[str, Any], cloned: Mapping[str, Any]) -> set[str]:
    """What a form left to its preset: it sends every field, so those it sets that are as they were shown.

    Shown are the defaults, or the config of the run that is cloned; if that has the same preset, its values are
    settled already.
    """
    preset = values.get("preset", "")
    if preset not in PRESETS or preset == cloned.get("preset"):
        return set()
    defaults = {field.name: field.default for field in fields(TrainDictionaryConfig)}
    sets = set(PRESETS[preset].values) - {"hookpoints"}
    sets |= {name.removesuffix("_each") for name in sets}
    return {name for name in sets if plain(values.get(name)) == plain(cloned.get(name, defaults[name]))}


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
