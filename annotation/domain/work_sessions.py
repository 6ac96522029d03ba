"""Who sent a request of the player, and their place in the study, in one statement.

The session's row, the user's and the study's are read at every request, so that signing out, a new password or a
disabled account counts at once in every process. What a process remembers is only whose session a key was, which is
what makes one statement of three; the row that comes back has to say so too. Whoever is not recognized here goes the
ordinary way of Django, which decides.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import cache
from django.db import connection
from django.db.models import Model
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from annotation.models import Participation, Study, User


def columns(model: type[Model], *names: str) -> tuple[str, ...]:
    """In the order of the model's fields, which from_db wants; what is left out is read when somebody asks for it.

    No JSON: a plain cursor gives it as text.
    """
    return tuple(field.attname for field in model._meta.concrete_fields if field.attname in names)


USER_COLUMNS = columns(User, "id", "username", "password", "is_active", "is_superuser", "is_simulated", "role")
STUDY_COLUMNS = columns(
    Study, "id", "name", "slug", "state", "session_length", "n_items", "number_key", "stimuli_digest", "locked_hash",
    "consent_version", "protocol", "version", "vocabulary_version", "vocabulary_mode",
    "queue_order", "max_per_person", "min_viewing_ms",
)  # fmt: skip
PARTICIPATION_COLUMNS = columns(
    Participation,
    "id",
    "study_id",
    "user_id",
    "role",
    "n_done",
    "guideline_version",
    "consent_version",
    "n_repeats",
    "session_from",
    "session_to",
)
COLUMNS = ", ".join(
    [
        *(f"person.{name}" for name in USER_COLUMNS),
        *(f"study.{name}" for name in STUDY_COLUMNS),
        *(f"place.{name}" for name in PARTICIPATION_COLUMNS),
    ]
)
RECOGNIZE = f"""
SELECT session.session_data, {COLUMNS}
FROM django_session session, annotation_user person, annotation_study study, annotation_participation place
WHERE session.session_key = %s AND session.expire_date > %s AND person.id = %s AND study.slug = %s
  AND place.study_id = study.id AND place.user_id = person.id
"""
REMEMBERED_SECONDS = 3600


def recognize(session_key: str, slug: str) -> Participation | None:
    """The place in the study of whoever's session this is; None where the ordinary way has to decide."""
    user_id = cache.get(f"user-of-session:{session_key}")
    if user_id is None:
        return None
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(RECOGNIZE, [session_key, now, user_id, slug])
        row = cursor.fetchone()
    if row is None:
        return None
    n_user, n_study = 1 + len(USER_COLUMNS), 1 + len(USER_COLUMNS) + len(STUDY_COLUMNS)
    user = User.from_db(connection.alias, USER_COLUMNS, row[1:n_user])
    if not is_session_of(user, read_session(row[0])):
        return None
    place = Participation.from_db(connection.alias, PARTICIPATION_COLUMNS, row[n_study:])
    place.user, place.study = user, Study.from_db(connection.alias, STUDY_COLUMNS, row[n_user:n_study])
    return place


def remember(session_key: str, user: User) -> None:
    cache.set(f"user-of-session:{session_key}", user.pk, REMEMBERED_SECONDS)


def is_session_of(user: User, session: dict[str, Any]) -> bool:
    """What django.contrib.auth.get_user asks for."""
    return (
        session.get(SESSION_KEY) == str(user.pk)
        and session.get(BACKEND_SESSION_KEY) in settings.AUTHENTICATION_BACKENDS
        and bool(user.is_active)
        and constant_time_compare(session.get(HASH_SESSION_KEY, ""), user.get_session_auth_hash())
    )


@lru_cache(maxsize=1024)
def read_session(session_data: str) -> dict[str, Any]:
    """The signed content of a session's row: the same row says the same thing, and it is not changed here."""
    return SessionStore().decode(session_data)
