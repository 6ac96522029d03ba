"""What a person agrees to: the study's own text, and the terms that follow from its settings.

Pay, length, withdrawal, contact and disturbing images are named from the settings, never copied into a text that could
differ from them. Changing any of them raises the version of the consent, and everybody is asked again.
"""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple

from django.db import transaction
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.crowd_money import announced_hourly, money, most_paid_minutes
from annotation.models import Participation, Recruitment, Study

TERMS = (
    "sessions_per_person", "announced_minutes", "pay", "amount", "screen_out_amount", "currency", "contact",
    "may_disturb", "disturbing_text", "may_withdraw", "retention_days", "session_hours",
)  # fmt: skip
LONGEST_VERSION = 12


class Term(NamedTuple):
    """One thing a person agrees to: its heading and its sentence."""

    title: str
    text: str


def recruitment_of(study: Study) -> Recruitment:
    """The study's way of recruiting; an unsaved row of one that was never set up: open by its link, unpaid, endless."""
    row = Recruitment.objects.filter(study=study).first()
    return row if row is not None else Recruitment(study=study, sessions_per_person=None, may_withdraw=False)


def session_length(study: Study) -> int:
    return max(1, min(study.session_length, study.n_items or study.session_length))


def consent_terms(study: Study, recruitment: Recruitment) -> list[Term]:
    """The terms in the reader's language."""
    terms = [Term(_("Length"), length_term(study, recruitment)), Term(_("Pay"), pay_term(recruitment))]
    if recruitment.may_disturb:
        terms.append(Term(_("Disturbing images"), disturbing_term(recruitment)))
    terms.append(Term(_("Stopping and withdrawing"), withdrawal_term(recruitment)))
    if recruitment.pk is not None:
        terms.append(Term(_("Who you are"), identity_term(recruitment)))
    if recruitment.contact:
        terms.append(Term(_("Contact"), recruitment.contact))
    return terms


def length_term(study: Study, recruitment: Recruitment) -> str:
    n_items = session_length(study)
    sentences = [ngettext("A session is %(n)s judgement.", "A session is %(n)s judgements.", n_items) % {"n": n_items}]
    if recruitment.announced_minutes:
        sentences.append(_("It takes about %(minutes)s minutes.") % {"minutes": recruitment.announced_minutes})
    n_sessions = recruitment.sessions_per_person
    if n_sessions is not None:
        sentences.append(
            ngettext("You can take %(n)s session.", "You can take up to %(n)s sessions.", n_sessions)
            % {"n": n_sessions}
        )
    if recruitment.is_paid:
        sentences.append(
            _("You may close the page and go on within %(hours)s hours.") % {"hours": recruitment.session_hours}
        )
    return " ".join(sentences)


def pay_term(recruitment: Recruitment) -> str:
    if not recruitment.is_paid:
        return _("Taking part is not paid.")
    amount = money(recruitment.amount, recruitment.currency)
    if recruitment.pay == Recruitment.Pay.HOUR:
        sentences = [
            _(
                "You are paid %(amount)s per hour for the time you look at pictures, "
                "at most %(minutes)s minutes a session."
            )
            % {"amount": amount, "minutes": most_paid_minutes(recruitment)},
            _("If you leave early you are paid for the time until then."),
        ]  # fmt: skip
    else:
        sentences = [_("You are paid %(amount)s for a session.") % {"amount": amount}]
        per_hour = announced_hourly(recruitment)
        if per_hour is not None:
            sentences.append(_("That is %(amount)s an hour.") % {"amount": money(per_hour, recruitment.currency)})
        sentences.append(_("If you leave early you are paid for the share you have done."))
    if recruitment.screen_out_amount:
        screened = money(recruitment.screen_out_amount, recruitment.currency)
        sentences.append(
            _("If the practice shows that the task does not suit you, you are paid %(amount)s.") % {"amount": screened}
        )
    return " ".join(sentences)


def disturbing_term(recruitment: Recruitment) -> str:
    what = recruitment.disturbing_text or _("Some pictures may be disturbing.")
    return what + " " + _("You can skip any item, report a picture, and stop at any time.")


def withdrawal_term(recruitment: Recruitment) -> str:
    stop = _("You may stop at any time without giving a reason.")
    if recruitment.may_withdraw:
        return (
            stop
            + " "
            + _("On the page “My participation” you can take your answers back: they are then left out of the figures.")
        )
    return stop + " " + _("Answers you have given until then are kept.")


def identity_term(recruitment: Recruitment) -> str:
    return _(
        "Your answers are stored under a code. What tells who you are, such as a Prolific ID or an e-mail address, is "
        "kept apart from them, deleted %(days)s days after your last visit, and earlier if you wish."
    ) % {"days": recruitment.retention_days}


def terms_digest(study: Study, recruitment: Recruitment) -> str:
    """Equal while a person would agree to the same."""
    values = {name: str(getattr(recruitment, name)) for name in TERMS}
    values |= {name: f"{getattr(recruitment, name):.2f}" for name in ("amount", "screen_out_amount")}
    values |= {"text": study.consent_text, "length": str(study.session_length)}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def settle_consent_version(study: Study, *, is_raised: bool = False) -> str:
    """Raise the version of the consent, unless that is done, if what it says has changed; returns the version."""
    with transaction.atomic():
        recruitment = Recruitment.objects.select_for_update().filter(study=study).first()
        if recruitment is None:
            return study.consent_version
        current = Study.objects.get(pk=study.pk)
        digest = terms_digest(current, recruitment)
        if digest == recruitment.consent_digest:
            return current.consent_version
        is_asked = Participation.objects.filter(study=study, consented_at__isnull=False).exists()
        Recruitment.objects.filter(pk=recruitment.pk).update(consent_digest=digest)
        is_settled = bool(recruitment.consent_digest) and current.state != Study.State.DRAFT
        if (is_settled or is_asked) and not is_raised:
            current.consent_version = raised(current.consent_version)
            current.save(update_fields=["consent_version"])
    study.consent_version = current.consent_version
    return study.consent_version


def raised(version: str) -> str:
    """1.0 → 1.1; a version that does not end in a number gets one."""
    head, dot, last = version.rpartition(".")
    if last.isdecimal():
        return f"{head}{dot}{int(last) + 1}"[-LONGEST_VERSION:]
    return f"{version[: LONGEST_VERSION - 2]}.1"
