"""Pickles read without executing anything.

A pickle is a program: it may call any function by name. Here a name stands for a stub that calls nothing. An object of
a class that is not known becomes a ``Recorded`` that keeps the object's attributes and has none of its behavior; a
call is refused, but for the few that build tensors and plain containers, done by our own functions. Those are
``Builder`` objects rather than functions, so that a pickle cannot reach into one and alter it.
"""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
PROBLEMS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    MemoryError, RecursionError, UnicodeDecodeError, RuntimeError, struct.error,
)  # fmt: skip


class PickleRefusedError(Exception):
    """A pickle asks for something that is not done, or is damaged; the message is fit for the user."""


class RecordedType(type):
    """The type of stub classes: calling one is a call in the pickle, and refused."""

    def __call__(cls, *args: Any, **kwargs: Any) -> NoReturn:
        raise PickleRefusedError(
            f"its pickle calls {cls.__module__}.{cls.__name__}, and a pickle that calls anything is not executed here. "
            "Save the weights as safetensors, or as a plain state dict."
        )

    def __setattr__(cls, name: str, value: Any) -> NoReturn:
        raise PickleRefusedError("its pickle alters a class, which no checkpoint needs to do.")


class Recorded(metaclass=RecordedType):
    """An object of a class that is not loaded: its attributes, and the class's name."""

    recorded: dict[str, Any]

    def __new__(cls, *args: Any) -> Recorded:
        if args:
            raise PickleRefusedError(f"its pickle makes a {cls.__module__}.{cls.__name__} out of arguments.")
        made = object.__new__(cls)
        object.__setattr__(made, "recorded", {})
        return made

    def __setstate__(self, state: Any) -> None:
        parts = state if isinstance(state, tuple) and len(state) == 2 else (state,)
        for part in parts:
            if part is not None:
                if not isinstance(part, dict):
                    raise PickleRefusedError(f"its pickle gives a {type(self).__name__} a state that is no dict.")
                self.recorded.update(part)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise PickleRefusedError("its pickle sets an attribute in an unusual way.")

    def __setitem__(self, key: Any, value: Any) -> None:
        self.recorded[str(key)] = value


class Builder:
    """A call that is allowed, done by one of our own functions."""

    __slots__ = ("build",)
    build: Callable[..., Any]

    def __init__(self, build: Callable[..., Any]) -> None:
        object.__setattr__(self, "build", build)

    def __call__(self, *args: Any) -> Any:
        return self.build(*args)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise PickleRefusedError("its pickle alters a function, which no checkpoint needs to do.")

    def __setstate__(self, state: Any) -> NoReturn:
        raise PickleRefusedError("its pickle alters a function, which no checkpoint needs to do.")


class Storage(NamedTuple):
    """The bytes of one or several tensors."""

    data: bytes
    dtype: torch.dtype | None


def rebuild_tensor(storage: Any, offset: int, size: Any, stride: Any, *_: Any) -> Tensor:
    if not isinstance(storage, Storage) or storage.dtype is None:
        raise PickleRefusedError("its pickle builds a tensor from something that is no storage.")
    sizes, strides = tuple(size), tuple(stride)
    itemsize = torch.empty((), dtype=storage.dtype).element_size()
    n_stored = len(storage.data) // itemsize
    is_empty = any(n == 0 for n in sizes)
    last = offset + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    if offset < 0 or any(n < 0 for n in (*sizes, *strides)) or (not is_empty and last >= n_stored):
        raise PickleRefusedError("it is damaged: a tensor reaches beyond its storage.")
    if is_empty:
        return torch.empty(sizes, dtype=storage.dtype)
    flat = torch.frombuffer(bytearray(storage.data), dtype=storage.dtype, count=n_stored)
    return flat.as_strided(sizes, strides, offset).clone()


def rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def storage_from_bytes(data: Any) -> Storage:
    """A storage inside a plain pickle is a small torch file of its own, which torch's safe loader reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # typed storages are deprecated, and what such a file holds
        loaded = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        untyped, dtype = loaded.untyped(), loaded.dtype
    return Storage(torch.empty(0, dtype=torch.uint8).set_(untyped).numpy().tobytes(), dtype)


def reconstruct(cls: Any, base: Any, state: Any) -> Any:
    """copyreg's way to make an object of a class, in old pickles."""
    if not isinstance(cls, RecordedType) or base is not object or state is not None:
        raise PickleRefusedError("its pickle makes an object in an unusual way.")
    made: Recorded = Recorded.__new__(cls)  # type: ignore[arg-type]
    return made


