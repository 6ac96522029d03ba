"""The analysis app: no models of its own, it reads annotation."""

from django.apps import AppConfig


class AnalysisConfig(AppConfig):
    name = "analysis"
