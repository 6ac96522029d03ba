"""Sentences for people that are not marked for translation: what exceptions, messages and form errors say.

A call such as ``StudyError("…")`` or ``messages.success(request, f"…")`` in what serves the pages has to say
``_("…")`` instead. A word or two alone may be a name; a sentence is three words or more, or what an f-string builds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

SERVING = (
    "annotation/domain", "annotation/views", "annotation/forms", "annotation/api", "annotation/templatetags",
    "analysis/domain", "analysis/views",
)  # fmt: skip
OF_COMMANDS = ("analysis/domain/export_reader.py",)  # read by `recompute_report` alone, which speaks English
SAYING = {"PermissionDenied", "Http404", "DoesNotExist", "add_error", "success", "error", "info", "warning"}
OF_PYTHON = {"ValueError", "TypeError", "KeyError", "RuntimeError", "AssertionError", "NotImplementedError"}
MARKS = {"_", "gettext", "gettext_lazy", "gettext_noop", "ngettext", "ngettext_lazy", "pgettext", "npgettext", "Words"}
LOGS = {"logger", "log"}


def unmarked_in(root: Path) -> list[str]:
    """'file:line' of every sentence that a person would read in English whatever their language."""
    places = []
    for folder in SERVING:
        for path in sorted((root / folder).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            if name not in OF_COMMANDS:
                places += [f"{name}:{line}" for line in unmarked_lines(path.read_text(encoding="utf-8"))]
    return places


def unmarked_lines(source: str) -> list[int]:
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call) and says_something(node))
    return sorted({line for call in calls for said in call.args for line in bare_sentences(said)})


def says_something(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id in LOGS:
        return False
    name = called(call)
    return name in SAYING or (name.endswith("Error") and name not in OF_PYTHON)


def called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def bare_sentences(node: ast.expr) -> Iterator[int]:
    """Literals and f-strings that stand as they are or in one arm of a choice."""
    if isinstance(node, ast.IfExp):
        yield from bare_sentences(node.body)
        yield from bare_sentences(node.orelse)
    elif isinstance(node, ast.BinOp):
        yield from bare_sentences(node.left)
    elif isinstance(node, ast.JoinedStr):
        written = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
        if len(written.split()) > 1:
            yield node.lineno
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 2:
        yield node.lineno
