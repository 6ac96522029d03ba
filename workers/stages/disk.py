"""A disk that fills while something is written: told apart from other errors, whoever writes.

Python raises OSError with a number; safetensors raises an error of its own with that number in its text.
"""

from __future__ import annotations

import errno
import re

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no space, no quota, a file above the limit
NUMBER = re.compile(r"\(os error (\d+)\)")


def is_disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    found = NUMBER.search(str(error)) if type(error).__name__ == "SafetensorError" else None
    return found is not None and int(found[1]) in FULL
