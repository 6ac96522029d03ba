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

from workers.benchmarks.format_dictionaries import write_exports
from workers.benchmarks.peers import ENVIRONMENT, ROOT, PeersError, make_environment
from workers.benchmarks.report import report
from workers.dictionaries.cross_layer import CrossLayerCoder
from workers.dictionaries.formats.detection import FORMATS, Found, read_path
from workers.dictionaries.formats.exporting import EXPORT_FORMATS
from workers.dictionaries.formats.weights import Hints
from workers.dictionaries.sparse_coder import Codes

PEERS = ENVIRONMENT / "bin" / "python"
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
    if peers:
        make_environment()
    with TemporaryDirectory(prefix="vitrine-formats-") as folder:
        written = Path(folder)
        if peers:
            run_with_peers("format_fixtures", written / "now")
        stored = written / "stored"
        unpack(STORED, stored)
        is_read = report_formats(list(compared(written / "now")), list(compared(stored)))
        write_exports(written / "exports")
        if peers:
            run_with_peers("format_exports", written / "exports")
        return report_exports(written / "exports", is_loaded=peers) and is_read


def unpack(packed: Path, target: Path) -> None:
    """The stored cases, one zip per library, as folders."""
    for path in sorted(packed.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            archive.extractall(target / path.stem)


def run_with_peers(module: str, folder: Path) -> None:
    command = [str(PEERS), "-W", "ignore", "-m", f"workers.benchmarks.{module}", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PeersError(f"{module} failed in the peers' environment: {done.stderr.strip().splitlines()[-1:]}")


def compared(root: Path) -> Iterator[Compared]:
    for folder in case_folders(root):
        yield compare_case(folder)


def report_formats(written: list[Compared], stored: list[Compared]) -> bool:
    is_met = True
    for name, module in FORMATS.items():
        now = [case for case in written if case.name.startswith(f"{name}/")]
        cases = now or [case for case in stored if case.name.startswith(f"{name}/")]
        if not cases:
            report(
                is_met=None,
                name=f"{module.TITLE}: no package that writes files",
                figure="–",
                target="laid out as its code does in tests/workers/dictionaries/formats/test_layouts.py",
            )
            continue
        worst = max((max(case.latents, case.reconstruction) for case in cases), default=float("nan"))
        is_right = bool(cases) and worst <= TOLERANCE and all(case.format == name for case in cases)
        origin = "written now by the library" if now else "that the library wrote, stored"
        report(
            is_met=is_right if now else None,
            name=f"{module.TITLE}: latents and output, {len(cases)} files {origin}",
            figure=f"{worst:.1e}",
            target=f"≤ {TOLERANCE:.0e} relative",
        )
        is_met = is_met and (is_right or not now)
    return is_met


def report_exports(root: Path, *, is_loaded: bool) -> bool:
    """One line per format that is written: the library loads the folder and computes the same."""
    is_met = True
    for name in EXPORT_FORMATS:
        folders = case_folders(root / name)
        worst = max((exported_difference(folder) for folder in folders), default=0.0) if is_loaded else float("nan")
        report(
            is_met=worst <= TOLERANCE if is_loaded else None,
            name=f"{FORMATS[name].TITLE}: the library loads {len(folders)} exports",
            figure=f"{worst:.1e}",
            target=f"≤ {TOLERANCE:.0e} relative",
        )
        is_met = is_met and (not is_loaded or worst <= TOLERANCE)
    return is_met


def exported_difference(folder: Path) -> float:
    ours, theirs = load_file(folder / "ours.safetensors"), load_file(folder / "theirs.safetensors")
    return max(difference(ours[name], theirs[name]) for name in ("latents", "reconstruction"))