def joined(*parts: Any) -> str:
    return "/".join(str(part) for part in parts)


def as_text(*args: Any) -> str:
    return ":".join(str(arg) for arg in args)


def as_dict(*args: Any) -> Any:
    return OrderedDict(*(list(arg) for arg in args))


ALLOWED: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): Builder(as_dict),
    ("builtins", "set"): Builder(lambda *args: set(*args)),
    ("builtins", "frozenset"): Builder(lambda *args: frozenset(*args)),
    ("builtins", "object"): object,
    ("builtins", "dict"): Builder(lambda *args: dict(*args)),
    ("__builtin__", "object"): object,
    ("__builtin__", "set"): Builder(lambda *args: set(*args)),
    ("copyreg", "_reconstructor"): Builder(reconstruct),
    ("copy_reg", "_reconstructor"): Builder(reconstruct),
    ("_codecs", "encode"): Builder(lambda text, encoding="latin1": str(text).encode("latin1")),
    ("torch", "device"): Builder(as_text),
    ("torch", "Size"): Builder(lambda *args: tuple(*args)),
    ("torch._utils", "_rebuild_tensor_v2"): Builder(rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): Builder(rebuild_parameter),
    ("torch.storage", "_load_from_bytes"): Builder(storage_from_bytes),
    ("torch.storage", "UntypedStorage"): Storage(b"", None),
    ("torch.serialization", "_get_layout"): Builder(as_text),
    ("pathlib", "PosixPath"): Builder(joined),
    ("pathlib", "PurePosixPath"): Builder(joined),
    ("pathlib", "WindowsPath"): Builder(joined),
} | {("torch", name): Storage(b"", dtype) for name, dtype in DTYPES.items()}


class Reader(pickle.Unpickler):
    """Unpickles names as stubs and the few builders above."""

    def __init__(self, file: io.BytesIO, storages: Callable[[str], bytes] | None = None) -> None:
        super().__init__(file, encoding="latin1")
        self.storages = storages

    def find_class(self, module: str, name: str) -> Any:
        known = ALLOWED.get((module, name))
        if known is not None:
            return known
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        return RecordedType(name, (Recorded,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Storage:
        """A storage of a torch file: ('storage', type, key, place, count)."""
        if self.storages is None or not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise PickleRefusedError("its pickle refers to something outside of itself.")
        kind, key = pid[1], str(pid[2])
        if not isinstance(kind, Storage):
            raise PickleRefusedError(f"it holds a storage of an unknown type, {getattr(kind, '__name__', kind)}.")
        return Storage(self.storages(key), kind.dtype)


def read_pickle(data: bytes) -> Any:
    """The value of a plain pickle, objects as ``Recorded``; raises PickleRefusedError."""
    return unpickled(Reader(io.BytesIO(data)))


def read_torch_file(data: bytes) -> Any:
    """The value of a file that torch.save wrote (a zip archive), objects as ``Recorded``; raises PickleRefusedError."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        pickled = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise PickleRefusedError("it is a zip archive, but not one that torch.save wrote.")
        prefix = pickled[0].removesuffix("data.pkl")
        program = record(archive, pickled[0])
        return unpickled(Reader(io.BytesIO(program), lambda key: record(archive, f"{prefix}data/{key}")))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError) as error:
        raise PickleRefusedError(f"it is damaged (truncated or altered): {error}. Copy it again.") from error


def record(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        found = archive.getinfo(name)
    except KeyError as error:
        raise PickleRefusedError(f"it is damaged: its part '{name}' is missing. Copy it again.") from error
    if found.compress_type != zipfile.ZIP_STORED:
        raise PickleRefusedError("it is compressed in a way that torch.save never does.")
    return archive.read(found)


def unpickled(reader: Reader) -> Any:
    try:
        return reader.load()
    except PROBLEMS as error:
        raise PickleRefusedError(f"it is no file that can be read, or damaged: {error}.") from error


def plain(value: Any) -> Any:
    """Recorded objects as dicts, all the way down, for reading a configuration."""
    if isinstance(value, Recorded):
        return {str(name): plain(entry) for name, entry in value.recorded.items()}
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return value
