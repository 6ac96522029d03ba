"""Setting up how a study recruits and pays; what people agreed to raises the version of the consent when it changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from django.db import transaction
from django.utils.translation import gettext as _

from annotation.domain.crowd_consent import settle_consent_version
from annotation.domain.crowd_sessions import money_reserved
from annotation.domain.payments import money_spent
from annotation.domain.studies import StudyError, log_event
from annotation.domain.study_editing import change_study
from annotation.domain.versions import change_live_study
from annotation.models import Recruitment, Study, User

CODES = ("completion_code", "screen_out_code", "early_leave_code", "no_consent_code")
CODE = re.compile(r"[0-9A-Za-z_-]{4,40}")
NOT_COPIED = (*CODES, "id", "study", "consent_digest", "prolific_study_ids")  # a copy is told apart by its codes
CURRENCY = re.compile(r"[A-Z]{3}")


def change_recruitment(*, study: Study, user: User | None, values: Mapping[str, Any]) -> Recruitment:
    """Store the settings named in values; raises StudyError, and then nothing is changed."""
    with transaction.atomic():
        Recruitment.objects.get_or_create(study=study)
        recruitment = Recruitment.objects.select_for_update().get(study=study)
        before = {name: getattr(recruitment, name) for name in values}
        for name, value in values.items():
            setattr(recruitment, name, value)
        check_recruitment(recruitment)
        check_cap(study, recruitment)
        recruitment.save()
        changed = sorted(name for name in values if before[name] != values[name])
        version = settle_consent_version(study)
        log_event(study, user, "recruitment changed", settings=changed, consent_version=version)
    return recruitment


def copy_recruitment(*, source: Study, study: Study) -> None:
    """The ways in, sessions and pay of another study, with codes of its own; none where the other has none."""
    row = Recruitment.objects.filter(study=source).first()
    if row is not None:
        names = [field.name for field in Recruitment._meta.concrete_fields if field.name not in NOT_COPIED]
        Recruitment.objects.create(study=study, **{name: getattr(row, name) for name in names})


def check_recruitment(recruitment: Recruitment) -> None:
    """Raise a sentence naming what cannot be."""
    codes = [getattr(recruitment, name) for name in CODES]
    for code in codes:
        if not CODE.fullmatch(code):
            raise StudyError(_("The code '%(code)s' has to be 4 to 40 letters, digits, - or _.") % {"code": code})
    if len({code.casefold() for code in codes}) < len(codes):
        raise StudyError(_("Two of the codes are the same; each way to end needs its own."))
    if not (recruitment.by_link or recruitment.by_invitation or recruitment.by_prolific):
        raise StudyError(_("Leave at least one way in open."))
    check_return_url(recruitment)
    if not CURRENCY.fullmatch(recruitment.currency):
        raise StudyError(
            _("The currency '%(currency)s' has to be three letters, such as GBP.") % {"currency": recruitment.currency}
        )
    if recruitment.is_paid:
        check_pay(recruitment)


def check_return_url(recruitment: Recruitment) -> None:
    address = urlsplit(recruitment.return_url)
    if address.scheme != "https" or not address.netloc or "CODE" not in recruitment.return_url:
        raise StudyError(_("The address people return to begins with https:// and has CODE where the code belongs."))


def check_pay(recruitment: Recruitment) -> None:
    if recruitment.amount <= 0:
        raise StudyError(_("Say how much is paid, or choose that nothing is paid."))
    if not recruitment.announced_minutes:
        raise StudyError(_("Say how many minutes a session takes: people who are paid need to know it before."))
    if recruitment.pay == Recruitment.Pay.HOUR and recruitment.by_prolific:
        raise StudyError(_("Prolific pays a fixed reward for a session; choose pay per session."))
    per_session = recruitment.amount
    if recruitment.pay == Recruitment.Pay.HOUR:
        per_session = recruitment.amount * recruitment.announced_minutes / 60
    if recruitment.spending_cap is not None and recruitment.spending_cap < per_session:
        raise StudyError(_("The spending cap does not reach for one session; raise it or leave it empty."))


def check_cap(study: Study, recruitment: Recruitment) -> None:
    """A cap below what is already promised would be a wish, not a cap."""
    committed = money_spent(study) + money_reserved(study)
    if recruitment.spending_cap is not None and recruitment.spending_cap < committed:
        raise StudyError(
            _("%(committed)s is spent or promised already; the cap cannot be less than that.")
            % {"committed": f"{committed:.2f}"}
        )


def money_left(study: Study, recruitment: Recruitment) -> Decimal | None:
    """What the cap still leaves for new sessions; None without a cap."""
    if recruitment.spending_cap is None:
        return None
    return max(Decimal(0), recruitment.spending_cap - money_spent(study) - money_reserved(study))


def set_up_crowd(*, study: Study, user: User, values: Mapping[str, Any], session_length: int) -> Recruitment:
    """The page of settings as a whole: recruitment, and the length of sessions, which the study itself holds."""
    with transaction.atomic():
        if session_length != study.session_length:
            change_session_length(study, user, session_length)
        recruitment = change_recruitment(study=study, user=user, values=values)
    study.refresh_from_db(fields=["session_length", "consent_version", "version"])
    return recruitment


def change_session_length(study: Study, user: User, length: int) -> None:
    """For sessions that begin later; of a study under way it is a new version of the study."""
    if study.state == Study.State.CLOSED:
        raise StudyError(_("This study is closed; its sessions have the length they had."))
    if study.state == Study.State.DRAFT:
        change_study(study=study, user=user, values={"session_length": length})
    else:
        change_live_study(study=study, user=user, values={"session_length": length}, reason="set with the crowd")
