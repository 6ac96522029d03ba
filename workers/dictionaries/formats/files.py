"""Files from elsewhere, read with care: nothing in them is executed, and a damaged one gives one clear sentence.

A ``Candidate`` is a file or a folder that may hold a dictionary; what was read of it once is kept, because several
formats look at the same file to tell whether it is theirs.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workers.dictionaries.formats.pickles import (
    OLD_TORCH_MAGIC,
    PROBLEMS,
    PickleRefusedError,
    read_pickle,
    read_torch_file,
)
from workers.dictionaries.formats.weights import FormatError, demand

JSON_BYTES = 16 << 20
SAFETENSORS_HEADER_BYTES = 100 << 20  # the library's own limit
UNPACKED_BYTES = 64 << 20
MOST_UNPACKED = 32  # times as many bytes as the packed file has; weights hardly shrink at all
ZIP_MAGIC = b"PK\x03\x04"
GZIP_MAGIC = b"\x1f\x8b"
FINAL = ("ae.pt", "sae.pt")  # what libraries call the last of several
CHECKPOINTS = (".pt", ".pth", ".pkl", ".gz", ".ckpt", ".bin")


class Candidate:
    """A file or folder that may hold a dictionary."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The files directly inside; none where the candidate is a file."""
        return tuple(sorted(entry.name for entry in self.path.iterdir() if entry.is_file())) if self.is_folder else ()

    @cached_property
    def is_folder(self) -> bool:
        return self.path.is_dir()

    def has(self, *names: str) -> bool:
        return all(name in self.names for name in names)

    @cached_property
    def checkpoint(self) -> Any:
        """What a torch or pickle file holds, or the one such file of a folder; None where there is none."""
        path = self.checkpoint_path
        return None if path is None else read_checkpoint(path)

    @cached_property
    def checkpoint_path(self) -> Path | None:
        if not self.is_folder:
            return self.path if self.path.suffix in CHECKPOINTS else None
        found = [name for name in self.names if Path(name).suffix in CHECKPOINTS]
        found = [name for name in found if name in FINAL] or found
        return self.path / found[0] if len(found) == 1 else None

    @cached_property
    def states(self) -> dict[str, Tensor]:
        """The tensors of a checkpoint that is nothing but a state dict; {} where it is something else."""
        found = self.checkpoint
        is_state = isinstance(found, Mapping) and found and all(isinstance(value, Tensor) for value in found.values())
        return {str(name): value for name, value in found.items()} if is_state else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; raises FormatError where the file is none."""
    try:
        with path.open("rb") as file:
            text = file.read(JSON_BYTES + 1)
        found = json.loads(text) if len(text) <= JSON_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise FormatError(f"{path.name} cannot be read as JSON: {error}.") from error
    demand(len(text) <= JSON_BYTES, f"{path.name} is larger than a configuration can be.")
    if not isinstance(found, dict):
        raise FormatError(f"{path.name} must hold a JSON object.")
    return found


class TensorFile:
    """A safetensors file, opened lazily: names and shapes first, each tensor when it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_header(path)
        try:
            opened: Any = safe_open(path, framework="pt")
            self.names = tuple(opened.keys())
        except (SafetensorError, OSError, ValueError) as error:
            raise damaged(path, error) from error
        self.file = opened

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def shape(self, name: str) -> tuple[int, ...]:
        self.demand(name)
        return tuple(self.file.get_slice(name).get_shape())

    def get(self, name: str) -> Tensor:
        """The tensor in single precision."""
        self.demand(name)
        try:
            return as_float(self.file.get_tensor(name), f"{self.path.name}: {name}")
        except (SafetensorError, OSError) as error:
            raise damaged(self.path, error) from error

    def rows(self, name: str, rows: slice) -> Tensor:
        """Some rows only, so that a large tensor need not fit into memory."""
        self.demand(name)
        try:
            return as_float(self.file.get_slice(name)[rows], f"{self.path.name}: {name}")
        except (SafetensorError, OSError) as error:
            raise damaged(self.path, error) from error

    def optional(self, name: str) -> Tensor | None:
        return self.get(name) if name in self else None

    def demand(self, name: str) -> None:
        demand(
            name in self.names,
            f"{self.path.name} has no tensor '{name}'; it has {shown(self.names)}. Is it of another format?",
        )

    def all(self) -> dict[str, Tensor]:
        return {name: self.get(name) for name in self.names}


