"""The personal link: back to one's own place without a password, and to nobody else's."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import Client

from annotation.domain.coming_back import come_back, place_of_link, place_with_link, proof_of, renew_link
from annotation.domain.participation import ParticipationError, join_study
from annotation.domain.retention import delete_identity
from annotation.domain.study_editing import set_role
from annotation.models import Participation, Role, Study, User
from tests.annotation.signing_in import signed_in
from tests.annotation.test_crowd_sessions import newcomer
from tests.factories import OpenStudy, make_open_study, make_person

pytestmark = pytest.mark.django_db
NOT_WHOLE, HAS_PASSWORD = "is not whole, or a newer one", "account with a password: sign in first"


@pytest.fixture
def here(artifact_root: Path) -> OpenStudy:
    return make_open_study(n_items=4, n_practice=2)


@pytest.fixture
def place(here: OpenStudy) -> Participation:
    return newcomer(here.study)


def address_of(place: Participation) -> str:
    place = Participation.objects.select_related("user").get(pk=place.pk)
    return f"/back/{place.pk}/{proof_of(place)}/"


def who(client: Client) -> str | None:
    return client.session.get("_auth_user_id")


def link_on(client: Client, address: str) -> str:
    """The path of the personal link that a page shows; empty if it shows none."""
    found = re.search(r'value="(http://testserver/back/[^"]+)"', client.get(address).content.decode())
    return urlsplit(found[1]).path if found else ""


# ---- what opens, and what does not


def test_a_link_is_hard_to_guess_and_one_per_place(here: OpenStudy, place: Participation) -> None:
    other = join_study(token=here.study.join_token)
    assert len(base64.urlsafe_b64decode(proof_of(place))) * 8 == 192
    assert proof_of(place) != proof_of(other)
    assert come_back(place_id=place.pk, proof=proof_of(place), user=None) == place
    for pk, proof in ((other.pk, proof_of(place)), (place.pk, ""), (place.pk, "é"), (2**70, proof_of(place))):
        with pytest.raises(ParticipationError, match=NOT_WHOLE):
            place_of_link(pk, proof)


def test_nothing_of_a_link_is_stored(place: Participation) -> None:
    rows = [Participation.objects.values().get(pk=place.pk), User.objects.values().get(pk=place.user_id)]
    assert proof_of(place) not in str(rows)


def test_a_new_link_and_deleting_who_one_is_take_the_old_one_back(place: Participation) -> None:
    for act in (renew_link, delete_identity):
        before = proof_of(place)
        act(participation=place)
        with pytest.raises(ParticipationError, match=NOT_WHOLE):
            place_of_link(place.pk, before)
        assert place_of_link(place.pk, proof_of(place)) == place


def test_an_account_that_got_a_password_is_signed_in_to_with_it_only(place: Participation) -> None:
    before = proof_of(place)
    place.user.set_password("a long password")
    place.user.save()
    for proof in (before, proof_of(place)):
        with pytest.raises(ParticipationError, match=NOT_WHOLE):
            place_of_link(place.pk, proof)
    with pytest.raises(ParticipationError, match="signing in with your password"):
        renew_link(participation=place)
    assert place_with_link(place.study, place.user) is None


@pytest.mark.parametrize("role", [{"role": Role.REVIEWER}, {"is_staff": True}, {"is_superuser": True}])
def test_a_link_never_opens_an_account_with_a_role(place: Participation, role: dict[str, object]) -> None:
    User.objects.filter(pk=place.user_id).update(**role)
    with pytest.raises(ParticipationError, match=HAS_PASSWORD):
        come_back(place_id=place.pk, proof=proof_of(place), user=None)


def test_a_role_in_another_study_closes_the_link_too(here: OpenStudy, place: Participation) -> None:
    other = Study.objects.create(name="Other", slug="other")
    set_role(study=other, user=here.researcher, username=place.user.username, role=Role.REVIEWER)
    with pytest.raises(ParticipationError, match=HAS_PASSWORD):
        come_back(place_id=place.pk, proof=proof_of(place), user=None)
    assert place_with_link(place.study, place.user) is None
    assert come_back(place_id=place.pk, proof=proof_of(place), user=place.user) == place  # signed in as that already


def test_an_account_that_was_switched_off_stays_so(place: Participation) -> None:
    User.objects.filter(pk=place.user_id).update(is_active=False)
    page = Client().post(address_of(place))
    assert (page.status_code, "was switched off" in page.content.decode()) == (409, True)


# ---- pages


def test_another_browser_goes_on_as_the_same_person(here: OpenStudy, place: Participation) -> None:
    old, new = signed_in(place.user), Client()
    work = f"/work/{here.study.slug}/"
    page = new.get(address_of(place))
    assert ("Welcome back" in page.content.decode(), who(new)) == (True, None)  # looking at it signs nobody in
    assert new.post(address_of(place))["Location"] == work
    assert (who(new), Participation.objects.count()) == (str(place.user_id), 1)
    assert old.get(work).status_code == 200  # the first browser is not signed out
    assert new.get(address_of(place))["Location"] == work


def test_a_link_opened_by_somebody_else_says_so_and_changes_hands_by_the_button(
    here: OpenStudy, place: Participation
) -> None:
    bob = signed_in(make_person("bob"))
    assert "You are signed in as bob; going on signs you out." in bob.get(address_of(place)).content.decode()
    bob.post(address_of(place))
    assert who(bob) == str(place.user_id)
    assert not Participation.objects.filter(user__username="bob").exists()


def test_it_leads_to_the_step_that_is_next_also_in_a_closed_study(here: OpenStudy) -> None:
    place = join_study(token=here.study.join_token)
    assert Client().post(address_of(place))["Location"] == f"/work/{here.study.slug}/consent/"
    Study.objects.update(state="closed")
    assert Client().post(address_of(place))["Location"] == f"/work/{here.study.slug}/consent/"


def test_a_wrong_link_is_404_with_a_sentence_and_a_wrong_method_405(here: OpenStudy, place: Participation) -> None:
    for address in (f"/back/{place.pk}/wrong/", "/back/999/wrong/"):
        page = Client().get(address)
        assert (page.status_code, NOT_WHOLE in page.content.decode()) == (404, True)
    assert Client().get("/back/x/y/").status_code == 404
    assert Client().put(address_of(place)).status_code == 405
    assert Client(enforce_csrf_checks=True).post(address_of(place)).status_code == 403


def test_a_person_without_a_password_is_shown_the_link_where_it_is_needed(
    here: OpenStudy, place: Participation
) -> None:
    work = f"/work/{here.study.slug}/"
    client = signed_in(place.user)
    for page in (work, f"{work}mine/", "/signing-out/"):
        assert link_on(client, page) == address_of(place), page
    fresh = Client()
    fresh.post(f"/join/{here.study.join_token}/", {"name": "eve", "password": ""})
    fresh.post(f"{work}consent/", {"agree": "yes"})
    assert link_on(fresh, f"{work}guideline/") == address_of(Participation.objects.get(user__username="eve"))
    Participation.objects.filter(pk=place.pk).update(session_to=0)
    assert link_on(client, f"{work}ended/") == address_of(place)


def test_a_person_with_a_password_is_shown_none(here: OpenStudy) -> None:
    client, work = Client(), f"/work/{here.study.slug}/"
    client.post(f"/join/{here.study.join_token}/", {"name": "eve", "password": "a long password"})
    client.post(f"{work}consent/", {"agree": "yes"})
    for page in (f"{work}guideline/", f"{work}mine/", "/signing-out/"):
        assert link_on(client, page) == "", page
    assert "by signing in as eve with your password" in client.get(f"{work}mine/").content.decode()
    assert "/signing-out/" not in client.get("/studies/").content.decode()


def test_a_new_link_is_made_on_my_participation_and_signs_other_browsers_out(
    here: OpenStudy, place: Participation
) -> None:
    here_now, elsewhere, old = signed_in(place.user), signed_in(place.user), address_of(place)
    mine = f"/work/{here.study.slug}/mine/"
    here_now.post(mine, {"act": "link"})
    assert address_of(place) == old  # nothing without the button's own field
    page = here_now.post(mine, {"act": "link", "confirmed": "yes"}, follow=True).content.decode()
    assert ("the old one leads nowhere" in page, address_of(place) in page, old in page) == (True, True, False)
    assert elsewhere.get(mine)["Location"].startswith("/login/")
    assert Client().post(old).status_code == 404
    assert elsewhere.post(address_of(place))["Location"] == f"/work/{here.study.slug}/"


def test_signing_out_is_for_those_signed_in(here: OpenStudy, place: Participation) -> None:
    assert Client().get("/signing-out/")["Location"].startswith("/login/")
    client = signed_in(place.user)
    assert client.post("/signing-out/").status_code == 405
    assert 'href="/signing-out/"' in client.get("/studies/").content.decode()
