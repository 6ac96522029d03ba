"""Who may open a study's pages.

Researchers see every study; a reviewer or researcher of one study sees that one. It is changed by its owner, by those
who are researchers in it, and by administrators. Its annotators get 403, anybody else 404: they may not know of it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import cast

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _

from annotation.models import Participation, Role, Study, User
from annotation.views.access import View, signed_in_user

READERS = {Role.REVIEWER, Role.RESEARCHER, Role.ADMINISTRATOR}
EDITORS = {Role.RESEARCHER, Role.ADMINISTRATOR}
EDITORS_ONLY = _("Only the owner of this study and its researchers change it.")
StudyView = Callable[..., HttpResponseBase]


def role_in(study: Study, user: User) -> str | None:
    """The person's role in this study, None for somebody who has no part in it."""
    if user.is_administrator or study.created_by_id == user.pk:
        return Role.ADMINISTRATOR
    participation = Participation.objects.filter(study=study, user=user).first()
    return participation.role if participation else None


def may_read(study: Study, user: User) -> bool:
    return user.is_researcher or role_in(study, user) in READERS


def may_edit(study: Study, user: User) -> bool:
    return role_in(study, user) in EDITORS


def require_editor(study: Study, user: User) -> None:
    """For a POST to a page that readers may open."""
    if not may_edit(study, user):
        raise PermissionDenied(EDITORS_ONLY)


def study_reader(view: StudyView) -> View:
    """The view gets the study in place of its slug."""
    return guard(view, may_read, _("The pages of this study are for its researchers and reviewers."))


def study_editor(view: StudyView) -> View:
    return guard(view, may_edit, EDITORS_ONLY)


def guard(view: StudyView, is_allowed: Callable[[Study, User], bool], sentence: str) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, slug: str, **values: object) -> HttpResponseBase:
        user = signed_in_user(request)
        study = get_object_or_404(Study.objects.select_related("created_by", "launch_run"), slug=slug)
        if not is_allowed(study, user):
            if role_in(study, user) is None and not user.is_researcher:
                raise Http404(_("There is no such study among yours."))
            raise PermissionDenied(sentence)
        return view(request, study, **values)

    return cast(View, login_required(guarded))
