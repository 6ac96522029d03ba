"""Samples are stratified, seeded, and honest about what they could not draw."""

from __future__ import annotations

from collections import Counter

import pytest

from annotation.domain.sampling import SampleSpec, SamplingError, Stratum, draw_sample, redistribute
from annotation.models import Dictionary, Feature
from tests.annotation.small_study import make_dictionary, make_features

pytestmark = pytest.mark.django_db


def make_sae(n: int = 120) -> Dictionary:
    dictionary = make_dictionary()
    make_features(dictionary, n)
    return dictionary


def test_every_block_and_density_band_gives_an_equal_part() -> None:
    preview = draw_sample(dictionaries=[make_sae()], spec=SampleSpec(n_features=12), seed=1)
    assert [(row.stratum.block, row.stratum.band, row.n_eligible, row.n_drawn) for row in preview.rows] == [
        (block, band, 20, 2) for block in (0, 1) for band in ("frequent", "middle", "rare")
    ]
    assert len({drawn.feature_id for drawn in preview.drawn}) == 12


def test_bands_are_cut_by_density() -> None:
    preview = draw_sample(dictionaries=[make_sae()], spec=SampleSpec(n_features=120, blocks=(0,)), seed=1)
    density = dict(Feature.objects.values_list("id", "density"))
    bands = {
        band: [density[d.feature_id] for d in preview.drawn if d.stratum.band == band]
        for band in ("rare", "middle", "frequent")
    }
    assert max(bands["rare"]) < min(bands["middle"])
    assert max(bands["middle"]) < min(bands["frequent"])


def test_the_seed_decides_and_a_larger_sample_contains_the_smaller() -> None:
    sae = make_sae()

    def draw(n: int, seed: int) -> set[int]:
        preview = draw_sample(dictionaries=[sae], spec=SampleSpec(n_features=n), seed=seed)
        return {drawn.feature_id for drawn in preview.drawn}

    assert draw(12, 1) == draw(12, 1)
    assert draw(12, 1) != draw(12, 2)
    assert draw(12, 1) < draw(36, 1)


def test_each_rule_is_counted_apart() -> None:
    sae = make_sae(60)
    ids = list(Feature.objects.filter(block=0).order_by("density").values_list("id", flat=True))
    Feature.objects.filter(pk__in=ids[:3]).update(density=0, n_images_active=0)
    Feature.objects.filter(pk__in=ids[3:5]).update(n_images_active=15)
    Feature.objects.filter(pk__in=ids[5:9]).update(prefix_share=0.9)
    preview = draw_sample(dictionaries=[sae], spec=SampleSpec(n_features=6), seed=0)
    assert preview.excluded == {"dead": 3, "too rare": 2, "prefix tokens": 4}
    assert not {drawn.feature_id for drawn in preview.drawn} & set(ids[:9])


def test_prefix_features_can_form_a_stratum_of_their_own() -> None:
    sae = make_sae(60)
    ids = list(Feature.objects.filter(block=0).values_list("id", flat=True)[:4])
    Feature.objects.filter(pk__in=ids).update(prefix_share=0.9)
    spec = SampleSpec(n_features=60, prefix_rule="stratum", n_density_bands=1)
    preview = draw_sample(dictionaries=[sae], spec=spec, seed=0)
    bands = Counter((row.stratum.block, row.stratum.band, row.n_drawn) for row in preview.rows)
    assert bands == Counter([(0, "all", 26), (0, "prefix tokens", 4), (1, "all", 30)])


def test_what_a_stratum_lacks_is_drawn_from_the_others_and_shown() -> None:
    sae = make_sae(60)
    keep = list(Feature.objects.filter(block=0).values_list("id", flat=True)[:3])
    Feature.objects.filter(block=0).exclude(pk__in=keep).update(n_images_active=0)
    spec = SampleSpec(n_features=20, n_density_bands=1)
    preview = draw_sample(dictionaries=[sae], spec=spec, seed=0)
    assert [(row.n_wanted, row.n_drawn, row.n_redistributed) for row in preview.rows] == [(10, 3, -7), (10, 17, 7)]
    assert preview.n_short == 0


def test_a_shortfall_that_nobody_can_fill_is_told() -> None:
    preview = draw_sample(dictionaries=[make_sae(10)], spec=SampleSpec(n_features=25), seed=0)
    assert (len(preview.drawn), preview.n_short) == (10, 15)


def test_redistribution_by_hand() -> None:
    a, b, c = (Stratum(1, block, "all") for block in range(3))
    assert redistribute({a: 10, b: 10, c: 10}, {a: 2, b: 13, c: 40}) == {a: 2, b: 13, c: 15}


def test_a_list_of_features_is_taken_as_it_is_but_for_the_exclusions() -> None:
    sae = make_sae(20)
    ids = list(Feature.objects.values_list("id", flat=True)[:4])
    Feature.objects.filter(pk=ids[0]).update(n_images_active=0, density=0)
    preview = draw_sample(dictionaries=[sae], spec=SampleSpec(feature_ids=tuple(ids)), seed=0)
    assert sorted(drawn.feature_id for drawn in preview.drawn) == ids[1:]
    assert (preview.n_short, preview.excluded) == (1, {"dead": 1})


def test_a_listed_feature_of_another_dictionary_is_named() -> None:
    sae, other = make_sae(4), make_dictionary("other")
    stranger = make_features(other, 1)[0]
    with pytest.raises(SamplingError, match=f"Feature {stranger.pk} is not in"):
        draw_sample(dictionaries=[sae], spec=SampleSpec(feature_ids=(stranger.pk,)), seed=0)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"n_features": 0}, "at least one feature"),
        ({"n_density_bands": 11}, "1 to 10"),
        ({"max_prefix_share": 2}, "between 0 and 1"),
        ({"prefix_rule": "drop"}, "'exclude' or 'stratum'"),
        ({"size": 4}, "no setting 'size'"),
        ({"n_features": "many"}, "'n_features' is 'many'; it must be a whole number"),
        ({"max_prefix_share": "half"}, "wrong value"),
    ],
)
def test_a_wrong_spec_is_refused(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(SamplingError, match=sentence):
        SampleSpec.from_dict(values)


def test_a_spec_survives_json() -> None:
    spec = SampleSpec(n_features=7, blocks=(1, 2), feature_ids=(3,))
    assert SampleSpec.from_dict(spec.as_dict()) == spec


def test_nothing_to_draw_from_is_told() -> None:
    with pytest.raises(SamplingError, match="at least one dictionary"):
        draw_sample(dictionaries=[], spec=SampleSpec(), seed=0)
    with pytest.raises(SamplingError, match="collect exemplars first"):
        draw_sample(dictionaries=[make_dictionary()], spec=SampleSpec(), seed=0)
