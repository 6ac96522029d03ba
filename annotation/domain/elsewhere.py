"""Rows that stand for what only another site knows, so that a study from there needs no dictionary and no image here.

A received study's items point at features like any other's. They point at stand-ins: one dictionary per study, whose
digest begins with "elsewhere", and one feature per item number. The catalog's managers leave stand-ins out, so no list
shows them; what the items really are stays where the study came from.
"""

from __future__ import annotations

from annotation.models import Dictionary, ExemplarSet, Feature, ImageSet, Study, VisionModel
from annotation.models.catalog import ELSEWHERE

BATCH = 2000


def stand_in_features(study: Study, n: int) -> list[Feature]:
    """The stand-ins of a study's first n items, in order; made where they are missing."""
    dictionary = stand_in_dictionary(study)
    exemplars, _ = ExemplarSet.objects.get_or_create(
        digest=f"{ELSEWHERE} {study.pk}", defaults={"dictionary": dictionary, "image_set": dictionary.image_set}
    )
    n_made = Feature.objects.filter(dictionary=dictionary).count()
    Feature.objects.bulk_create(
        (
            Feature(
                dictionary=dictionary, exemplar_set=exemplars, hookpoint=ELSEWHERE, block=0, latent=latent, density=0,
                mean=0, maximum=0, prefix_share=0, n_images_active=0,
            )
            for latent in range(n_made, n)
        ),
        batch_size=BATCH,
    )  # fmt: skip
    return list(Feature.objects.filter(dictionary=dictionary).order_by("latent")[:n])


def stand_in_dictionary(study: Study) -> Dictionary:
    images, _ = ImageSet.everywhere.get_or_create(
        digest=ELSEWHERE,
        defaults={"name": ELSEWHERE, "n_images": 0, "visibility": ImageSet.Visibility.TEAM},
    )
    model, _ = VisionModel.everywhere.get_or_create(
        digest=ELSEWHERE,
        defaults={
            "name": ELSEWHERE, "architecture": "", "source": ELSEWHERE, "n_blocks": 0, "d_model": 0,
            "n_prefix_tokens": 0, "grid_height": 1, "grid_width": 1,
        },
    )  # fmt: skip
    dictionary, _ = Dictionary.everywhere.get_or_create(
        digest=f"{ELSEWHERE} {study.pk}",
        defaults={"name": ELSEWHERE, "kind": ELSEWHERE, "vision_model": model, "image_set": images},
    )
    return dictionary
