"""Files that lie, break or attack: nothing in them is executed, and each gives one sentence."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.workers.dictionaries.formats.layouts import D, F, square_state, write_saelens
from workers.dictionaries.formats.detection import read_path
from workers.dictionaries.formats.files import TensorFile, read_checkpoint, take
from workers.dictionaries.formats.pickles import plain
from workers.dictionaries.formats.weights import FormatError


class Calls:
    """Pickles as a call of anything."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


ATTACKS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda mark: Calls(os.system, f"touch {mark}"),
    "eval": lambda mark: Calls(eval, f"open({str(mark)!r}, 'w')"),
    "open": lambda mark: Calls(open, str(mark), "w"),
    "getattr": lambda mark: Calls(getattr, "a text", "upper"),
    "torch.load": lambda mark: Calls(torch.load, str(mark)),
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("layout", ["zip", "gzip", "plain"])
def test_a_pickle_with_a_call_in_it_is_refused_and_not_executed(tmp_path: Path, attack: str, layout: str) -> None:
    mark = tmp_path / "executed"
    content = {"cfg": ATTACKS[attack](mark), "state_dict": square_state()}
    path = tmp_path / {"zip": "sae.pt", "gzip": "sae.pkl.gz", "plain": "sae.pkl"}[layout]
    data = io.BytesIO()
    if layout == "zip":
        torch.save(content, data)
    else:
        pickle.dump({"cfg": content["cfg"]}, data)
    path.write_bytes(gzip.compress(data.getvalue()) if layout == "gzip" else data.getvalue())
    with pytest.raises(FormatError, match="is refused: its pickle calls"):
        read_path(path)
    assert not mark.exists()


def test_the_pickle_that_is_refused_would_have_been_executed(tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    pickle.loads(pickle.dumps(ATTACKS["os.system"](mark)))
    assert mark.exists()


def hand_written(*opcodes: bytes) -> bytes:
    return b"\x80\x02" + b"".join(opcodes) + b"."


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (hand_written(b"ccollections\nOrderedDict\n", b"}(X\x05\x00\x00\x00builds\x00\x00\x00\x00"), "damaged"),
        (hand_written(b"ctorch._utils\n_rebuild_tensor_v2\n", b"}X\x05\x00\x00\x00buildNsb"), "alters a function"),
        (hand_written(b"cevil\nThing\n", b")\x81", b"K\x01b"), "a state that is no dict"),
        (hand_written(b"cevil\nThing\n", b"K\x01\x85\x81"), "out of arguments"),
        (hand_written(b"cevil\nThing\n", b")R"), "calls evil.Thing"),
        (hand_written(b"(S'rm -rf /'\nios\nsystem\n"), "calls os.system|out of arguments"),
        (hand_written(b"X\x04\x00\x00\x00datal\x51"), "damaged"),
        (b"garbage", "damaged"),
        (b"", "damaged"),
    ],
)
def test_hand_written_pickles(tmp_path: Path, program: bytes, sentence: str) -> None:
    path = tmp_path / "sae.pkl"
    path.write_bytes(program)
    with pytest.raises(FormatError, match=sentence):
        read_checkpoint(path)


def test_a_recorded_object_keeps_attributes_and_nothing_else(tmp_path: Path) -> None:
    from tests.workers.dictionaries.formats.test_hostile_files import Behaves

    path = tmp_path / "sae.pkl"
    path.write_bytes(pickle.dumps(Behaves()))
    found = read_checkpoint(path)
    assert (type(found).__name__, found.recorded) == ("Behaves", {"k": 3})
    assert not hasattr(found, "run")


class Behaves:
    def __init__(self) -> None:
        self.k = 3

    def run(self) -> None:
        raise AssertionError("never")


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def doubled(times: int) -> bytes:
    """A text that doubles with every path that is joined of it twice."""
    twice = b"cpathlib\nPosixPath\n" + b"h\x00h\x00\x86Rq\x00"
    return hand_written(text("a" * 1000), b"q\x00", twice * times)


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        (doubled(30), "makes a text of 8,007 characters"),
        (hand_written(b"c_codecs\nencode\n", b"]\x85R"), "makes a text out of a list"),
        (hand_written(b"ctorch.storage\n_load_from_bytes\n", text("PK"), b"\x85R"), "a tensor in an unusual way"),
    ],
)
def test_a_short_pickle_makes_nothing_long(tmp_path: Path, program: bytes, sentence: str) -> None:
    path = tmp_path / "sae.pkl"
    path.write_bytes(program)
    with pytest.raises(FormatError, match=f"^sae.pkl is refused: its pickle {sentence}|holds {sentence}"):
        read_checkpoint(path)


