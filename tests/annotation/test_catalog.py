"""Image sets, pixels and dictionaries: who may see them, what they show, how they are served."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.test import Client
from PIL import Image as Pillow
from pytest_django import DjangoAssertNumQueries

from annotation.domain.catalog import facets, quality_by_hookpoint, readings
from annotation.domain.pixels import crop_box, framing_of
from annotation.domain.visibility import visible_image_sets
from annotation.models import ImageRoot, ImageSet, Role, User, VisionModel
from tests.exemplar_factory import Catalog, CatalogPlan, build_catalog
from workers.artifacts import ArtifactStore

pytestmark = pytest.mark.django_db


@pytest.fixture
def catalog(artifact_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setattr(settings, "DATA_ROOT", tmp_path / "data")
    return build_catalog(ArtifactStore(artifact_root), tmp_path)


def person(role: Role) -> User:
    return User.objects.create_user(f"{role}-{User.objects.count()}", role=role)


def client_of(user: User | None) -> Client:
    client = Client()
    if user is not None:
        client.force_login(user)
    return client


def set_visibility(catalog: Catalog, visibility: str) -> None:
    ImageSet.objects.filter(pk=catalog.image_set.pk).update(visibility=visibility)


@pytest.mark.parametrize(
    ("visibility", "stranger", "annotator", "member", "administrator"),
    [("public", 1, 1, 1, 1), ("signed-in", 0, 1, 1, 1), ("team", 0, 0, 1, 1)],
)
def test_an_image_set_is_seen_by_those_it_is_open_to(
    catalog: Catalog, visibility: str, stranger: int, annotator: int, member: int, administrator: int
) -> None:
    set_visibility(catalog, visibility)
    team = person(Role.ANNOTATOR)
    catalog.image_set.team.add(team)
    viewers: list[User | AnonymousUser] = [AnonymousUser(), person(Role.ANNOTATOR), team, person(Role.ADMINISTRATOR)]
    seen = [visible_image_sets(viewer).count() for viewer in viewers]
    assert seen == [stranger, annotator, member, administrator]


@pytest.mark.parametrize(("visibility", "status"), [("public", 200), ("signed-in", 404), ("team", 404)])
def test_pages_and_pixels_keep_strangers_out_alike(catalog: Catalog, visibility: str, status: int) -> None:
    set_visibility(catalog, visibility)
    image = catalog.image_set.images.get(index=0)
    paths = ["/images/objects/", "/images/objects/0/", f"/pixels/{image.sha256}/whole/160.webp",
             f"/masks/{image.sha256}/whole/160.webp"]  # fmt: skip
    assert [Client().get(path).status_code for path in paths] == [status] * 4


def test_pixels_are_immutable_and_answer_a_known_etag_without_a_body(catalog: Catalog) -> None:
    image = catalog.image_set.images.get(index=3)
    client = client_of(person(Role.ANNOTATOR))
    path = f"/pixels/{image.sha256}/center-1000/160.webp"
    first = client.get(path)
    assert first["Cache-Control"] == "private, max-age=31536000, immutable"
    with Pillow.open(io.BytesIO(first.content)) as picture:
        assert (picture.format, picture.size) == ("WEBP", (160, 160))
    again = client.get(path, headers={"If-None-Match": first["ETag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_only_pictures_of_public_sets_may_be_kept_by_shared_caches(catalog: Catalog) -> None:
    set_visibility(catalog, "public")
    image = catalog.image_set.images.get(index=3)
    answer = Client().get(f"/pixels/{image.sha256}/whole/160.webp")
    assert answer["Cache-Control"].startswith("public")


@pytest.mark.parametrize("path", ["whole/161.webp", "sideways/160.webp", "center-0/160.webp", "center-1001/160.webp"])
def test_a_framing_or_size_we_do_not_make_is_not_found(catalog: Catalog, path: str) -> None:
    image = catalog.image_set.images.get(index=3)
    assert client_of(person(Role.ANNOTATOR)).get(f"/pixels/{image.sha256}/{path}").status_code == 404


def test_a_missing_file_is_a_tile_that_says_so_and_a_sentence_with_the_cure(catalog: Catalog) -> None:
    ImageRoot.objects.update(path="/nowhere/at/all")
    image = catalog.image_set.images.get(index=0)
    client = client_of(person(Role.ANNOTATOR))
    tile = client.get(f"/pixels/{image.sha256}/whole/96.webp")
    assert (tile.status_code, tile["Content-Type"], tile["Cache-Control"]) == (404, "image/svg+xml", "no-store")
    for path in ("/images/objects/", "/images/objects/0/"):
        assert "manage.py relink_images objects FOLDER" in client.get(path).content.decode()


@pytest.mark.parametrize(
    ("width", "height", "framing", "box"),
    [
        (100, 60, "whole", (0, 0, 100, 60)),
        (100, 60, "square", (20, 0, 80, 60)),
        (100, 60, "center-500", (35, 15, 65, 45)),
        (100, 60, "squash-900", (5, 3, 95, 57)),
    ],
)
def test_the_framing_keeps_what_the_model_sees(width: int, height: int, framing: str, box: tuple[int, ...]) -> None:
    assert crop_box(width, height, framing) == pytest.approx(box)


@pytest.mark.parametrize(
    ("preprocessing", "framing"),
    [
        ({"size": 224, "crop_mode": "center", "crop_pct": 0.9}, "center-900"),
        ({"size": 64, "crop_mode": "squash"}, "squash-1000"),
        ({}, "center-1000"),
    ],
)
def test_the_framing_follows_the_preprocessing(preprocessing: dict[str, object], framing: str) -> None:
    assert framing_of(VisionModel(preprocessing=preprocessing)) == framing


def test_images_are_filtered_by_label_and_attribute(catalog: Catalog) -> None:
    client = client_of(person(Role.ANNOTATOR))
    wanted = set(catalog.image_set.images.filter(label="disc", attributes__color="red").values_list("index", flat=True))
    shown = client.get("/images/objects/?label=disc&attribute=color&value=red").context["page"].rows
    assert {image.index for image in shown} == wanted != set()
    nothing = client.get("/images/objects/?label=disc&attribute=nonsense&value=red").context["page"].rows
    assert {image.label for image in nothing} == {"disc"}  # an attribute the set does not have filters nothing


def test_attributes_with_few_values_can_be_chosen(catalog: Catalog) -> None:
    assert facets(catalog.image_set) == [("color", ["blue", "green", "red", "yellow"])]


@pytest.mark.parametrize(("text", "values"), [("red", ["red"]), ("3", ["3", 3.0, 3]), ("True", ["True", True])])
def test_a_value_from_an_address_is_read_as_json_may_hold_it(text: str, values: list[object]) -> None:
    assert readings(text) == values


def test_images_come_in_pages_that_meet(artifact_root: Path, tmp_path: Path) -> None:
    build_catalog(ArtifactStore(artifact_root), tmp_path, CatalogPlan(n_images=130, image_size=8, n_latents=2))
    client = client_of(person(Role.ANNOTATOR))
    path, seen = "/images/objects/", []
    while path:
        page = client.get(path).context["page"]
        seen += [image.index for image in page.rows]
        path = f"/images/objects/?after={page.following}" if page.following else ""
    assert seen == list(range(130))
    back = client.get(f"/images/objects/?before=60~{page.rows[0].pk - 60}").context["page"]
    assert [image.index for image in back.rows] == list(range(60))


def test_a_cursor_nobody_gave_out_is_refused_with_a_sentence(catalog: Catalog) -> None:
    page = client_of(person(Role.ANNOTATOR)).get("/images/objects/?after=nonsense")
    assert "names a page that does not exist" in page.content.decode()


def test_the_quality_has_a_row_per_hookpoint_with_cls_and_patches_apart(catalog: Catalog) -> None:
    first = quality_by_hookpoint(catalog.dictionary)[0]
    assert (first.hookpoint, first.explained, first.explained_cls, first.explained_patches) == (
        "blocks.0", 0.9, 0.8, 0.91,
    )  # fmt: skip
    assert first.dead_share == 1 / 8
    catalog.dictionary.quality = {}
    assert [row.explained for row in quality_by_hookpoint(catalog.dictionary)] == [None, None]


@pytest.mark.parametrize(
    ("role", "status"), [(None, 302), (Role.ANNOTATOR, 403), (Role.REVIEWER, 403), (Role.RESEARCHER, 200)]
)
def test_dictionaries_are_for_researchers(catalog: Catalog, role: Role | None, status: int) -> None:
    client = client_of(person(role) if role else None)
    paths = ["/dictionaries/", f"/dictionaries/{catalog.dictionary.pk}/"]
    assert [client.get(path).status_code for path in paths] == [status] * 2


def test_a_dictionary_of_another_teams_images_is_not_found(catalog: Catalog) -> None:
    set_visibility(catalog, "team")
    client = client_of(person(Role.RESEARCHER))
    pk, feature_pk = catalog.dictionary.pk, catalog.dictionary.features.first().pk  # type: ignore[union-attr]
    paths = [f"/dictionaries/{pk}/", f"/dictionaries/{pk}/features/", f"/features/{feature_pk}/", "/dictionaries/9999/"]
    assert [client.get(path).status_code for path in paths] == [404] * 4
    assert "topk_sae on objects" not in client.get("/dictionaries/").content.decode()


@pytest.mark.parametrize("path", ["/images/", "/images/objects/", "/images/objects/0/", "/dictionaries/"])
def test_pages_are_only_read(catalog: Catalog, path: str) -> None:
    assert client_of(person(Role.RESEARCHER)).post(path).status_code == 405


@pytest.mark.parametrize("path", ["/images/", "/dictionaries/"])
def test_a_longer_list_costs_no_more_queries(
    path: str, artifact_root: Path, tmp_path: Path, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    store = ArtifactStore(artifact_root)
    client = client_of(person(Role.RESEARCHER))
    counts = []
    for name in ("one", "two", "three"):
        build_catalog(store, tmp_path, CatalogPlan(name=name, n_images=6, n_latents=2, image_size=8))
        with django_assert_max_num_queries(30) as queries:
            client.get(path)
        counts.append(len(queries.captured_queries))
    assert counts[0] == counts[2]
