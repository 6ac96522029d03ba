"""Image sets: a fixed order of images, referenced in place by content hash under a root that each host maps anew.

The artefact `image-set` holds no pixels, only `images.parquet` (one row per image) and `classes.json`. Everything later
addresses an image by its index in it.
"""

from __future__ import annotations

import hashlib
import json
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from workers.artifacts import Artifact, ArtifactStore
from workers.image_decoding import ImageImportError, decode_image, decode_mask, load_image
from workers.image_scan import Scan, scan_folder

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ImageImportError", "ImageSetReader", "check_root", "image_batches", "load_image", "scan_folder", "write_image_set",
]  # fmt: skip

VISIBILITIES = ("public", "signed-in", "team")
COLUMNS = pa.schema(
    [
        ("index", pa.int32()), ("path", pa.string()), ("sha256", pa.string()), ("width", pa.int32()),
        ("height", pa.int32()), ("label", pa.string()), ("label_index", pa.int32()), ("mask_path", pa.string()),
        ("mask_sha256", pa.string()), ("attributes", pa.string()),
    ]
)  # fmt: skip
AHEAD = 2  # batches decoded ahead of the one in use


def write_image_set(store: ArtifactStore, scan: Scan, *, name: str, licence: str, visibility: str) -> Artifact:
    """Write the artefact `image-set` of a finished scan."""
    if visibility not in VISIBILITIES:
        raise ValueError(f"The visibility '{visibility}' is unknown; give one of {', '.join(VISIBILITIES)}.")
    rows = [
        {**vars(record), "index": index, "attributes": json.dumps(record.attributes, sort_keys=True)}
        for index, record in enumerate(scan.records)
    ]
    with store.write("image-set", config={"name": name, "licence": licence, "visibility": visibility}) as writer:
        pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS), writer.folder / "images.parquet")
        writer.write_json("classes.json", scan.classes)
    assert writer.artifact is not None
    return writer.artifact


class ImageSetReader:
    """The images of a set on this host. Every file read is checked against the hash it was imported with."""

    def __init__(self, artifact: Artifact, root: Path | str) -> None:
        assert artifact.kind == "image-set", artifact.kind
        self.artifact = artifact
        self.digest = artifact.digest
        self.root = Path(root)
        self.classes: list[str] = artifact.json("classes.json")
        self.table = pq.read_table(artifact.path("images.parquet"))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def cell(self, column: str, index: int) -> Any:
        """One value; the table stays in Arrow's form, since a set may have a million images."""
        return self.table.column(column)[int(index)].as_py()

    @cached_property
    def paths(self) -> list[str]:
        return list(self.table.column("path").to_pylist())

    @cached_property
    def hashes(self) -> list[str]:
        return list(self.table.column("sha256").to_pylist())

    @cached_property
    def labels(self) -> list[str | None]:
        return list(self.table.column("label").to_pylist())

    @cached_property
    def label_indices(self) -> NDArray[np.int64]:
        """[image] position of the label among the classes, -1 without one."""
        return np.asarray(self.table.column("label_index").to_numpy(), dtype=np.int64)

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of the upright image."""
        return self.cell("width", index), self.cell("height", index)

    def attributes(self, index: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.cell("attributes", index))
        return found

    def indices_where(self, attribute: str, value: Any) -> NDArray[np.int64]:
        """The images whose attribute has this value, in order."""
        return np.array([i for i in range(len(self)) if self.attributes(i).get(attribute) == value], dtype=np.int64)

    def read(self, index: int) -> bytes:
        """The file's bytes; raises ImageImportError if it is gone or not the one that was imported."""
        return read_checked(self.root, self.cell("path", index), self.cell("sha256", index))

    def load(self, index: int) -> Image.Image:
        return decode_image(self.read(index), self.cell("path", index))

    def mask(self, index: int) -> NDArray[np.bool_] | None:
        """[y, x] true on the object, or None where the image has no mask."""
        path = self.cell("mask_path", index)
        if path is None:
            return None
        return decode_mask(read_checked(self.root, path, self.cell("mask_sha256", index)), path)


def read_checked(root: Path, path: str, sha256: str) -> bytes:
    try:
        content = (root / path).read_bytes()
    except OSError as error:
        raise ImageImportError(
            f"The image '{path}' cannot be read under '{root}' ({error.strerror}); tell where the images are with "
            "relink_images."
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ImageImportError(f"The file '{path}' under '{root}' is not the one that was imported; put it back.")
    return content


def check_root(artifact: Artifact, root: Path | str, n_sampled: int | None = None) -> int:
    """Make sure that `root` holds the images of the set, all or an even sample; returns how many were compared."""
    folder = Path(root)
    if not folder.is_dir():
        raise ImageImportError(f"There is no folder '{folder}' on this host.")
    reader = ImageSetReader(artifact, folder)
    indices = list(range(len(reader)))
    if n_sampled is not None and n_sampled < len(indices):
        indices = sorted(random.Random(artifact.digest).sample(indices, n_sampled))
    for index in indices:
        reader.read(index)
        reader.mask(index)
    return len(indices)


def image_batches(
    reader: ImageSetReader,
    transform: Callable[[Image.Image], Tensor],
    indices: Sequence[int],
    batch_size: int,
    n_threads: int = 2,
    *,
    is_pinned: bool = False,
) -> Iterator[Tensor]:
    """Transformed images `[batch, 3, height, width]` in the given order, decoded ahead while the last are worked on.

    Threads do it, since reading, hashing, decoding, resizing and scaling all let other threads run, and a worker of the
    queue must not have child processes (docs/decisions/decoding.md). Each puts its image in its place in the batch,
    which is in pinned memory on demand. Raises ImageImportError naming the first file that cannot be decoded.
    """
    waiting: deque[tuple[BatchInTheMaking, list[Future[None]]]] = deque()

    def load(batch: BatchInTheMaking, place: int) -> None:
        batch.put(place, transform(reader.load(batch.indices[place])))

    with ThreadPoolExecutor(max_workers=max(1, n_threads), thread_name_prefix="decode") as pool:
        try:
            for start in range(0, len(indices), batch_size):
                batch = BatchInTheMaking(indices[start : start + batch_size], is_pinned=is_pinned)
                waiting.append((batch, [pool.submit(load, batch, place) for place in range(len(batch.indices))]))
                if len(waiting) > AHEAD:
                    yield finished_batch(*waiting.popleft())
            while waiting:
                yield finished_batch(*waiting.popleft())
        finally:
            for future in (f for _, futures in waiting for f in futures):
                future.cancel()


class BatchInTheMaking:
    """A batch whose images come from several threads; the first that comes says how large they are."""

    def __init__(self, indices: Sequence[int], *, is_pinned: bool) -> None:
        self.indices = [int(index) for index in indices]
        self.is_pinned = is_pinned
        self.images: Tensor | None = None
        self.lock = threading.Lock()

    def put(self, place: int, image: Tensor) -> None:
        import torch

        with self.lock:
            if self.images is None:
                shape = (len(self.indices), *image.shape)
                self.images = torch.empty(shape, dtype=image.dtype, pin_memory=self.is_pinned)
        self.images[place] = image


def finished_batch(batch: BatchInTheMaking, futures: Sequence[Future[None]]) -> Tensor:
    for future in futures:
        future.result()
    assert batch.images is not None, "a batch has at least one image"
    return batch.images
