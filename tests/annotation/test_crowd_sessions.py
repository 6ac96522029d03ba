"""Sessions of a fixed number of judgements: begun under a cap, resumed, left, done, each with its code and its pay."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from annotation.domain.crowd_consent import consent_terms, raised, recruitment_of, settle_consent_version
from annotation.domain.crowd_money import announced_hourly, money
from annotation.domain.crowd_sessions import (
    agree,
    begin_session,
    leave_session,
    money_reserved,
    next_session_problem,
    session_state,
    settle_sessions,
)
from annotation.domain.crowd_settings import change_recruitment, money_left
from annotation.domain.participation import (
    ParticipationError,
    Step,
    decline_consent,
    items_left,
    join_study,
    next_step,
    progress_after,
    session_progress,
)
from annotation.domain.payments import money_spent
from annotation.domain.pilots import copy_study
from annotation.domain.studies import StudyError
from annotation.models import Annotation, Participation, PayEntry, Recruitment, Slot, Study, StudyEvent, WorkSession
from tests.annotation.small_study import SmallStudy, make_study
from tests.factories import make_annotation

PAID: dict[str, Any] = {"pay": "session", "amount": Decimal(3), "announced_minutes": 20}


def make_crowd(*, n_items: int = 12, session_length: int = 5, **values: Any) -> SmallStudy:
    small = make_study(n_items=n_items, n_people=0)
    Study.objects.filter(pk=small.study.pk).update(session_length=session_length)
    small.study.refresh_from_db()
    change_recruitment(study=small.study, user=None, values=values)
    return small


def newcomer(study: Study) -> Participation:
    """Somebody who has joined, agreed, read and practised."""
    place = join_study(token=study.join_token)
    agree(participation=place)
    Participation.objects.filter(pk=place.pk).update(guideline_version=1, practised_at=timezone.now())
    return Participation.objects.select_related("study", "user").get(pk=place.pk)


def work(small: SmallStudy, place: Participation, n: int, *, ms: int = 60_000) -> None:
    """The next n answers of this person, past the queue, each looked at for so long."""
    start = Annotation.objects.filter(annotator=place.user).count()
    for item in small.items[start : start + n]:
        make_annotation(item, place.user, visible_ms=ms)
    place.n_done += n
    Participation.objects.filter(pk=place.pk).update(n_done=place.n_done)


@pytest.mark.django_db
def test_without_settings_a_study_is_as_it_was() -> None:
    small = make_study(n_people=0)
    place = newcomer(small.study)
    assert recruitment_of(small.study).pk is None
    assert (place.session_to, items_left(place)) == (None, None)
    work(small, place, 3)
    assert session_state(participation=place) == (3, 12, False, "", "", False)
    with pytest.raises(ParticipationError, match="no sessions to leave"):
        leave_session(participation=place)
    assert WorkSession.objects.count() == 0


@pytest.mark.django_db
def test_a_session_is_counted_resumed_and_ends_with_its_code_and_pay() -> None:
    small = make_crowd(**PAID)
    place = newcomer(small.study)
    work(small, place, 2)
    again = Participation.objects.select_related("study", "user").get(pk=place.pk)
    assert session_progress(again) == (2, 5)
    assert (items_left(again), items_left(again, n_held=2)) == (3, 1)
    assert session_state(participation=again) == (2, 5, False, "", "", True)
    work(small, again, 2)
    assert progress_after(again, "replayed") == (4, 5)
    work(small, again, 1)
    assert next_step(again) == Step.ENDED
    code = recruitment_of(small.study).completion_code
    assert session_state(participation=again) == (5, 5, True, code, "", False)
    assert session_state(participation=again) == (5, 5, True, code, "", False)  # settled once
    session = again.work_sessions.get()
    assert (session.ending, session.n_done, session.minutes, session.reserved) == ("complete", 5, 5.0, Decimal(0))
    assert [(entry.kind, entry.amount) for entry in PayEntry.objects.all()] == [("earned", Decimal(3))]
    assert items_left(again) == 0


@pytest.mark.django_db
def test_leaving_early_gives_its_own_code_pay_by_share_and_frees_what_was_held() -> None:
    small = make_crowd(**PAID)
    place = newcomer(small.study)
    work(small, place, 2)
    Slot.objects.filter(item=small.items[7]).update(
        state="leased", annotator=place.user, lease_until=timezone.now() + timedelta(minutes=9)
    )
    state = leave_session(participation=place)
    assert state == (2, 5, True, recruitment_of(small.study).early_leave_code, "", False)
    assert leave_session(participation=place) == state
    assert PayEntry.objects.get().amount == Decimal("1.20")
    assert Slot.objects.filter(state="leased").count() == 0
    assert (next_step(place), items_left(place)) == (Step.ENDED, 0)


@pytest.mark.django_db
def test_pay_by_the_hour_counts_the_time_with_items_in_view_up_to_a_limit() -> None:
    small = make_crowd(pay="hour", amount=Decimal(12), announced_minutes=2)
    first, second = newcomer(small.study), newcomer(small.study)
    assert money_reserved(small.study) == Decimal("1.60")  # two sessions of at most four minutes each
    work(small, first, 3, ms=30_000)
    leave_session(participation=first)
    work(small, second, 5, ms=900_000)
    session_state(participation=second)
    amounts = dict(PayEntry.objects.values_list("participation", "amount"))
    assert amounts == {first.pk: Decimal("0.30"), second.pk: Decimal("0.80")}
    assert second.work_sessions.get().minutes == 50.0  # a look counts ten minutes at most


@pytest.mark.django_db
def test_a_session_under_way_keeps_the_pay_it_began_with() -> None:
    small = make_crowd(**PAID)
    before, after = newcomer(small.study), join_study(token=small.study.join_token)
    change_recruitment(study=small.study, user=None, values={"amount": Decimal(1)})
    agree(participation=after)
    for place in (before, after):
        work(small, place, 5)
        session_state(participation=place)
    amounts = dict(PayEntry.objects.values_list("participation", "amount"))
    assert amounts == {before.pk: Decimal(3), after.pk: Decimal(1)}


@pytest.mark.django_db
def test_a_failed_practice_ends_the_session_with_its_own_code() -> None:
    small = make_crowd(**PAID, screen_out_amount=Decimal("0.25"))
    place = newcomer(small.study)
    Participation.objects.filter(pk=place.pk).update(screened_out_at=timezone.now(), practised_at=None)
    place.refresh_from_db()
    assert next_step(place) == Step.ENDED
    assert session_state(participation=place).code == recruitment_of(small.study).screen_out_code
    assert PayEntry.objects.get().amount == Decimal("0.25")
    assert "cannot take another" in next_session_problem(place)


@pytest.mark.django_db
def test_how_many_sessions_a_person_may_take() -> None:
    small = make_crowd(sessions_per_person=2)
    place = newcomer(small.study)
    work(small, place, 5)
    session_state(participation=place)
    assert next_session_problem(place) == ""
    assert begin_session(participation=place).number == 2
    assert (next_step(place), session_progress(place)) == (Step.WORK, (0, 5))
    assert begin_session(participation=place).number == 2  # the one under way
    work(small, place, 5)
    session_state(participation=place)
    with pytest.raises(ParticipationError, match="have taken part already"):
        begin_session(participation=place)


@pytest.mark.django_db
def test_a_session_never_finished_lapses_and_frees_its_money() -> None:
    small = make_crowd(**PAID, session_hours=2)
    place, fresh = newcomer(small.study), newcomer(small.study)
    work(small, place, 1)
    place.work_sessions.update(started_at=timezone.now() - timedelta(hours=3))
    assert settle_sessions(study=small.study) == 1
    assert (place.work_sessions.get().ending, fresh.work_sessions.get().ending) == ("lapsed", "")
    assert (money_spent(small.study), money_reserved(small.study)) == (Decimal("0.60"), Decimal(3))
    assert settle_sessions(study=small.study) == 0


@pytest.mark.django_db
@pytest.mark.parametrize("how", ["closed", "empty"])
def test_a_study_that_has_no_more_items_completes_the_session(how: str) -> None:
    small = make_crowd(**PAID)
    place = newcomer(small.study)
    work(small, place, 2)
    if how == "closed":
        Study.objects.update(state="closed")
    else:
        Participation.objects.update(queue_empty_at=timezone.now())
    place = Participation.objects.select_related("study", "user").get(pk=place.pk)
    assert session_state(participation=place).code == recruitment_of(small.study).completion_code
    assert PayEntry.objects.get().amount == Decimal(3)


@pytest.mark.django_db
def test_the_spending_cap_stops_new_sessions_before_it_is_exceeded() -> None:
    small = make_crowd(**PAID, spending_cap=Decimal(7))
    first = newcomer(small.study)
    newcomer(small.study)
    third = join_study(token=small.study.join_token)
    with pytest.raises(ParticipationError, match="the money set aside for it is spent"):
        agree(participation=third)
    third.refresh_from_db()
    assert third.consented_at is None
    assert money_left(small.study, recruitment_of(small.study)) == Decimal(1)
    work(small, first, 1)
    leave_session(participation=first)  # 0.60 in the place of 3.00
    agree(participation=third)
    assert money_reserved(small.study) + money_spent(small.study) == Decimal("6.60")


@pytest.mark.django_db(transaction=True)
def test_two_people_at_once_cannot_both_take_the_last_of_the_money() -> None:
    small = make_crowd(**PAID, spending_cap=Decimal(10))
    places = [join_study(token=small.study.join_token) for _ in range(8)]
    outcomes: list[str] = []
    gate = threading.Barrier(len(places))

    def take(place: Participation) -> None:
        gate.wait()
        try:
            agree(participation=place)
            outcomes.append("in")
        except ParticipationError as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(place,)) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("in") == 3
    assert sum("money set aside" in outcome for outcome in outcomes) == 5
    assert money_reserved(small.study) == Decimal(9)


@pytest.mark.django_db(transaction=True)
def test_an_ending_seen_by_many_requests_at_once_is_paid_once() -> None:
    small = make_crowd(**PAID)
    place = newcomer(small.study)
    work(small, place, 5)
    seen: list[bool] = []

    def look() -> None:
        try:
            mine = Participation.objects.select_related("study", "user").get(pk=place.pk)
            seen.append(session_state(participation=mine).is_over)
        finally:
            connection.close()

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [True] * 6
    assert PayEntry.objects.count() == 1


@pytest.mark.django_db
def test_the_consent_names_the_terms_and_any_change_of_them_is_asked_again() -> None:
    small = make_crowd(**PAID, contact="Ada, ada@example.org", may_disturb=True, disturbing_text="Spiders.")
    study = small.study
    terms = dict(consent_terms(study, recruitment_of(study)))
    assert terms["Length"].startswith("A session is 5 judgements. It takes about 20 minutes. You can take 1 session.")
    assert terms["Pay"].startswith("You are paid £3.00 for a session. That is £9.00 an hour.")
    assert terms["Disturbing images"].startswith("Spiders. You can skip any item")
    assert "take your answers back" in terms["Stopping and withdrawing"]
    assert terms["Contact"] == "Ada, ada@example.org"
    place = newcomer(study)
    version = study.consent_version
    seen = [version]
    changes: list[dict[str, Any]] = [
        {"amount": Decimal(4)}, {"announced_minutes": 25}, {"contact": "Bob"}, {"may_disturb": False},
        {"may_withdraw": False}, {"retention_days": 10}, {"sessions_per_person": 3},
    ]  # fmt: skip
    for values in changes:
        change_recruitment(study=study, user=None, values=values)
        seen.append(study.consent_version)
    Study.objects.filter(pk=study.pk).update(consent_text="Another text.")
    seen.append(settle_consent_version(study))
    assert seen == [f"1.{int(version[2:]) + n}" for n in range(len(changes) + 2)]
    change_recruitment(study=study, user=None, values={"spending_cap": Decimal(500), "completion_code": "DONE-1"})
    assert study.consent_version == seen[-1]  # nobody agreed to these
    place = Participation.objects.select_related("study").get(pk=place.pk)
    assert next_step(place) == Step.CONSENT
    agree(participation=place)
    assert (next_step(place), place.work_sessions.count()) == (Step.WORK, 1)


@pytest.mark.django_db
def test_who_does_not_agree_can_change_their_mind() -> None:
    small = make_crowd()
    place = join_study(token=small.study.join_token)
    decline_consent(participation=place)
    assert (place.declined_at is not None, next_step(place)) == (True, Step.CONSENT)
    agree(participation=place)
    assert place.declined_at is None
    with pytest.raises(ParticipationError, match="have agreed before"):
        decline_consent(participation=place)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"completion_code": "x"}, "4 to 40 letters"),
        ({"completion_code": "SAME", "early_leave_code": "same"}, "needs its own"),
        ({"by_link": False, "by_invitation": False}, "at least one way in"),
        ({"return_url": "http://example.org/CODE"}, "https://"),
        ({"return_url": "https://example.org/"}, "CODE"),
        ({"currency": "pounds"}, "three letters"),
        ({"pay": "session", "announced_minutes": 5}, "how much is paid"),
        ({"pay": "session", "amount": Decimal(3)}, "how many minutes"),
        ({"pay": "hour", "amount": Decimal(9), "announced_minutes": 5, "by_prolific": True}, "fixed reward"),
        (PAID | {"spending_cap": Decimal(2)}, "does not reach"),
    ],
)
def test_wrong_settings_are_refused_whole(values: dict[str, Any], sentence: str) -> None:
    small = make_study(n_people=0)
    with pytest.raises(StudyError, match=sentence):
        change_recruitment(study=small.study, user=None, values=values)
    assert (Recruitment.objects.count(), StudyEvent.objects.count()) == (0, 0)


@pytest.mark.django_db
def test_a_cap_below_what_is_promised_is_refused() -> None:
    small = make_crowd(**PAID)
    for _ in range(2):
        newcomer(small.study)
    with pytest.raises(StudyError, match=r"6\.00 is spent or promised"):
        change_recruitment(study=small.study, user=None, values={"spending_cap": Decimal(5)})


@pytest.mark.django_db
def test_a_copy_recruits_alike_under_codes_of_its_own() -> None:
    small = make_crowd(**PAID, by_prolific=True, prolific_study_ids="60aabbccddeeff0011223344")
    copy = copy_study(source=small.study, user=None, name="The main study")
    mine, theirs = recruitment_of(small.study), recruitment_of(copy)
    assert (theirs.pay, theirs.amount, theirs.by_prolific) == ("session", Decimal(3), True)
    assert (theirs.prolific_study_ids, theirs.completion_code == mine.completion_code) == ("", False)
    plain = copy_study(source=make_study(n_people=0, slug="second").study, user=None, name="Plain")
    assert recruitment_of(plain).pk is None


def test_amounts_are_written_as_people_read_them() -> None:
    assert (money(Decimal("1234.5"), "GBP"), money(Decimal(3), "CHF")) == ("£1,234.50", "CHF 3.00")
    assert announced_hourly(Recruitment(pay="session", amount=Decimal(3), announced_minutes=20)) == Decimal("9.00")
    assert [raised(version) for version in ("1.0", "2.19", "7", "draft")] == ["1.1", "2.20", "8", "draft.1"]
