"""Bring the catalogues of translations up to date with the texts in code and templates, and say what lacks one."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from config.translations import PO_PATH, broken_in, collect_texts, merged, missing_from, save
from config.unmarked import unmarked_in

SHOWN = 20


class Command(BaseCommand):
    help = __doc__ or ""

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--check", action="store_true", help="write nothing; fail where a mark or a translation is missing"
        )

    def handle(self, *args: Any, check: bool, **options: Any) -> None:
        if check:
            refuse(unmarked_in(settings.BASE_DIR), 'Mark the sentences of these lines for translation: _("…")')
        found = collect_texts(settings.BASE_DIR)
        for language in [code for code, _ in settings.LANGUAGES if code != settings.LANGUAGE_CODE]:
            path = settings.LOCALE_SOURCES / PO_PATH.format(language=language)
            catalog = merged(path, found, language)
            if not check:
                save(catalog, path)
            missing = missing_from(catalog)
            self.stdout.write(f"{language}: {len(catalog)} texts, {len(missing)} without a translation")
            if check:
                refuse(missing, f"Translate these in {path.relative_to(settings.BASE_DIR)}")
                refuse(broken_in(catalog), "Keep the placeholders and tags as they are in the translations of these")


def refuse(texts: list[str], what_to_do: str) -> None:
    if texts:
        shown = "\n".join(f"  {text}" for text in texts[:SHOWN])
        raise CommandError(f"{what_to_do}:\n{shown}")
