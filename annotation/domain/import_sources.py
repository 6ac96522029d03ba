"""Dictionaries of other libraries are imported from one folder of this site; a run names files in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from django.conf import settings
from django.utils.translation import gettext as _

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
        return _("In the folder for imports, %(root)s, which is empty: copy the files there first.") % {"root": root}
    more = _(" and %(n)s more") % {"n": len(names) - MOST_SHOWN} if len(names) > MOST_SHOWN else ""
    return _("In the folder for imports, %(root)s, which holds %(values)s%(more)s.") % {
        "root": root,
        "values": ", ".join(names[:MOST_SHOWN]),
        "more": more,
    }
