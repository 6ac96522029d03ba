"""The personal link of somebody without a password: back to their place on another day, in another browser.

It is proved by a keyed digest of the random text that such an account holds in place of a password, as Django proves
its links to a forgotten password. Nothing is stored of the link, it can be shown again at any time, and whatever
changes that text takes it back: another link, a password, deleting who one is. The text has 238 random bits and 192 of
the digest are in the link, so that it cannot be guessed, also by somebody who knows the site's secret key.
"""

from __future__ import annotations

import base64

from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _

from annotation.domain.participation import ParticipationError, opens_by_link, require_account
from annotation.models import Participation, Study, User

SALT = "annotation.coming-back"
N_BYTES = 24


def proof_of(place: Participation) -> str:
    """The secret part of the link of this place."""
    digest = salted_hmac(SALT, f"{place.pk}:{place.user.password}", algorithm="sha256").digest()
    return base64.urlsafe_b64encode(digest[:N_BYTES]).decode()


def place_with_link(study: Study, user: User) -> Participation | None:
    """The person's place in the study if they come back to it by a link; None for those who sign in."""
    if user.has_usable_password():
        return None
    place = Participation.objects.select_related("user").filter(study=study, user=user).first()
    return place if place is not None and opens_by_link(place.user) else None


def place_of_link(place_id: int, proof: str) -> Participation:
    """Whose link it is; raises ParticipationError for one that was never made or is no longer good."""
    place = Participation.objects.select_related("study__created_by", "user").filter(pk=place_id).first()
    if place is None or place.user.has_usable_password() or not constant_time_compare(proof, proof_of(place)):
        raise ParticipationError(
            _("This personal link is not whole, or a newer one has taken its place; open the one you kept last.")
        )
    return place


def come_back(*, place_id: int, proof: str, user: User | None) -> Participation:
    """The place that the link opens for whoever is signed in, or for nobody yet; raises ParticipationError."""
    place = place_of_link(place_id, proof)
    require_account(place, user)
    return place


def renew_link(*, participation: Participation) -> None:
    """Another link; the one before, and every browser but the one that asks, leads in no more."""
    if not opens_by_link(participation.user):
        raise ParticipationError(_("You come back by signing in with your password; there is no link to renew."))
    participation.user.set_unusable_password()
    participation.user.save(update_fields=["password"])
