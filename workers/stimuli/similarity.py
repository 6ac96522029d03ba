"""How much two images look alike: the cosine of their embeddings, read row by row from the file of embed-images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

KEPT = 4096
TENSOR = "embeddings"

Similarity = Callable[[int, int], float]


@contextmanager
def open_similarity(path: Path) -> Iterator[Similarity]:
    """A function of two images, by index; the rows have norm 1."""
    with safe_open(path, framework="np") as file:
        rows = file.get_slice(TENSOR)

        @lru_cache(maxsize=KEPT)
        def embedding(image: int) -> NDArray[np.float32]:
            row: NDArray[np.float32] = rows[image : image + 1][0].astype(np.float32)
            return row

        yield lambda one, other: float(embedding(one) @ embedding(other))