def test_attributes_of_a_dict_hide_no_method(tmp_path: Path) -> None:
    made = b"ccollections\nOrderedDict\n)R" + text("W_enc") + b"K\x01s"
    path = tmp_path / "sae.pkl"
    path.write_bytes(hand_written(made, b"}", text("values"), b"K\x02sb"))
    assert list(read_checkpoint(path).values()) == [1]
    with pytest.raises(FormatError, match="is not a dictionary of a format that is known"):
        read_path(path)


def test_a_configuration_without_an_end() -> None:
    ring: dict[str, Any] = {}
    ring["cfg"] = ring
    with pytest.raises(FormatError, match="configuration holds itself"):
        plain(ring)
    tower: list[Any] = []
    for _ in range(9):
        tower = [tower] * 10
    with pytest.raises(FormatError, match="configuration is larger than one can be"):
        plain(tower)


def test_a_packed_file_that_is_cut_or_unpacks_without_an_end(tmp_path: Path) -> None:
    path = tmp_path / "sae.pkl.gz"
    packed = gzip.compress(pickle.dumps({"cfg": os.urandom(4000)}))
    for data, sentence in (
        (packed[:2000], "is damaged"),
        (packed[:200] + bytes(100) + packed[300:], "is damaged"),
        (gzip.compress(bytes(80 << 20)), "unpacks to more than"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=sentence):
            read_checkpoint(path)


def changed_pickle(change: Callable[[bytes], bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """A torch file of one 3 × 4 tensor whose pickle is changed."""
    data = io.BytesIO()
    torch.save({"W_enc": torch.zeros(3, 4)}, data)
    changed = io.BytesIO()
    with zipfile.ZipFile(data) as source, zipfile.ZipFile(changed, "w", compression) as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, change(content) if entry.filename.endswith("data.pkl") else content)
    return changed.getvalue()


def stretched(program: bytes) -> bytes:
    """The tensor says that it repeats its first number 65,536 × 32,768 times."""
    size = b"J" + struct.pack("<i", 65_536) + b"J" + struct.pack("<i", 32_768) + b"\x86"
    return program.replace(b"K\x03K\x04\x86", size).replace(b"K\x04K\x01\x86", b"K\x00K\x00\x86")


def with_state(program: bytes) -> bytes:
    """The tensor is given a state, by which torch would set its storage anew."""
    end = program.rindex(b"Rq") + 3
    return program[:end] + b"(h" + program[end - 1 : end] + b"K\x00K\x7f\x85K\x01\x85tb" + program[end:]


def test_tensors_that_grow(tmp_path: Path) -> None:
    path = tmp_path / "sae.pt"
    for data, sentence in (
        (changed_pickle(stretched), "a tensor of 2,147,483,648 numbers has 12 in its storage"),
        (changed_pickle(with_state), "its pickle alters a tensor"),
        (changed_pickle(lambda program: program, zipfile.ZIP_DEFLATED), "compressed"),
    ):
        path.write_bytes(data)
        with pytest.raises(FormatError, match=sentence):
            read_checkpoint(path)
    path.write_bytes(changed_pickle(lambda program: program))
    assert torch.equal(read_checkpoint(path)["W_enc"], torch.zeros(3, 4))


def test_an_old_torch_file_that_repeats_its_numbers(tmp_path: Path) -> None:
    path = tmp_path / "sae.pt"
    torch.save({"W_enc": torch.zeros(1).expand(300, 400)}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(FormatError, match="W_enc has 120,000 numbers, and 1 are stored"):
        take(read_checkpoint(path), "W_enc", path.name)


def tensor_beyond_its_storage() -> bytes:
    """A file whose only tensor says that it is larger than its bytes."""
    data = io.BytesIO()
    torch.save({"W_enc": torch.zeros(3, 4)}, data)
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data.getvalue())) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = content.replace(b"K\x03K\x04\x86", b"K\x7fK\x7f\x86")
            target.writestr(entry, content)
    return changed.getvalue()


def test_a_tensor_never_reaches_beyond_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "sae.pt"
    path.write_bytes(tensor_beyond_its_storage())
    with pytest.raises(FormatError, match="a tensor reaches beyond its storage"):
        read_checkpoint(path)


@pytest.mark.parametrize("n_bytes", [0, 4, 200, 1500])
def test_a_truncated_torch_file(tmp_path: Path, n_bytes: int) -> None:
    path = tmp_path / "sae.pt"
    torch.save(square_state(), path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.raises(FormatError, match="damaged"):
        read_path(path)


def test_an_altered_torch_file(tmp_path: Path) -> None:
    path = tmp_path / "sae.pt"
    torch.save(square_state(), path)
    data = bytearray(path.read_bytes())
    place = data.index(square_state()["W_enc"].numpy().tobytes()[:16])
    data[place] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(FormatError, match="damaged"):
        read_path(path)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "too short for a safetensors file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "header has 4,611,686,018,427,387,904 bytes, which cannot be"),
        (struct.pack("<Q", 60) + b"{}", "truncated, altered, or no safetensors file"),
        (struct.pack("<Q", 2) + b"[]", "is damaged"),
        (struct.pack("<Q", 2) + b"{{", "is damaged"),
    ],
)
def test_safetensors_that_are_none(tmp_path: Path, data: bytes, sentence: str) -> None:
    folder = write_saelens(tmp_path / "sae")
    (folder / "sae_weights.safetensors").write_bytes(data)
    with pytest.raises(FormatError, match=sentence):
        read_path(folder)


