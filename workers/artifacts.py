"""Immutable artefact folders: everything computed lives at ``ROOT/<kind>/<digest>/`` beside its manifest.

Identity is content: the digest is over the names and hashes of the files, never over times or machines. A request key
(kind, stage revision, config, parents) is only a look-up that lets the same request find the finished artefact.
This module needs neither torch nor Django, so the web process reads artefacts through it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

KINDS = (
    "image-set", "vision-model", "readout", "dictionary", "exemplars", "quality", "stimuli", "feature-set", "circuit",
    "circuit-evaluation", "debias", "attribution", "attribution-evaluation", "tuning", "explanations", "export",
    "image-embeddings", "alignment",
)  # fmt: skip
SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
RECORDED_LIBRARIES = ("torch", "timm", "numpy", "safetensors", "pillow")
BLOCK = 1 << 20


class ArtifactError(Exception):
    """An artefact is missing, damaged or of the wrong kind; the message is fit for the user."""


@dataclass(frozen=True)
class Artifact:
    """A finished artefact folder."""

    digest: str
    kind: str
    folder: Path

    @property
    def manifest(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text())
        return loaded

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.manifest["config"]
        return config

    def path(self, name: str) -> Path:
        """The path of one file of the artefact; raises ArtifactError if it has no such file."""
        path = self.folder / name
        if not path.is_file():
            raise ArtifactError(f"The {self.kind} artefact {self.digest[:12]} has no file '{name}'.")
        return path

    def json(self, name: str) -> Any:
        return json.loads(self.path(name).read_text())

    @property
    def is_whole(self) -> bool:
        """Whether every file of the manifest is there at its full size; nothing is hashed."""
        files = self.manifest["files"].items()
        paths = [(self.folder / name, entry["size"]) for name, entry in files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)

    def verify(self) -> None:
        """Hash every file again; raises ArtifactError naming the first that differs from the manifest."""
        for name, entry in self.manifest["files"].items():
            if hash_file(self.path(name)) != entry["sha256"]:
                raise ArtifactError(
                    f"The file '{name}' of the {self.kind} artefact {self.digest[:12]} was altered after it was made; "
                    "make the artefact anew."
                )


@dataclass
class ArtifactWriter:
    """An artefact being written: put files into ``folder``; ``artifact`` is set once the block ends well."""

    kind: str
    folder: Path
    artifact: Artifact | None = field(default=None)

    @property
    def digest(self) -> str:
        assert self.artifact is not None, "the artefact is not finished yet"
        return self.artifact.digest

    def write_json(self, name: str, value: Any) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(canonical_json(value) + "\n")


class ArtifactStore:
    """All artefacts under one root folder."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)

    def open(self, digest: str, *, kind: str | None = None) -> Artifact:
        """The artefact of this digest; raises ArtifactError if there is none, or if it is of another kind."""
        found = next((self.root / k / digest for k in KINDS if (self.root / k / digest / MANIFEST).is_file()), None)
        if found is None:
            raise ArtifactError(f"There is no artefact {digest[:12]} under {self.root}; make it or copy it there.")
        if kind is not None and found.parent.name != kind:
            raise ArtifactError(f"The artefact {digest[:12]} is of kind {found.parent.name}, not {kind}.")
        return Artifact(digest=digest, kind=found.parent.name, folder=found)

    def find(self, request_key: str) -> Artifact | None:
        """The finished artefact that answered this request, if there is one."""
        found = self.find_all(request_key)
        return found[0] if found else None

    def find_all(self, request_key: str) -> list[Artifact] | None:
        """All finished artefacts that answered this request; None unless every one of them is still there."""
        link = self.root / "requests" / request_key
        if not link.is_file():
            return None
        try:
            found = [self.open(digest) for digest in link.read_text().split()]
        except ArtifactError:
            return None
        return found if found and all(artifact.is_whole for artifact in found) else None

    def of_kind(self, kind: str) -> list[Artifact]:
        folder = self.root / kind
        paths = sorted(folder.iterdir()) if folder.is_dir() else []
        return [Artifact(p.name, kind, p) for p in paths if (p / MANIFEST).is_file()]

    def request_key(self, kind: str, revision: int, config: Mapping[str, Any], parents: Sequence[str]) -> str:
        asked = {
            "kind": kind,
            "schema": SCHEMA_VERSION,
            "revision": revision,
            "config": config,
            "parents": list(parents),
        }
        return hashlib.sha256(canonical_json(asked).encode()).hexdigest()

    @contextmanager
    def write(
        self,
        kind: str,
        *,
        config: Mapping[str, Any],
        parents: Sequence[str] = (),
        stage_revision: int = 1,
        seed: int | None = None,
        device: str = "cpu",
    ) -> Iterator[ArtifactWriter]:
        """Write one artefact: nothing is visible under its digest until the block has ended without an error."""
        assert kind in KINDS, f"unknown artefact kind {kind}"
        folder = self.root / "unfinished" / f"{kind}-{secrets.token_hex(8)}"
        folder.mkdir(parents=True)
        writer = ArtifactWriter(kind=kind, folder=folder)
        try:
            yield writer
            key = self.request_key(kind, stage_revision, config, parents)
            manifest = {
                "kind": kind, "schema_version": SCHEMA_VERSION, "stage_revision": stage_revision, "config": config,
                "parents": list(parents), "request_key": key, "seed": seed, "device": device,
                "created_at": datetime.now(UTC).isoformat(), "git_commit": git_commit(),
                "libraries": library_versions(), "python": platform.python_version(),
            }  # fmt: skip
            writer.artifact = self._publish(writer, manifest)
            self.remember(key, [writer.artifact.digest])
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _publish(self, writer: ArtifactWriter, manifest: dict[str, Any]) -> Artifact:
        files = file_entries(writer.folder)
        digest = content_digest(writer.kind, files)
        manifest["files"] = files
        writer.write_json(MANIFEST, manifest)
        sync_folder(writer.folder)
        target = self.root / writer.kind / digest
        target.parent.mkdir(parents=True, exist_ok=True)
        self._set_aside_damaged(Artifact(digest=digest, kind=writer.kind, folder=target))
        if not (target / MANIFEST).is_file():
            try:
                os.rename(writer.folder, target)
            except OSError:
                if not (target / MANIFEST).is_file():
                    raise
            sync_path(target.parent)
        return Artifact(digest=digest, kind=writer.kind, folder=target)

    def _set_aside_damaged(self, artifact: Artifact) -> None:
        """A folder that no longer holds what its digest says makes way for the one that does."""
        if not artifact.folder.exists():
            return
        try:
            artifact.verify()
        except (ArtifactError, OSError, ValueError, KeyError):
            aside = self.root / "unfinished" / f"damaged-{artifact.digest}-{secrets.token_hex(4)}"
            os.rename(artifact.folder, aside)
            shutil.rmtree(aside, ignore_errors=True)

    def remember(self, request_key: str, digests: Sequence[str]) -> None:
        """Note which artefacts answered a request."""
        folder = self.root / "requests"
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{request_key}-{secrets.token_hex(4)}"
        try:
            with temporary.open("w") as file:
                file.write("\n".join(digests))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, folder / request_key)
        finally:
            temporary.unlink(missing_ok=True)


def canonical_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def file_entries(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of each file under a folder, by relative name."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {p.relative_to(folder).as_posix(): {"size": p.stat().st_size, "sha256": hash_file(p)} for p in paths}


def content_digest(kind: str, files: Mapping[str, Mapping[str, Any]]) -> str:
    named = {name: entry["sha256"] for name, entry in files.items()}
    return hashlib.sha256(canonical_json({"kind": kind, "files": named}).encode()).hexdigest()


def hash_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def sync_folder(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        sync_path(path)


def sync_path(path: Path) -> None:
    """Make one file's bytes, or one folder's list of names, outlast a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def library_versions() -> dict[str, str]:
    versions = {}
    for name in RECORDED_LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def git_commit() -> str:
    """The commit this code was checked out at, read from .git without starting git; '' outside a checkout."""
    git = Path(__file__).resolve().parent.parent / ".git"
    head = git / "HEAD"
    if not head.is_file():
        return ""
    text = head.read_text().strip()
    if not text.startswith("ref: "):
        return text
    reference = git / text[5:]
    return reference.read_text().strip() if reference.is_file() else ""
