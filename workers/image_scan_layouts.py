"""What a folder of images says about itself: which files are images, and which class each belongs to.

Known layouts, tried in this order: a metadata file; class subfolders (ILSVRC's training folders too), also below
train/ and val/ folders; one flat folder, with ILSVRC's validation truth beside the images, or without labels.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from workers.image_decoding import SUFFIXES, ImageImportError
from workers.image_scan_metadata import read_metadata
from workers.image_scan_names import ClassNames, find_class_names, read_validation_truth

METADATA_NAMES = ("metadata.csv", "metadata.jsonl")
SPLITS = ("train", "training", "val", "valid", "validation", "test")
SIDE_SUFFIXES = (".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".xml", ".yaml", ".yml", ".html", ".mat", ".sh")
SIDE_NAMES = ("license", "licence", "readme", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Candidate:
    """An image that the folder names; `problem` is set where that alone shows that it cannot be imported."""

    path: str
    label: str | None = None
    mask_path: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    problem: str = ""


def find_candidates(root: Path, metadata: Path | None) -> tuple[list[Candidate], list[str]]:
    """The images of a folder in a fixed order, and the readable class names in theirs."""
    require_readable_folder(root)
    metadata = metadata or next((root / name for name in METADATA_NAMES if (root / name).is_file()), None)
    if metadata is not None:
        return candidates_of_metadata(root, metadata)
    files = list_files(root)
    if not files:
        raise ImageImportError(f"The folder '{root}' holds no images; give a folder with JPEG, PNG or WebP files.")
    flat = [path for path in files if "/" not in path]
    if len(flat) == len(files):
        return candidates_of_flat_folder(root, files)
    if any(path.lower().endswith(SUFFIXES) for path in flat):
        raise ImageImportError(
            f"The folder '{root}' holds images both beside and inside its subfolders ('{flat[0]}' is beside them); put "
            "each into the subfolder of its class, or give a metadata file."
        )
    return candidates_of_subfolders(root, files)


def require_readable_folder(root: Path) -> None:
    try:
        os.scandir(root).close()
    except FileNotFoundError as error:
        raise ImageImportError(f"The folder '{root}' does not exist.") from error
    except NotADirectoryError as error:
        raise ImageImportError(f"'{root}' is a file, not a folder; give the folder that holds the images.") from error
    except OSError as error:
        raise ImageImportError(f"The folder '{root}' cannot be read ({error.strerror}).") from error


def list_files(root: Path) -> list[str]:
    """Relative paths of all files that are images or should be, sorted; hidden files and notes are left aside."""
    found: list[str] = []

    def refuse(error: OSError) -> None:
        raise ImageImportError(f"The folder '{error.filename}' cannot be read ({error.strerror}).") from error

    for folder, subfolders, names in os.walk(root, onerror=refuse, followlinks=True):
        subfolders[:] = sorted(s for s in subfolders if not s.startswith(".") and not leads_back(Path(folder) / s))
        base = Path(folder).relative_to(root)
        found.extend((base / name).as_posix() for name in names if not is_side_file(name))
    return sorted(found)


def leads_back(folder: Path) -> bool:
    """Whether this is a link to a folder above itself, which would be walked for ever."""
    return folder.is_symlink() and (folder.parent.resolve() / "inside").is_relative_to(folder.resolve())


def is_side_file(name: str) -> bool:
    lower = name.lower()
    return lower.startswith(".") or lower.endswith(SIDE_SUFFIXES) or lower.split(".")[0] in SIDE_NAMES


def candidate(path: str, label: str | None, attributes: dict[str, Any] | None = None) -> Candidate:
    problem = "" if path.lower().endswith(SUFFIXES) else not_an_image(path)
    return Candidate(path=path, label=label, attributes=attributes or {}, problem=problem)


def not_an_image(path: str) -> str:
    return f"The file '{path}' is no JPEG, PNG or WebP file; remove it, or save it as one of these."


def candidates_of_subfolders(root: Path, files: list[str]) -> tuple[list[Candidate], list[str]]:
    """Class subfolders, at the top or one level below folders named train, val and test."""
    tops = {path.split("/")[0] for path in files}
    has_splits = all(top.lower() in SPLITS for top in tops)
    depth = 1 if has_splits else 0
    outside = next((path for path in files if path.count("/") <= depth), None)
    if outside is not None:
        raise ImageImportError(f"The file '{outside}' is in no class folder; move it into one, or remove it.")
    folders = {path.split("/")[depth] for path in files}
    names = find_class_names(root, sorted(folders, key=by_number_then_name))
    candidates = [
        candidate(path, names.of(path.split("/")[depth]), {"split": path.split("/")[0]} if has_splits else None)
        for path in files
    ]
    return candidates, names.classes


def candidates_of_flat_folder(root: Path, files: list[str]) -> tuple[list[Candidate], list[str]]:
    """One folder of images; ILSVRC's validation truth gives their classes where it lies beside or above them."""
    truth = read_validation_truth(root, [path for path in files if path.lower().endswith(SUFFIXES)])
    if truth is None:
        return [candidate(path, None) for path in files], []
    labeled = {PurePosixPath(name).stem: folder for name, folder in truth.items()}
    unknown = next((path for path in files if PurePosixPath(path).stem not in labeled), None)
    if unknown is not None:
        raise ImageImportError(f"The image '{unknown}' has no line in the file that gives the classes.")
    missing = sorted(set(labeled) - {PurePosixPath(path).stem for path in files})
    names: ClassNames = find_class_names(root, sorted(set(truth.values())))
    candidates = [candidate(path, names.of(labeled[PurePosixPath(path).stem])) for path in files]
    gone = [
        Candidate(path=name, problem=f"The file of classes has a label for '{name}', but there is no such image.")
        for name in missing
    ]
    return candidates + gone, names.classes


def candidates_of_metadata(root: Path, metadata: Path) -> tuple[list[Candidate], list[str]]:
    """The images that a metadata file lists, in its order."""
    rows = read_metadata(metadata)
    candidates = [
        Candidate(
            path=row.path,
            label=row.label,
            mask_path=row.mask,
            attributes=row.attributes,
            problem=missing_file(root, row.path, row.mask, f"{metadata.name}, line {row.line}"),
        )
        for row in rows
    ]
    labels = {row.label for row in rows if row.label is not None}
    names = find_class_names(root, sorted(labels, key=by_number_then_name))
    return [replace_label(c, names) for c in candidates], names.classes


def by_number_then_name(label: str) -> tuple[int, int, str]:
    return (0, int(label), label) if label.isdecimal() else (1, 0, label)


def replace_label(found: Candidate, names: ClassNames) -> Candidate:
    return Candidate(**{**vars(found), "label": None if found.label is None else names.of(found.label)})


def missing_file(root: Path, path: str, mask: str | None, where: str) -> str:
    if not os.path.isfile(root / path):
        return f"There is no image '{path}' under '{root}', though {where} lists it."
    if not path.lower().endswith(SUFFIXES):
        return not_an_image(path)
    if mask is not None and not os.path.isfile(root / mask):
        return f"There is no mask '{mask}' under '{root}', though {where} lists it for '{path}'."
    return ""
