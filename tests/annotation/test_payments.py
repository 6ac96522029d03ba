"""The ledger, the bonus file, and identities that go while answers stay."""

from __future__ import annotations

import threading
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_people import crowd_rows, crowd_totals, filtered, pay_warnings
from annotation.domain.crowd_sessions import agree, leave_session, session_state
from annotation.domain.crowd_settings import change_recruitment
from annotation.domain.invitations import accept_invitation, invite
from annotation.domain.participation import ParticipationError, Step, join_study, next_step
from annotation.domain.payments import (
    approve_pay,
    bonus_file,
    give_bonus,
    mark_bonus_file_paid,
    mark_paid,
    money_spent,
    refuse_pay,
)
from annotation.domain.prolific import arrive
from annotation.domain.retention import delete_all_identities, delete_identity, due_identities, withdraw_answers
from annotation.domain.studies import StudyError
from annotation.models import (
    Annotation,
    ExternalIdentity,
    ExternalVisit,
    Invitation,
    Participation,
    PayEntry,
    Role,
    Study,
    User,
)
from tests.annotation.small_study import SmallStudy, make_person
from tests.annotation.test_crowd_sessions import PAID, make_crowd, newcomer, work
from tests.annotation.test_invitations import OTHER, PID, arrival

LATE = 10**9


@pytest.fixture
def small(db: None) -> SmallStudy:
    return make_crowd(**PAID, by_prolific=True)


@pytest.fixture
def rhea(small: SmallStudy) -> User:
    return make_person("rhea", Role.RESEARCHER)


def came(small: SmallStudy, pid: str, n_done: int, *, ms: int = 60_000) -> Participation:
    """Somebody from Prolific who did so many of five and then left, or was done."""
    place = arrive(study=small.study, arrival=arrival(pid, pid[::-1]))
    agree(participation=place)
    Participation.objects.filter(pk=place.pk).update(guideline_version=1, practised_at=timezone.now())
    place.refresh_from_db()
    work(small, place, n_done, ms=ms)
    leave_session(participation=place)
    return place


# ---- the ledger


def test_earned_is_approved_then_paid_and_each_once(small: SmallStudy, rhea: User) -> None:
    study, place = small.study, came(small, PID, 5)
    assert mark_paid(study=study, user=rhea, up_to=LATE) == 0  # nobody has approved it
    assert approve_pay(study=study, user=rhea) == 1
    assert approve_pay(study=study, user=rhea) == 0
    give_bonus(study=study, user=rhea, participation=place, amount="0.5", reason="careful")
    assert (money_spent(study), crowd_rows(study)[0].owed) == (Decimal("3.50"), Decimal("3.50"))
    seen = PayEntry.objects.latest("pk").pk
    give_bonus(study=study, user=rhea, participation=place, amount="1", reason="after the page was loaded")
    assert mark_paid(study=study, user=rhea, up_to=seen) == 2
    row = crowd_rows(study)[0]
    assert (row.earned, row.approved, row.bonus, row.paid, row.owed) == tuple(
        Decimal(amount) for amount in ("3", "3", "1.50", "3.50", "1")
    )
    assert row.unapproved == 0


def test_refused_pay_keeps_its_reason_and_frees_the_money(small: SmallStudy, rhea: User) -> None:
    place = came(small, PID, 5)
    with pytest.raises(StudyError, match="Say why"):
        refuse_pay(study=small.study, user=rhea, participation=place, reason=" ")
    assert refuse_pay(study=small.study, user=rhea, participation=place, reason="a script") == 1
    assert (money_spent(small.study), crowd_rows(small.study)[0].owed) == (Decimal(0), Decimal(0))
    assert PayEntry.objects.get(kind="approved").note == "a script"


