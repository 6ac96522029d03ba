"""The command that executes a stage here: its bar after a resume, and what it says when a run cannot go on."""

from __future__ import annotations

import io
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection

from annotation.domain.runs import create_run
from annotation.models import Run
from tests.workers import counting_stage
from workers import tasks
from workers.dictionaries.formats.pickles import PickleRefusedError
from workers.stages.configs import STAGES, ConfigError
from workers.stages.local import bar_line
from workers.stages.train_dictionary import DivergedError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, artifact_root: Path) -> Iterator[None]:
    monkeypatch.setitem(STAGES, counting_stage.NAME, counting_stage.stage())
    yield
    connection.close()


def test_the_bar_counts_what_was_done_while_it_is_drawn() -> None:
    assert bar_line("x", 60, 100, 10.0).endswith(" 60 % 6/s, 7 s left")
    assert bar_line("x", 60, 100, 10.0, n_earlier=40).endswith(" 60 % 2/s, 20 s left")
    assert bar_line("x", 40, 100, 10.0, n_earlier=50).endswith(" 40 % 0/s")  # a chunk is done again


@pytest.mark.django_db(transaction=True)
def test_after_a_resume_earlier_chunks_do_not_count_for_the_rate(
    stage: None, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"n_phases": 6, "n_per_phase": 1, "milliseconds": 300}
    run = create_run(stage="counting", config=config, user=None, queue="command")
    for _plan_and_five_chunks in range(6):
        assert tasks.execute_next(queue="command", run=run)
    began = time.monotonic()
    call_command("run_stage", resume=run.pk, stdout=io.StringIO())
    seconds = time.monotonic() - began
    assert Run.objects.get(pk=run.pk).state == Run.State.DONE
    rate = re.search(r"counting █{24} 100 % (\d+)/s", capsys.readouterr().err)
    assert rate is not None
    assert 10 / seconds - 1 < int(rate[1]) <= 10 / 0.3


@pytest.mark.parametrize(
    ("error", "can_be_resumed"),
    [
        (ConfigError("The readout belongs to another model."), False),
        (DivergedError("blocks.0", 7), False),
        (PickleRefusedError("it calls something."), False),
        (ValueError("The file is in the way; remove it."), True),
        (OSError(28, "No space left on device"), True),
    ],
)
def test_a_run_whose_config_is_wrong_cannot_be_resumed(error: Exception, can_be_resumed: bool) -> None:
    assert tasks.can_be_resumed(error) is can_be_resumed


def full_database() -> None:
    """What Django raises when SQLite has no room."""
    rows = sqlite3.connect(":memory:")
    rows.execute("CREATE TABLE rows (one)")
    rows.execute("PRAGMA max_page_count = 2")
    try:
        rows.execute("INSERT INTO rows VALUES (zeroblob(100000))")
    except sqlite3.OperationalError as error:
        raise OperationalError(*error.args) from error
    finally:
        rows.close()


def test_a_full_database_is_not_waited_for() -> None:
    began = time.monotonic()
    with pytest.raises(OperationalError, match="database or disk is full") as caught:
        tasks.patiently(full_database, seconds=3)
    assert time.monotonic() - began < 2
    assert tasks.sentence_for(caught.value).startswith("No room is left for the database (")
    assert tasks.is_fit_for_the_user(caught.value)


def test_a_database_that_is_full_is_told_within_seconds_and_the_run_goes_on_later(tmp_path: Path) -> None:
    """A SQLite file of its own that takes neither the plan nor the failure."""
    path = tmp_path / "own.sqlite3"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VITRINE_")} | {
        "VITRINE_DATA_ROOT": str(tmp_path), "VITRINE_DATABASE_URL": f"sqlite:///{path}", "PYTHONPATH": str(ROOT),
        "DJANGO_SETTINGS_MODULE": "config.settings", "OMP_NUM_THREADS": "1", "VITRINE_CHUNK_LEASE_SECONDS": "3",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", FILL_UP], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-3:] == [
        f"No room is left for the database ({path}). Make room on its disk, for instance with manage.py prune_runs if "
        "the artefacts lie there too, then retry: what was done is kept. Mend that, then: manage.py run_stage "
        "--resume 1",
        "running",
        "done",
    ]
    assert "could not be written down: database or disk is full" in done.stderr


FILL_UP = """
import io
import django
django.setup()
from django.core.management import CommandError, call_command
from django.db import connection
from django.db.backends.signals import connection_created
from annotation.domain.runs import create_run
from annotation.models import Run
from tests.workers import counting_stage

def limited(connection, **_):
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA max_page_count = {most}")

counting_stage.register()
call_command("migrate", verbosity=0)
run = create_run(stage="counting", config={"n_phases": 40}, user=None, queue="command")
connection_created.connect(limited)
most = 1  # SQLite takes the pages that there are instead
connection.close()
try:
    call_command("run_stage", resume=run.pk, stdout=io.StringIO())
except CommandError as error:
    print(error)
print(Run.objects.get().state)
most = 1_000_000
connection.close()
call_command("run_stage", resume=run.pk, stdout=io.StringIO())
print(Run.objects.get().state)
"""


@pytest.mark.django_db
def test_a_setting_without_effect_is_refused_before_anything_is_asked_for(artifact_root: Path) -> None:
    given = [f"image_set={'a' * 64}", f"vision_model={'b' * 64}", "hookpoints=[blocks.0]", "sparsity_weight=0.5"]
    with pytest.raises(CommandError, match=r"'sparsity_weight' has no effect here: only the activations .* Leave it"):
        call_command("run_stage", "train-dictionary", set=given)
    assert Run.objects.count() == 0
    with pytest.raises(CommandError, match="There is no artefact aaaaaaaaaaaa"):
        call_command("run_stage", "train-dictionary", set=given[:3])