def test_truncated_safetensors(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "sae")
    path = folder / "sae_weights.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FormatError, match="is damaged"):
        read_path(folder)


def test_whole_numbers_for_weights_nan_and_missing_tensors(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "sae", W_enc=torch.ones(D, F, dtype=torch.int64))
    with pytest.raises(FormatError, match="W_enc is of type int64; weights must be floating-point numbers"):
        read_path(folder)
    broken = square_state()["W_dec"].clone()
    broken[0, 0] = float("nan")
    with pytest.raises(FormatError, match="weights hold NaN or infinity"):
        read_path(write_saelens(folder, W_dec=broken))
    state = square_state()
    del state["W_dec"]
    save_file(state, folder / "sae_weights.safetensors")
    with pytest.raises(FormatError, match="has no tensor 'W_dec'; it has W_enc, b_dec, b_enc"):
        read_path(folder)
    with pytest.raises(FormatError, match=r"the encoder's bias has the shape \[5\], not \[12\]"):
        read_path(write_saelens(folder, b_enc=torch.ones(5)))


def test_configurations_that_are_no_json_object(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "sae")
    for text, sentence in (
        ("[1]", "must hold a JSON object"),
        ("{", "cannot be read as JSON"),
        ("[" * 100_000, "cannot"),
        ('{"k": ' + "1" * 5000 + "}", "cannot be read as JSON"),
        (" " * (17 << 20), "larger than a configuration can be"),
    ):
        (folder / "cfg.json").write_text(text)
        with pytest.raises(FormatError, match=sentence):
            read_path(folder)


def test_half_precision_is_read_as_single(tmp_path: Path) -> None:
    folder = write_saelens(tmp_path / "sae")
    save_file({name: value.bfloat16() for name, value in square_state().items()}, folder / "sae_weights.safetensors")
    coder = read_path(folder).sites[0].readings[0].coder
    assert coder.W_enc.dtype == torch.float32
    assert torch.equal(coder.W_enc, square_state()["W_enc"].T.bfloat16().float())


def test_something_else_altogether(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"is not a dictionary of a format that is known here\. It holds notes\.txt"):
        read_path(tmp_path)
    with pytest.raises(FormatError, match="There is no file or folder 'missing'"):
        read_path(tmp_path / "missing")
    with pytest.raises(FormatError, match="format 'onnx' is unknown"):
        read_path(tmp_path, "onnx")


def test_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    save_file({"rows": torch.arange(12.0).view(4, 3)}, tmp_path / "a.safetensors")
    assert TensorFile(tmp_path / "a.safetensors").rows("rows", slice(1, 2)).tolist() == [[3.0, 4.0, 5.0]]
