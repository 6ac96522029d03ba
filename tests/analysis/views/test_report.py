"""The analysis pages: who gets in, blindness, what the report shows, and the data behind it."""

from __future__ import annotations

import csv
import io

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import translation
from pytest_django.fixtures import DjangoAssertNumQueries

from analysis.domain.report import figures_of, report_of_study
from annotation.domain.setting_words import never_drawn
from annotation.domain.unblinding import unblind, unblinding_of
from annotation.models import Annotation, Participation, Role, Study, User
from tests.analysis.studies import SmallStudy, make_person, make_study

pytestmark = pytest.mark.django_db


@pytest.fixture
def small() -> SmallStudy:
    made = make_study()
    unblind(study=made.study, user=made.researcher)
    return made


def as_user(client: Client, user: User) -> Client:
    client.force_login(user)
    return client


PAGES = ("report", "report-figures")


@pytest.mark.parametrize("name", PAGES)
def test_a_researcher_gets_in_and_others_do_not(client: Client, small: SmallStudy, name: str) -> None:
    address = reverse(name, args=[small.study.slug])
    assert client.get(address).url == f"{reverse('login')}?next={address}"  # type: ignore[attr-defined]
    assert as_user(client, small.researcher).get(address).status_code == 200
    assert client.get(reverse(name, args=["no-such-study"])).status_code == 404
    assert client.post(address).status_code == 405
    assert as_user(client, small.annotators[0]).get(address).status_code == 403
    assert as_user(client, make_person("stranger")).get(address).status_code == 404


def test_the_role_in_the_study_is_enough(client: Client, small: SmallStudy) -> None:
    guest = make_person("guest")
    participation = Participation.objects.create(study=small.study, user=guest, role=Role.REVIEWER)
    address = reverse("report", args=[small.study.slug])
    assert as_user(client, guest).get(address).status_code == 403
    participation.role = Role.RESEARCHER
    participation.save()
    assert client.get(address).status_code == 200
    assert client.get(reverse("analysis")).context["rows"] == [(small.study, True)]


def test_the_list_is_for_researchers(client: Client, small: SmallStudy) -> None:
    assert as_user(client, small.annotators[0]).get(reverse("analysis")).status_code == 403
    assert as_user(client, small.researcher).get(reverse("analysis")).context["rows"] == [(small.study, True)]


