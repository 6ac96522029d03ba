"""One line per measured target: PASS, FALL SHORT or NOT MEASURED, the name, the figure, the target."""

from __future__ import annotations

import sys


def report(*, is_met: bool | None, name: str, figure: str, target: str) -> None:
    """``is_met`` None stands for NOT MEASURED."""
    verdict = {True: "PASS", False: "FALL SHORT", None: "NOT MEASURED"}[is_met]
    sys.stdout.write(f"{verdict:<13} {name:<64} {figure:>14}  {target}\n")
    sys.stdout.flush()


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
