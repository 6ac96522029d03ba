"""Who may see and take away the answers of a study: researchers and administrators, of the site or of that study."""

from __future__ import annotations

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.utils.translation import gettext as _

from annotation.models import Participation, Role, Study, User

ROLES = (Role.RESEARCHER, Role.ADMINISTRATOR)


def studies_with_results(user: User) -> QuerySet[Study]:
    if user.is_researcher:
        return Study.objects.all()
    mine = Participation.objects.filter(user=user, role__in=ROLES) if user.is_active else Participation.objects.none()
    return Study.objects.filter(pk__in=mine.values("study"))


def study_with_results(user: User, slug: str) -> Study:
    """Raises Study.DoesNotExist for a study this person may not know of, PermissionDenied for one they answer in."""
    study = studies_with_results(user).filter(slug=slug).first()
    if study is not None:
        return study
    if Participation.objects.filter(study__slug=slug, user=user).exists():
        raise PermissionDenied(_("The answers of a study are for its researchers."))
    raise Study.DoesNotExist(_("There is no study '%(slug)s'.") % {"slug": slug})


def require_results_role(user: User) -> None:
    """Raises PermissionDenied for people who may see the answers of no study."""
    if not user.is_researcher and not studies_with_results(user).exists():
        raise PermissionDenied(_("This is for researchers; ask an administrator for the role."))
