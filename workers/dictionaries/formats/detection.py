"""Which format a path is of, and all the coders under it: a file, a folder of one, or a tree with one per hookpoint."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.formats import (
    circuit_tracer,
    dictionary_learning,
    overcomplete,
    patchsae,
    prisma,
    rrm,
    saelens,
    saev,
    sparsify,
)
from workers.dictionaries.formats.files import CHECKPOINTS, Candidate, shown
from workers.dictionaries.formats.weights import FormatError, Hints, Site

MODULES: tuple[ModuleType, ...] = (
    saelens, sparsify, circuit_tracer, saev, dictionary_learning, overcomplete, prisma, patchsae, rrm,
)  # fmt: skip
FORMATS: dict[str, ModuleType] = {module.NAME: module for module in MODULES}
NO_HINTS = Hints()
DEEPEST = 4
MOST_CANDIDATES = 512


class Found(NamedTuple):
    """The format of a path and its coders in order of their names, or the cross-layer transcoder that it is."""

    format: str
    sites: tuple[Site, ...]
    cross_layer: CrossLayerCoder | None = None


def read_path(path: Path, format_name: str = "auto", hints: Hints = NO_HINTS) -> Found:
    """Everything under a path; raises FormatError with a sentence where that is nothing, or of two formats."""
    if not path.exists():
        raise FormatError(f"There is no file or folder '{path.name}' there.")
    modules = MODULES if format_name == "auto" else (named(format_name),)
    claimed = [(module, candidate) for candidate in candidates(path) if (module := claimant(candidate, modules))]
    if not claimed:
        raise FormatError(nothing_found(path, format_name))
    names = {module.NAME for module, _ in claimed}
    if len(names) > 1:
        raise FormatError(f"{path.name} holds files of several formats ({', '.join(sorted(names))}); name one of them.")
    module, first = claimed[0]
    if module is circuit_tracer and first.is_folder and circuit_tracer.is_cross_layer(first):
        return Found(module.NAME, (), circuit_tracer.read_cross_layer(first))
    sites = [site for _, candidate in claimed for site in module.read(candidate, hints)]
    return Found(module.NAME, tuple(sites))


def named(format_name: str) -> ModuleType:
    if format_name not in FORMATS:
        raise FormatError(f"The format '{format_name}' is unknown; it can be auto, {', '.join(FORMATS)}.")
    return FORMATS[format_name]


def claimant(candidate: Candidate, modules: tuple[ModuleType, ...]) -> ModuleType | None:
    return next((module for module in modules if module.claims(candidate)), None)


def candidates(path: Path) -> Iterator[Candidate]:
    """The path itself; where no format could be of a folder itself, what lies in it, level by level."""
    own = Candidate(path)
    if not own.is_folder or is_entry(own):
        yield own
        return
    number = 0
    for entry in walk(path, DEEPEST):
        candidate = Candidate(entry)
        if not candidate.is_folder or is_entry(candidate):
            number += 1
            if number > MOST_CANDIDATES:
                raise FormatError(f"{path.name} holds more than {MOST_CANDIDATES} dictionaries; name a smaller folder.")
            yield candidate


def is_entry(candidate: Candidate) -> bool:
    """Whether a folder is one dictionary, by the names of its files alone."""
    return (
        saelens.claims(candidate)
        or sparsify.claims(candidate)
        or circuit_tracer.is_folder_of_layers(candidate)
        or candidate.has(dictionary_learning.FILE)
        or candidate.has("sae.pt")
        or (candidate.has("config.json") and candidate.checkpoint_path is not None)
    )


def walk(folder: Path, depth: int) -> Iterator[Path]:
    """Folders that are one dictionary and single checkpoint files, in natural order; links are not followed."""
    for entry in sorted(folder.iterdir(), key=lambda one: natural_key(one.name)):
        if entry.is_symlink():
            continue
        if entry.is_file() and entry.suffix in CHECKPOINTS:
            yield entry
        elif entry.is_dir():
            if is_entry(Candidate(entry)):
                yield entry
            elif depth > 1:
                yield from walk(entry, depth - 1)


def natural_key(name: str) -> list[tuple[int, str]]:
    """layers.2 before layers.10."""
    parts: list[tuple[int, str]] = []
    digits, text = "", ""
    for letter in name:
        if letter.isdigit():
            digits += letter
            if text:
                parts.append((-1, text))
                text = ""
        else:
            if digits:
                parts.append((int(digits), ""))
                digits = ""
            text += letter
    return [*parts, (int(digits), "")] if digits else [*parts, (-1, text)]


def nothing_found(path: Path, format_name: str) -> str:
    what = "a dictionary of a format that is known here" if format_name == "auto" else f"a file of {format_name}"
    inside = f" It holds {shown(entry.name for entry in path.iterdir())}." if path.is_dir() else ""
    return f"{path.name} is not {what}.{inside} Formats: {', '.join(FORMATS)}."
