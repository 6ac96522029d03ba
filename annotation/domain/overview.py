"""What a researcher finds on the front page: how far the main job has come, what to do next, what happened last."""

from __future__ import annotations

from typing import NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.feature_list import FeatureFilter, filtered_features
from annotation.domain.keyset import Order
from annotation.domain.visibility import visible_dictionaries, visible_image_sets
from annotation.domain.wording import within_sentence
from annotation.models import CONTROL_KINDS, Dictionary, ExemplarSet, Feature, Run, Study, User, VisionModel

N_RUNS = N_STUDIES = 5
N_DICTIONARIES = 3
FEATURES_SHOWN = 6
FEWEST_IMAGES = 8


class Step(NamedTuple):
    """One step of the main job; ``command`` or the page named ``url_name`` does it."""

    title: str
    reason: str
    is_done: bool
    command: str
    url_name: str
    query: str

    @property
    def within_sentence(self) -> str:
        return within_sentence(self.title)


class Overview(NamedTuple):
    steps: list[Step]
    runs: list[Run]
    studies: list[Study]
    dictionaries: list[Dictionary]

    @property
    def next_step(self) -> Step | None:
        return next((step for step in self.steps if not step.is_done), None)


def overview(user: User) -> Overview:
    shown = visible_dictionaries(user).exclude(kind__in=CONTROL_KINDS).select_related("vision_model", "image_set")
    return Overview(
        steps=main_job(user),
        runs=list(Run.objects.select_related("created_by")[:N_RUNS]),
        studies=list(Study.objects.all()[:N_STUDIES]),
        dictionaries=list(shown.order_by("-id")[:N_DICTIONARIES]),
    )


def main_job(user: User) -> list[Step]:
    """The steps from a folder of images to a study, and which of them are done."""
    return [
        Step(
            _("Import images"),
            _("A folder of images; its subfolders become the classes. The files stay where they are."),
            visible_image_sets(user).exists(),
            "python manage.py import_images NAME FOLDER",
            "",
            "",
        ),
        Step(
            _("Register a vision model"),
            _("Any timm ViT, with weights of its own, from a file, or untrained."),
            VisionModel.objects.exists(),
            "python manage.py register_model NAME --pretrained",
            "",
            "",
        ),
        Step(
            _("Train a dictionary"),
            _("It splits the model's activations into features."),
            Dictionary.objects.exists(),
            "",
            "run-new",
            "?stage=train-dictionary",
        ),
        Step(
            _("Collect exemplars"),
            _("One pass over the images finds those in which each feature fires most."),
            ExemplarSet.objects.exists(),
            "",
            "run-new",
            "?stage=collect-exemplars",
        ),
        Step(
            _("Start a study"),
            _("People say what they see in the features, blind to where these come from."),
            Study.objects.exists(),
            "",
            "studies",
            "",
        ),
    ]


def features_to_show(dictionary: Dictionary) -> list[Feature]:
    """A few features of the last block, each of several images, for a first look at a dictionary."""
    rows = filtered_features(dictionary, FeatureFilter(prefix_max=0.2)).filter(n_images_active__gte=FEWEST_IMAGES)
    return list(rows.select_related("exemplar_set").order_by(*Order("block", True).columns())[:FEATURES_SHOWN])
