"""Walk through a served demo over HTTP as stranger, annotator and researcher; exit 0 if all is as it should be."""

from __future__ import annotations

import argparse
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.demo.visitor import WalkError
from annotation.demo.walk import walk


class Command(BaseCommand):
    help = "Walk through the demo at an address and say what was seen; fails at the first thing that is wrong."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("url")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            walk(options["url"], lambda text: self.stdout.write(f"  {text}"))
        except WalkError as error:
            raise CommandError(str(error)) from error
        self.stdout.write("The demo is as it should be.")
