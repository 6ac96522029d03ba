"""The rows of links over a study's pages: grouped, and only what the person may open."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Participation, Role, Study, User
from tests.analysis.studies import make_study

pytestmark = pytest.mark.django_db


def links(page: str) -> dict[str, tuple[str, bool]]:
    """Of the study's navigation: address by title, and whether it is where one is."""
    (nav,) = re.findall(r'<nav class="study-tabs".*?</nav>', page, re.DOTALL)
    found = re.findall(r'<a href="([^"]+)"( aria-current="\w+")?>([^<]+)', nav)
    return {title.strip(): (url, bool(current)) for url, current, title in found}


def test_every_link_of_every_group_opens_for_its_researcher_and_is_marked(client: Client) -> None:
    study = make_study(state=Study.State.OPEN).study
    assert study.created_by is not None
    client.force_login(study.created_by)
    groups = links(client.get(reverse("study", args=[study.slug])).content.decode())
    assert list(groups) == ["Overview", "Set up", "People", "Work", "Results", "Exchange"]
    for group, (address, _) in groups.items():
        pages = links(client.get(address).content.decode())
        assert pages[group][1], group
        for title, (url, _) in pages.items():
            assert links(client.get(url).content.decode())[title][1], title


@pytest.mark.parametrize("state", [Study.State.DRAFT, Study.State.OPEN])
def test_a_reviewer_is_offered_no_page_that_refuses_them(client: Client, state: str) -> None:
    study = make_study(state=state).study
    rosa = User.objects.create_user("rosa", role=Role.REVIEWER)
    Participation.objects.create(study=study, user=rosa, role=Role.REVIEWER)
    client.force_login(rosa)
    groups = links(client.get(reverse("study", args=[study.slug])).content.decode())
    assert "Results" not in groups
    for address, _ in groups.values():
        for url, _ in links(client.get(address).content.decode()).values():
            assert client.get(url).status_code == 200, url


def test_a_draft_has_settings_and_a_launch_and_no_work_yet(client: Client) -> None:
    study = make_study(state=Study.State.DRAFT).study
    assert study.created_by is not None
    client.force_login(study.created_by)
    page = links(client.get(reverse("study-edit", args=[study.slug])).content.decode())
    assert {"Work", "Results"} & set(page) == set()
    assert page["Settings and sample"][1]
    assert "Launch" in page
    assert "Versions" not in page


def test_a_reviewer_reads_a_study_and_copies_none(client: Client) -> None:
    study = make_study(state=Study.State.OPEN).study
    rosa = User.objects.create_user("rosa", role=Role.REVIEWER)
    Participation.objects.create(study=study, user=rosa, role=Role.REVIEWER)
    client.force_login(rosa)
    assert client.post(reverse("study-copy", args=[study.slug])).status_code == 403
    assert Study.objects.count() == 1
