"""The list of features and the page of one: filters, order, neighbours, blindness, query counts."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries
from safetensors.numpy import load_file, save_file

from annotation.domain.feature_list import filtered_features
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Feature, Item, Role, Study, User
from tests.exemplar_factory import Catalog, CatalogPlan, build_catalog
from workers.artifacts import ArtifactStore

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalog(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    return build_catalog(ArtifactStore(artifact_root), tmp_path)


@pytest.fixture
def researcher() -> User:
    return User.objects.create_user("rita", role=Role.RESEARCHER)


@pytest.fixture
def client(researcher: User) -> Client:
    client = Client()
    client.force_login(researcher)
    return client


def listed(client: Client, catalog: Catalog, query: str = "") -> list[Feature]:
    page = client.get(f"/dictionaries/{catalog.dictionary.pk}/features/{query}")
    return [card.feature for card in page.context["cards"]]


def label(feature: Feature, text: str, state: str) -> Study:
    """A study in this state in which one annotator called the feature so."""
    study = Study.objects.create(name=f"study of {text}", slug=text, state=state)
    item = Item.objects.create(study=study, feature=feature, stimulus_id="s")
    annotator = User.objects.create_user(f"annotator of {text}")
    Annotation.objects.create(
        uuid=uuid.uuid4(), study=study, item=item, annotator=annotator, label=text, submitted_at=timezone.now(),
        protocol_version="1.0", guideline_version=1, stimulus_id="s", app_version="t",
    )  # fmt: skip
    return study


def test_dead_features_are_left_out_unless_asked_for(client: Client, catalog: Catalog) -> None:
    assert {feature.latent for feature in listed(client, catalog)} == set(range(1, 8))
    assert [feature.latent for feature in listed(client, catalog, "?state=dead")] == [0, 0]
    assert len(listed(client, catalog, "?state=all")) == 16


@pytest.mark.parametrize("sort", ["density", "maximum", "images", "prefix"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_the_order_is_the_one_asked_for(client: Client, catalog: Catalog, sort: str, sign: str) -> None:
    field = {"images": "n_images_active", "prefix": "prefix_share"}.get(sort, sort)
    values = [getattr(feature, field) for feature in listed(client, catalog, f"?sort={sign}{sort}")]
    assert values == sorted(values, reverse=sign == "-")
    assert len(values) == 14


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ("hookpoint=blocks.1", {"hookpoint": "blocks.1"}),
        ("promoted_class=square", {"promoted_class": "square"}),
        ("density_min=5", {"density__gte": 0.05}),
        ("density_max=5", {"density__lte": 0.05}),
        ("prefix_max=50", {"prefix_share__lte": 0.5}),
    ],
)
def test_filters_keep_what_they_say(client: Client, catalog: Catalog, query: str, condition: dict[str, Any]) -> None:
    wanted = set(Feature.objects.filter(density__gt=0, **condition).values_list("pk", flat=True))
    assert {feature.pk for feature in listed(client, catalog, f"?{query}")} == wanted
    assert 0 < len(wanted) < 14


def test_a_filter_that_is_not_understood_is_named_and_left_out(client: Client, catalog: Catalog) -> None:
    page = client.get(f"/dictionaries/{catalog.dictionary.pk}/features/?density_min=much&hookpoint=blocks.9")
    assert len(page.context["cards"]) == 14
    assert set(page.context["form"].errors) == {"density_min", "hookpoint"}


@pytest.mark.parametrize("sort", ["block", "-density", "maximum", "-prefix"])
def test_pages_meet_in_both_directions(artifact_root: Path, tmp_path: Path, client: Client, sort: str) -> None:
    catalog = build_catalog(ArtifactStore(artifact_root), tmp_path, CatalogPlan(n_latents=40, n_images=6))
    address = f"/dictionaries/{catalog.dictionary.pk}/features/?sort={sort}"
    forward, page = [], client.get(address)
    while True:
        forward.append([card.feature.pk for card in page.context["cards"]])
        if not page.context["page"].following:
            break
        page = client.get(f"{address}&after={page.context['page'].following}")
    flat = [pk for rows in forward for pk in rows]
    assert len(flat) == len(set(flat)) == Feature.objects.filter(density__gt=0).count() > 24
    backward = client.get(f"{address}&before={page.context['page'].previous}")
    assert [card.feature.pk for card in backward.context["cards"]] == forward[-2]


def test_neighbours_follow_the_filter_and_the_order_of_the_list(client: Client, catalog: Catalog) -> None:
    query = "?hookpoint=blocks.1&sort=-density"
    rows = listed(client, catalog, query)
    page = client.get(f"/features/{rows[1].pk}/{query}")
    assert (page.context["previous"], page.context["following"]) == (rows[0], rows[2])
    assert f'href="/features/{rows[2].pk}/?hookpoint=blocks.1&amp;sort=-density"' in page.content.decode()
    last = client.get(f"/features/{rows[-1].pk}/{query}")
    assert (last.context["previous"], last.context["following"]) == (rows[-2], None)


def test_labels_stay_hidden_until_their_study_is_closed_and_unblinded(
    client: Client, catalog: Catalog, researcher: User
) -> None:
    feature = Feature.objects.get(hookpoint="blocks.0", latent=3)
    label(feature, "hidden-wheels", Study.State.OPEN)
    closed = label(feature, "round-things", Study.State.CLOSED)
    address = f"/features/{feature.pk}/"
    assert client.get(address).context["labels"] == []
    assert listed(client, catalog, "?labelled=yes") == []
    unblind(study=closed, user=researcher)
    shown = client.get(address)
    assert [(one.label, one.n) for one in shown.context["labels"]] == [("round-things", 1)]
    assert "hidden-wheels" not in shown.content.decode()
    assert listed(client, catalog, "?labelled=yes") == [feature]
    assert len(listed(client, catalog, "?labelled=no")) == 13


def test_a_simulated_label_is_marked_in_lists_and_gives_way_to_a_persons(
    client: Client, catalog: Catalog, researcher: User
) -> None:
    feature = Feature.objects.get(hookpoint="blocks.0", latent=3)
    address = f"/dictionaries/{catalog.dictionary.pk}/features/?labelled=yes"
    unblind(study=label(feature, "by-a-program", Study.State.CLOSED), user=researcher)
    Annotation.objects.update(is_simulated=True)
    assert [card.label for card in client.get(address).context["cards"]] == [("by-a-program", True)]
    assert client.get(address).content.decode().count("badge--simulated") == 1
    unblind(study=label(feature, "by-a-person", Study.State.CLOSED), user=researcher)
    assert [card.label for card in client.get(address).context["cards"]] == [("by-a-person", False)]


def test_a_feature_that_never_fires_says_so_instead_of_showing_pictures(client: Client, catalog: Catalog) -> None:
    dead = Feature.objects.get(hookpoint="blocks.0", latent=0)
    assert "This feature never fires" in client.get(f"/features/{dead.pk}/").content.decode()


def test_the_poles_of_a_latent_lead_to_each_other(client: Client, catalog: Catalog) -> None:
    positive, negative = Feature.objects.order_by("id")[:2]
    page = f"/features/{positive.pk}/"
    assert "values below zero" not in client.get(page).content.decode()
    Feature.objects.filter(pk=negative.pk).update(latent=positive.latent, hookpoint=positive.hookpoint, pole=-1)
    link = f'<a href="/features/{negative.pk}/">values below zero</a>'
    assert link in client.get(page).content.decode()
    link = f'<a href="{page}">values above zero</a>'
    assert link in client.get(f"/features/{negative.pk}/").content.decode()


def test_top_images_that_are_all_equally_strong_are_called_so(client: Client, catalog: Catalog) -> None:
    feature = Feature.objects.filter(n_images_active__gt=4, prefix_share=0).first()
    assert feature is not None

    def is_said() -> bool:
        return "They are all equally strong" in client.get(f"/features/{feature.pk}/").content.decode()

    assert not is_said()
    path = catalog.artifact.path(f"{feature.hookpoint}.safetensors")
    tensors = load_file(path)
    tensors["top_value"][:] = tensors["maximum"][:, None]
    save_file(tensors, path)
    assert is_said()


def test_a_pole_says_which_side_of_zero_its_numbers_are_of(client: Client, catalog: Catalog) -> None:
    positive, negative = Feature.objects.order_by("id")[:2]
    of_both = ["it fires where the latent lies below zero", "what lies below zero is a feature of its own"]

    def said(feature: Feature) -> list[bool]:
        page = client.get(f"/features/{feature.pk}/").content.decode()
        return [sentence in page for sentence in of_both]

    assert said(positive) == [False, False]
    Feature.objects.filter(pk=negative.pk).update(latent=positive.latent, hookpoint=positive.hookpoint, pole=-1)
    assert said(positive) == [False, True]
    assert said(negative) == [True, False]


@pytest.mark.parametrize(
    ("query", "poles"), [("", [1, -1] * 14), ("?pole=positive", [1] * 14), ("?pole=negative", [-1] * 14)]
)
def test_the_poles_of_a_latent_stand_side_by_side_and_one_can_be_chosen(
    client: Client, artifact_root: Path, tmp_path: Path, query: str, poles: list[int]
) -> None:
    catalog = build_catalog(ArtifactStore(artifact_root), tmp_path, CatalogPlan(has_two_poles=True))
    page = client.get(f"/dictionaries/{catalog.dictionary.pk}/features/{query}")
    form, rows = page.context["form"], filtered_features(catalog.dictionary, page.context["form"].wanted())
    shown = list(rows.order_by("block", "id"))
    places = [(feature.hookpoint, feature.latent) for feature in shown]
    assert [feature.pole for feature in shown] == poles
    assert places == sorted(places)
    assert [card.feature for card in page.context["cards"]] == shown[:24]
    assert form["pole"].label == "Pole"
    following = page.context["cards"][1].feature
    assert client.get(f"/features/{shown[0].pk}/{query}").context["following"] == following


def test_a_dictionary_of_one_pole_has_no_filter_by_pole(client: Client, catalog: Catalog) -> None:
    page = client.get(f"/dictionaries/{catalog.dictionary.pk}/features/?pole=negative")
    assert "pole" not in page.context["form"].fields
    assert len(page.context["cards"]) == 14


def test_a_single_image_is_not_called_images(client: Client, artifact_root: Path, tmp_path: Path) -> None:
    build_catalog(ArtifactStore(artifact_root), tmp_path, CatalogPlan(n_images=4))
    single = Feature.objects.filter(n_images_active=1)[0]
    several = Feature.objects.filter(n_images_active__gt=1)[0]
    assert "the image in which it fires most" in client.get(f"/features/{single.pk}/").content.decode()
    shown = client.get(f"/features/{several.pk}/").content.decode()
    assert f"the {several.n_images_active} images in which it fires most" in shown


def test_a_feature_of_cls_has_no_patches_and_says_why(client: Client, catalog: Catalog) -> None:
    page = client.get(f"/features/{Feature.objects.get(hookpoint='blocks.0', latent=1).pk}/")
    assert page.context["patches"] == []
    assert "the maximum sits on CLS or a register, so there is no strongest patch" in page.content.decode()


def test_a_feature_without_contrast_images_is_reported(client: Client, catalog: Catalog) -> None:
    page = client.get(f"/features/{Feature.objects.get(hookpoint='blocks.0', latent=7).pk}/")
    assert "It has no contrast image" in page.content.decode()


def test_without_the_artefact_the_pages_say_what_is_missing(
    client: Client, catalog: Catalog, artifact_root: Path
) -> None:
    catalog.artifact.folder.rename(artifact_root / "moved")
    feature = Feature.objects.get(hookpoint="blocks.0", latent=3)
    sentence = f"There is no artefact {catalog.artifact.digest[:12]}"
    for address in (f"/features/{feature.pk}/", f"/dictionaries/{catalog.dictionary.pk}/features/"):
        page = client.get(address)
        assert page.status_code == 200
        assert sentence in page.content.decode()


def test_the_maps_of_all_tiles_travel_with_the_page(client: Client, catalog: Catalog) -> None:
    page = client.get(f"/features/{Feature.objects.get(hookpoint='blocks.0', latent=3).pk}/")
    n_range_tiles = sum(len(tiles) for _, tiles in page.context["ranges"])
    assert len(page.context["heat"]["tiles"]) == len(page.context["top"]) + n_range_tiles


def test_a_vit_b16_with_cls_shows_its_grid(client: Client, artifact_root: Path, tmp_path: Path) -> None:
    plan = CatalogPlan(name="large", image_size=224, grid=(14, 14), n_images=24, n_latents=5)
    catalog = build_catalog(ArtifactStore(artifact_root), tmp_path, plan)
    tile = client.get(f"/features/{catalog.dictionary.features.get(hookpoint='blocks.1', latent=2).pk}/").context[
        "heat"
    ]["tiles"][0]
    assert (tile["rows"], tile["columns"]) == (14, 14)


@pytest.mark.parametrize(("role", "status"), [(None, 302), (Role.ANNOTATOR, 403), (Role.REVIEWER, 403)])
def test_features_are_hidden_from_those_who_judge_them(catalog: Catalog, role: Role | None, status: int) -> None:
    client = Client()
    if role is not None:
        client.force_login(User.objects.create_user("somebody", role=role))
    feature = catalog.dictionary.features.first()
    assert feature is not None
    addresses = [f"/features/{feature.pk}/", f"/dictionaries/{catalog.dictionary.pk}/features/"]
    assert [client.get(address).status_code for address in addresses] == [status] * 2


def test_unknown_features_and_writes_are_refused(client: Client, catalog: Catalog) -> None:
    feature = catalog.dictionary.features.first()
    assert feature is not None
    assert client.get("/features/999999/").status_code == 404
    assert client.post(f"/features/{feature.pk}/").status_code == 405
    assert client.post(f"/dictionaries/{catalog.dictionary.pk}/features/").status_code == 405


def test_a_longer_list_of_features_costs_no_more_queries(
    client: Client, artifact_root: Path, tmp_path: Path, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    counts = []
    for n_latents in (2, 4):  # one live feature, then three
        plan = CatalogPlan(name=f"set-{n_latents}", n_latents=n_latents, hookpoints=("blocks.0",))
        catalog = build_catalog(ArtifactStore(artifact_root), tmp_path, plan)
        with django_assert_max_num_queries(15) as queries:
            assert len(listed(client, catalog)) == n_latents - 1
        counts.append(len(queries.captured_queries))
    assert counts[0] == counts[1]


def test_no_page_of_features_uses_offset_or_counts_without_limit(
    client: Client, catalog: Catalog, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    with django_assert_max_num_queries(15) as queries:
        client.get(f"/dictionaries/{catalog.dictionary.pk}/features/?sort=-density")
    statements = [query["sql"] for query in queries.captured_queries]
    assert not [sql for sql in statements if "OFFSET" in sql]
    counting = [sql for sql in statements if "COUNT(*)" in sql]
    assert len(counting) == 1
    assert "LIMIT 1001" in counting[0]


@pytest.mark.parametrize("sort", ["block", "-density", "maximum", "-images", "prefix"])
def test_each_order_is_served_by_its_index(catalog: Catalog, sort: str) -> None:
    """The plan of a deep page reads one range of the index of its order, without sorting."""
    from django.db import connection

    from annotation.domain.feature_list import FeatureFilter, filtered_features
    from annotation.domain.keyset import Cursor

    wanted = FeatureFilter(sort=sort)
    value = 0 if wanted.order.field in ("block", "n_images_active") else 0.5
    rows = filtered_features(catalog.dictionary, wanted).filter(wanted.order.beyond(Cursor(value, 7)))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")
            cursor.execute("SET LOCAL enable_sort = off")
            cursor.execute("SET LOCAL enable_bitmapscan = off")
    plan = rows.order_by(*wanted.order.columns())[:25].explain()
    indexes = {"block": "feature_block", "density": "feature_density", "maximum": "feature_maximum",
               "n_images_active": "feature_images", "prefix_share": "feature_prefix_share"}  # fmt: skip
    assert indexes[wanted.order.field] in plan
    assert "TEMP B-TREE" not in plan
    assert "Sort" not in plan
