"""Config of the stage that imports a dictionary of another library, and which files it may read.

A path is relative to the folder that the site opens for imports. Nothing outside of it is read, whatever links lie in
it. ``files`` says what was there when the run was asked for, so that the same path with other files is another request.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from workers.stages.configs.base import ConfigError, parent, require, setting

IMPORT_FORMATS = (
    "auto", "saelens", "sparsify", "circuit-tracer", "saev", "dictionary_learning", "overcomplete", "vit-prisma",
    "patchsae", "rrm",
)  # fmt: skip
MOST_FILES = 10_000
EDGE = 1 << 20  # bytes at either end of a file that its fingerprint is made of, with its size


@dataclass(frozen=True)
class ImportDictionaryConfig:
    """Import a dictionary that another library trained, once it has been checked on activations of the model."""

    path: str = parent("Path", "A file or folder inside the folder that this site opens for imports.")
    image_set: str = parent(
        "Image set", "A few of its images check the import: best those the dictionary was made for."
    )
    vision_model: str = parent("Vision model", "The model whose activations the dictionary was trained on.")
    format: str = setting("auto", "Format", "auto tells it from the files.")
    hookpoints: tuple[str, ...] = setting((), "Hookpoints", "Left empty: those the files name.")
    k: int = setting(0, "k", "How many latents are active; 0 where the files say it.", unit="per token")
    name: str = setting("", "Name", "Left empty, the file's or folder's own.")
    n_images: int = setting(24, "Images", "How many images serve to check the reconstruction.", unit="images")
    is_forced: bool = setting(False, "Import all the same", "Even if the check says that something is wrong.")
    files: str = setting("", "Files", "What was there when the run was asked for; filled in by the site.")

    parent_fields: ClassVar[tuple[str, ...]] = ("image_set", "vision_model")
    hidden_fields: ClassVar[tuple[str, ...]] = ("files",)

    def __post_init__(self) -> None:
        require(self.path.strip() != "", "Name the file or folder to import.", "path")
        require(
            self.format in IMPORT_FORMATS,
            f"The format '{self.format}' is unknown; it can be {', '.join(IMPORT_FORMATS)}.",
            "format",
        )
        require(len(set(self.hookpoints)) == len(self.hookpoints), "Name each hookpoint once.", "hookpoints")
        require(self.k >= 0, f"k is {self.k}; it must be 0, where the files say it, or more.", "k")
        require(1 <= self.n_images <= 1000, f"The check reads {self.n_images} images; choose 1 to 1,000.", "n_images")


def import_source(root: Path | None, path: str) -> Path:
    """The file or folder that a path means; raises ConfigError where it is outside of the root or not there."""
    if root is None:
        raise ConfigError("This site has no folder for imports; set VITRINE_IMPORT_ROOT.")
    inside = root.resolve()
    try:
        source = (inside / path).resolve()
        is_there = source.is_file() or source.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # a name of thousands of letters, a zero byte, a ring of links
        raise ConfigError(f"The path cannot be one of a file: {str(error)[:80]}.", "path") from error
    require(
        source.is_relative_to(inside),
        f"'{path}' lies outside of the folder for imports ({root}); copy the files there, or set VITRINE_IMPORT_ROOT.",
        "path",
    )
    require(source != inside, f"Name a file or folder inside of {root}, not the folder for imports itself.", "path")
    require(is_there, f"There is no '{path}' in the folder for imports ({root}).", "path")
    for entry in files_of(source):
        require(
            points_inside(entry, inside),
            f"'{entry.name}' in '{path}' is a link to a file outside of the folder for imports; copy the file there.",
            "path",
        )
    return source


def points_inside(entry: Path, folder: Path) -> bool:
    try:
        return entry.resolve().is_relative_to(folder)
    except (OSError, RuntimeError):  # a ring of links
        return False


def files_of(source: Path) -> Iterator[Path]:
    """Every file under a path, in the order of their names; raises ConfigError where they are too many."""
    if source.is_file():
        yield source
        return
    for number, entry in enumerate(sorted(source.rglob("*"))):
        require(
            number < MOST_FILES, f"'{source.name}' holds more than {MOST_FILES:,} files; name a smaller folder.", "path"
        )
        if entry.is_symlink() or entry.is_file():
            yield entry


def fingerprint(source: Path) -> str:
    """A digest of the names and sizes of the files under a path and of their first and last megabyte."""
    digest = hashlib.sha256()
    for path in files_of(source):
        if path.is_file():
            size = path.stat().st_size
            digest.update(f"{path.relative_to(source)}\0{size}\0".encode())
            with path.open("rb") as file:
                digest.update(file.read(EDGE))
                file.seek(max(0, size - EDGE))
                digest.update(file.read(EDGE))
    return digest.hexdigest()
