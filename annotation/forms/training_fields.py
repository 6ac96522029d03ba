"""The fields of the form that starts a training, and what follows from a preset or a kind."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from annotation.domain.run_limits import model_facts
from annotation.models import VisionModel
from workers.stages.configs.effects import KINDS_IN_WORDS
from workers.stages.configs.presets import PRESETS, fitting_presets
from workers.stages.configs.training import (
    ACTIVATIONS,
    MLP_IN,
    PRECISIONS,
    TRAINED_KINDS,
    TRANSCODERS,
)

TRAINING = "train-dictionary"
FIRST_ASKED = ("image_set", "vision_model", "preset", "kind", "name")  # the hookpoints to tick follow from them
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


def trained_kind_field(about: dict[str, Any], chosen: str) -> forms.Field:
    about["help_text"] = _(KINDS_IN_WORDS[chosen]) if chosen in KINDS_IN_WORDS else ""
    return forms.ChoiceField(choices=[(kind, KIND_NAMES[kind]) for kind in TRAINED_KINDS], **about)


def preset_field(about: dict[str, Any], model: VisionModel | None, chosen: str) -> forms.Field:
    """Those that fit the model; one that was chosen stays in sight, and is refused with the model it is for."""
    fitting = fitting_presets(model_facts(model)) if model else list(PRESETS)
    others = [name for name in PRESETS if name not in fitting]
    choices = [
        ("", _("none: the settings below")),
        *((name, f"{name}: {gettext(PRESETS[name].summary)}") for name in fitting),
    ]
    if chosen in others:
        choices.append((chosen, _("%(preset)s: not for this model") % {"preset": chosen}))
    if model and others:
        about["help_text"] = _("%(others)s are for other models: %(models)s.") % {
            "others": ", ".join(others),
            "models": ", ".join(PRESETS[name].model_name for name in others),
        }
    return forms.ChoiceField(choices=choices, **about)


def activation_field(about: dict[str, Any], kind: str) -> forms.Field:
    known = ACTIVATIONS[kind] if kind in TRANSCODERS else every_activation()
    return forms.ChoiceField(choices=[("", _("the kind's own")), *((name, name) for name in known)], **about)


def every_activation() -> list[str]:
    return list(dict.fromkeys(name for kind in TRANSCODERS for name in ACTIVATIONS[kind]))


def precision_field(about: dict[str, Any]) -> forms.Field:
    return forms.ChoiceField(choices=[(name, name) for name in PRECISIONS], **about)


def usual_hookpoints(preset: str, kind: str, residual: list[str]) -> list[str]:
    """Those ticked at first: a preset's, a transcoder's MLP inputs, or the residual stream after each block."""
    if preset in PRESETS and "hookpoints" in PRESETS[preset].values:
        return list(PRESETS[preset].values["hookpoints"])
    return [name + MLP_IN for name in residual] if kind in TRANSCODERS else residual


def set_by_preset(preset: str) -> set[str]:
    """The settings whose fields show that the preset gives them: its own, and one number where it has a schedule."""
    if preset not in PRESETS:
        return set()
    names = set(PRESETS[preset].values) - {"hookpoints"}
    return names | {name.removesuffix("_each") for name in names}


def words_of_preset(preset: str, name: str) -> str:
    """What a preset gives for a setting, to be shown in its empty field."""
    value = PRESETS[preset].values.get(name, "")
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
