"""Pickles read without executing anything.

A pickle is a program: it may call any function by name. Here a name stands for a stub that calls nothing. An object of
a class that is not known becomes a ``Recorded`` that keeps the object's attributes and has none of its behavior; a
call is refused, but for the few that build tensors and plain containers, done by our own functions. Those are
``Builder`` objects rather than functions, so that a pickle cannot reach into one and alter it. What is built is no
larger than the file: a few bytes that grow into all of the memory are refused.
"""

from __future__ import annotations

import io
import itertools
import math
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from workers.dictionaries.formats.weights import FormatError

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
DTYPE_NAMES = frozenset(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))
OLD_TORCH_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
LONGEST_TEXT = 4096  # characters of a path or the name of a device
MOST_VALUES = 100_000  # of a configuration
PROBLEMS = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
    MemoryError, RecursionError, UnicodeDecodeError, RuntimeError, struct.error,
)  # fmt: skip


class PickleRefusedError(FormatError):
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


class ReadDict(dict[Any, Any]):
    """An ordered dict without the attributes a pickle gives it: state dicts have some, and one may hide a method."""

    def __setstate__(self, state: Any) -> None:
        pass


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

    data: bytes | bytearray
    dtype: torch.dtype | None


class ReadTensor(Tensor):
    """A tensor as its file has it: a pickle may not give it another state; what is computed of it is a plain one."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> NoReturn:
        raise PickleRefusedError("its pickle alters a tensor, which no checkpoint needs to do.")


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
    n_wanted = math.prod(sizes)
    if n_wanted > n_stored:
        raise PickleRefusedError(f"it is damaged: a tensor of {n_wanted:,} numbers has {n_stored:,} in its storage.")
    if is_empty:
        return torch.empty(sizes, dtype=storage.dtype)
    flat = torch.frombuffer(storage.data, dtype=storage.dtype, count=n_stored)
    return flat.as_strided(sizes, strides, offset).as_subclass(ReadTensor)


def rebuild_parameter(data: Any, *_: Any) -> Any:
    return data


def storage_from_bytes(data: Any) -> Storage:
    """A storage inside a plain pickle is a small torch file of the old kind, which torch's safe loader reads."""
    if not (isinstance(data, bytes) and data.startswith(OLD_TORCH_MAGIC)):
        raise PickleRefusedError("its pickle holds a tensor in an unusual way.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # typed storages are deprecated, and what such a file holds
        loaded = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        untyped, dtype = loaded.untyped(), loaded.dtype
    if untyped.nbytes() > len(data):
        raise PickleRefusedError("it is damaged: a storage is larger than its bytes.")
    return Storage(bytearray(torch.empty(0, dtype=torch.uint8).set_(untyped).numpy().tobytes()), dtype)


def reconstruct(cls: Any, base: Any, state: Any) -> Any:
    """copyreg's way to make an object of a class, in old pickles."""
    if not isinstance(cls, RecordedType) or base is not object or state is not None:
        raise PickleRefusedError("its pickle makes an object in an unusual way.")
    made: Recorded = Recorded.__new__(cls)  # type: ignore[arg-type]
    return made


def joined(*parts: Any) -> str:
    return short("/".join(text_of(part) for part in parts))


def as_text(*args: Any) -> str:
    return short(":".join(str(arg) if isinstance(arg, int) else text_of(arg) for arg in args))


def encoded(text: Any, encoding: Any = "latin1") -> bytes:
    return text_of(text).encode("latin1")


def text_of(value: Any) -> str:
    if not isinstance(value, str):
        raise PickleRefusedError(f"its pickle makes a text out of a {type(value).__name__}.")
    return value


def short(text: str) -> str:
    """Paths are joined of parts, and the parts may be joined ones: a short pickle could make an endless text."""
    if len(text) > LONGEST_TEXT:
        raise PickleRefusedError(f"its pickle makes a text of {len(text):,} characters for a path or a device.")
    return text


def as_dict(*args: Any) -> Any:
    return ReadDict(*(list(arg) for arg in args))


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
    ("_codecs", "encode"): Builder(encoded),
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
        self.read: dict[str, bytearray] = {}

    def find_class(self, module: str, name: str) -> Any:
        known = ALLOWED.get((module, name))
        if known is not None:
            return known
        if module == "torch" and name in DTYPE_NAMES:
            return getattr(torch, name)
        return RecordedType(name, (Recorded,), {"__module__": module})

    def persistent_load(self, pid: Any) -> Storage:
        """A storage of a torch file: ('storage', type, key, place, count)."""
        if self.storages is None or not (isinstance(pid, tuple) and len(pid) == 5 and pid[0] == "storage"):
            raise PickleRefusedError("its pickle refers to something outside of itself.")
        kind, key = pid[1], str(pid[2])
        if not isinstance(kind, Storage):
            raise PickleRefusedError(f"it holds a storage of an unknown type, {getattr(kind, '__name__', kind)}.")
        if key not in self.read:
            self.read[key] = bytearray(self.storages(key))
        return Storage(self.read[key], kind.dtype)


def read_pickle(data: bytes) -> Any:
    """The value of a plain pickle, objects as ``Recorded``; raises PickleRefusedError."""
    return unpickled(Reader(io.BytesIO(data)))


def read_torch_file(data: bytes) -> Any:
    """The value of a file that torch.save wrote (a zip archive), objects as ``Recorded``; raises PickleRefusedError."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        if sum(entry.file_size for entry in archive.infolist()) > len(data):
            raise PickleRefusedError("it is compressed, which torch.save never does, or its parts overlap.")
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
    except PickleRefusedError:
        raise
    except PROBLEMS as error:
        raise PickleRefusedError(f"it is no file that can be read, or damaged: {error}.") from error


def plain(value: Any) -> Any:
    """Recorded objects as dicts, all the way down, for reading a configuration; raises PickleRefusedError where that
    has no end, as of a list that holds itself."""
    number = itertools.count()

    def of(part: Any) -> Any:
        if next(number) >= MOST_VALUES:
            raise PickleRefusedError("The pickled configuration is larger than one can be.")
        if isinstance(part, Recorded):
            part = part.recorded
        if isinstance(part, dict):
            return {str(name): of(entry) for name, entry in part.items()}
        return [of(entry) for entry in part] if isinstance(part, list | tuple) else part

    try:
        return of(value)
    except RecursionError as error:
        raise PickleRefusedError("The pickled configuration holds itself.") from error
