"""The Django admin, a module per noun. Its actions call domain functions and wake workers; they hold no logic."""

from annotation.admin import annotation, catalog, people, run, study

__all__ = ["annotation", "catalog", "people", "run", "study"]
