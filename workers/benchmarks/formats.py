"""Every format against the library that writes it: latents and reconstructions of files its own code wrote.

    ./run bench dictionaries --part formats [--peers]

With ``--peers`` the libraries write files in their own environment now; without, those of the tests are read, which
they wrote earlier, and no row passes on their account. ViT-Prisma's published package has no sparse coders, PatchSAE
and the residual replacement model have no package: files laid out as their code does serve there, and the row says so.
"""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor

from workers.benchmarks.report import report, say
from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.formats.detection import FORMATS, Found, read_path
from workers.dictionaries.formats.weights import Hints
from workers.dictionaries.sparse_coder import Codes

ROOT = Path(__file__).resolve().parents[2]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
STORED = ROOT / "tests" / "workers" / "dictionaries" / "formats" / "fixtures"
TOLERANCE = 1e-5


class Compared(NamedTuple):
    """The largest relative differences from the library on one case."""

    name: str
    format: str
    latents: float
    reconstruction: float


class Outcome(NamedTuple):
    """Our latents and reconstruction, dense."""

    latents: Tensor
    reconstruction: Tensor


def case_folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in root.rglob("case.json"))


def compare_case(folder: Path) -> Compared:
    """Read one case's files as an import does, detecting their format, and compare."""
    about = json.loads((folder / "case.json").read_text())
    expected = load_file(folder / "expected.safetensors")
    found = read_path(folder / "files", "auto", Hints(k=about.get("k", 0)))
    ours = outcome(found, expected["tokens"], about)
    return Compared(
        f"{about['format']}/{folder.name}",
        found.format,
        difference(ours.latents, expected["latents"]),
        difference(ours.reconstruction, expected["reconstruction"]),
    )


def outcome(found: Found, tokens: Tensor, about: dict[str, Any]) -> Outcome:
    if found.cross_layer is not None:
        return cross_layer_outcome(found.cross_layer, tokens)
    (site,) = found.sites
    wanted = about.get("label", site.readings[0].label)
    coder = next(reading.coder for reading in site.readings if reading.label == wanted)
    codes = coder.encode(tokens)
    return Outcome(dense(codes, coder.n_latents), coder.decode(codes))


def cross_layer_outcome(coder: CrossLayerCoder, tokens: Tensor) -> Outcome:
    """``tokens`` [source, token, d_model], as circuit-tracer takes them."""
    selected = {source: coder.encode(source, tokens[source]) for source in range(coder.shape.n_sources)}
    latents = [dense(Codes(*codes, None), coder.shape.n_latents[source]) for source, codes in selected.items()]
    return Outcome(torch.stack(latents), torch.stack([coder.decode(target, selected) for target in selected]))


def dense(codes: Codes, n_latents: int) -> Tensor:
    empty = codes.values.new_zeros(codes.values.shape[0], n_latents)
    return empty.scatter_add(1, codes.indices, codes.values)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """The largest absolute difference over the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def measure_formats(peers: bool) -> bool:
    """One line per format; without the peers nothing is passed, and the stored files' figures are shown."""
    if peers and not PEERS.exists():
        say("There is no .venv-peers; ./run bench dictionaries --part step --peers makes it.")
        peers = False
    with TemporaryDirectory(prefix="vitrine-formats-") as folder:
        written = Path(folder)
        if peers:
            write_with_peers(written / "now")
        stored = written / "stored"
        unpack(STORED, stored)
        return report_formats(list(compared(written / "now")), list(compared(stored)))


def unpack(packed: Path, target: Path) -> None:
    """The stored cases, one zip per library, as folders."""
    for path in sorted(packed.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target / path.stem)


def write_with_peers(folder: Path) -> None:
    command = [str(PEERS), "-W", "ignore", "-m", "workers.benchmarks.format_fixtures", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def compared(root: Path) -> Iterator[Compared]:
    for folder in case_folders(root):
        yield compare_case(folder)


def report_formats(written: list[Compared], stored: list[Compared]) -> bool:
    is_met = True
    for name, module in FORMATS.items():
        now = [case for case in written if case.name.startswith(f"{name}/")]
        cases = now or [case for case in stored if case.name.startswith(f"{name}/")]
        worst = max((max(case.latents, case.reconstruction) for case in cases), default=float("nan"))
        is_right = bool(cases) and worst <= TOLERANCE and all(case.format == name for case in cases)
        origin = "written now by the library" if now else "stored or laid out by hand"
        report(
            is_met=is_right if now else None,
            name=f"{module.TITLE}: latents and output, {len(cases)} files {origin}",
            figure=f"{worst:.1e}",
            target=f"≤ {TOLERANCE:.0e} relative",
        )
        is_met = is_met and (is_right or not now)
    return is_met
