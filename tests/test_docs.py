"""The documents name what a person can use: commands, settings, artefact kinds; every link leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from config.launch.bench import BENCHMARKS
from config.launch.cli import parser
from config.launch.workers import QUEUES
from workers.artifacts import KINDS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)
APPS = ("annotation", "analysis")


def is_named(word: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", TEXT) is not None


def test_every_management_command_is_documented() -> None:
    commands = [path for app in APPS for path in (ROOT / app / "management" / "commands").glob("[!_]*.py")]
    assert sorted(path.stem for path in commands if not is_named(path.stem)) == []


def test_every_setting_is_documented() -> None:
    table = (ROOT / "docs" / "settings.md").read_text()
    sources = [*(ROOT / "config").rglob("*.py"), ROOT / "tests" / "conftest.py"]
    names = {name for path in sources for name in re.findall(r"VITRINE_[A-Z][A-Z_]*[A-Z]", path.read_text())}
    assert "VITRINE_DATABASE_URL" in names
    assert sorted(name for name in names if f"`{name}`" not in table) == []


def test_no_document_names_a_setting_that_does_not_exist() -> None:
    source = "\n".join(path.read_text() for path in [*(ROOT / "config").rglob("*.py"), ROOT / "tests" / "conftest.py"])
    source += "\n".join(path.read_text() for path in (ROOT / "workers").rglob("*.py"))
    assert sorted({name for name in re.findall(r"VITRINE_[A-Z][A-Z_]*[A-Z]", TEXT) if name not in source}) == []


def test_every_artefact_kind_is_documented() -> None:
    assert sorted(kind for kind in KINDS if not is_named(kind)) == []


def test_every_command_of_run_is_documented() -> None:
    commands = next(action.choices for action in parser()._actions if action.dest == "command")
    assert commands is not None
    assert sorted(name for name in commands if f"./run {name}" not in TEXT) == []
    assert sorted(name for name in (*BENCHMARKS, *QUEUES) if not is_named(name)) == []


def test_every_link_between_documents_leads_to_a_file() -> None:
    broken = []
    for path in DOCUMENTS:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", path.read_text()):
            if not target.startswith(("http:", "https:", "mailto:")) and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert broken == []


def test_the_readme_names_the_demo_logins() -> None:
    from annotation.demo.accounts import DEMO_LOGINS, DEMO_PASSWORD

    readme = (ROOT / "README.md").read_text()
    assert [login.username for login in DEMO_LOGINS if f"`{login.username}` ({login.role})" not in readme] == []
    assert f"`{DEMO_PASSWORD}`" in readme
