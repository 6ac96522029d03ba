"""The rules of the house that a machine can check: sizes, names, what may be loaded where, nothing foreign."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
VAGUE_NAMES = {"utils.py", "helpers.py", "common.py", "misc.py"}
IMPORTERS = ("workers/dictionaries/formats/",)  # the only places where torch.load may read a foreign file
TEXT = {".py", ".js", ".css", ".html", ".md", ".toml", ".sh", ".yaml", ".yml", ".txt", ".svg", ".json"}
HEAVY = ("torch", "torchvision", "timm", "scipy", "pyarrow", "sklearn", "pandas", "matplotlib")
MACHINE_PATH = re.compile(r"""/(?:root|farm|home/[a-z]+)/|/work/(?:main|shared|\.)|/tmp/[a-z]""")
FOREIGN_HOST = re.compile(
    r"""(?:src|href|action)=["']https?://|@import +["']?https?:|url\(["']?https?:|from ["']https?:"""
)
REGISTRY = re.compile(r"""(?:index-url|find-links|//)[= ]*(?:pypi|files\.pythonhosted|download\.pytorch)""")


def committed_files() -> list[Path]:
    """What git tracks or would: vendored files and migrations excepted."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [ROOT / name for name in listed if "/vendor/" not in name and "/migrations/" not in name]
    return [path for path in paths if path.is_file()]


FILES = committed_files()
PYTHON = [path for path in FILES if path.suffix == ".py" or path == ROOT / "run"]


class Function(NamedTuple):
    place: str
    n_body_lines: int


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None and len(node.body) > 1 else node.body
            assert node.end_lineno is not None
            yield Function(f"{relative(path)}:{node.lineno} {node.name}", node.end_lineno - body[0].lineno + 1)


def test_the_tree_is_seen() -> None:
    assert {"run", "manage.py", "workers/artifacts.py", "config/settings.py"} <= {relative(path) for path in PYTHON}


def test_no_file_is_longer_than_the_limit() -> None:
    sources = [path for path in FILES if path.suffix in {".py", ".js", ".css", ".html"} or path == ROOT / "run"]
    lengths = {relative(path): len(path.read_text().splitlines()) for path in sources}
    assert {name: n for name, n in lengths.items() if n > MAX_FILE_LINES} == {}


def test_no_function_is_longer_than_the_limit() -> None:
    too_long = [f for path in PYTHON for f in functions(path) if f.n_body_lines > MAX_FUNCTION_LINES]
    assert too_long == []


def test_no_module_has_a_vague_name() -> None:
    assert [relative(path) for path in PYTHON if path.name in VAGUE_NAMES] == []


def test_every_module_says_what_it_is() -> None:
    def is_silent(path: Path) -> bool:
        tree = ast.parse(path.read_text())
        return bool(tree.body) and ast.get_docstring(tree) is None

    assert [relative(path) for path in PYTHON if is_silent(path)] == []


def test_torch_load_is_left_to_the_importers() -> None:
    def loads(path: Path) -> list[ast.Call]:
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        return [call for call in calls if ast.unparse(call.func) == "torch.load"]

    found = {relative(path): loads(path) for path in PYTHON if loads(path)}
    assert [name for name in found if not name.startswith(IMPORTERS)] == []
    unsafe = [name for name, calls in found.items() for call in calls if "weights_only=True" not in ast.unparse(call)]
    assert unsafe == []


def test_no_test_is_skipped_or_sleeps() -> None:
    """Waiting is `poll` in tests/servers.py; a stage made for the tests may take its time."""
    forbidden = re.compile(r"pytest\.(?:mark\.)?(?:skip|xfail)|\btime\.sleep\(")
    this = Path(__file__).resolve()
    tests = [path for path in PYTHON if path.name.startswith(("test_", "conftest")) and path != this]
    assert [relative(path) for path in tests if forbidden.search(path.read_text())] == []


def test_no_unfinished_business() -> None:
    mark = re.compile(r"#.*\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b(?!.*issue)")
    assert [relative(path) for path in PYTHON if mark.search(path.read_text())] == []


def text_lines() -> Iterator[tuple[str, str]]:
    for path in FILES:
        if path.suffix in TEXT or path == ROOT / "run":
            for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
                yield f"{relative(path)}:{number}", line


def test_no_line_names_a_place_on_one_machine() -> None:
    this = relative(Path(__file__).resolve())
    found = [place for place, line in text_lines() if MACHINE_PATH.search(line) and not place.startswith(this)]
    assert found == []


def test_no_asset_is_loaded_from_another_host() -> None:
    assets = (".html", ".css", ".js", ".svg")
    found = [
        place for place, line in text_lines() if place.split(":")[0].endswith(assets) and FOREIGN_HOST.search(line)
    ]
    assert found == []


def test_no_line_names_a_package_registry() -> None:
    this = relative(Path(__file__).resolve())
    found = [place for place, line in text_lines() if REGISTRY.search(line) and not place.startswith(this)]
    assert found == []


def web_modules() -> list[str]:
    """Everything the web process may import at its start: not commands, nor the statistics that functions import."""
    names = []
    for path in PYTHON:
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[0] in {"annotation", "analysis"} and not {"management", "statistics"} & set(parts):
            names.append(".".join(part for part in parts if part != "__init__"))
    assert "annotation.views" in names
    return [*names, "config.urls", "config.wsgi"]


def test_importing_every_view_loads_nothing_heavy() -> None:
    script = (
        "import importlib, json, sys, django\n"
        "django.setup()\n"
        f"for name in {web_modules()!r}: importlib.import_module(name)\n"
        f"print(json.dumps(sorted(set({HEAVY!r}) & set(sys.modules))))\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_run_and_what_it_starts_with_need_the_standard_library_only() -> None:
    """`./run` must work before anything is installed."""
    allowed = set(sys.stdlib_module_names) | {"config"}
    launch = [path for path in PYTHON if relative(path).startswith("config/launch/") or path == ROOT / "run"]
    foreign = []
    for path in launch:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                foreign += [
                    (relative(path), alias.name) for alias in node.names if alias.name.split(".")[0] not in allowed
                ]
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                is_ours = node.module.split(".")[0] in allowed and (
                    not node.module.startswith("config") or ".launch" in node.module
                )
                foreign += [] if is_ours else [(relative(path), node.module)]
    assert foreign == []