def check_header(path: Path) -> None:
    """The first eight bytes say how long the header is; a wild number means no safetensors file or a damaged one."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error.strerror}.") from error
    demand(len(start) == 8, f"{path.name} is {size} bytes long, too short for a safetensors file; copy it again.")
    (length,) = struct.unpack("<Q", start)
    demand(
        length <= min(size - 8, SAFETENSORS_HEADER_BYTES),
        f"{path.name} says that its header has {length:,} bytes, which cannot be: it is truncated, altered, or no "
        "safetensors file.",
    )


def damaged(path: Path, error: Exception) -> FormatError:
    return FormatError(f"{path.name} is damaged (truncated or altered): {error}. Copy it again.")


def read_checkpoint(path: Path) -> Any:
    """What a ``.pt``, ``.pth`` or ``.pkl.gz`` file holds, read without executing anything."""
    try:
        data = path.read_bytes()
        if data.startswith(GZIP_MAGIC):
            data = unpacked(data)
        if data.startswith(OLD_TORCH_MAGIC):
            return read_old_torch_file(data)
        return read_torch_file(data) if data.startswith(ZIP_MAGIC) else read_pickle(data)
    except PickleRefusedError as error:
        raise FormatError(f"{path.name} is refused: {error}") from error
    except OSError as error:
        raise FormatError(f"{path.name} cannot be read: {error}.") from error


def unpacked(data: bytes) -> bytes:
    """What a gzip file holds; one that holds far more than packed weights do is refused before it fills the memory."""
    most = UNPACKED_BYTES + MOST_UNPACKED * len(data)
    try:
        with gzip.open(io.BytesIO(data)) as file:
            found = file.read(most + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PickleRefusedError(f"it is damaged (truncated or altered): {error}. Copy it again.") from error
    if len(found) > most:
        raise PickleRefusedError(f"it unpacks to more than {most:,} bytes, which no packed weights do.")
    return found


def read_old_torch_file(data: bytes) -> Any:
    """A torch file of before version 1.6: torch's own safe loader reads tensors and nothing else."""
    try:
        found = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
    except PROBLEMS as error:
        raise PickleRefusedError(
            "it is an old torch file that holds more than tensors, or is damaged; save its state dict anew."
        ) from error
    for value in found.values() if isinstance(found, dict) else [found]:
        if isinstance(value, Tensor) and value.untyped_storage().nbytes() > len(data):
            raise PickleRefusedError("it is damaged: a tensor is larger than the file.")
    return found


def as_float(tensor: Tensor, what: str) -> Tensor:
    demand(
        tensor.is_floating_point(),
        f"{what} is of type {str(tensor.dtype).removeprefix('torch.')}; weights must be floating-point numbers.",
    )
    n_stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    demand(tensor.numel() <= n_stored, f"{what} has {tensor.numel():,} numbers, and {n_stored:,} are stored.")
    return tensor.detach().float().contiguous()


def take(tensors: Mapping[str, Any], name: str, source: str) -> Tensor:
    """A tensor of a state dict in single precision; raises FormatError where it is missing or none."""
    demand(name in tensors, f"{source} has no tensor '{name}'; it has {shown(tensors)}. Is it of another format?")
    found = tensors[name]
    demand(isinstance(found, Tensor), f"{source}: '{name}' is a {type(found).__name__}, not a tensor.")
    return as_float(found, f"{source}: {name}")


def take_optional(tensors: Mapping[str, Any], name: str, source: str) -> Tensor | None:
    return take(tensors, name, source) if tensors.get(name) is not None else None


def whole_number(value: Any, what: str) -> int:
    """A count, also where a library stored it as a tensor or as 32.0."""
    number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    demand(is_number and float(number).is_integer() and number >= 1, f"{what} is {value!r}; it must be 1 or more.")
    return int(number)


def shown(names: Iterable[str]) -> str:
    listed = sorted(str(name) for name in names)
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more" if len(listed) > 8 else "") if listed else "none"
