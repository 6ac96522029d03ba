"""A disk that fills while something is written: told apart from other errors, whoever writes.

Python raises OSError with a number; safetensors raises an error of its own with that number in its text. Databases
have names and states of theirs, which Django keeps as the cause of its own error.
"""

from __future__ import annotations

import errno
import re

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, a file above the limit
FULL_SQLITE = ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")  # the file or its log, the index of the log
FULL_POSTGRESQL = "53100"
NUMBER = re.compile(r"\(os error (\d+)\)")


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    if is_database_full(error):
        return True
    found = NUMBER.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return found is not None and int(found[1]) in FULL


def is_database_full(error: BaseException) -> bool:
    """Whether a database has no room for what was to be written; other than one that is away, it is not waited for."""
    told = error.__cause__ or error
    is_sqlite = getattr(told, "sqlite_errorname", None) in FULL_SQLITE
    return is_sqlite or getattr(told, "sqlstate", None) == FULL_POSTGRESQL
