"""A folder of images to a verified list: found by layout or metadata file, each hashed and fully decoded, in parallel.

Every file is decoded to its last byte before anything is written, so that no image set ever holds a damaged image. What
was verified is remembered in a cache file by (path, size, time of change): a second try hashes only what is new.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from workers.image_decoding import ImageImportError, decode_image, decode_mask, plain
from workers.image_scan_layouts import Candidate, find_candidates

IN_FLIGHT = 256  # files handed to the pool ahead of the one being collected


@dataclass(frozen=True)
class ImageRecord:
    """One verified image; `path` and `mask_path` are relative to the root of the set."""

    path: str
    sha256: str
    width: int
    height: int
    label: str | None
    label_index: int
    mask_path: str | None
    mask_sha256: str | None
    attributes: dict[str, Any]


@dataclass(frozen=True)
class Scan:
    """The outcome of reading a folder; `skipped` holds one sentence per bad file that was left out."""

    records: list[ImageRecord]
    classes: list[str]
    skipped: list[str]


@dataclass(frozen=True)
class Verified:
    """What decoding a file found out."""

    sha256: str
    width: int
    height: int


Progress = Callable[[int, int], None]


def scan_folder(
    root: Path | str,
    *,
    metadata: Path | str | None = None,
    skip_bad: bool = False,
    cache_path: Path | str | None = None,
    progress: Progress | None = None,
    n_threads: int = 4,
) -> Scan:
    """Find and verify all images under `root`; raises ImageImportError naming the first bad file.

    With `skip_bad`, bad files are left out and named in `skipped`, unless none is good. `progress(done, total)` is
    called after each file.
    """
    folder = Path(root)
    candidates, classes = find_candidates(folder, Path(metadata) if metadata else None)
    cache = VerifiedCache(Path(cache_path) if cache_path else None)
    verify = Verifier(folder, cache)
    records: list[ImageRecord] = []
    problems: list[str] = []
    try:
        for done, outcome in enumerate(map_in_order(verify, candidates, n_threads), start=1):
            if isinstance(outcome, ImageImportError):
                problems.append(str(outcome))
            else:
                records.append(outcome)
            if progress is not None:
                progress(done, len(candidates))
    finally:
        cache.close()
    refuse(problems, skip_bad=skip_bad, n_good=len(records))
    return Scan(number_labels(records, classes), classes, problems)


def refuse(problems: Sequence[str], *, skip_bad: bool, n_good: int) -> None:
    if not problems or (skip_bad and n_good):
        return
    further = f" {len(problems) - 1} further files are bad too." if len(problems) > 1 else ""
    advice = "" if skip_bad else " Nothing was imported; repair it, or leave out bad files with --skip-bad."
    raise ImageImportError(problems[0] + further + advice)


def number_labels(records: Sequence[ImageRecord], classes: Sequence[str]) -> list[ImageRecord]:
    index = {name: position for position, name in enumerate(classes)}
    return [
        ImageRecord(**{**vars(record), "label_index": -1 if record.label is None else index[record.label]})
        for record in records
    ]


class Verifier:
    """Decodes and hashes one candidate; an ImageImportError is returned, not raised, so that the others go on."""

    def __init__(self, root: Path, cache: VerifiedCache) -> None:
        self.root = root
        self.cache = cache

    def __call__(self, candidate: Candidate) -> ImageRecord | ImageImportError:
        try:
            if candidate.problem:
                raise ImageImportError(candidate.problem)
            image = self.verified(candidate.path, is_mask=False)
            mask = self.verified_mask(candidate, image)
        except ImageImportError as error:
            return error
        return ImageRecord(
            path=candidate.path,
            sha256=image.sha256,
            width=image.width,
            height=image.height,
            label=candidate.label,
            label_index=-1,
            mask_path=candidate.mask_path,
            mask_sha256=mask.sha256 if mask else None,
            attributes=candidate.attributes,
        )

    def verified_mask(self, candidate: Candidate, image: Verified) -> Verified | None:
        if candidate.mask_path is None:
            return None
        mask = self.verified(candidate.mask_path, is_mask=True)
        if (mask.width, mask.height) != (image.width, image.height):
            raise ImageImportError(
                f"The mask '{candidate.mask_path}' is {mask.width} x {mask.height} pixels, but its image "
                f"'{candidate.path}' is {image.width} x {image.height}; a mask must be as large as its image."
            )
        return mask

    def verified(self, path: str, *, is_mask: bool) -> Verified:
        file = self.root / path
        try:
            stat = file.stat()
            key = f"{path}\t{stat.st_size}\t{stat.st_mtime_ns}"
            known = self.cache.get(key)
            if known is not None:
                return known
            content = file.read_bytes()
        except OSError as error:
            reason = error.strerror or plain(error)
            raise ImageImportError(f"The file '{path}' cannot be read ({reason}).") from error
        found = verify_mask(content, path) if is_mask else verify_image(content, path)
        self.cache.put(key, found)
        return found


def verify_image(content: bytes, name: str) -> Verified:
    width, height = decode_image(content, name).size
    return Verified(hashlib.sha256(content).hexdigest(), width, height)


def verify_mask(content: bytes, name: str) -> Verified:
    height, width = decode_mask(content, name).shape
    return Verified(hashlib.sha256(content).hexdigest(), width, height)


def map_in_order(
    verify: Verifier, candidates: Sequence[Candidate], n_threads: int
) -> Iterator[ImageRecord | ImageImportError]:
    """Results in the order of the candidates, with a bounded number in flight, however many there are."""
    remaining = iter(candidates)
    with ThreadPoolExecutor(max_workers=max(1, n_threads)) as pool:
        waiting: list[Future[ImageRecord | ImageImportError]] = []
        waiting = [pool.submit(verify, candidate) for candidate in islice(remaining, IN_FLIGHT)]
        try:
            while waiting:
                yield waiting.pop(0).result()
                waiting.extend(pool.submit(verify, candidate) for candidate in islice(remaining, 1))
        finally:
            for future in waiting:
                future.cancel()


class VerifiedCache:
    """A file of JSON lines, appended to while scanning; without a path it remembers nothing."""

    def __init__(self, path: Path | None) -> None:
        self.known: dict[str, Verified] = {}
        self.file = None
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file():
            self.known = dict(parse_cache(path.read_text(encoding="utf-8", errors="replace")))
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.file.write("\n")  # whatever a killed scan left half-written ends here

    def get(self, key: str) -> Verified | None:
        return self.known.get(key)

    def put(self, key: str, found: Verified) -> None:
        if self.file is not None:
            self.file.write(json.dumps([key, asdict(found)]) + "\n")

    def close(self) -> None:
        if self.file is not None:
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()


def parse_cache(text: str) -> Iterator[tuple[str, Verified]]:
    for line in text.splitlines():
        try:
            key, found = json.loads(line)
            yield key, Verified(**found)
        except (ValueError, TypeError):
            continue  # a line cut off by a kill: that file is hashed again
