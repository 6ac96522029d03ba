"""Translations: collected from code and templates into locale/LANGUAGE/LC_MESSAGES/django.po, compiled at the start.

Where a catalogue is newer than what was compiled of it into the data folder, the next process that starts compiles it:
nothing has to be remembered after an edit.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

from babel.messages.catalog import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

PO_PATH = "{language}/LC_MESSAGES/django.po"
SLOTS = re.compile(r"%\(\w+\)[sd]|</?[a-z]+[^>]*>")
APPS = ("annotation", "analysis")
KEYWORDS = {
    "_": None, "gettext": None, "gettext_lazy": None, "gettext_noop": None, "ngettext": (1, 2),
    "ngettext_lazy": (1, 2), "pgettext": ((1, "c"), 2), "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3), "Words": None,
}  # fmt: skip


def compile_catalogs(sources: Path, target: Path) -> None:
    """Write target/LANGUAGE/LC_MESSAGES/django.mo where the catalogue is newer; several processes may try at once."""
    for path in sorted(sources.glob(PO_PATH.format(language="*"))):
        compiled = target / path.parent.relative_to(sources) / "django.mo"
        if not compiled.exists() or compiled.stat().st_mtime_ns < path.stat().st_mtime_ns:
            compiled.parent.mkdir(parents=True, exist_ok=True)
            write_compiled(path, compiled)


def write_compiled(path: Path, compiled: Path) -> None:
    """Renamed into place, so that nobody reads half a file."""
    with path.open("rb") as file:
        catalog = read_po(file)
    descriptor, name = tempfile.mkstemp(dir=compiled.parent)
    with os.fdopen(descriptor, "wb") as file:
        write_mo(file, catalog)
    os.chmod(name, 0o644)
    os.replace(name, compiled)


def collect_texts(root: Path) -> Catalog:
    """Every text of the apps that is marked for translation, with where it stands."""
    found = Catalog(charset="utf-8", header_comment="# Translations of Vitrine.")
    for path in sorted(source_files(root)):
        for line, text, comments, context in texts_in(path):
            place = (str(path.relative_to(root)), line)
            found.add(text, locations=[place], auto_comments=comments, context=context)
    from config.stage_texts import stage_texts  # here alone: every process imports this module at its start

    for name, words in stage_texts():
        found.add(words, locations=[(name, 0)])
    return found


def source_files(root: Path) -> Iterator[Path]:
    for app in APPS:
        yield from (path for path in (root / app).rglob("*.py") if "migrations" not in path.parts)
        yield from (root / app / "templates").rglob("*.html")


Text = tuple[int, str | tuple[str, ...], list[str], str | None]


def texts_in(path: Path) -> Iterator[Text]:
    """A template is read as Django reads it: turned into code that calls gettext."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".html":
        from django.utils.translation.template import templatize

        source = templatize(source, origin=str(path))
    yield from extract("python", io.BytesIO(source.encode()), keywords=KEYWORDS, comment_tags=["Translators:"])


def merged(path: Path, found: Catalog, language: str) -> Catalog:
    """The translations there are, for the texts there are now; what is no longer used is left out."""
    old = Catalog(locale=language, project="Vitrine", version="1", fuzzy=False)
    if path.exists():
        with path.open("rb") as file:
            old = read_po(file, locale=language)
    old.update(found, no_fuzzy_matching=True, update_header_comment=False, update_creation_date=False)
    old.obsolete.clear()
    old.header_comment = "# Translations of Vitrine."
    old.msgid_bugs_address, old.last_translator, old.language_team = "", "", f"Vitrine, {language}"
    old.revision_date = old.creation_date
    return old


def is_translated(message: Message) -> bool:
    """In every form it has, and not marked as doubtful."""
    forms = message.string if isinstance(message.string, tuple | list) else (message.string,)
    return bool(forms) and all(forms) and not message.fuzzy


def missing_from(catalog: Catalog) -> list[str]:
    """Texts without a translation."""
    return [str(message.id) for message in catalog if message.id and not is_translated(message)]


def slots(text: str) -> list[str]:
    """What a translation must keep as it is: placeholders and tags, in any order."""
    return sorted(SLOTS.findall(text))


def broken_in(catalog: Catalog) -> list[str]:
    """Texts whose translation lacks a placeholder or a tag, or has one too many."""
    return [
        str(message.id) for message in catalog
        if message.id and any(slots(form) != slots(original) for original, form in form_pairs(message))
    ]  # fmt: skip


def form_pairs(message: Message) -> list[tuple[str, str]]:
    """Each form of a translation that is there, beside the form of the text that it stands for."""
    texts = list(message.id) if isinstance(message.id, tuple | list) else [message.id]
    forms = list(message.string) if isinstance(message.string, tuple | list) else [message.string]
    return [(texts[min(place, len(texts) - 1)], form) for place, form in enumerate(forms) if form]


def save(catalog: Catalog, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        write_po(file, catalog, width=120, sort_output=True, include_lineno=False)
