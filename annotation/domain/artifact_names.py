"""Names in place of digests: a config written by a person says `image_set: birds`, the run records the digest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext

from annotation.models import Dictionary, ImageSet, Readout, VisionModel
from workers.stages.configs import ConfigError

DIGEST_LENGTH = 64


def with_digests(values: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every name of an artefact replaced; raises ConfigError naming one that is not known."""
    settled = dict(values)
    for field, find in FINDERS.items():
        if field in settled:
            value = settled[field]
            settled[field] = (
                [digest_of(one, find) for one in value] if isinstance(value, list) else digest_of(value, find)
            )
    return settled


def digest_of(value: Any, find: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(
            gettext("%(value)s names no artefact; write its name or its digest.") % {"value": repr(value)}
        )
    text = value
    if text == "" or (len(text) == DIGEST_LENGTH and text.isalnum()):
        return text
    digest: str = find(text)
    return digest


def image_set_digest(name: str) -> str:
    found = ImageSet.objects.filter(name=name).first()
    if found is None:
        raise ConfigError(gettext("There is no image set '%(name)s'; import_images makes one.") % {"name": name})
    return found.digest


def vision_model_digest(name: str) -> str:
    found = VisionModel.objects.filter(name=name).first()
    if found is None:
        raise ConfigError(
            gettext("There is no vision model '%(name)s'; register_model or train-model makes one.") % {"name": name}
        )
    return found.digest


def dictionary_digest(name: str) -> str:
    found = Dictionary.objects.filter(name=name)
    if len(found) != 1:
        raise ConfigError(
            gettext("There are %(n)s dictionaries called '%(name)s'; name one, or give its digest.")
            % {"n": len(found), "name": name}
        )
    return found[0].digest


def readout_digest(name: str) -> str:
    """A readout is called MODEL/NAME, such as `birds-vit/own head`; MODEL alone means its only one."""
    model, _, readout = name.partition("/")
    found = Readout.objects.filter(vision_model__name=model)
    if readout:
        found = found.filter(name=readout)
    if len(found) != 1:
        raise ConfigError(
            gettext("There are %(n)s readouts '%(name)s'; write MODEL/NAME of one.") % {"n": len(found), "name": name}
        )
    return found[0].digest


FINDERS = {
    "image_set": image_set_digest,
    "vision_model": vision_model_digest,
    "dictionary": dictionary_digest,
    "other": dictionary_digest,
    "dictionaries": dictionary_digest,
    "readout": readout_digest,
}
