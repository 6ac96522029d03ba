"""What is told when the database cannot take an answer: the player keeps what it holds and sends it again."""

from __future__ import annotations

from django.db import DatabaseError, InterfaceError, OperationalError
from django.utils.translation import gettext as _

DISK_FULL = "53100"  # PostgreSQL's SQLSTATE disk_full
ADMIN_ENDED = {"57P01", "57P02", "57P03"}  # the server is stopping or starting


def trouble_of(error: DatabaseError | InterfaceError) -> tuple[int, str] | None:
    """Status and sentence of an error that passes by itself or by the operator's hand; None for a bug of ours."""
    sqlstate = getattr(error.__cause__, "sqlstate", None)
    if sqlstate == DISK_FULL or "disk is full" in str(error):
        return 507, _("The server's disk is full. Your answers are kept here and sent again; tell the researchers.")
    if isinstance(error, OperationalError | InterfaceError) or sqlstate in ADMIN_ENDED:
        return 503, _("The server's database does not answer. Your answers are kept here and sent again.")
    return None
