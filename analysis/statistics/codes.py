"""Codes numbered from 0 without gaps, in the smallest type that holds them: a million answers stay small."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Codes = npt.NDArray[np.signedinteger[Any]]
DENSE = 4  # a table of all codes is made where it has at most this many entries per answer


def contiguous(codes: npt.NDArray[Any]) -> tuple[Codes, int]:
    """The same codes numbered from 0 in their order, and how many there are."""
    if codes.size == 0:
        return codes.astype(np.int32), 0
    if np.all(codes[1:] >= codes[:-1]):
        numbered = np.zeros(codes.size, dtype=np.int32)
        np.cumsum(codes[1:] != codes[:-1], out=numbered[1:])
        return numbered, int(numbered[-1]) + 1
    if codes.dtype.kind == "i" and codes.min() >= 0 and int(codes.max()) < DENSE * codes.size:
        return _by_table(codes)
    names, places = np.unique(codes, return_inverse=True)
    return places.astype(np.int32), names.size


def _by_table(codes: npt.NDArray[Any]) -> tuple[Codes, int]:
    is_present = np.zeros(int(codes.max()) + 1, dtype=bool)
    is_present[codes] = True
    n = int(is_present.sum())
    table = (np.cumsum(is_present, dtype=np.int32) - 1).astype(smallest_type(n))
    return table[codes], n


def smallest_type(n: int) -> type[np.signedinteger[Any]]:
    """For codes below `n`."""
    return np.int8 if n < 2**7 else np.int16 if n < 2**15 else np.int32
