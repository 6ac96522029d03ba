"""Readable class names and ILSVRC's validation truth, from the small files that lie beside the images.

Names come from `classes.json`, `classes.txt` or `LOC_synset_mapping.txt`; for ILSVRC folders (n01440764) without one of
these, from the synset list that timm carries, read without importing timm.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from workers.image_decoding import ImageImportError

SYNSET = re.compile(r"n\d{8}$")
LEVELS_UP = 3  # ILSVRC/Data/CLS-LOC/train: the mapping lies beside ILSVRC
MAPPING = "LOC_synset_mapping.txt"
SOLUTION = "LOC_val_solution.csv"
NUMBERED_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
LISTED_TRUTH = "val.txt"
VALIDATION_IMAGES = "ILSVRC2012_val"


@dataclass(frozen=True)
class ClassNames:
    """The readable names of all classes in order, and which of them a folder (or raw label) means."""

    classes: list[str]
    by_folder: Mapping[str, str]

    def of(self, folder: str) -> str:
        return self.by_folder[folder]


def find_class_names(root: Path, folders: Sequence[str]) -> ClassNames:
    """Names for these folders or raw labels, in the order that numbers the classes."""
    for name, read in (("classes.json", read_json), ("classes.txt", read_text)):
        if (root / name).is_file():
            with in_known_form(root / name):
                return fit_names(read(root / name, folders), folders, name)
    mapping = find_upwards(root, MAPPING)
    if mapping is not None and folders and all(map(SYNSET.match, folders)):
        with in_known_form(mapping):
            return fit_names(read_synsets(mapping.read_text(encoding="utf-8")), folders, MAPPING)
    known = bundled_synsets() if folders and all(map(SYNSET.match, folders)) else {}
    return fit_names({folder: known.get(folder, folder) for folder in folders}, folders, "")


@contextmanager
def in_known_form(path: Path) -> Iterator[None]:
    """Say which file it was, where reading it fails on something unforeseen."""
    try:
        yield
    except ImageImportError:
        raise
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise ImageImportError(
            f"The file '{path}' is not of the form that is known under this name ({error})."
        ) from error


def fit_names(names: Mapping[str, str] | list[str], folders: Sequence[str], source: str) -> ClassNames:
    if isinstance(names, list):
        return fit_list(names, folders, source)
    missing = next((folder for folder in folders if folder not in names), None)
    if missing is not None:
        raise ImageImportError(f"The class '{missing}' has no name in {source}; add it there, or remove {source}.")
    unique = make_unique(names)
    return ClassNames(list(unique.values()), unique)


def fit_list(names: list[str], folders: Sequence[str], source: str) -> ClassNames:
    """A bare list either orders the folders, or is indexed by numeric labels, or names the sorted folders."""
    if len(set(names)) != len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ImageImportError(f"The class '{twice}' stands twice in {source}; each line must be another class.")
    if set(folders) <= set(names):
        return ClassNames(names, {name: name for name in names})
    if all(f.isdecimal() and int(f) < len(names) for f in folders):
        return ClassNames(names, {folder: names[int(folder)] for folder in folders})
    if len(names) == len(folders):
        return ClassNames(names, dict(zip(folders, names, strict=True)))
    raise ImageImportError(
        f"{source} lists {len(names)} classes, but there are {len(folders)} class folders; list each once, or "
        "remove it."
    )


def make_unique(names: Mapping[str, str]) -> dict[str, str]:
    """ImageNet has two cranes and two maillots: what stands twice gets its folder in brackets."""
    counts = Counter(names.values())
    return {folder: name if counts[name] == 1 else f"{name} ({folder})" for folder, name in names.items()}


def read_json(path: Path, folders: Sequence[str]) -> Mapping[str, str] | list[str]:
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ImageImportError(f"The file '{path}' is no JSON ({error}).") from error
    if isinstance(loaded, list) and all(isinstance(name, str) for name in loaded):
        return loaded
    if isinstance(loaded, dict) and all(isinstance(name, str) for name in loaded.values()):
        return loaded
    raise ImageImportError(f"The file '{path}' must hold a list of class names, or an object of folder: name.")


def read_text(path: Path, folders: Sequence[str]) -> Mapping[str, str] | list[str]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    pairs = [line.split(maxsplit=1) for line in lines]
    if pairs and all(len(pair) == 2 for pair in pairs) and set(folders) <= {pair[0] for pair in pairs}:
        return {pair[0]: pair[1] for pair in pairs}
    return lines


def read_synsets(text: str) -> dict[str, str]:
    """Lines `n01440764 tench, Tinca tinca`: the first of several names is the readable one."""
    pairs = [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]
    return {pair[0]: pair[-1].split(",")[0].strip() for pair in pairs}


def bundled_synsets() -> dict[str, str]:
    """The synsets of ImageNet with their names, from the text files inside the timm package."""
    text = bundled_text("imagenet_synset_to_lemma.txt")
    return read_synsets(text) if text else {}


def bundled_text(name: str) -> str:
    found = importlib.util.find_spec("timm")
    folders: Iterable[str] = (found.submodule_search_locations or ()) if found else ()
    path = next((Path(folder) / "data" / "_info" / name for folder in folders), None)
    return path.read_text(encoding="utf-8") if path is not None and path.is_file() else ""


def find_upwards(root: Path, name: str, levels: int = LEVELS_UP) -> Path | None:
    folders = [root, *root.resolve().parents[:levels]]
    return next((folder / name for folder in folders if (folder / name).is_file()), None)


def read_validation_truth(root: Path, images: Sequence[str]) -> dict[str, str] | None:
    """Image name to synset, from whichever truth file of ILSVRC lies in the folder or above it; None without one."""
    levels = LEVELS_UP if all(image.startswith(VALIDATION_IMAGES) for image in images) else 0
    readers = {SOLUTION: read_solution, LISTED_TRUTH: read_listed_truth, NUMBERED_TRUTH: read_numbered_truth}
    for name, read in readers.items():
        path = find_upwards(root, name, levels)
        if path is not None:
            with in_known_form(path):
                return read(path, images)
    return None


def read_solution(path: Path, images: Sequence[str]) -> dict[str, str]:
    """Rows `ILSVRC2012_val_00000001,n01751748 111 108 365 317`."""
    with path.open(newline="", encoding="utf-8") as file:
        return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}


def read_listed_truth(path: Path, images: Sequence[str]) -> dict[str, str]:
    """Lines `ILSVRC2012_val_00000001.JPEG 65`: a synset, or a position among the sorted synsets."""
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    wrong = next((" ".join(pair) for pair in pairs if len(pair) != 2), None)
    if wrong is not None:
        raise ImageImportError(f"The line '{wrong}' of '{path}' is not an image and its class.")
    if not all(label.isdecimal() for _, label in pairs):
        return {name: label for name, label in pairs}
    synsets = bundled_text("imagenet_synsets.txt").split()
    if any(int(label) >= len(synsets) for _, label in pairs):
        raise ImageImportError(f"'{path}' numbers classes beyond the {len(synsets)} of ImageNet; give a metadata file.")
    return {name: synsets[int(label)] for name, label in pairs}


def read_numbered_truth(path: Path, images: Sequence[str]) -> dict[str, str]:
    """One ILSVRC2012 id per line, for the images in order of name; the ids are explained by a file of the devkit."""
    ids = [int(line) for line in path.read_text().split()]
    if len(ids) != len(images):
        raise ImageImportError(f"'{path}' has {len(ids)} lines, but there are {len(images)} images; they must agree.")
    synsets = read_devkit_ids(path)
    unknown = next((number for number in ids if number not in synsets), None)
    if unknown is not None:
        raise ImageImportError(f"'{path}' has the class id {unknown}, which the devkit's list does not know.")
    return {image: synsets[number] for image, number in zip(sorted(images), ids, strict=True)}


def read_devkit_ids(truth: Path) -> dict[int, str]:
    """ILSVRC2012 id to synset, from `map_clsloc.txt` (`n02119789 1 kit_fox`) or `meta.mat` beside the truth."""
    listed, matlab = truth.parent / "map_clsloc.txt", truth.parent / "meta.mat"
    if listed.is_file():
        rows = [line.split() for line in listed.read_text().splitlines() if line.strip()]
        return {int(row[1]): row[0] for row in rows}
    if not matlab.is_file():
        raise ImageImportError(
            f"'{truth}' gives class ids, but neither map_clsloc.txt nor meta.mat of the devkit lies beside it to say "
            "what they mean; copy one there."
        )
    from scipy.io import loadmat

    synsets = loadmat(matlab, squeeze_me=True)["synsets"]
    return {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
