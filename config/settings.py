"""One settings file, read from the environment; an unknown value stops the start with a sentence that names it.

Every variable begins with VITRINE_ and is described in docs/settings.md.
"""

from __future__ import annotations

import os
from pathlib import Path

from config.environment import choice, database, flag, number, text

BASE_DIR = Path(__file__).resolve().parent.parent

DATA_ROOT = Path(text("VITRINE_DATA_ROOT", str(BASE_DIR / "var")))
ARTIFACT_ROOT = Path(text("VITRINE_ARTIFACT_ROOT", str(DATA_ROOT / "artifacts")))
IMPORT_ROOT = Path(text("VITRINE_IMPORT_ROOT", str(DATA_ROOT / "to-import")))
EXPORT_ROOT = Path(text("VITRINE_EXPORT_ROOT", str(DATA_ROOT / "exports")))

DEBUG = flag("VITRINE_DEBUG", default=False)
SECRET_KEY = text("VITRINE_SECRET_KEY", "insecure-key-for-one-machine-only")
ALLOWED_HOSTS = text("VITRINE_ALLOWED_HOSTS", "localhost,127.0.0.1,[::1],testserver").split(",")
CSRF_TRUSTED_ORIGINS = [origin for origin in text("VITRINE_TRUSTED_ORIGINS", "").split(",") if origin]
SITE_NAME = text("VITRINE_SITE_NAME", "Vitrine")

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_htmx",
    "ninja",
    "annotation",
    "analysis",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

DATABASES = {"default": database("VITRINE_DATABASE_URL", f"sqlite:///{DATA_ROOT / 'vitrine.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "annotation.User"
LOGIN_URL = "login"
CSRF_FAILURE_VIEW = "annotation.views.access.csrf_failure"
LOGIN_REDIRECT_URL = "home"
LOGOUT_REDIRECT_URL = "home"
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]
LOCALE_SOURCES = BASE_DIR / "locale"
LOCALE_PATHS = [DATA_ROOT / "locale"]  # compiled from the sources by annotation.apps
FORMAT_MODULE_PATH = ["config.formats"]
TIME_ZONE = text("VITRINE_TIME_ZONE", "UTC")
USE_I18N = True
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = DATA_ROOT / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": choice(
            "VITRINE_STATIC_STORAGE",
            default="hashed",
            choices={
                "hashed": "config.static.ModuleManifestStaticFilesStorage",
                "plain": "django.contrib.staticfiles.storage.StaticFilesStorage",
            },
        )
    },
}

SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = flag("VITRINE_HTTPS", default=False)
SECURE_REFERRER_POLICY = "same-origin"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024

BROKER_URL = text("VITRINE_BROKER_URL", f"redis+socket://{DATA_ROOT / 'broker' / 'valkey.sock'}")
TORCH_THREADS = number("VITRINE_TORCH_THREADS", default=os.cpu_count() or 1)
LEASE_SECONDS = number("VITRINE_LEASE_SECONDS", default=900)
CHUNK_SECONDS = number("VITRINE_CHUNK_SECONDS", default=15)
CHUNK_LEASE_SECONDS = number("VITRINE_CHUNK_LEASE_SECONDS", default=60)
POLL_SECONDS = number("VITRINE_POLL_SECONDS", default=2)
WEBHOOKS_INSIDE = flag("VITRINE_WEBHOOKS_INSIDE", default=False)

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    # a wake-up comes every other second to each idle worker: its arrival and its end are not worth two lines
    "loggers": {name: {"level": "WARNING"} for name in ("celery.worker.strategy", "celery.app.trace")},
    "root": {
        "handlers": ["console"],
        "level": choice(
            "VITRINE_LOG_LEVEL", default="warning", choices={"debug": "DEBUG", "info": "INFO", "warning": "WARNING"}
        ),
    },
}
