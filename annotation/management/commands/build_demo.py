"""Build the demo through the commands and runs that any images take; done at once when it is built."""

from __future__ import annotations

import argparse
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.demo.accounts import DEMO_LOGINS, DEMO_PASSWORD
from annotation.demo.build import build_demo
from annotation.demo.runs import DemoError
from annotation.domain.studies import StudyError


class Command(BaseCommand):
    help = "Build the demo: shapes world, a small ViT, dictionaries, exemplars and two studies. Needs running workers."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--tokens", type=int, help="tokens to train on, for a quick look")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()

        def say(text: str) -> None:
            self.stdout.write(f"[{time.monotonic() - started:5.0f} s] {text}")
            self.stdout.flush()

        try:
            build_demo(say, n_tokens=options["tokens"])
        except (DemoError, StudyError) as error:
            raise CommandError(str(error)) from error
        say("The demo is built")
        self.stdout.write(f"Sign in with the password '{DEMO_PASSWORD}' as")
        for login in DEMO_LOGINS:
            self.stdout.write(f"  {login.username:6} {login.role.label}")