@pytest.mark.parametrize("n_studies", [1, 3])
def test_the_list_asks_as_often_for_three_studies_as_for_one(
    client: Client, n_studies: int, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    studies = [make_study(slug=f"study-{index}", n_annotators=1) for index in range(n_studies)]
    as_user(client, studies[0].researcher)
    with django_assert_num_queries(6):  # session, user, studies, unblinded, remarks and image reports to look at
        response = client.get(reverse("analysis"))
    assert len(response.context["rows"]) == n_studies


def test_the_report_says_in_words_which_features_were_never_drawn(client: Client, small: SmallStudy) -> None:
    rules = {"min_images": 20, "max_prefix_share": 0.25, "prefix_rule": "exclude"}
    Study.objects.filter(pk=small.study.pk).update(exclusions=rules)
    text = as_user(client, small.researcher).get(reverse("report", args=[small.study.slug])).content.decode()
    assert (
        "those that fire on no image; those that fire on fewer than 20 images; "
        "those whose maximum sits on CLS or a register in more than 25 % of their images"
    ) in text
    assert "min_images" not in text
    Study.objects.filter(pk=small.study.pk).update(exclusions=rules | {"prefix_rule": "stratum"})
    assert never_drawn(Study.objects.get(pk=small.study.pk))[1:] == ["those that fire on fewer than 20 images"]
    Study.objects.filter(pk=small.study.pk).update(exclusions={})
    assert never_drawn(Study.objects.get(pk=small.study.pk)) == []


def test_an_open_study_shows_progress_and_no_results(client: Client) -> None:
    small = make_study(state=Study.State.OPEN)
    page = as_user(client, small.researcher).get(reverse("report", args=[small.study.slug]))
    text = page.content.decode()
    assert "54" in text
    assert "of 100 judgements" in text
    assert "Unblind this study" not in text
    assert "Agreement on the core" in text
    assert small.annotators[0].annotator_code in text
    for secret in ("random directions", "block 0", "sae first", "interpretable"):
        assert secret not in text
    assert client.get(reverse("report-figures", args=[small.study.slug])).status_code == 403


def test_unblinding_is_refused_before_the_study_closes_and_logged_after(client: Client) -> None:
    small = make_study(state=Study.State.OPEN)
    as_user(client, small.researcher)
    address = reverse("report-unblind", args=[small.study.slug])
    response = client.post(address, follow=True)
    assert "close the study before you unblind it" in response.content.decode()
    Study.objects.update(state=Study.State.CLOSED)
    assert "Unblind this study" in client.get(reverse("report", args=[small.study.slug])).content.decode()
    text = client.post(address, follow=True).content.decode()
    assert f"Unblinded by {small.researcher.username}" in text
    small.study.refresh_from_db()
    act = unblinding_of(small.study)
    assert act is not None
    assert act.by == small.researcher.username
    assert client.get(address).status_code == 405


def test_only_researchers_unblind(client: Client) -> None:
    small = make_study()
    address = reverse("report-unblind", args=[small.study.slug])
    assert as_user(client, small.annotators[0]).post(address).status_code == 403
    assert as_user(client, make_person("stranger")).post(address).status_code == 404
    colleague = as_user(client, make_person("colleague", role=Role.RESEARCHER))
    assert colleague.post(address).status_code == 403
    assert "Unblind this study" not in colleague.get(reverse("report", args=[small.study.slug])).content.decode()
    assert unblinding_of(small.study) is None


def test_the_page_shows_the_figures_of_the_report(client: Client, small: SmallStudy) -> None:
    text = as_user(client, small.researcher).get(reverse("report", args=[small.study.slug])).content.decode()
    report = report_of_study(small.study, include_simulated=False)
    by_block = [figure for _, group, _, figure in figures_of(report) if group == "block"]
    assert len(by_block) == 4
    for figure in by_block:
        assert f'<td class="num">{figure.value:.3f}</td>' in text
    assert text.count('<svg class="plot"') == len([section for section in report.sections if section.axis])
    assert f"{report.n_resamples} resamples" in text


def test_the_page_says_what_departed_from_the_registration_and_what_could_not_be_shown(
    client: Client, small: SmallStudy
) -> None:
    Study.objects.filter(pk=small.study.pk).update(
        ineligible=[{"feature": "sae 7", "reason": "no contrast image"}], preregistration={"n_judgements": 1000}
    )
    text = as_user(client, small.researcher).get(reverse("report", args=[small.study.slug])).content.decode()
    assert "sae 7: no contrast image" in text
    assert "54 judgements were collected; 1000 were registered." in text


def test_the_level_filter_leaves_one_level(client: Client, small: SmallStudy) -> None:
    address = reverse("report", args=[small.study.slug])
    page = as_user(client, small.researcher).get(address, {"level": "patch"})
    assert [one.series for one in page.context["headlines"]] == ["patch"]
    assert "plot-image" not in page.content.decode()
    page = client.get(address, {"level": "nonsense"})
    assert [one.series for one in page.context["headlines"]] == ["patch", "image"]


def test_a_new_answer_or_exclusion_makes_the_report_anew(client: Client, small: SmallStudy) -> None:
    address = reverse("report", args=[small.study.slug])
    assert as_user(client, small.researcher).get(address).context["report"].tally.n_used == 54
    first = Annotation.objects.order_by("id").first()
    assert first is not None
    Annotation.objects.filter(pk=first.pk).update(excluded_reason="answers at random")
    page = client.get(address)
    assert page.context["report"].tally.n_used == 53
    assert "Excluded: answers at random" in page.content.decode()


def test_the_csv_holds_what_the_plot_shows(client: Client, small: SmallStudy) -> None:
    as_user(client, small.researcher)
    address = reverse("report-figures", args=[small.study.slug])
    rows = list(csv.DictReader(io.StringIO(client.get(address, {"group": "block", "level": "image"}).content.decode())))
    report = report_of_study(small.study, include_simulated=False)
    shown = [one for one in figures_of(report) if one[0] == "image" and one[1] == "block"]
    features = [row for row in rows if row["group"] == "block"]
    assert [row["name"] for row in features] == ["block 0", "block 1"]
    assert [float(row["value"]) for row in features] == [figure.value for *_, figure in shown]
    assert {row["group"] for row in rows} == {"block", "block-judgements"}
    assert {row["level"] for row in rows} == {"image"}
    groups = {row["group"] for row in csv.DictReader(io.StringIO(client.get(address).content.decode()))}
    assert {"overall", "block", "condition", "auc", "agreement"} <= groups


def test_simulated_answers_are_marked_and_can_be_left_out(client: Client) -> None:
    small = make_study(is_simulated=True, slug="simulated")
    unblind(study=small.study, user=small.researcher)
    as_user(client, small.researcher)
    address = reverse("report", args=["simulated"])
    page = client.get(address)
    assert page.context["report"].tally.n_used_simulated == 54
    assert "made by simulated annotators" in page.content.decode()
    without = client.get(address, {"simulated": "0"})
    assert without.context["report"].tally.n_used == 0
    assert without.context["report"].tally.n_simulated_left_out == 54


def test_the_page_speaks_the_readers_language_and_the_data_stay_english(client: Client, small: SmallStudy) -> None:
    as_user(client, small.researcher)
    german = {"Accept-Language": "de"}
    page = client.get(reverse("report", args=[small.study.slug]), headers=german)
    assert [chart.title for chart in page.context["charts"]][:2] == ["Anteil deutbar", "Anteil deutbar nach Block"]
    assert "Übereinstimmung, 95-%-Intervall</text>" in page.content.decode()
    with translation.override("de"):
        rows = client.get(reverse("report-figures", args=[small.study.slug]), headers=german).content.decode()
    assert {row["name"] for row in csv.DictReader(io.StringIO(rows)) if row["group"] == "block"} == {
        "block 0",
        "block 1",
    }
    page = client.get(reverse("report", args=[small.study.slug]), headers={"Accept-Language": "en"})
    assert [chart.title for chart in page.context["charts"]][:2] == [
        "Share interpretable",
        "Share interpretable by block",
    ]
    translation.deactivate()
