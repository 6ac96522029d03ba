"""The pages of a crowd: ways in, the end of a session, one's own data, and what researchers set up, pay and hide."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.crowd_sessions import agree
from annotation.domain.crowd_settings import change_recruitment
from annotation.domain.invitations import invite
from annotation.forms.crowd import RecruitmentForm
from annotation.models import (
    ExternalIdentity,
    Image,
    ImageReport,
    Invitation,
    Participation,
    PayEntry,
    Recruitment,
    Role,
    Slot,
    Study,
    User,
)
from tests.annotation.signing_in import signed_in
from tests.annotation.test_crowd_sessions import PAID, newcomer
from tests.annotation.test_invitations import ADDRESS, OTHER, PID
from tests.factories import OpenStudy, make_annotation, make_open_study, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def here(artifact_root: Path) -> OpenStudy:
    made = make_open_study(n_items=12, n_practice=1, session_length=5)
    change_recruitment(study=made.study, user=None, values=PAID | {"by_prolific": True, "sessions_per_person": 2})
    made.study.refresh_from_db()
    return made


def ready(place: Participation) -> Client:
    return signed_in(place.user)


def give(here: OpenStudy, place: Participation, n: int) -> None:
    for item in here.items[:n]:
        make_annotation(item, place.user, visible_ms=60_000)
    Participation.objects.filter(pk=place.pk).update(n_done=n)


def words(client: Client, address: str) -> str:
    return client.get(address).getvalue().decode()


# ---- ways in


def test_opening_a_link_stores_nothing_and_the_button_does(here: OpenStudy, client: Client) -> None:
    link = f"/join/{here.study.join_token}/"
    page = client.get(link, ADDRESS)
    assert f'value="{PID}"' in page.content.decode()
    assert (User.objects.count(), ExternalIdentity.objects.count()) == (1, 0)
    assert client.post(link, ADDRESS)["Location"] == f"/work/{here.study.slug}/consent/"
    assert ExternalIdentity.objects.get().external_id == PID
    assert Client().post(link, ADDRESS).status_code == 302  # another browser, the same person
    assert Participation.objects.count() == 1


def test_bad_parameters_give_one_sentence_and_no_way_in(here: OpenStudy, client: Client) -> None:
    link = f"/join/{here.study.join_token}/"
    for act in (client.get, client.post):
        page = act(link, ADDRESS | {"PROLIFIC_PID": "<script>"})
        assert page.status_code == 400
        text = page.content.decode()
        assert "PROLIFIC_PID in this address is not one of Prolific" in text
        assert ("<script>" in text, 'name="PROLIFIC_PID"' in text, 'name="password"' in text) == (False,) * 3
    change_recruitment(study=here.study, user=None, values={"by_prolific": False})
    assert client.post(link, ADDRESS).status_code == 409
    assert Participation.objects.count() == 0


def test_somebody_signed_in_as_another_becomes_the_person_from_prolific(here: OpenStudy) -> None:
    client = signed_in(make_person("bob"))
    client.post(f"/join/{here.study.join_token}/", ADDRESS)
    assert Participation.objects.get().user.username != "bob"
    assert client.session["_auth_user_id"] == str(Participation.objects.get().user_id)


def test_the_open_link_can_be_shut(here: OpenStudy, client: Client) -> None:
    change_recruitment(study=here.study, user=None, values={"by_link": False})
    link = f"/join/{here.study.join_token}/"
    assert "by invitation only" in words(client, link)
    client.post(link, {"name": "eve"})
    assert not User.objects.filter(username="eve").exists()


def test_a_full_study_says_so_before_anybody_joins(here: OpenStudy, client: Client) -> None:
    change_recruitment(study=here.study, user=None, values={"spending_cap": Decimal(4)})
    newcomer(here.study)
    link = f"/join/{here.study.join_token}/"
    assert "the money set aside for it is spent" in words(client, link)
    client.post(link, {"name": "eve"})
    assert "the money set aside for it is spent" in words(client, f"{link}?{urlencode(ADDRESS)}")
    assert client.post(link, ADDRESS).status_code == 409
    assert Participation.objects.count() == 1


def test_an_invitation_is_for_one_browser(here: OpenStudy, client: Client) -> None:
    link = f"/invitation/{invite(study=here.study, user=here.researcher, n_anonymous=1)[0].token}/"
    page = client.get(link)
    assert (page.status_code, Invitation.objects.get().state) == (200, "open")
    visit = page.context["visit"]
    assert client.post(link, {"visit": visit})["Location"] == f"/work/{here.study.slug}/consent/"
    assert Client().post(link, {"visit": visit}).status_code == 302  # the reply was lost, and the form sent again
    assert client.get(link)["Location"] == f"/work/{here.study.slug}/consent/"
    stranger = Client().get(link)
    assert (stranger.status_code, "was used already" in stranger.content.decode()) == (409, True)
    assert Client().get("/invitation/nothing/").status_code == 404
    assert client.put(link).status_code == 405


# ---- consent and ending


def test_consent_names_pay_and_can_be_refused_with_a_code(here: OpenStudy, client: Client) -> None:
    client.post(f"/join/{here.study.join_token}/", ADDRESS)
    consent = f"/work/{here.study.slug}/consent/"
    assert "You are paid £3.00 for a session." in words(client, consent)
    assert client.post(consent, {"agree": "no"})["Location"] == f"/work/{here.study.slug}/declined/"
    code = Recruitment.objects.get().no_consent_code
    page = words(client, f"/work/{here.study.slug}/declined/")
    assert (code in page, f"https://app.prolific.com/submissions/complete?cc={code}" in page) == (True, True)
    assert client.post(consent, {"agree": "yes"})["Location"] == f"/work/{here.study.slug}/"
    assert client.get(f"/work/{here.study.slug}/declined/")["Location"] == f"/work/{here.study.slug}/guideline/"


def test_consent_is_not_given_where_no_session_can_begin(here: OpenStudy, client: Client) -> None:
    client.post(f"/join/{here.study.join_token}/", ADDRESS)
    newcomer(here.study)
    change_recruitment(study=here.study, user=None, values={"spending_cap": Decimal(3)})
    page = client.post(f"/work/{here.study.slug}/consent/", {"agree": "yes"}).content.decode()
    assert ("the money set aside for it is spent" in page, "You agreed to version" in page) == (True, False)
    assert Participation.objects.get(came_by="prolific").consented_at is None


def test_the_player_is_told_of_the_session_and_may_leave(here: OpenStudy) -> None:
    place = newcomer(here.study)
    client, work = ready(place), f"/work/{here.study.slug}"
    begun = {"n": 0, "of": 5, "is_over": False, "code": "", "url": "", "may_leave": True}
    assert client.get(f"{work}/session").json() == begun
    reply = client.post(f"{work}/claim", json.dumps({"n": 10, "have": []}), content_type="application/json").json()
    assert (len(reply["items"]), reply["done"], reply["of"]) == (5, 0, 5)  # no more than the session has
    have = [item["slot"] for item in reply["items"]]
    body = json.dumps({"n": 5, "have": have})
    assert client.post(f"{work}/claim", body, content_type="application/json").json()["items"] == []
    code = Recruitment.objects.get().early_leave_code
    left = client.post(f"{work}/leave", "{}", content_type="application/json").json()
    assert left == {"code": code, "url": f"{work}/ended/"}
    assert client.get(f"{work}/session").json() == begun | left | {"is_over": True, "may_leave": False}
    assert Slot.objects.filter(state="leased").count() == 0
    assert client.get(f"{work}/")["Location"] == f"{work}/ended/"


def test_answers_count_within_the_session(here: OpenStudy) -> None:
    place = newcomer(here.study)
    client, work = ready(place), f"/work/{here.study.slug}"
    item = client.post(f"{work}/claim", json.dumps({"n": 1, "have": []}), content_type="application/json").json()[
        "items"
    ][0]
    answer = {
        "uuid": "8b0e5a3e-37a5-4f6e-9f57-2d1d3c1c9a11", "slot": item["slot"], "item": item["item"], "revision_of": None,
        "payload": {"patch_rating": 3, "image_rating": 3, "category": "shape", "label": "disc"},
        "timing": {"visible_ms": 4000}, "submitted_at": timezone.now().isoformat(),
        "stimulus_id": item["stimulus"]["id"], "protocol_version": "1.0", "guideline_version": 1,
    }  # fmt: skip
    for _ in range(2):  # sent twice
        reply = client.post(f"{work}/answers", json.dumps(answer), content_type="application/json").json()
        assert (reply["done"], reply["of"]) == (1, 5)


def test_endpoints_of_a_session_are_for_its_annotators(here: OpenStudy) -> None:
    work = f"/work/{here.study.slug}"
    stranger = signed_in(make_person("stranger"))
    for client, status in ((Client(), 401), (stranger, 404), (signed_in(here.researcher), 403)):
        assert client.get(f"{work}/session").status_code == status
        assert client.post(f"{work}/leave", "{}", content_type="application/json").status_code == status
    mine = ready(newcomer(here.study))
    assert (mine.post(f"{work}/session").status_code, mine.get(f"{work}/leave").status_code) == (405, 405)


def test_the_page_at_the_end_shows_code_pay_and_the_next_session(here: OpenStudy) -> None:
    place = newcomer(here.study)
    client, ended = ready(place), f"/work/{here.study.slug}/ended/"
    assert client.get(ended)["Location"] == f"/work/{here.study.slug}/"
    give(here, place, 5)
    page = words(client, ended)
    assert (Recruitment.objects.get().completion_code in page, "£3.00" in page, "another session" in page) == (
        True,
    ) * 3
    assert client.post(ended)["Location"] == f"/work/{here.study.slug}/"
    place.refresh_from_db()
    assert (place.session_from, place.session_to) == (5, 10)


# ---- my participation


def test_a_person_sees_and_deletes_what_is_theirs(here: OpenStudy, client: Client) -> None:
    client.post(f"/join/{here.study.join_token}/", ADDRESS)
    place = Participation.objects.select_related("study", "user").get()
    agree(participation=place)
    give(here, place, 2)
    mine = f"/work/{here.study.slug}/mine/"
    assert PID in words(client, mine)
    client.post(mine, {"act": "delete"})
    assert ExternalIdentity.objects.get().external_id == PID  # the box was not ticked
    client.post(mine, {"act": "delete", "confirmed": "yes"})
    page = words(client, mine)
    assert (PID in page, "Nothing is stored that tells who you are" in page) == (False, True)
    client.post(mine, {"act": "withdraw", "confirmed": "yes"})
    assert "2 are left out of every figure" in words(client, mine)
    assert client.get(f"/work/{here.study.slug}/")["Location"] == f"/work/{here.study.slug}/ended/"
    assert "taken your answers back" in words(client, f"/work/{here.study.slug}/ended/")


def test_own_pages_are_nobody_elses(here: OpenStudy) -> None:
    newcomer(here.study)
    for page in ("mine", "ended", "declined"):
        address = f"/work/{here.study.slug}/{page}/"
        assert Client().get(address)["Location"].startswith("/login/")
        assert signed_in(make_person(f"stranger to {page}")).get(address).status_code == 404
        assert signed_in(here.researcher).get(address).status_code == 403


# ---- researchers

PAGES = ("", "settings/", "invitations/", "people.csv", "ledger.csv", "bonus.csv", "invitations.csv")


def test_pages_of_a_crowd_are_for_those_who_change_the_study(here: OpenStudy) -> None:
    annotator, stranger = newcomer(here.study).user, make_person("stranger")
    reviewer, other = make_person("rosa"), make_person("olga", Role.RESEARCHER)
    Participation.objects.create(study=here.study, user=reviewer, role=Role.REVIEWER)
    for page in PAGES:
        address = f"/studies/{here.study.slug}/crowd/{page}"
        statuses = [signed_in(one).get(address).status_code for one in (here.researcher, annotator, stranger)]
        assert statuses == [200, 403, 404], page
        assert [signed_in(one).get(address).status_code for one in (reviewer, other)] == [403, 403]
        assert Client().get(address)["Location"].startswith("/login/")
        assert signed_in(here.researcher).delete(address).status_code == 405


def settings_of(study: Study, **changes: Any) -> dict[str, Any]:
    """The form as the page shows it, with changes."""
    form = RecruitmentForm(instance=Recruitment.objects.get(study=study))
    values = {name: form[name].value() for name in form.fields} | {"session_length": study.session_length} | changes
    return {name: ("on" if value is True else value) for name, value in values.items() if value not in (None, False)}


def test_settings_are_saved_and_a_change_of_terms_is_announced(here: OpenStudy) -> None:
    client, address = signed_in(here.researcher), f"/studies/{here.study.slug}/crowd/settings/"
    newcomer(here.study)
    client.post(address, settings_of(here.study, completion_code="THANKS-1"))
    assert Recruitment.objects.get().completion_code == "THANKS-1"
    here.study.refresh_from_db()
    before = here.study.consent_version
    page = client.post(address, settings_of(here.study, amount="4", session_length=6), follow=True)
    here.study.refresh_from_db()
    assert (here.study.session_length, Recruitment.objects.get().amount) == (6, Decimal(4))
    assert here.study.consent_version != before
    assert f"the consent is version {here.study.consent_version}" in page.content.decode()
    assert "PROLIFIC_PID={{%PROLIFIC_PID%}}" in page.content.decode()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"amount": "-1"}, "This can be 0 to 10000."),
        ({"announced_minutes": "x"}, "Enter a whole number."),
        ({"completion_code": "a b"}, "4 to 40 letters"),
        ({"currency": "pounds"}, "at most 3 characters"),
        ({"session_length": "3"}, "greater than or equal to 5"),
    ],
)
def test_wrong_settings_change_nothing(here: OpenStudy, changes: dict[str, Any], sentence: str) -> None:
    before = Recruitment.objects.values().get()
    values = settings_of(here.study, **({"session_length": 7} | changes))
    page = signed_in(here.researcher).post(f"/studies/{here.study.slug}/crowd/settings/", values)
    assert sentence in page.content.decode()
    assert Recruitment.objects.values().get() == before
    assert Study.objects.get(pk=here.study.pk).session_length == 5


def test_invitations_are_made_listed_taken_back_and_downloaded(here: OpenStudy) -> None:
    client, address = signed_in(here.researcher), f"/studies/{here.study.slug}/crowd/invitations/"
    client.post(address, {"act": "invite", "emails": "ada@example.org", "n_anonymous": "2", "batch": "may"})
    page = client.post(address, {"act": "invite", "emails": "nobody"})
    assert "&#x27;nobody&#x27; is no e-mail address" in page.content.decode()
    assert "Give e-mail addresses, or say" in client.post(address, {"act": "invite"}).content.decode()
    client.post(address, {"act": "revoke", "invitation": [Invitation.objects.filter(email="").first().pk]})  # type: ignore[union-attr]
    lines = list(csv.DictReader(words(client, f"{address[:-1]}.csv?state=open").splitlines()))
    assert sorted(line["email"] for line in lines) == ["", "ada@example.org"]
    assert {line["link"].rsplit("/", 2)[1] for line in lines} == {
        one.token for one in Invitation.objects.all() if one.state == "open"
    }
    assert "0 people are invited back" in client.post(address, {"act": "back"}, follow=True).content.decode()


def test_pay_is_approved_bonuses_given_and_files_taken(here: OpenStudy) -> None:
    client, address = signed_in(here.researcher), f"/studies/{here.study.slug}/crowd/"
    browser = Client()
    browser.post(f"/join/{here.study.join_token}/", ADDRESS)
    place = Participation.objects.select_related("study", "user").get()
    agree(participation=place)
    give(here, place, 5)  # gone without looking at the last page: the crowd's page settles it
    assert "Approve £3.00" in words(client, address)
    client.post(address, {"act": "approve", "everybody": "yes"})
    client.post(address, {"act": "bonus", "person": place.pk, "amount": "1.5", "reason": "=HYPERLINK()"})
    assert words(client, f"{address}bonus.csv") == f"{PID},1.50\n"
    people = list(csv.DictReader(words(client, f"{address}people.csv").splitlines()))
    assert [(row["person"], row["owed"], row["minutes"]) for row in people] == [
        (place.user.annotator_code, "4.50", "5.00")
    ]
    ledger = list(csv.DictReader(words(client, f"{address}ledger.csv").splitlines()))
    assert [(row["kind"], row["amount"], row["note"]) for row in ledger] == [
        ("earned", "3.00", ""), ("approved", "3.00", ""), ("bonus", "1.50", "'=HYPERLINK()"),
    ]  # fmt: skip
    assert PID not in words(client, f"{address}people.csv") + words(client, f"{address}ledger.csv")
    last = PayEntry.objects.latest("pk").pk
    client.post(address, {"act": "bonus-paid", "up_to": last})
    client.post(address, {"act": "paid", "up_to": last, "everybody": "yes"})
    assert PayEntry.objects.filter(kind="paid").count() == 2
    for body in ({"act": "paid"}, {"act": "bonus", "person": place.pk, "amount": "much"}, {"act": "dance"}):
        client.post(address, body)
    assert PayEntry.objects.count() == 5


def test_the_list_of_people_is_filtered_and_asks_the_database_the_same_for_more(here: OpenStudy) -> None:
    client, address = signed_in(here.researcher), f"/studies/{here.study.slug}/crowd/"
    counts = []
    for pid in (PID, OTHER, PID[::-1]):
        Client().post(f"/join/{here.study.join_token}/", ADDRESS | {"PROLIFIC_PID": pid})
        agree(participation=Participation.objects.select_related("study", "user").latest("pk"))
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        counts.append(len(queries))
    assert counts[0] == counts[2]
    assert client.get(address, {"ending": "under way"}).context["n_kept"] == 3
    assert client.get(address, {"ending": "left", "sort": "nonsense"}).context["n_kept"] == 0


# ---- reported images


def test_a_hidden_image_is_in_no_further_item_and_answers_stay(here: OpenStudy) -> None:
    client = signed_in(here.researcher)
    image = Image.objects.get(index=3)
    report = ImageReport.objects.create(image=image, study=here.study, reporter=here.researcher, reason="blood")
    Slot.objects.filter(item=here.items[0]).update(state="done", annotator=here.researcher)
    n_before = Study.objects.get(pk=here.study.pk).n_slots
    page = client.post(f"/studies/{here.study.slug}/reports/{report.pk}/hide/", follow=True)
    assert "11 items that show it are not handed out any more" in page.content.decode()
    report.refresh_from_db()
    assert (report.hidden_at is not None, report.resolved_at is not None) == (True, True)
    assert sorted(set(Slot.objects.values_list("state", flat=True))) == ["done", "withdrawn"]
    assert Study.objects.get(pk=here.study.pk).n_slots == n_before - 11
    annotator = newcomer(here.study).user
    assert signed_in(annotator).post(f"/studies/{here.study.slug}/reports/{report.pk}/hide/").status_code == 403
    assert client.post(f"/studies/{here.study.slug}/reports/999/hide/").status_code == 404
    assert client.get(f"/studies/{here.study.slug}/reports/{report.pk}/hide/").status_code == 405


def test_an_image_that_an_item_does_not_show_leaves_it_alone(here: OpenStudy) -> None:
    last = Image.objects.get(index=3)
    unseen = Image.objects.create(
        image_set=last.image_set, index=99, path="99.png", sha256="f" * 64, width=64, height=64
    )
    report = ImageReport.objects.create(image=unseen, study=here.study, reporter=here.researcher, reason="?")
    signed_in(here.researcher).post(f"/studies/{here.study.slug}/reports/{report.pk}/hide/")
    assert set(Slot.objects.values_list("state", flat=True)) == {"open"}