@pytest.mark.parametrize("amount", ["", "x", "0", "-1", "1001", "NaN", "Infinity"])
def test_a_wrong_bonus_is_refused(small: SmallStudy, rhea: User, amount: str) -> None:
    place = join_study(token=small.study.join_token)
    with pytest.raises(StudyError, match=r"no amount|more than 0"):
        give_bonus(study=small.study, user=rhea, participation=place, amount=amount, reason="")
    assert PayEntry.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_two_researchers_who_approve_and_pay_at_once_pay_once() -> None:
    small = make_crowd(**PAID, by_prolific=True)
    rhea = make_person("rhea", Role.RESEARCHER)
    came(small, PID, 5)

    def settle() -> None:
        try:
            approve_pay(study=small.study, user=rhea)
            mark_paid(study=small.study, user=rhea, up_to=LATE)
        finally:
            connection.close()

    threads = [threading.Thread(target=settle) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(PayEntry.objects.values_list("kind", flat=True)) == ["approved", "earned", "paid"]


def test_the_bonus_file_has_what_prolific_does_not_pay_by_code(small: SmallStudy, rhea: User) -> None:
    study = small.study
    whole, left = came(small, PID, 5), came(small, OTHER, 2)
    by_link = newcomer(study)
    work(small, by_link, 1)
    leave_session(participation=by_link)
    give_bonus(study=study, user=rhea, participation=left, amount="0.30", reason="")
    assert bonus_file(study).text == f"{OTHER},0.30\n"  # the share is not approved yet
    approve_pay(study=study, user=rhea)
    give_bonus(study=study, user=rhea, participation=whole, amount="1", reason="")
    file = bonus_file(study)
    assert file.text == f"{PID},1.00\n{OTHER},1.50\n"
    assert (file.n_people, file.total, file.n_unknown) == (2, Decimal("2.50"), 0)
    delete_identity(participation=left)
    assert (bonus_file(study).text, bonus_file(study).n_unknown) == (f"{PID},1.00\n", 1)
    assert mark_bonus_file_paid(study=study, user=rhea, up_to=LATE) == 1
    assert bonus_file(study).n_people == 0


def test_slow_sessions_are_warned_of(small: SmallStudy) -> None:
    study = small.study
    change_recruitment(study=study, user=None, values={"minimum_hourly": Decimal(8)})
    for pid in (PID, OTHER, PID[::-1]):
        came(small, pid, 5, ms=300_000)  # 25 minutes for £3
    recruitment, rows = recruitment_of(study), crowd_rows(study)
    totals = crowd_totals(study, recruitment, rows)
    assert totals.median_hourly == Decimal("7.2")
    assert pay_warnings(study, recruitment, totals)[0].startswith(
        "The median pay is £7.20 an hour, below your minimum of £8.00"
    )
    recruitment.minimum_hourly = None
    assert "below the £9.00 that the announced minutes promise" in pay_warnings(study, recruitment, totals)[0]
    assert [len(filtered(rows, ending=ending)) for ending in ("complete", "left", "")] == [3, 0, 3]
    assert [len(filtered(rows, pay=pay)) for pay in ("owed", "unapproved")] == [0, 3]
    assert len(filtered(rows, came_by="link")) == 0


def test_the_page_of_a_crowd_asks_the_same_of_the_database_for_one_and_for_three(
    small: SmallStudy,
) -> None:
    counts = []
    for pids in ((PID,), (OTHER, PID[::-1])):
        for pid in pids:
            came(small, pid, 2)
        with CaptureQueriesContext(connection) as queries:
            crowd_totals(small.study, recruitment_of(small.study), crowd_rows(small.study))
        counts.append(len(queries))
    assert counts[0] == counts[1]


# ---- identities and answers


def test_deleting_an_identity_leaves_the_answers_under_the_code(small: SmallStudy) -> None:
    place = came(small, PID, 3)
    other = came(small, OTHER, 1)
    User.objects.filter(pk=place.user_id).update(username="ada", email="ada@example.org")
    before = list(Annotation.objects.filter(annotator=place.user).values("uuid", "annotator_id", "payload"))
    assert delete_identity(participation=place)
    user = User.objects.get(pk=place.user_id)
    assert (user.username, user.email, user.has_usable_password()) == (user.annotator_code.lower(), "", False)
    assert list(Annotation.objects.filter(annotator=user).values("uuid", "annotator_id", "payload")) == before
    emptied = ExternalIdentity.objects.get(deleted_at__isnull=False)
    assert (emptied.external_id, emptied.participation) == ("", None)
    assert ExternalVisit.objects.get().identity.participation == other
    with pytest.raises(ParticipationError, match="cannot be taken twice"):
        arrive(study=small.study, arrival=arrival())


def test_an_account_that_another_study_needs_keeps_its_name(small: SmallStudy) -> None:
    ada = make_person("ada")
    place = join_study(token=small.study.join_token, user=ada)
    second = Study.objects.create(name="Second", slug="second", state="open")
    join_study(token=second.join_token, user=ada)
    assert not delete_identity(participation=place)
    assert User.objects.get(pk=ada.pk).username == "ada"


def test_an_invited_address_goes_with_the_identity(small: SmallStudy, rhea: User) -> None:
    link = invite(study=small.study, user=rhea, emails=["ada@example.org"])[0]
    place = accept_invitation(token=link.token, user=None)
    delete_identity(participation=place)
    assert (Invitation.objects.get().email, ExternalIdentity.objects.get().external_id) == ("", "")


def test_identities_go_when_their_time_is_over_and_wholly_once_the_study_is_closed(
    small: SmallStudy, capsys: pytest.CaptureFixture[str]
) -> None:
    came(small, PID, 1)
    came(small, OTHER, 1)
    old = ExternalIdentity.objects.filter(external_id=PID)
    old.update(last_seen_at=timezone.now() - timedelta(days=91))
    assert [identity.external_id for identity in due_identities(small.study)] == [PID]
    call_command("delete_identities", "--dry-run")
    call_command("delete_identities")
    assert capsys.readouterr().out == "first: 1 due\nfirst: 1 deleted\n"
    assert sorted(ExternalIdentity.objects.values_list("external_id", flat=True)) == ["", OTHER]
    Study.objects.update(state="closed")
    call_command("delete_identities")
    assert list(ExternalIdentity.objects.values_list("external_id", flat=True)) == [OTHER]


def test_a_researcher_deletes_all_identities(small: SmallStudy, rhea: User) -> None:
    came(small, PID, 1)
    assert delete_all_identities(study=small.study, user=rhea) == 1
    assert not ExternalIdentity.objects.exclude(external_id="").exists()
    assert (ExternalVisit.objects.count(), Annotation.objects.count()) == (0, 1)


def test_answers_taken_back_are_flagged_and_end_the_session(small: SmallStudy) -> None:
    place = newcomer(small.study)
    work(small, place, 3)
    assert withdraw_answers(participation=place) == 3
    assert set(Annotation.objects.values_list("excluded_reason", flat=True)) == {"withdrawn"}
    place = Participation.objects.select_related("study", "user").get(pk=place.pk)
    assert next_step(place) == Step.ENDED
    assert session_state(participation=place).is_over
    assert PayEntry.objects.get().amount == Decimal("1.80")  # what was earned stays theirs
    assert withdraw_answers(participation=place) == 0


def test_a_study_that_keeps_answers_says_so(small: SmallStudy) -> None:
    change_recruitment(study=small.study, user=None, values={"may_withdraw": False})
    place = newcomer(small.study)
    work(small, place, 1)
    with pytest.raises(ParticipationError, match="keeps the answers given"):
        withdraw_answers(participation=place)
    assert not Annotation.objects.exclude(excluded_reason="").exists()
