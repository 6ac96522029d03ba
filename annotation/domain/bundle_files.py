"""The archive in which a study or its answers travel: a zip of plain files, with a manifest that names each one's hash.

Nothing in it is run or unpickled. Names are checked against the shapes a bundle can have, sizes against the manifest
and limits, and every hash before anything is stored; so an altered, cut or foreign file is refused whole.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from django.utils.translation import gettext as _

from annotation.domain.errands import ErrandError
from workers.artifacts import canonical_json

FORMAT = 1
MANIFEST = "manifest.json"
STUDY_KIND, ANSWERS_KIND = "vitrine-study", "vitrine-answers"
NAMES = re.compile(
    r"study\.json|guideline\.md|consent\.md|items\.jsonl|practice\.jsonl|terms\.jsonl|answers\.jsonl|people\.jsonl|"
    r"remarks\.jsonl|stimuli/(?:sprites|zoom)/[0-9a-z]{1,64}\.webp|stimuli/items/[0-9a-z]{1,64}\.json"
)
MOST_FILES = 1_000_000
MOST_BYTES = 64 << 30
MOST_MANIFEST = 256 << 20
BLOCK = 1 << 20
STORED_ENDINGS = (".webp",)


class Entry(NamedTuple):
    """One file to be packed: its name in the archive, and its bytes or where they lie."""

    name: str
    content: bytes | Path


class Opened(NamedTuple):
    """An archive whose manifest was read."""

    archive: zipfile.ZipFile
    manifest: dict[str, Any]

    def json(self, name: str) -> Any:
        return json.loads(self.archive.read(name))

    def text(self, name: str) -> str:
        return self.archive.read(name).decode()

    def lines(self, name: str) -> Iterator[dict[str, Any]]:
        if name not in self.manifest["files"]:
            return
        with self.archive.open(name) as file:
            for line in file:
                row: dict[str, Any] = json.loads(line)
                yield row


def pack(path: Path, facts: Mapping[str, Any], entries: Iterable[Entry], *, key: str = "") -> int:
    """Write an archive, the manifest last; returns how many files it has. Nothing is held in memory but one file."""
    files: dict[str, dict[str, Any]] = {}
    partial = path.with_name(f".{path.name}.part")
    partial.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(partial, "w", allowZip64=True) as archive:
        for entry in entries:
            content = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
            assert NAMES.fullmatch(entry.name), entry.name
            files[entry.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            archive.writestr(fixed_info(entry.name), content)
        manifest = dict(facts) | {"format": FORMAT, "files": files}
        manifest["signature"] = sign(manifest, key)
        archive.writestr(fixed_info(MANIFEST), canonical_json(manifest))
    partial.replace(path)
    return len(files)


def fixed_info(name: str) -> zipfile.ZipInfo:
    """No time of this machine in the archive, so that the same content is the same file."""
    info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_STORED if name.endswith(STORED_ENDINGS) else zipfile.ZIP_DEFLATED
    return info


def sign(manifest: Mapping[str, Any], key: str) -> str:
    """Over everything else in the manifest, which names the hash of every file."""
    signed = canonical_json({name: value for name, value in manifest.items() if name != "signature"})
    return hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()


def is_signed(manifest: Mapping[str, Any], key: str) -> bool:
    return hmac.compare_digest(str(manifest.get("signature", "")), sign(manifest, key))


def open_bundle(path: Path, kind: str) -> Opened:
    """The archive, its names and sizes looked at and its manifest read; raises ErrandError."""
    try:
        archive = zipfile.ZipFile(path)
        manifest = read_manifest(archive)
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, UnicodeDecodeError, EOFError) as error:
        raise ErrandError(_("The file is no bundle of Vitrine, or was cut; fetch it again.")) from error
    if manifest.get("kind") != kind:
        words = {STUDY_KIND: _("a study bundle"), ANSWERS_KIND: _("an answers bundle")}
        raise ErrandError(
            _("The file is %(given)s, not %(wanted)s.")
            % {"given": words.get(str(manifest.get("kind")), _("something else")), "wanted": words[kind]}
        )
    if manifest.get("format") != FORMAT:
        raise ErrandError(_("The bundle was made by another version of Vitrine; use the same version on both sites."))
    check_entries(archive, manifest["files"])
    return Opened(archive, manifest)


def kind_of(path: Path) -> str:
    """Which kind of bundle a file is; '' for none."""
    try:
        with zipfile.ZipFile(path) as archive:
            return str(read_manifest(archive).get("kind", ""))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, RecursionError):
        return ""


def read_manifest(archive: zipfile.ZipFile) -> dict[str, Any]:
    if archive.getinfo(MANIFEST).file_size > MOST_MANIFEST:
        raise ValueError("the manifest is too large")
    manifest = json.loads(archive.read(MANIFEST))
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise ValueError("the manifest is no manifest")
    return manifest


def check_entries(archive: zipfile.ZipFile, files: Mapping[str, Any]) -> None:
    """What the archive holds is what the manifest names: no other name, none twice, no other size."""
    infos = [info for info in archive.infolist() if info.filename != MANIFEST]
    names = {info.filename for info in infos}
    if len(infos) != len(names) or names != set(files) or len(files) > MOST_FILES:
        raise ErrandError(_("The bundle does not hold the files its manifest names; it was altered."))
    for info in infos:
        if not NAMES.fullmatch(info.filename) or info.flag_bits & 1:
            raise ErrandError(
                _("The bundle holds a file '%(filename)s', which no bundle has.") % {"filename": info.filename[:80]}
            )
        if info.file_size != files[info.filename].get("size"):
            raise ErrandError(_("The file '%(filename)s' of the bundle was altered.") % {"filename": info.filename})
    if sum(info.file_size for info in infos) > MOST_BYTES:
        raise ErrandError(
            _("The bundle is larger than %(most_bytes)s GB, which is the most.") % {"most_bytes": MOST_BYTES >> 30}
        )


def verify(opened: Opened, progress: Callable[[int, int], None] = lambda n_done, n_wanted: None) -> None:
    """Hash every file; raises ErrandError naming the first that differs."""
    files = opened.manifest["files"]
    for number, (name, entry) in enumerate(files.items(), start=1):
        try:
            with opened.archive.open(name) as file:
                found = hash_of(file)
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise ErrandError(
                _("The file '%(name)s' of the bundle is damaged; fetch the bundle again.") % {"name": name}
            ) from error
        if found != entry.get("sha256"):
            raise ErrandError(_("The file '%(name)s' of the bundle was altered.") % {"name": name})
        if number % 500 == 0:
            progress(number, len(files))


def hash_of(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(BLOCK):
        digest.update(block)
    return digest.hexdigest()


def jsonl(rows: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows).encode()
