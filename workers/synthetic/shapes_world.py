"""Shapes world as a folder of files: images, masks, and a metadata file with everything that is known about each image.

The shape is the class. All attributes vary independently, but for the ground: it goes with the class in 95 % of the
training images and 50 % of the test images, so that a model learns a cue that fails, and people can find it.

    python -m workers.synthetic.shapes_world FOLDER [--train 4000] [--test 1000] [--seed 0]
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from workers.synthetic.shapes import (
    BACKGROUNDS,
    COLORS,
    COLUMNS,
    CURVATURES,
    ROWS,
    SHAPES,
    SIZES,
    TEXTURES,
    Attributes,
    Pictures,
    draw_attributes,
    render,
)

AGREEMENT = {"train": 0.95, "test": 0.5}
BLOCK = 256  # images drawn at a time; an image depends on (seed, split, block) only, not on how many are asked for
METADATA_COLUMNS = (
    "path", "label", "split", "mask", "color", "texture", "curvature", "size", "row", "column", "position",
    "background", "background_agrees", "x", "y", "radius", "angle",
)  # fmt: skip


class Block(NamedTuple):
    attributes: Attributes
    pictures: Pictures


def draw_block(split: str, block: int, seed: int, agreement: float | None = None) -> Block:
    """The images of one block of a split, 256 of them."""
    share = AGREEMENT[split] if agreement is None else agreement
    rng = np.random.default_rng([seed, list(AGREEMENT).index(split), block])
    attributes = draw_attributes(BLOCK, share, rng)
    return Block(attributes, render(attributes, rng))


def write_folder(folder: Path | str, *, n_train: int = 4000, n_test: int = 1000, seed: int = 0) -> Path:
    """Write images/, masks/, classes.txt and metadata.csv; returns the path of the metadata file."""
    root = Path(folder)
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "masks").mkdir(exist_ok=True)
    (root / "classes.txt").write_text("\n".join(SHAPES) + "\n")
    metadata = root / "metadata.csv"
    with metadata.open("w", newline="", encoding="utf-8") as file, ThreadPoolExecutor(2) as pool:
        writer = csv.DictWriter(file, METADATA_COLUMNS)
        writer.writeheader()
        for split, n_images in (("train", n_train), ("test", n_test)):
            for block in range((n_images + BLOCK - 1) // BLOCK):
                drawn = draw_block(split, block, seed)
                rows = list(metadata_rows(drawn.attributes, split, block))[: n_images - block * BLOCK]
                list(pool.map(lambda row, image, mask: save(root, row, image, mask), rows, *drawn.pictures))
                writer.writerows(rows)
    return metadata


def save(root: Path, row: dict[str, Any], image: np.ndarray[Any, Any], mask: np.ndarray[Any, Any]) -> None:
    Image.fromarray(image).save(root / row["path"], compress_level=1)
    Image.fromarray(mask).save(root / row["mask"])


def metadata_rows(a: Attributes, split: str, block: int) -> Iterator[dict[str, Any]]:
    """One row of the metadata file for each image of a block."""
    for i in range(len(a.shape)):
        name = f"{split}-{block * BLOCK + i:06d}.png"
        row, column = ROWS[a.row[i]], COLUMNS[a.column[i]]
        yield {
            "path": f"images/{name}",
            "label": SHAPES[a.shape[i]],
            "split": split,
            "mask": f"masks/{name}",
            "color": COLORS[a.color[i]],
            "texture": TEXTURES[a.texture[i]],
            "curvature": CURVATURES[a.curvature[i]],
            "size": SIZES[a.size[i]],
            "row": row,
            "column": column,
            "position": f"{row} {column}",
            "background": BACKGROUNDS[a.background[i]],
            "background_agrees": "true" if a.background[i] == a.shape[i] else "false",
            "x": round(float(a.x[i]), 2),
            "y": round(float(a.y[i]), 2),
            "radius": round(float(a.radius[i]), 2),
            "angle": round(float(a.angle[i]), 3),
        }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Write shapes world as a folder of images for import_images.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=4000, metavar="N", help="training images (default 4000)")
    parser.add_argument("--test", type=int, default=1000, metavar="N", help="test images (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    write_folder(chosen.folder, n_train=chosen.train, n_test=chosen.test, seed=chosen.seed)


if __name__ == "__main__":
    main()
