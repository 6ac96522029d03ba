"""A standard vit_base_patch16_224, untrained, through import, a dictionary, exemplars and a feature page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from django.core.management import call_command
from django.test import Client
from PIL import Image

from annotation.domain.exemplar_rows import exemplars_of
from annotation.models import Dictionary, Feature, Role, User, VisionModel

N_IMAGES, K = 24, 8


def write_images(folder: Path) -> None:
    """Smooth random pictures of 224 pixels and more, in two classes."""
    rng = np.random.default_rng(0)
    for number in range(N_IMAGES):
        path = folder / ("warm" if number % 2 else "cold") / f"{number:02d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (7, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((256, 224), Image.Resampling.BICUBIC).save(path)


@pytest.mark.django_db(transaction=True)
def test_vit_base_reaches_a_feature_page(artifact_root: Path, tmp_path: Path, client: Client) -> None:
    write_images(tmp_path / "images")
    call_command("import_images", "smooth", str(tmp_path / "images"))
    call_command("register_model", "vit-base", "vit_base_patch16_224")
    settings = ["name=base-sae", "image_set=smooth", "vision_model=vit-base", "hookpoints=[blocks.11]"]
    sizes = ["n_latents=96", f"k={K}", "n_tokens=4096", "batch_tokens=512"]
    call_command("run_stage", "train-dictionary", set=settings + sizes)
    collect = ["image_set=smooth", "dictionaries=[base-sae]", "readout=vit-base"]
    call_command("run_stage", "collect-exemplars", set=collect)

    model = VisionModel.objects.get(name="vit-base")
    assert (model.grid_height, model.grid_width, model.n_prefix_tokens, model.d_model) == (14, 14, 1, 768)
    features = Feature.objects.filter(dictionary=Dictionary.objects.get(name="base-sae"))
    assert features.count() == 96
    n_tokens = N_IMAGES * 197
    assert sum(round(feature.density * n_tokens) for feature in features) == n_tokens * K
    feature = features.latest("n_images_active")
    found = exemplars_of(feature)
    assert (found.grid, found.n_prefix_tokens, found.n_images) == ((14, 14), 1, N_IMAGES)
    assert all(-1 <= exemplar.patch < 196 for exemplar in found.top)
    values = [exemplar.value for exemplar in found.top]
    assert values == sorted(values, reverse=True)
    assert values[0] == pytest.approx(feature.maximum)

    client.force_login(User.objects.create_user("rhea", role=Role.RESEARCHER))
    page = client.get(f"/features/{feature.pk}/").content.decode()
    assert page.count(".webp") >= min(16, feature.n_images_active)
    assert "blocks.11" in page
