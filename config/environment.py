"""Helpers that read one environment variable each and refuse an unknown value with a sentence that names it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured


def text(name: str, default: str) -> str:
    return os.environ.get(name, "") or default


def flag(name: str, *, default: bool) -> bool:
    value = os.environ.get(name, "").lower()
    if value in {"", "0", "1", "true", "false", "yes", "no"}:
        return default if value == "" else value in {"1", "true", "yes"}
    raise ImproperlyConfigured(f"{name} is '{value}'; set it to 1 or 0, or leave it unset.")


def number(name: str, *, default: int) -> int:
    value = os.environ.get(name, "")
    if value == "":
        return default
    if not value.isdecimal() or int(value) == 0:
        raise ImproperlyConfigured(f"{name} is '{value}'; set it to a whole number above 0, or leave it unset.")
    return int(value)


def choice(name: str, *, default: str, choices: Mapping[str, str]) -> str:
    value = os.environ.get(name, "") or default
    if value not in choices:
        raise ImproperlyConfigured(f"{name} is '{value}'; it can be {', '.join(sorted(choices))}.")
    return choices[value]


def database(name: str, default: str) -> dict[str, Any]:
    """Django's settings for sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/NAME (or ?host=/socket/folder)."""
    url = text(name, default)
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        return sqlite(Path(unquote(url.removeprefix("sqlite:///"))))
    if parts.scheme in {"postgresql", "postgres"}:
        return postgresql(url)
    raise ImproperlyConfigured(
        f"{name} begins with '{parts.scheme}'; it must be a sqlite:/// or postgresql:// address."
    )


def sqlite(path: Path) -> dict[str, Any]:
    """WAL and IMMEDIATE: with deferred transactions concurrent writers lose rows to lock errors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": 30,
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;",
        },
    }


def postgresql(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    host = parts.hostname or parse_qs(parts.query).get("host", [""])[0]
    port = parts.port or parse_qs(parts.query).get("port", [""])[0]
    return {
        "ENGINE": "config.postgresql_backend",
        "NAME": parts.path.lstrip("/") or "vitrine",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": host,
        "PORT": str(port),
        "CONN_MAX_AGE": None,
        "CONN_HEALTH_CHECKS": True,
    }
