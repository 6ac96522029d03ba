"""The fields of the forms that start runs: pickers of artefacts and names, by the setting they are for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.counterparts import hookpoints_compared
from annotation.domain.import_sources import importable
from annotation.forms.training_fields import (
    TRAINING,
    activation_field,
    precision_field,
    preset_field,
    trained_kind_field,
    usual_hookpoints,
)
from annotation.models import Dictionary, Readout, VisionModel
from workers.stages.configs import BLOCK_PAIRS, CONTROL_KINDS
from workers.stages.configs.feed_forward import CHOICES as FEED_FORWARD_CHOICES
from workers.stages.configs.importing import IMPORT_FORMATS
from workers.stages.configs.training import MLP_IN, TRANSCODERS

if TYPE_CHECKING:
    from annotation.forms.run import StageForm

ALIGNMENT, EVALUATION, IMPORT = "align-dictionaries", "evaluate-dictionary", "import-dictionary"
ONLY_PLACE = {"read-feed-forward": ".mlp.hidden"}
UNTRAINED = "untrained"
TO_CHOOSE = {
    "image set": (_("choose an image set"), _("there is no image set yet")),
    "vision model": (_("choose a vision model"), _("there is no vision model yet")),
    "dictionary": (_("choose a dictionary"), _("there is no dictionary yet")),
}
PLACES = (
    (_("after block"), ""),
    (_("MLP input"), ".mlp.in"),
    (_("MLP output"), ".mlp.out"),
    (_("MLP hidden"), ".mlp.hidden"),
)


class HookpointBoxes(forms.CheckboxSelectMultiple):
    """A box per block, numbered, in a row per place; each tells its whole name."""

    def create_option(self, name: str, value: Any, *args: Any, **named: Any) -> dict[str, Any]:
        option: dict[str, Any] = super().create_option(name, value, *args, **named)
        option["attrs"] |= {"aria-label": str(value), "title": str(value)}
        return option


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


def image_set_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    from annotation.domain.visibility import visible_image_sets

    rows = visible_image_sets(form.user)
    choices = [(row.digest, f"{row.name} ({row.n_images:,} images)") for row in rows]
    if form.stage == ALIGNMENT:
        return forms.ChoiceField(choices=[("", _("none: by their directions only")), *choices], **about)
    return choice_field(about, choices, "image set")


def vision_model_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    rows = VisionModel.objects.all()
    return choice_field(about, [(row.digest, f"{row.name} ({row.architecture})") for row in rows], "vision model")


def dictionary_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return choice_field(about, [(row.digest, dictionary_name(row)) for row in dictionaries(form)], "dictionary")


def other_dictionary_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of the same model as the first."""
    rows = dictionaries(form)
    first = next((row for row in rows if row.digest == form.chosen("dictionary")), None)
    if first is not None:
        rows = [row for row in rows if row.vision_model_id == first.vision_model_id and row != first]
    return choice_field(about, [(row.digest, dictionary_name(row)) for row in rows], "dictionary")


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
    own_head, nothing = _("none: the model's own head, if it has one"), _("none: no promoted classes")
    none = own_head if form.stage == EVALUATION else nothing
    choices = [("", none)] + [(row.digest, f"{row.vision_model.name}: {row.name}") for row in rows]
    return forms.ChoiceField(choices=choices, **about)


def embeddings_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    from annotation.domain.study_artifacts import artifacts_of_kind

    found = artifacts_of_kind("image-embeddings")
    none = _("none: no monosemanticity score") if found else _("none yet; the stage embed-images makes them")
    return forms.ChoiceField(choices=[("", none), *((one.digest, one.title) for one in found)], **about)


def block_pairs_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    about["help_text"] = _("Cosines of decoder directions between these; all takes time with many latents.")
    return forms.ChoiceField(choices=[(name, name) for name in BLOCK_PAIRS], **about)


def hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return shared_hookpoints_field(form, about) if form.stage == ALIGNMENT else model_hookpoints_field(form, about)


def shared_hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of the first dictionary that can be compared with the other; none ticked means all."""
    found = {row.digest: row for row in dictionaries(form)}
    first, second = found.get(form.chosen("dictionary")), found.get(form.chosen("other"))
    names = hookpoints_compared(first, second) if first and second else []
    if not names:
        about["help_text"] = _("Left empty: all that can be compared. Choose the dictionaries to see which.")
    choices = [(name, name) for name in names]
    return forms.MultipleChoiceField(choices=choices, widget=forms.CheckboxSelectMultiple, **about)


def model_hookpoints_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of the chosen model: the residual stream after each block, then inside the MLPs."""
    model = form.vision_model
    if model is None:
        about["help_text"] = _("Choose a vision model first.")
        return forms.MultipleChoiceField(choices=[], widget=forms.CheckboxSelectMultiple, **about)
    places = [one for one in PLACES if form.stage not in ONLY_PLACE or one[1] == ONLY_PLACE[form.stage]]
    if form.stage == TRAINING and form.kind in TRANSCODERS:
        places = [one for one in PLACES if one[1] == MLP_IN]
    groups = [(title, [f"blocks.{n}{place}" for n in range(model.n_blocks)]) for title, place in places]
    if form.stage == TRAINING:
        residual = [f"blocks.{n}" for n in range(model.n_blocks)]
        about["initial"] = usual_hookpoints(form.preset, form.kind, residual)
    elif form.stage != IMPORT:
        about["initial"] = groups[0][1]
    choices = [(title, [(name, name.split(".")[1]) for name in names]) for title, names in groups]
    if form.stage == TRAINING:
        about["required"] = True
    about["error_messages"] = {
        "required": _("Tick at least one hookpoint."),
        "invalid_choice": _("%(value)s cannot be read by this kind in this model."),
    }
    return forms.MultipleChoiceField(choices=choices, widget=HookpointBoxes, **about)


def trained_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    """Those of untrained models, one of which a random transformer may be made of."""
    found = [row for row in dictionaries(form) if row.vision_model.source == UNTRAINED]
    none = _("none: the untrained model is made, and for FF-KV read")
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
    if form.stage == TRAINING:
        return trained_kind_field(about, form.kind)
    about["help_text"] = _("What the dictionary is compared with.")
    return forms.ChoiceField(choices=[(kind, kind.replace("_", " ")) for kind in CONTROL_KINDS], **about)


def choice_field(about: dict[str, Any], choices: list[tuple[str, str]], noun: str) -> forms.Field:
    choose, none_yet = TO_CHOOSE[noun]
    return forms.ChoiceField(choices=[("", choose if choices else none_yet), *choices], **about)


def training_preset_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return preset_field(about, form.vision_model, form.preset)


def training_activation_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    return activation_field(about, form.kind)


def name_field(form: StageForm, about: dict[str, Any]) -> forms.Field:
    if form.stage == TRAINING:
        about |= {"initial": "", "help_text": _("Left empty, its kind.")}
    return forms.CharField(**about)


PICKERS: dict[str, Callable[[StageForm, dict[str, Any]], forms.Field]] = {
    "name": name_field,
    "preset": training_preset_field,
    "activation": training_activation_field,
    "image_set": image_set_field,
    "vision_model": vision_model_field,
    "dictionary": dictionary_field,
    "other": other_dictionary_field,
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
