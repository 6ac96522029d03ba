"""The front page for each kind of visitor, signing in and out, and the pages of errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.template.loader import render_to_string
from django.test import Client
from pytest_django import DjangoAssertNumQueries

from annotation.models import Role, Run, Study, User
from tests.exemplar_factory import CatalogPlan, build_catalog
from workers.artifacts import ArtifactStore

pytestmark = pytest.mark.django_db


@pytest.fixture
def researcher_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_user("rita", role=Role.RESEARCHER))
    return client


def test_a_stranger_reads_what_this_is_and_can_sign_in() -> None:
    page = Client().get("/").content.decode()
    assert "What has a vision transformer learned?" in page
    assert 'href="/login/"' in page
    assert "Dictionaries" not in page


def test_a_stranger_sees_pictures_of_public_sets_only(artifact_root: Path, tmp_path: Path) -> None:
    store = ArtifactStore(artifact_root)
    build_catalog(store, tmp_path, CatalogPlan(name="closed", n_latents=2, n_images=4))
    assert Client().get("/").context["pictures"] == []
    opened = build_catalog(store, tmp_path, CatalogPlan(name="opened", n_latents=2, n_images=4, visibility="public"))
    assert {image.image_set_id for image in Client().get("/").context["pictures"]} == {opened.image_set.pk}


def test_an_annotator_goes_straight_to_their_studies() -> None:
    client = Client()
    client.force_login(User.objects.create_user("anna", role=Role.ANNOTATOR))
    assert client.get("/").headers["Location"] == "/studies/"


def test_a_researcher_is_told_the_next_step_of_the_main_job(
    researcher_client: Client, artifact_root: Path, tmp_path: Path
) -> None:
    first = researcher_client.get("/")
    assert [step.is_done for step in first.context["overview"].steps] == [False] * 5
    assert "python manage.py import_images NAME FOLDER" in first.content.decode()
    build_catalog(ArtifactStore(artifact_root), tmp_path)
    then = researcher_client.get("/")
    assert then.context["overview"].next_step.title == "Start a study"
    Study.objects.create(name="first", slug="first")
    assert researcher_client.get("/").context["overview"].next_step is None


def test_a_researcher_sees_dictionaries_with_pictures(
    researcher_client: Client, artifact_root: Path, tmp_path: Path
) -> None:
    catalog = build_catalog(ArtifactStore(artifact_root), tmp_path)
    glance = researcher_client.get("/").context["glances"][0]
    assert glance.dictionary == catalog.dictionary
    assert [len(card.tiles) for card in glance.cards] == [1] * 6
    assert {card.feature.block for card in glance.cards} == {1}


def test_more_runs_and_studies_cost_no_more_queries(
    researcher_client: Client, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    counts = []
    for n in (1, 3):
        while Run.objects.count() < n:
            Run.objects.create(stage="train-dictionary", queue="gpu")
            Study.objects.create(name=f"study {n}", slug=f"study-{Study.objects.count()}")
        with django_assert_max_num_queries(20) as queries:
            researcher_client.get("/")
        counts.append(len(queries.captured_queries))
    assert counts[0] == counts[1]


def test_signing_in_leads_where_one_was_going_and_signing_out_ends_it() -> None:
    User.objects.create_user("rita", password="a long password", role=Role.RESEARCHER)
    client = Client()
    wanted = client.get("/dictionaries/").headers["Location"]
    assert wanted == "/login/?next=/dictionaries/"
    wrong = client.post(wanted, {"username": "rita", "password": "no"})
    assert "field-error" in wrong.content.decode() or "notice--error" in wrong.content.decode()
    right = client.post(wanted, {"username": "rita", "password": "a long password", "next": "/dictionaries/"})
    assert right.headers["Location"] == "/dictionaries/"
    assert client.get("/dictionaries/").status_code == 200
    client.post("/logout/")
    assert client.get("/dictionaries/").status_code == 302


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (Role.RESEARCHER, ["Images", "Dictionaries", "Studies", "Analysis", "Runs"]),
        (Role.ANNOTATOR, ["My studies"]),
        (None, ["Images"]),
    ],
)
def test_the_navigation_has_the_words_of_the_role(role: Role | None, words: list[str]) -> None:
    client = Client()
    if role is not None:
        client.force_login(User.objects.create_user("somebody", role=role))
    navigation = client.get("/images/").content.decode().split("<nav", 1)[1].split("</nav>", 1)[0]
    assert re.findall(r">([A-Z][A-Za-z ]+)</a>", navigation) == words


def test_errors_are_one_clear_sentence() -> None:
    missing = Client().get("/nothing/here/")
    assert missing.status_code == 404
    assert "There is no such page, or it is not open to you." in missing.content.decode()
    client = Client()
    client.force_login(User.objects.create_user("anna", role=Role.ANNOTATOR))
    refused = client.get("/dictionaries/")
    assert refused.status_code == 403
    assert "This page is for researchers; ask an administrator for the role." in refused.content.decode()


def test_a_failure_of_the_server_has_a_page_that_needs_nothing() -> None:
    page = render_to_string("500.html")
    assert "The server failed at this page; the error is in its log." in page
    assert "{%" not in page


def test_no_page_names_another_host(researcher_client: Client, artifact_root: Path, tmp_path: Path) -> None:
    catalog = build_catalog(ArtifactStore(artifact_root), tmp_path)
    feature = catalog.dictionary.features.last()
    assert feature is not None
    dictionary = f"/dictionaries/{catalog.dictionary.pk}/"
    addresses = ["/", "/images/", "/images/objects/", "/images/objects/0/", "/dictionaries/", dictionary]
    addresses += [f"{dictionary}features/", f"/features/{feature.pk}/"]
    texts = [researcher_client.get(address).content.decode() for address in addresses]
    folder = Path(settings.BASE_DIR) / "annotation" / "static" / "annotation"
    texts += [path.read_text() for path in sorted(folder.glob("*.css")) + sorted(folder.glob("*.js"))]
    hosts = {
        host
        for text in texts
        for host in re.findall(r"(?:src|href|url|from|import)[=( ]+[\"']?https?://([^/\"' ]+)", text)
    }
    assert hosts == set()
