"""Dictionaries of other libraries are imported from one folder of this site; a run names files in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from django.conf import settings

from workers.stages.configs import ImportDictionaryConfig, StageConfig
from workers.stages.configs.importing import fingerprint, import_source

MOST_SHOWN = 12


def with_source(config: StageConfig) -> StageConfig:
    """An import's config with the digest of the files it names; raises ConfigError where it may not read them.

    So the same path with other files is another request, and a run reads the files it was asked for.
    """
    if not isinstance(config, ImportDictionaryConfig):
        return config
    return replace(config, files=fingerprint(import_source(settings.IMPORT_ROOT, config.path)))


def importable() -> str:
    """A sentence saying where the folder for imports is and what it holds."""
    root = Path(settings.IMPORT_ROOT)
    names = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith(".")) if root.is_dir() else []
    if not names:
        return f"In the folder for imports, {root}, which is empty: copy the files there first."
    more = f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else ""
    return f"In the folder for imports, {root}, which holds {', '.join(names[:MOST_SHOWN])}{more}."
