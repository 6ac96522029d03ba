"""Invitations and arrivals from Prolific: once per person, also when two requests come at once; and returns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotation.domain.crowd_sessions import agree, leave_session, session_state
from annotation.domain.crowd_settings import change_recruitment
from annotation.domain.invitations import accept_invitation, invite, invite_back, revoke, split_emails
from annotation.domain.participation import ParticipationError, join_study
from annotation.domain.prolific import Arrival, arrive, parse_arrival
from annotation.domain.retention import keep_identity
from annotation.domain.studies import StudyError
from annotation.models import Annotation, ExternalIdentity, ExternalVisit, Invitation, Participation, Role, Study, User
from tests.annotation.small_study import SmallStudy, make_person
from tests.annotation.test_crowd_sessions import make_crowd, work

PID, OTHER = "5f1b2c3d4e5f6a7b8c9d0e1f", "6a1b2c3d4e5f6a7b8c9d0e1f"
PROLIFIC_STUDY, FIRST_SESSION, SECOND_SESSION = "60aabbccddeeff0011223344", "61aabbccddeeff0011223344", "62" + "a" * 22
ADDRESS = {"PROLIFIC_PID": PID, "STUDY_ID": PROLIFIC_STUDY, "SESSION_ID": FIRST_SESSION}


def arrival(pid: str = PID, session: str = FIRST_SESSION) -> Arrival:
    return Arrival(pid, PROLIFIC_STUDY, session)


@pytest.fixture
def small(db: None) -> SmallStudy:
    return make_crowd(by_prolific=True)


@pytest.fixture
def rhea(small: SmallStudy) -> User:
    return make_person("rhea", Role.RESEARCHER)


def at_once(act: Callable[[], object], n: int = 6) -> list[str]:
    """The outcome of n calls at the same moment, each on a connection of its own."""
    outcomes: list[str] = []
    gate = threading.Barrier(n)

    def run() -> None:
        gate.wait()
        try:
            outcomes.append(str(act()))
        except ParticipationError as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


# ---- Prolific


def test_an_address_without_the_parameters_is_no_arrival() -> None:
    assert parse_arrival({"utm": "x"}) is None
    assert parse_arrival(ADDRESS) == arrival()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"PROLIFIC_PID": ""}, "lacks PROLIFIC_PID;"),
        ({"STUDY_ID": "", "SESSION_ID": " "}, "lacks STUDY_ID, SESSION_ID;"),
        ({"SESSION_ID": "{{%SESSION_ID%}}"}, "lacks SESSION_ID;"),
        ({"PROLIFIC_PID": PID[:-1]}, "PROLIFIC_PID in this address is not one of Prolific's"),
        ({"PROLIFIC_PID": PID + "'--"}, "PROLIFIC_PID in this address"),
        ({"STUDY_ID": "nul\x00" + PROLIFIC_STUDY}, "STUDY_ID in this address"),
        ({"SESSION_ID": "é" * 24}, "SESSION_ID in this address"),
        ({"SESSION_ID": "a" * 65}, "SESSION_ID in this address"),
    ],
)
def test_wrong_parameters_give_one_sentence(changes: dict[str, str], sentence: str) -> None:
    with pytest.raises(ParticipationError, match=sentence):
        parse_arrival(ADDRESS | changes)


def test_one_pid_takes_part_once_and_resumes_with_another_submission_written_down(small: SmallStudy) -> None:
    first = arrive(study=small.study, arrival=arrival())
    again = arrive(study=small.study, arrival=arrival(session=SECOND_SESSION))
    other = arrive(study=small.study, arrival=arrival(OTHER))
    arrive(study=small.study, arrival=arrival())
    assert (first.pk, first.came_by) == (again.pk, "prolific")
    assert other.pk != first.pk
    visits = ExternalVisit.objects.filter(identity__participation=first)
    assert list(visits.values_list("external_session", flat=True)) == [FIRST_SESSION, SECOND_SESSION]
    assert PID not in first.user.username + first.user.annotator_code


def test_a_study_not_on_prolific_and_another_study_there_are_refused(small: SmallStudy) -> None:
    change_recruitment(study=small.study, user=None, values={"prolific_study_ids": f"{OTHER}, {PID}"})
    with pytest.raises(ParticipationError, match="another study on Prolific"):
        arrive(study=small.study, arrival=arrival())
    change_recruitment(study=small.study, user=None, values={"by_prolific": False})
    with pytest.raises(ParticipationError, match="does not take part on Prolific"):
        arrive(study=small.study, arrival=arrival())
    Study.objects.update(state="closed")
    with pytest.raises(ParticipationError, match="is closed"):
        arrive(study=Study.objects.get(), arrival=arrival())
    assert (User.objects.count(), ExternalIdentity.objects.count()) == (0, 0)


def test_who_comes_from_prolific_is_sent_back_with_the_code(small: SmallStudy) -> None:
    place = arrive(study=small.study, arrival=arrival())
    agree(participation=place)
    state = leave_session(participation=place)
    assert state.return_url == f"https://app.prolific.com/submissions/complete?cc={state.code}"


@pytest.mark.django_db(transaction=True)
def test_the_same_pid_many_times_at_once_is_one_place() -> None:
    small = make_crowd(by_prolific=True)
    found = at_once(lambda: arrive(study=small.study, arrival=arrival()).pk)
    assert len(set(found)) == 1
    assert (Participation.objects.count(), User.objects.count(), ExternalVisit.objects.count()) == (1, 1, 1)


# ---- invitations


def test_links_for_addresses_and_without_a_name(small: SmallStudy, rhea: User) -> None:
    emails = split_emails("ada@example.org, Bob@Example.org;\nada@example.org\n")
    made = invite(study=small.study, user=rhea, emails=emails, n_anonymous=2, batch="may")
    assert [one.email for one in made] == ["ada@example.org", "bob@example.org", "", ""]
    assert len({one.token for one in made}) == 4
    assert str(accept_invitation(token=made[0].token, user=None).cohort) == "may"
    more = invite(study=small.study, user=rhea, emails=["ada@example.org", "cy@example.org"])
    assert [one.email for one in more] == ["cy@example.org"]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"emails": ["not an address"]}, "is no e-mail address; nobody was invited"),
        ({}, "0 invitations"),
        ({"n_anonymous": 5001}, "5001 invitations"),
        ({"n_anonymous": 1, "expires_at": timezone.now() - timedelta(days=1)}, "would expire before"),
    ],
)
def test_wrong_invitations_are_refused_whole(
    small: SmallStudy, rhea: User, values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(StudyError, match=sentence):
        invite(study=small.study, user=rhea, **values)
    assert Invitation.objects.count() == 0


def test_a_link_lets_one_person_in_once(small: SmallStudy, rhea: User) -> None:
    one = invite(study=small.study, user=rhea, n_anonymous=1)[0]
    place = accept_invitation(token=one.token, user=None, visit="page 1")
    assert (place.came_by, place.cohort) == ("invitation", None)
    assert accept_invitation(token=one.token, user=None, visit="page 1") == place  # a double click
    assert accept_invitation(token=one.token, user=place.user) == place  # the same person, later
    for user, visit in ((None, "page 2"), (None, ""), (make_person("eve"), "")):
        with pytest.raises(ParticipationError, match="was used already"):
            accept_invitation(token=one.token, user=user, visit=visit)
    assert Participation.objects.count() == 1


def test_a_link_taken_back_expired_or_of_no_study_says_so(small: SmallStudy, rhea: User) -> None:
    taken_back, expired, good = invite(study=small.study, user=rhea, n_anonymous=3)
    assert revoke(study=small.study, user=rhea, invitations=[taken_back.pk]) == 1
    Invitation.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    for token, sentence in (
        (taken_back.token, "was taken back"),
        (expired.token, "has expired"),
        ("x", "no invitation"),
    ):
        with pytest.raises(ParticipationError, match=sentence):
            accept_invitation(token=token, user=None)
    change_recruitment(study=small.study, user=None, values={"by_invitation": False})
    with pytest.raises(ParticipationError, match="nobody by invitation"):
        accept_invitation(token=good.token, user=None)
    assert Participation.objects.count() == 0
    states = [one.state for one in Invitation.objects.order_by("pk")]
    assert states == ["revoked", "expired", "open"]


def test_two_links_of_one_address_lead_to_one_place(small: SmallStudy, rhea: User) -> None:
    first = invite(study=small.study, user=rhea, emails=["ada@example.org"])[0]
    second = Invitation.objects.create(study=small.study, email="ada@example.org")
    place = accept_invitation(token=first.token, user=None)
    assert accept_invitation(token=second.token, user=None) == place
    assert ExternalIdentity.objects.get().external_id == "ada@example.org"


def test_who_is_in_already_uses_no_link_up(small: SmallStudy, rhea: User) -> None:
    place = join_study(token=small.study.join_token, user=make_person("ada"))
    one = invite(study=small.study, user=rhea, n_anonymous=1)[0]
    assert accept_invitation(token=one.token, user=place.user) == place
    one.refresh_from_db()
    assert one.state == "open"


@pytest.mark.django_db(transaction=True)
def test_one_link_used_many_times_at_once_lets_one_in() -> None:
    small = make_crowd()
    one = invite(study=small.study, user=make_person("rhea", Role.RESEARCHER), n_anonymous=1)[0]
    outcomes = at_once(lambda: accept_invitation(token=one.token, user=None).pk)
    assert sum(outcome.isdecimal() for outcome in outcomes) == 1
    assert sum("was used already" in outcome for outcome in outcomes) == 5
    assert Participation.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_links_of_one_address_at_once_make_one_place() -> None:
    small = make_crowd()
    links = [Invitation.objects.create(study=small.study, email="ada@example.org") for _ in range(4)]
    left = [one.token for one in links]
    outcomes = at_once(lambda: accept_invitation(token=left.pop(), user=None).pk, n=4)
    assert len(set(outcomes)) == 1
    assert (Participation.objects.count(), User.objects.count()) == (1, 1)


# ---- returns


def finished(small: SmallStudy, *, days_ago: int, pid: str = PID) -> Participation:
    place = arrive(study=small.study, arrival=arrival(pid))
    agree(participation=place)
    work(small, place, 5)
    session_state(participation=place)
    place.work_sessions.update(ended_at=timezone.now() - timedelta(days=days_ago))
    return place


def test_people_are_invited_back_after_some_days_and_once(small: SmallStudy, rhea: User) -> None:
    due, early = finished(small, days_ago=2), finished(small, days_ago=0, pid=OTHER)
    Annotation.objects.update(received_at=timezone.now() - timedelta(days=2))
    assert invite_back(study=small.study, user=rhea) == (1, 0, 1)
    assert invite_back(study=small.study, user=rhea) == (0, 1, 1)
    invitation = Invitation.objects.get()
    assert (invitation.kind, invitation.participation) == ("return", due)
    place = accept_invitation(token=invitation.token, user=None)
    assert (place.pk, place.is_return, place.session_from, place.session_to) == (due.pk, True, 5, 10)
    assert place.work_sessions.get(number=2).is_return
    place.refresh_from_db()
    assert (place.n_repeats, str(place.cohort)) == (1, "invited return")  # own items to be shown again
    work(small, place, 5)
    assert session_state(participation=place).is_over
    place.refresh_from_db()
    assert (place.is_return, early.is_return) == (False, False)


def test_no_link_signs_in_to_an_account_with_a_password_or_a_role(small: SmallStudy, rhea: User) -> None:
    place = finished(small, days_ago=2)
    invite_back(study=small.study, user=rhea)
    link = Invitation.objects.get()
    keep_identity(participation=place, source="email", external_id="ada@example.org")
    by_email = Invitation.objects.create(study=small.study, email="ada@example.org")
    for change in ({"password": "pbkdf2_sha256$1$a$b"}, {"role": Role.RESEARCHER}, {"is_staff": True}):
        before = User.objects.filter(pk=place.user_id).values(*change).get()
        User.objects.filter(pk=place.user_id).update(**change)
        ways: list[Callable[[], object]] = [
            lambda: accept_invitation(token=link.token, user=None),
            lambda: accept_invitation(token=by_email.token, user=rhea),
            lambda: arrive(study=small.study, arrival=arrival(), user=rhea),
        ]
        for enter in ways:
            with pytest.raises(ParticipationError, match="sign in first"):
                enter()
        User.objects.filter(pk=place.user_id).update(**before)
    assert {one.state for one in Invitation.objects.all()} == {"open"}
    User.objects.filter(pk=place.user_id).update(role=Role.RESEARCHER)
    owner = User.objects.get(pk=place.user_id)
    assert accept_invitation(token=link.token, user=owner).is_return


def test_who_was_invited_back_returns_by_prolific_too(small: SmallStudy, rhea: User) -> None:
    place = finished(small, days_ago=2)
    assert arrive(study=small.study, arrival=arrival(session=SECOND_SESSION)).work_sessions.count() == 1
    invite_back(study=small.study, user=rhea)
    back = arrive(study=small.study, arrival=arrival(session="63" + "a" * 22))
    assert (back.pk, back.is_return, back.work_sessions.count()) == (place.pk, True, 2)
    assert Invitation.objects.get().state == "used"
