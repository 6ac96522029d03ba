"""Who may work in a study: its annotators, step by step.

Pages send who is not there yet to the step that is next; endpoints answer in JSON with a sentence, so that the player
can tell the annotator and keep what it holds: 401 signed out, 404 no study of yours, 403 another role, 409 not now.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import wraps
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, InterfaceError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError
from annotation.domain.participation import ParticipationError, Step, next_step
from annotation.domain.stimuli import StimulusError
from annotation.domain.work_sessions import recognize, remember
from annotation.models import Participation, Role, Study
from annotation.views.access import View, signed_in_user
from annotation.views.database_troubles import trouble_of

MAX_BODY = 200_000
STEP_URLS = {
    Step.CONSENT: "consent",
    Step.GUIDELINE: "guideline-read",
    Step.PRACTICE: "practice",
    Step.WORK: "work",
    Step.ENDED: "ended",
}
ApiView = Callable[[Participation, dict[str, Any]], dict[str, Any] | HttpResponse]


class RequestError(Exception):
    """A request that cannot be understood; the message says what is wrong."""


def participation_in(request: HttpRequest, slug: str) -> Participation:
    """The person's place in the study; 404 for a study that is not theirs, 403 where they have another role."""
    user = signed_in_user(request)
    found = Participation.objects.select_related("study", "user").filter(study__slug=slug, user=user).first()
    if found is None:
        if user.is_researcher and Study.objects.filter(slug=slug).exists():
            raise PermissionDenied(_("You are not an annotator of this study; join it by its link to answer."))
        raise Http404(_("There is no such study among yours."))
    if found.role != Role.ANNOTATOR:
        raise PermissionDenied(not_an_annotator(found))
    return found


def not_an_annotator(participation: Participation) -> str:
    role = participation.get_role_display()
    return _("You are in this study as a %(role)s; only its annotators answer.") % {"role": role}


def annotator_page(*steps: Step) -> Callable[[View], View]:
    """A page of the study's annotators, open when one of the steps is next; else they are sent to what is."""

    def decorate(view: View) -> View:
        @wraps(view)
        def guarded(request: HttpRequest, slug: str) -> HttpResponseBase:
            participation = participation_in(request, slug)
            step = next_step(participation)
            if step not in steps:
                return redirect(STEP_URLS[step], slug=slug)
            return view(request, participation)

        return cast(View, login_required(guarded))

    return decorate


def annotator_endpoint(view: ApiView) -> View:
    """A JSON endpoint: the participation and the body's object in, an object out."""

    @wraps(view)
    def guarded(request: HttpRequest, slug: str) -> HttpResponseBase:
        try:
            participation = recognized(request, slug)
            if participation is None:
                return problem(401, _("You are signed out. Sign in again; nothing is lost."))
            reply = view(participation, body_of(request))
            return JsonResponse(reply) if isinstance(reply, dict) else reply
        except RequestError as error:
            return problem(400, str(error))
        except (Http404, StimulusError) as error:
            return problem(404, str(error))
        except PermissionDenied as error:
            return problem(403, str(error))
        except ParticipationError as error:
            return problem(409, str(error))
        except AnswerError as error:
            return problem(422, str(error))
        except (DatabaseError, InterfaceError) as error:
            trouble = trouble_of(error)
            if trouble is None:
                raise
            return problem(*trouble)

    return cast(View, guarded)


def recognized(request: HttpRequest, slug: str) -> Participation | None:
    """The annotator's place in the study, None for somebody signed out; raises like participation_in."""
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME, "")
    participation = recognize(session_key, slug)
    if participation is None:
        if not request.user.is_authenticated:
            return None
        participation = participation_in(request, slug)
        remember(session_key, participation.user)
    if participation.role != Role.ANNOTATOR:
        raise PermissionDenied(not_an_annotator(participation))
    return participation


def problem(status: int, sentence: str) -> JsonResponse:
    return JsonResponse({"error": sentence}, status=status)


def body_of(request: HttpRequest) -> dict[str, Any]:
    """The JSON object a request carries; a GET carries its query."""
    if request.method == "GET":
        return dict(request.GET.items())
    if len(request.body) > MAX_BODY:
        raise RequestError(
            _("The request has %(n)s bytes; %(most)s is the most.") % {"n": len(request.body), "most": MAX_BODY}
        )
    try:
        body = json.loads(request.body or b"{}", parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(_("The request is not JSON.")) from error
    if not isinstance(body, dict):
        raise RequestError(_("The request must be a JSON object."))
    if not is_storable(body):
        raise RequestError(_("The text has characters that cannot be stored; write it again without them."))
    return body


def refuse_constant(name: str) -> None:
    """NaN and Infinity, which Python reads and no database stores as JSON."""
    raise ValueError(name)


def ids_in(body: dict[str, Any], name: str) -> list[int]:
    """A list of row ids; raises RequestError for anything else."""
    values = body.get(name, [])
    if not isinstance(values, list) or len(values) > 1000:
        raise RequestError(_("'%(name)s' must be a list of at most 1000 numbers.") % {"name": name})
    if any(isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63 for value in values):
        raise RequestError(_("'%(name)s' must be a list of numbers.") % {"name": name})
    return values


def text_in(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise RequestError(_("'%(name)s' must be text.") % {"name": name})
    return value


def is_storable(body: dict[str, Any]) -> bool:
    """Whether every text is Unicode without NUL and every number finite (1e400 is not): nothing else can be stored."""
    try:
        return b"\\u0000" not in json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
