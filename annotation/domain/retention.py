"""Who people are elsewhere, kept apart from their answers, for as long as was promised, and deletable at any time.

Deleting an identity leaves the answers under their code. What stays of it until the study closes is a keyed digest,
which only tells that this identity has taken part, no longer as whom; it keeps one identity from taking part twice.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _

from annotation.domain.answers import WITHDRAWN
from annotation.domain.crowd_consent import recruitment_of
from annotation.domain.crowd_sessions import leases_of, locked_place, settle_if_over
from annotation.domain.participation import ParticipationError
from annotation.domain.queue import give_back
from annotation.domain.studies import log_event
from annotation.models import Annotation, ExternalIdentity, Invitation, Participation, Role, Study, User

SALT = "annotation.external-identity"


def identity_digest(study: Study, source: str, external_id: str) -> str:
    return salted_hmac(f"{SALT}:{study.pk}:{source}", external_id, algorithm="sha256").hexdigest()


def find_identity(study: Study, source: str, external_id: str) -> ExternalIdentity | None:
    found = ExternalIdentity.objects.filter(
        study=study, source=source, digest=identity_digest(study, source, external_id)
    )
    return found.select_related("participation__user", "participation__study").first()


def keep_identity(*, participation: Participation, source: str, external_id: str) -> ExternalIdentity:
    """Raises IntegrityError if the identity takes part in the study already."""
    study = participation.study
    return ExternalIdentity.objects.create(
        study=study, source=source, external_id=external_id, participation=participation,
        digest=identity_digest(study, source, external_id),
    )  # fmt: skip


def place_of_identity(identity: ExternalIdentity) -> Participation:
    """The place this identity has in the study, seen now; raises ParticipationError if it was deleted."""
    if identity.participation is None:
        raise ParticipationError(
            _("You have taken part in this study before, and who you are was deleted; it cannot be taken twice.")
        )
    ExternalIdentity.objects.filter(pk=identity.pk).update(last_seen_at=timezone.now())
    return identity.participation


def delete_identity(*, participation: Participation) -> bool:
    """Delete who this person is elsewhere, and their name, e-mail and password here unless another study needs them.

    Returns whether the account was made nameless too.
    """
    with transaction.atomic():
        n_deleted = empty_identities(participation)
        Invitation.objects.filter(participation=participation).update(email="")
        user = User.objects.select_for_update().get(pk=participation.user_id)
        is_nameless = user.role == Role.ANNOTATOR and not other_places(participation)
        if is_nameless:
            user.username, user.email, user.first_name, user.last_name = user.annotator_code.lower(), "", "", ""
            user.set_unusable_password()
            user.save(update_fields=["username", "email", "first_name", "last_name", "password"])
        log_event(participation.study, None, "identity deleted", n_identities=n_deleted)
    participation.user = user
    return is_nameless


def other_places(participation: Participation) -> bool:
    return Participation.objects.filter(user_id=participation.user_id).exclude(pk=participation.pk).exists()


def empty_identities(participation: Participation) -> int:
    identities = ExternalIdentity.objects.filter(participation=participation)
    for identity in identities:
        identity.visits.all().delete()
    return identities.update(external_id="", participation=None, deleted_at=timezone.now())


def due_identities(study: Study) -> list[ExternalIdentity]:
    """Identities of the study whose time is over."""
    days = recruitment_of(study).retention_days
    long_ago = timezone.now() - timedelta(days=days)
    due = ExternalIdentity.objects.filter(study=study, deleted_at__isnull=True, last_seen_at__lt=long_ago)
    return list(due.select_related("participation"))


def delete_due_identities(*, study: Study) -> int:
    """Keep the promise of the consent page; of a closed study not even the digests stay. Returns how many went."""
    return delete_identities(study=study, user=None, identities=due_identities(study))


def delete_all_identities(*, study: Study, user: User) -> int:
    """The researcher's button, once nobody is to be paid or invited back any more."""
    identities = ExternalIdentity.objects.filter(study=study, deleted_at__isnull=True).select_related("participation")
    return delete_identities(study=study, user=user, identities=list(identities))


def delete_identities(*, study: Study, user: User | None, identities: list[ExternalIdentity]) -> int:
    with transaction.atomic():
        for identity in identities:
            if identity.participation is not None:
                Invitation.objects.filter(participation=identity.participation).update(email="")
                empty_identities(identity.participation)
        if study.state == Study.State.CLOSED:
            ExternalIdentity.objects.filter(study=study, deleted_at__isnull=False).delete()
            Invitation.objects.filter(study=study, used_at__isnull=True).update(email="")
        if identities:
            log_event(study, user, "identities deleted", n_identities=len(identities))
    return len(identities)


def withdraw_answers(*, participation: Participation) -> int:
    """Leave the person's answers out of every figure, for good; returns how many. They stay stored, under the code."""
    if not recruitment_of(participation.study).may_withdraw:
        raise ParticipationError(
            _("This study keeps the answers given, as its consent says; you may stop at any time.")
        )
    with transaction.atomic():
        place = locked_place(participation)
        if place.withdrawn_at is None:
            place.withdrawn_at = timezone.now()
            place.save(update_fields=["withdrawn_at"])
        answers = Annotation.objects.filter(annotator_id=place.user_id, study_id=place.study_id, excluded_reason="")
        n_withdrawn = answers.update(excluded_reason=WITHDRAWN)
        settle_if_over(place)
        place.session_to = place.n_done
        place.save(update_fields=["session_to"])
        give_back(leases_of(place))
        log_event(place.study, None, "answers withdrawn", n_answers=n_withdrawn, code=place.user.annotator_code)
    participation.withdrawn_at, participation.session_to = place.withdrawn_at, place.session_to
    return n_withdrawn
