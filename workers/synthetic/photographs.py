"""Real photographs without a download: the two that scikit-learn ships, cut into overlapping crops in class folders.

    python -m workers.synthetic.photographs FOLDER [--size 160] [--step 40] [--shrink 1]

`import_images` then reads FOLDER like any other. scikit-learn is needed by this module only.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

NAMES = ("china", "flower")


class PhotographsError(Exception):
    """The photographs cannot be cut as asked; the message is one sentence fit for the user."""


def write_photographs(folder: Path | str, *, size: int = 160, step: int = 40, shrink: int = 1) -> int:
    """Write FOLDER/china/*.png and FOLDER/flower/*.png; returns how many crops were written.

    Crops are `size` pixels wide, `step` apart, and written `shrink` times smaller.
    """
    photographs = {name: load_photograph(name) for name in NAMES}
    for photograph in photographs.values():
        if size > min(photograph.size):
            raise PhotographsError(f"The crops cannot be {size} pixels wide: a photograph has {min(photograph.size)}.")
    n_written = 0
    for name, photograph in photographs.items():
        (Path(folder) / name).mkdir(parents=True, exist_ok=True)
        for left, top in corners(photograph.size, size, step):
            crop = photograph.crop((left, top, left + size, top + size))
            crop.reduce(shrink).save(Path(folder) / name / f"{name}-{top:03d}-{left:03d}.png")
            n_written += 1
    return n_written


def load_photograph(name: str) -> Image.Image:
    if importlib.util.find_spec("sklearn") is None:
        raise PhotographsError(
            "The two photographs come with scikit-learn; install it (pip install scikit-learn) first."
        )
    from sklearn.datasets import load_sample_image

    return Image.fromarray(load_sample_image(f"{name}.jpg"))


def corners(size: tuple[int, int], crop: int, step: int) -> Iterator[tuple[int, int]]:
    """Left and top of every crop that lies inside."""
    for top in range(0, size[1] - crop + 1, step):
        for left in range(0, size[0] - crop + 1, step):
            yield left, top


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Cut scikit-learn's two photographs into crops for import_images.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=160, help="width and height of a crop in pixels")
    parser.add_argument("--step", type=int, default=40, help="pixels from one crop to the next")
    parser.add_argument("--shrink", type=int, default=1, help="how many times smaller crops are written")
    chosen = parser.parse_args(arguments)
    try:
        write_photographs(chosen.folder, size=chosen.size, step=chosen.step, shrink=chosen.shrink)
    except PhotographsError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
