"""Exemplars become Feature rows, and rows keep their identity when they are collected again."""

from __future__ import annotations

from pathlib import Path

import pytest

from annotation.domain.exemplar_rows import exemplars_of
from annotation.domain.features import FeatureLoadError, block_of, load_features
from annotation.models import Dictionary, ExemplarSet, Feature
from tests.exemplar_factory import Catalog, CatalogPlan, build_catalog, draw, write_exemplars
from workers.artifacts import ArtifactStore

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalog(artifact_root: Path, tmp_path: Path) -> Catalog:
    return build_catalog(ArtifactStore(artifact_root), tmp_path)


def test_each_latent_of_each_hookpoint_becomes_a_feature_dead_ones_too(catalog: Catalog) -> None:
    rows = list(Feature.objects.order_by("id").values_list("hookpoint", "block", "latent", "pole"))
    assert rows == [(f"blocks.{b}", b, latent, 1) for b in (0, 1) for latent in range(8)]
    dead = Feature.objects.get(hookpoint="blocks.0", latent=0)
    assert (dead.density, dead.mean, dead.maximum, dead.n_images_active) == (0.0, 0.0, 0.0, 0)
    counts = {"n_features": 8, "n_dead": 1}
    assert catalog.exemplar_set.counts == {"blocks.0": counts, "blocks.1": counts}


def test_the_class_promoted_most_is_named(catalog: Catalog) -> None:
    names = Feature.objects.filter(hookpoint="blocks.0").order_by("latent").values_list("promoted_class", flat=True)
    assert list(names)[:4] == ["disc", "square", "triangle", "disc"]


def test_loading_twice_changes_nothing(catalog: Catalog) -> None:
    before = list(Feature.objects.order_by("id").values())
    load_features(artifact=catalog.artifact, run=None)
    assert list(Feature.objects.order_by("id").values()) == before
    assert ExemplarSet.objects.count() == 1


def test_collecting_again_updates_the_numbers_and_keeps_the_rows(catalog: Catalog, artifact_root: Path) -> None:
    import numpy as np

    before = dict(Feature.objects.values_list("id", "maximum"))
    plan = CatalogPlan()
    rng = np.random.default_rng(plan.seed)
    drawn = [draw(rng) for _ in range(plan.n_images)]
    again = write_exemplars(ArtifactStore(artifact_root), plan, drawn, catalog.dictionary, revision=2)
    newer = load_features(artifact=again, run=None)
    after = dict(Feature.objects.values_list("id", "maximum"))
    assert set(after) == set(before)
    assert after != before
    assert set(Feature.objects.values_list("exemplar_set_id", flat=True)) == {newer.pk}


def test_exemplars_of_an_unknown_dictionary_are_refused_with_a_sentence(catalog: Catalog) -> None:
    Feature.objects.all().delete()
    ExemplarSet.objects.all().delete()
    Dictionary.objects.all().delete()
    with pytest.raises(FeatureLoadError, match="of a dictionary that is not registered"):
        load_features(artifact=catalog.artifact, run=None)


@pytest.mark.parametrize(("hookpoint", "block"), [("blocks.7", 7), ("blocks.11.mlp.out", 11), ("norm", -1)])
def test_the_block_is_read_from_the_hookpoint(hookpoint: str, block: int) -> None:
    assert block_of(hookpoint) == block


def test_the_artefact_is_read_one_row_at_a_time(catalog: Catalog) -> None:
    feature = Feature.objects.get(hookpoint="blocks.1", latent=3)
    shown = exemplars_of(feature)
    assert shown.grid == (8, 8)
    assert [one.value for one in shown.top] == sorted((one.value for one in shown.top), reverse=True)
    assert shown.top[0].value == pytest.approx(feature.maximum)
    assert [len(band.exemplars) <= 4 for band in shown.ranges] == [True] * 4
    assert [band.top for band in shown.ranges] == pytest.approx([feature.maximum * s for s in (1, 0.5, 0.25, 0.1)])
    assert len(shown.contrast.image_indices) == 22
    assert shown.contrast.reached == 0.0
    assert [(one.name, one.value) for one in shown.promoted] == [("disc", 2.5), ("square", 0.5), ("triangle", -1.0)]
    assert sum(shown.histogram.counts) > 0


def test_a_feature_without_contrast_images_says_so(catalog: Catalog) -> None:
    shown = exemplars_of(Feature.objects.get(hookpoint="blocks.0", latent=7))
    assert shown.contrast == (None, [], [])


def test_a_maximum_on_a_prefix_token_is_told_apart(catalog: Catalog) -> None:
    shown = exemplars_of(Feature.objects.get(hookpoint="blocks.0", latent=1))
    assert {one.patch for one in shown.top} == {-1}
