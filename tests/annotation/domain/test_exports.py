"""Exports: every answer once, no identity, nothing blind, references or pixels as the licence says."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from analysis.domain.answers import collect, rows_of_study
from analysis.domain.export_reader import rows_of_export
from annotation.domain.exports import (
    ExportError,
    claim_export,
    download_path,
    downloads_of,
    export_study,
    request_export,
    write_queued_exports,
)
from annotation.domain.storage import artifact_store
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, ExportFile, Image, ImageSet, Study, Term, Verdict
from tests.analysis.studies import SmallStudy, answer, make_study
from tests.servers import WorkerProcess, poll

pytestmark = pytest.mark.django_db

BLIND_COLUMNS = {
    "condition", "repeat_of", "stratum", "is_gold_right", "feature", "dictionary", "dictionary_digest", "hookpoint",
    "block", "latent", "pole", "variant", "text", "truth", "other_feature", "other_dictionary", "other_block",
}  # fmt: skip


@pytest.fixture
def small() -> SmallStudy:
    made = make_study()
    unblind(study=made.study, user=made.researcher)
    first = Annotation.objects.order_by("id").first()
    assert first is not None
    Annotation.objects.filter(pk=first.pk).update(is_current=False)
    answer(first.item, first.annotator, np.random.default_rng(1), revision_of=first, patch_rating=None).save()
    Annotation.objects.filter(pk=first.pk + 5).update(excluded_reason="answers at random")
    return made


@pytest.fixture
def export_root(tmp_path: Path, settings: Any) -> Path:
    settings.EXPORT_ROOT = tmp_path / "exports"
    return tmp_path / "exports"


def rows_of(folder: Path, file_format: str) -> list[dict[str, Any]]:
    path = folder / f"annotations.{file_format}"
    if file_format == "csv":
        return list(csv.DictReader(io.StringIO(path.read_bytes().decode())))
    if file_format == "jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    from pyarrow import parquet

    table: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    return table


@pytest.mark.parametrize("file_format", ["csv", "jsonl", "parquet"])
def test_every_stored_answer_comes_once_and_reads_back_as_it_is(
    small: SmallStudy, tmp_path: Path, file_format: str
) -> None:
    result = export_study(study=small.study, file_format=file_format, folder=tmp_path)
    rows = rows_of(tmp_path, file_format)
    assert result.n_rows == len(rows) == 55
    assert [row["annotation"] for row in rows] == [
        str(one) for one in Annotation.objects.order_by("id").values_list("uuid", flat=True)
    ]
    exported = sorted(rows_of_export(tmp_path, small.study.protocol), key=repr)
    assert exported == sorted(rows_of_study(small.study), key=repr)
    data = (tmp_path / f"annotations.{file_format}").read_bytes()
    assert (result.data.sha256, result.data.size) == (hashlib.sha256(data).hexdigest(), len(data))


def test_typed_values_in_each_format(small: SmallStudy, tmp_path: Path) -> None:
    last = Annotation.objects.order_by("id").last()
    assert last is not None
    for file_format in ("csv", "jsonl", "parquet"):
        export_study(study=small.study, file_format=file_format, folder=tmp_path)
    text, nested, typed = (rows_of(tmp_path, one)[-1] for one in ("csv", "jsonl", "parquet"))
    assert (text["patch_rating"], nested["patch_rating"], typed["patch_rating"]) == ("", None, None)
    assert (text["is_current"], nested["is_current"], typed["is_current"]) == ("True", True, True)
    assert json.loads(text["timing"]) == nested["timing"] == json.loads(typed["timing"]) == {"first_key_ms": 900}
    assert text["label"] == nested["label"] == typed["label"] == "round, “red” things"
    assert text["submitted_at"] == nested["submitted_at"] == typed["submitted_at"].isoformat()
    assert typed["submitted_at"] == last.submitted_at


def test_what_people_settled_since_stands_beside_the_answer(small: SmallStudy, tmp_path: Path) -> None:
    first, second = list(Annotation.objects.order_by("id")[:2])
    label = "round, “red” things"
    better = Term.objects.create(study=small.study, text="discs")
    Term.objects.update_or_create(study=small.study, text=label, defaults={"merged_into": better})
    Verdict.objects.create(
        uuid=uuid.uuid4(), study=small.study, item=second.item, judge=small.researcher, category="shape",
        label="red discs", rationale="look", stimulus_id="", protocol_version="1.0",
    )  # fmt: skip
    export_study(study=small.study, file_format="jsonl", folder=tmp_path)
    rows = {row["annotation"]: row for row in rows_of(tmp_path, "jsonl")}
    one = rows[str(second.uuid)]
    assert (one["label"], one["canonical_label"]) == (label, "discs")
    assert (one["adjudicated_label"], one["adjudicated_category"]) == ("red discs", "shape")
    others = [row for row in rows.values() if row["item"] != second.item_id]
    assert {(row["adjudicated_label"], row["adjudicated_category"]) for row in others} == {(None, None)}
    assert (one["source"], one["study_version"], one["vocabulary_version"]) == ("web", "1.0", 1)
    assert first.label == label


def test_an_export_goes_on_from_the_cursor_of_the_last(small: SmallStudy, tmp_path: Path) -> None:
    keys = list(Annotation.objects.order_by("id").values_list("pk", flat=True))
    whole = export_study(study=small.study, file_format="jsonl", folder=tmp_path / "whole")
    assert whole.last == keys[-1]
    part = export_study(study=small.study, file_format="jsonl", folder=tmp_path / "part", after=keys[49])
    assert (part.n_rows, part.last) == (5, keys[-1])
    wanted = [row["annotation"] for row in rows_of(tmp_path / "whole", "jsonl")][50:]
    assert [row["annotation"] for row in rows_of(tmp_path / "part", "jsonl")] == wanted
    assert json.loads((tmp_path / "part" / "card.json").read_text())["cursor"] == {"after": keys[49], "last": keys[-1]}
    assert f"Only answers after the cursor {keys[49]}" in (tmp_path / "part" / "card.md").read_text()
    nothing = export_study(study=small.study, file_format="csv", folder=tmp_path / "nothing", after=keys[-1])
    assert (nothing.n_rows, nothing.last) == (0, keys[-1])


def test_no_name_of_an_annotator_is_in_any_file(small: SmallStudy, tmp_path: Path) -> None:
    export_study(study=small.study, file_format="jsonl", folder=tmp_path)
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert small.annotators[0].annotator_code in text
    for person in [*small.annotators, small.researcher]:
        assert person.username not in text


def test_a_blind_study_is_exported_without_what_its_items_are(tmp_path: Path) -> None:
    small = make_study(state=Study.State.OPEN)
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    [first, *_] = rows_of(tmp_path, "csv")
    assert not BLIND_COLUMNS & set(first)
    text = "".join(path.read_text() for path in tmp_path.iterdir())
    assert "random_directions" not in text
    assert "sae first" not in text
    small.study.state = Study.State.CLOSED
    small.study.save()
    unblind(study=small.study, user=None)
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    assert set(rows_of(tmp_path, "csv")[0]) >= BLIND_COLUMNS


def test_the_card_says_what_the_files_are(small: SmallStudy, tmp_path: Path) -> None:
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["counts"] == {
        "answers": 55, "annotators": 3, "simulated": 0, "simulated_share": 0.0, "revised": 1, "late_extras": 0,
        "excluded": {"answers at random": 1},
    }  # fmt: skip
    assert [column["name"] for column in card["columns"]] == list(rows_of(tmp_path, "csv")[0])
    assert card["images"] == [{"image_set": "shapes", "digest": "1" * 64, "licence": "CC0", "pixels": True}]
    for file in card["files"]:
        assert hashlib.sha256((tmp_path / file["name"]).read_bytes()).hexdigest() == file["sha256"]
    text = (tmp_path / "card.md").read_text()
    assert text.startswith("# Study first\n")
    assert "- excluded, answers at random: 1" in text
    assert "simulated:** made by programs" not in text


def test_the_card_of_a_simulated_study_says_so_first(tmp_path: Path) -> None:
    small = make_study(is_simulated=True)
    export_study(study=small.study, file_format="csv", folder=tmp_path)
    assert (tmp_path / "card.md").read_text().splitlines()[2].startswith("**54 of 54 answers are simulated:**")


def freeze(study: Study) -> None:
    """A stimuli artefact in which every item shows image 3, patch and all."""
    image_set = ImageSet.objects.get(name="shapes")
    Image.objects.create(image_set=image_set, index=3, path="a/3.png", sha256="3" * 64, width=8, height=8)
    patches, images = [{"image_index": 3, "patch_index": 5}], [{"image_index": 3}]
    cells = {"panels": [{"name": "patches", "cells": patches}, {"name": "images", "cells": images}]}
    with artifact_store().write("stimuli", config={}) as writer:
        for name in set(study.items.values_list("stimulus_id", flat=True)):
            for folder, suffix, content in (
                ("items", "json", json.dumps(cells)),
                ("sprites", "webp", f"pixels {name}"),
            ):
                (writer.folder / folder).mkdir(exist_ok=True)
                (writer.folder / folder / f"{name}.{suffix}").write_text(content)
    assert writer.artifact is not None
    study.stimuli_digest = writer.artifact.digest
    study.save()


def test_images_are_named_by_path_and_hash_and_pixels_come_where_allowed(
    small: SmallStudy, tmp_path: Path, artifact_root: Path
) -> None:
    freeze(small.study)
    export_study(study=small.study, file_format="csv", folder=tmp_path / "free")
    lines = [json.loads(line) for line in (tmp_path / "free" / "stimuli.jsonl").read_text().splitlines()]
    name = f"{0:064x}"
    reference = {"path": "a/3.png", "sha256": "3" * 64}
    panels = {"patches": [reference], "images": [reference]}
    assert lines[0] == {"stimulus": name, "panels": panels, "sprite": f"{name}.webp"}
    assert len(lines) == 18
    with zipfile.ZipFile(tmp_path / "free" / "sprites.zip") as archive:
        assert archive.read(f"{name}.webp") == f"pixels {name}".encode()
    ImageSet.objects.update(allows_redistribution=False)
    export_study(study=small.study, file_format="csv", folder=tmp_path / "closed")
    assert not (tmp_path / "closed" / "sprites.zip").exists()
    lines = [json.loads(line) for line in (tmp_path / "closed" / "stimuli.jsonl").read_text().splitlines()]
    assert lines[0] == {"stimulus": name, "panels": panels, "sprite": None}
    assert "only references" in (tmp_path / "closed" / "card.md").read_text()


def test_a_requested_export_is_written_once(small: SmallStudy, export_root: Path) -> None:
    asked = request_export(study=small.study, file_format="csv", user=small.researcher)
    assert downloads_of(asked) == []
    assert write_queued_exports() == 1
    assert write_queued_exports() == 0
    done = ExportFile.objects.get()
    assert (done.state, done.n_rows) == (ExportFile.State.DONE, 55)
    assert downloads_of(done) == ["annotations.csv", "stimuli.jsonl", "card.md", "card.json"]
    path = download_path(done, "annotations.csv")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == done.sha256
    for name in ("../../secret", "annotations.parquet"):
        with pytest.raises(ExportError, match="has no file"):
            download_path(done, name)


def test_an_export_left_behind_by_a_dead_worker_is_written_by_another(small: SmallStudy, export_root: Path) -> None:
    request_export(study=small.study, file_format="csv", user=small.researcher)
    assert claim_export() is not None
    assert claim_export() is None
    ExportFile.objects.update(beaten_at=timezone.now() - timedelta(minutes=6))
    assert write_queued_exports() == 1
    assert ExportFile.objects.get().state == ExportFile.State.DONE


def test_an_export_tells_how_far_it_is_and_that_its_worker_lives(
    small: SmallStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotation.domain.export_card.REPORT_EVERY", 20)
    row = request_export(study=small.study, file_format="csv", user=small.researcher)
    heard = []

    def report(n_rows: int) -> None:
        ExportFile.objects.filter(pk=row.pk).update(n_rows=n_rows)  # a write while the rows are being read
        heard.append(ExportFile.objects.get(pk=row.pk).n_rows)

    result = export_study(study=small.study, file_format="csv", folder=tmp_path, report=report)
    assert heard == [20, 40]
    assert result.n_rows == 55


def test_a_failed_export_keeps_its_error_and_is_not_tried_again(small: SmallStudy, export_root: Path) -> None:
    request_export(study=small.study, file_format="csv", user=small.researcher)
    export_root.write_text("a file where the folder should be")
    with pytest.raises(OSError, match="exports"):
        write_queued_exports()
    failed = ExportFile.objects.get()
    assert failed.state == ExportFile.State.FAILED
    assert "exports" in failed.error
    assert write_queued_exports() == 0


def test_an_unknown_format_is_refused_with_the_known_ones(small: SmallStudy, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="'xlsx' is no export format; it can be csv, jsonl, parquet"):
        export_study(study=small.study, file_format="xlsx", folder=tmp_path)
    with pytest.raises(ExportError, match="'xlsx'"):
        request_export(study=small.study, file_format="xlsx", user=small.researcher)


def test_the_command_writes_an_export(small: SmallStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("export_study", "first", "--format", "jsonl", "--out", str(tmp_path / "out"))
    assert "55 answers in" in capsys.readouterr().out
    rows = rows_of_export(tmp_path / "out", small.study.protocol)
    answers = collect(rows, protocol=small.study.protocol, options={}, include_simulated=False)
    assert answers.tally.n_used == 53
    with pytest.raises(CommandError, match="There is no study 'second'; there is: first"):
        call_command("export_study", "second", "--out", str(tmp_path))


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_writes_what_was_asked_for(start_worker: Callable[..., WorkerProcess]) -> None:
    small = make_study()
    request_export(study=small.study, file_format="parquet", user=small.researcher)
    start_worker("cpu")
    poll(lambda: ExportFile.objects.filter(state=ExportFile.State.DONE).exists(), "the export to be written")
    done = ExportFile.objects.get()
    assert done.n_rows == 54
    assert download_path(done, "annotations.parquet").stat().st_size == done.size


def test_a_label_is_no_formula_in_a_spreadsheet_and_itself_elsewhere(small: SmallStudy, tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://evil.example","look")'
    Annotation.objects.update(label=formula)
    for file_format, shown in (("csv", f"'{formula}"), ("jsonl", formula), ("parquet", formula)):
        export_study(study=small.study, file_format=file_format, folder=tmp_path / file_format)
        assert {row["label"] for row in rows_of(tmp_path / file_format, file_format)} == {shown}
