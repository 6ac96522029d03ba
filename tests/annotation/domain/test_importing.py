"""Import of items and of earlier answers: checked first, all or nothing, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from annotation.domain.errands import ErrandError, ask_errand, confirm_errand, work_off_errands
from annotation.domain.exports import export_study
from annotation.domain.import_tables import Line, read_table
from annotation.domain.importing_answers import draft_of, import_answers
from annotation.domain.importing_items import import_items
from annotation.domain.studies import create_study
from annotation.domain.unblinding import unblind
from annotation.models import Annotation, Dictionary, Errand, ExplanationSet, Feature, Item, Role, Study, User
from tests.analysis.studies import make_study as make_answered_study
from tests.annotation.small_study import make_dictionary, make_features, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture
def rhea(db: None) -> User:
    return make_person("rhea", Role.RESEARCHER)


@pytest.fixture
def features(db: None) -> list[Feature]:
    return make_features(make_dictionary("sae"), 6)


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def lines(*rows: dict[str, Any]) -> list[Line]:
    return [Line(number, row) for number, row in enumerate(rows, start=2)]


def places(*latents: int, **more: Any) -> list[Line]:
    return lines(*({"dictionary": "sae", "hookpoint": "blocks.0", "latent": latent} | more for latent in latents))


# --- tables


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_csv_is_read_with_its_delimiter_and_numbers_of_lines(tmp_path: Path, delimiter: str) -> None:
    text = 'a|b\n1|\'=x\n\n2|"two\nlines"\n'.replace("|", delimiter)
    read = list(read_table(written(tmp_path, "x.csv", "\ufeff" + text), "x.csv"))
    assert [line.values for line in read] == [{"a": "1", "b": "=x"}, {"a": "2", "b": "two\nlines"}]
    assert [line.number for line in read] == [2, 5]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("x.xlsx", "a", "neither .csv nor .jsonl"),
        ("x.csv", "", "must name its columns"),
        ("x.csv", "a,a\n1,2\n", "each once"),
        ("x.csv", "a,b\n1\n", "another number of columns"),
        ("x.csv", "a,b\n1,2,3\n", "another number of columns"),
        ("x.jsonl", '{"a": 1}\n{"a"\n', "Line 2 is not JSON"),
        ("x.jsonl", "[1]\n", "Line 1 is not a JSON object"),
    ],
)
def test_what_is_no_table(tmp_path: Path, name: str, text: str, sentence: str) -> None:
    with pytest.raises(ErrandError, match=sentence):
        list(read_table(written(tmp_path, name, text), name))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes("a\nß\n".encode("latin-1"))
    with pytest.raises(ErrandError, match="not UTF-8"):
        list(read_table(path, "x.csv"))


# --- items


def test_a_list_of_features_becomes_the_sample_of_a_draft(rhea: User, features: list[Feature]) -> None:
    study = create_study(name="Draft", user=rhea)
    report = import_items(study=study, user=rhea, lines=places(2, 0), name="list.csv", is_dry_run=True)
    assert (report["n_features"], report["n_errors"], study.sampler.get("feature_ids")) == (2, 0, None)
    import_items(study=study, user=rhea, lines=places(2, 0), name="list.csv")
    assert study.sampler == {
        "dictionaries": [features[0].dictionary_id],
        "feature_ids": [features[4].pk, features[0].pk],
    }
    assert study.explanations is None


def test_texts_become_a_set_of_explanations_once(rhea: User, features: list[Feature]) -> None:
    study = create_study(name="Draft", user=rhea)
    for _ in range(2):
        import_items(study=study, user=rhea, lines=places(0, 1, text="red discs"), name="words.csv")
    made = ExplanationSet.objects.get()
    assert study.explanations == made
    assert set(made.explanations.values_list("feature_id", "text")) == {
        (features[0].pk, "red discs"), (features[2].pk, "red discs"),
    }  # fmt: skip
    import_items(study=study, user=rhea, lines=places(0, text="blue discs"), name="words.csv")
    assert study.explanations is not None
    assert study.explanations.name == "words.csv (2)"


def test_one_wrong_line_and_nothing_changes(rhea: User, features: list[Feature]) -> None:
    study = create_study(name="Draft", user=rhea)
    wrong = [
        *places(0, 99), *places(0), *places(1, dictionary="none"), *places(1, pole=3),
        *lines({"dictionary": "sae", "hookpoint": "blocks.0", "latent": "x"}),
    ]  # fmt: skip
    report = import_items(study=study, user=rhea, lines=wrong, name="list.csv", is_dry_run=True)
    told = " ".join(fault["error"] for fault in report["errors"])
    for part in ("no feature blocks.0 / 99", "in line 2 already", "no dictionary 'none'", "1 or -1", "whole number"):
        assert part in told
    with pytest.raises(ErrandError, match="5 lines are wrong"):
        import_items(study=study, user=rhea, lines=wrong, name="list.csv")
    study.refresh_from_db()
    assert "feature_ids" not in study.sampler


def test_a_launched_study_takes_no_items(rhea: User, features: list[Feature]) -> None:
    study = create_study(name="Open", user=rhea, state=Study.State.OPEN)
    with pytest.raises(ErrandError, match="locked"):
        import_items(study=study, user=rhea, lines=places(0), name="list.csv")
    with pytest.raises(ErrandError, match="column 'colour'"):
        import_items(study=create_study(name="D", user=rhea), user=rhea, lines=places(0, colour=1), name="x.csv")


def test_the_command_imports_items(rhea: User, features: list[Feature], tmp_path: Path, capsys: Any) -> None:
    study = create_study(name="Draft", user=rhea)
    path = written(tmp_path, "list.csv", "dictionary,hookpoint,latent\nsae,blocks.0,1\n")
    call_command("import_items", "draft", path, user="rhea")
    assert "1 features, 0 texts, 0 errors" in capsys.readouterr().out
    study.refresh_from_db()
    assert study.sampler["feature_ids"] == [features[2].pk]
    with pytest.raises(CommandError, match="no study 'other'"):
        call_command("import_items", "other", path, user="rhea")


# --- answers


def draft(name: str = "Before", protocol: str = "rate-describe-categorise") -> Study:
    return draft_of({"name": name, "protocol": protocol})


def rated(**fields: Any) -> dict[str, Any]:
    return {"annotator": "ann", "item": "i1", "patch_rating": "3", "image_rating": "", "category": "shape"} | fields


def test_a_simple_table_becomes_a_closed_study(rhea: User, features: list[Feature]) -> None:
    place = {"dictionary": "sae", "hookpoint": "blocks.0", "latent": "1", "item": ""}
    rows = lines(rated(), rated(annotator="bob", category="", label="discs"), rated(**place, submitted_at="2026-03-01"))
    study = draft()
    report = import_answers(study=study, user=rhea, lines=rows, mapping={}, is_dry_run=True)
    assert (report["n_new"], report["n_items"], report["n_annotators"], report["n_features"]) == (3, 2, 2, 1)
    assert Study.objects.count() == Annotation.objects.count() == 0
    import_answers(study=study, user=rhea, lines=rows, mapping={})
    study.refresh_from_db()
    assert (study.state, study.origin, study.n_slots_done, study.n_items) == ("closed", "import", 3, 2)
    assert set(study.categories.values_list("name", flat=True)) == {"shape"}
    one = Annotation.objects.get(item__feature=features[2])
    assert (one.patch_rating, one.image_rating, one.source, one.payload["category"]) == (3, None, "import", "shape")
    assert Dictionary.objects.count() == 1  # the stand-in of the item without a feature is not in the catalog
    assert not User.objects.filter(annotations__isnull=False, is_active=True).exists()


def test_the_same_table_again_adds_nothing_and_a_longer_one_what_is_new(rhea: User, features: list[Feature]) -> None:
    study = draft()
    import_answers(study=study, user=rhea, lines=lines(rated()), mapping={})
    again = import_answers(study=study, user=rhea, lines=lines(rated()), mapping={})
    assert (again["n_new"], again["n_known"], Annotation.objects.count()) == (0, 1, 1)
    import_answers(study=study, user=rhea, lines=lines(rated(), rated(item="i2"), rated(item="i2")), mapping={})
    study.refresh_from_db()
    assert (Annotation.objects.count(), study.n_items, study.pseudonyms.count()) == (2, 2, 1)
    with pytest.raises(ErrandError, match="was made here"):
        import_answers(study=create_study(name="Own", user=rhea), user=rhea, lines=lines(rated()), mapping={})


def test_columns_with_other_names(rhea: User) -> None:
    rows = lines({"rater": "ann", "unit": "7", "q1": "4", "q2": "1"})
    mapping = {"annotator": "rater", "item": "unit", "patch_rating": "q1", "image_rating": "q2"}
    import_answers(study=draft(), user=rhea, lines=rows, mapping=mapping)
    assert Annotation.objects.get().payload == {"patch_rating": 4, "image_rating": 1, "category": "", "label": ""}
    with pytest.raises(ErrandError, match="no column 'who'; it has rater"):
        import_answers(study=draft("B"), user=rhea, lines=rows, mapping={"annotator": "who"})


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"patch_rating": "9"}, "it can be 1, 2, 3, 4"),
        ({"annotator": ""}, "There is no annotator"),
        ({"item": ""}, "neither an item nor a feature"),
        ({"submitted_at": "yesterday"}, "must be an ISO date"),
        ({"submitted_at": "1970-01-01"}, "years from now"),
        ({"annotation": "x"}, "must be a UUID"),
        ({"is_current": "perhaps"}, "true or false"),
        ({"condition": "odd"}, "The condition is 'odd'"),
        ({"payload": "{"}, "payload is not JSON"),
        ({"label": "x" * 300}, "300 characters"),
        ({"annotator": "a\x00b"}, "cannot be stored"),
    ],
)
def test_a_wrong_line_is_named(rhea: User, fields: dict[str, Any], sentence: str) -> None:
    rows = lines(rated(), rated(item="i2", **fields) if "item" not in fields else rated(**fields))
    report = import_answers(study=draft(), user=rhea, lines=rows, mapping={}, is_dry_run=True)
    [fault] = report["errors"]
    assert fault["line"] == 3
    assert sentence in fault["error"]
    with pytest.raises(ErrandError, match="1 lines are wrong"):
        import_answers(study=draft(), user=rhea, lines=rows, mapping={})
    assert Study.objects.count() == 0


def test_two_current_answers_to_one_item_are_a_fault(rhea: User) -> None:
    report = import_answers(
        study=draft(), user=rhea, lines=lines(rated(), rated(patch_rating="1")), mapping={}, is_dry_run=True
    )
    assert "answered item 'i1' in line 2 already" in report["errors"][0]["error"]
    rows = lines(rated(is_current="false"), rated(patch_rating="1"))
    assert import_answers(study=draft(), user=rhea, lines=rows, mapping={})["n_new"] == 2


def test_every_protocol_reads_its_columns(rhea: User) -> None:
    rows = lines({"annotator": "ann", "item": "1", "marks": "[[0, 5], [1, 2]]"})
    import_answers(study=draft("M", "patch-marking"), user=rhea, lines=rows, mapping={})
    assert Annotation.objects.get().payload == {"marks": [[0, 5], [1, 2]]}
    rows = lines({"annotator": "ann", "item": "1", "easier": "tie"})
    import_answers(study=draft("P", "pairwise"), user=rhea, lines=rows, mapping={})
    assert Annotation.objects.get(study__name="P").choice == "tie"


def test_an_export_comes_back_as_it_went(tmp_path: Path) -> None:
    """Into a database where the study is not: its own answers are removed first."""
    made = make_answered_study()
    unblind(study=made.study, user=made.researcher)
    export_study(study=made.study, file_format="csv", folder=tmp_path)
    path = tmp_path / "annotations.csv"
    columns = ("uuid", "patch_rating", "image_rating", "label", "item__condition", "annotator__annotator_code")
    before = list(Annotation.objects.order_by("uuid").values_list(*columns))
    with pytest.raises(ErrandError, match="are here already, in the study 'Study first'"):
        import_answers(study=draft(), user=made.researcher, lines=read_table(path, path.name), mapping={})
    Annotation.objects.all().delete()
    for one in made.annotators:
        User.objects.filter(pk=one.pk).update(annotator_code=f"gone {one.pk}")
    import_answers(study=draft(), user=made.researcher, lines=read_table(path, path.name), mapping={})
    assert list(Annotation.objects.order_by("uuid").values_list(*columns)) == before
    assert Item.objects.filter(study__origin="import").values("feature").distinct().count() > 1


def test_an_errand_is_checked_then_done(rhea: User, tmp_path: Path, settings: Any) -> None:
    settings.EXPORT_ROOT = tmp_path
    text = json.dumps(rated(patch_rating=3, image_rating=None)) + "\n"
    errand = ask_errand(
        kind=Errand.Kind.IMPORT_ANSWERS, user=rhea, options={"name": "Before", "protocol": "rate-describe-categorise"},
        upload=("../../before.jsonl", [text.encode()]), is_dry_run=True,
    )  # fmt: skip
    assert work_off_errands() == 1
    errand.refresh_from_db()
    assert (errand.state, errand.file_name, errand.report["n_new"]) == ("checked", "before.jsonl", 1)
    assert Annotation.objects.count() == 0
    confirm_errand(errand=errand)
    assert work_off_errands() == 1
    errand.refresh_from_db()
    assert (errand.state, errand.study) == ("done", Study.objects.get(name="Before"))
    with pytest.raises(ErrandError, match="done already"):
        confirm_errand(errand=errand)


def test_an_errand_that_cannot_be_done_says_why(rhea: User, tmp_path: Path, settings: Any) -> None:
    settings.EXPORT_ROOT = tmp_path
    errand = ask_errand(
        kind=Errand.Kind.IMPORT_ANSWERS, user=rhea, options={"name": ""}, upload=("x.csv", [b"a\n"]), is_dry_run=True
    )
    work_off_errands()
    errand.refresh_from_db()
    assert (errand.state, errand.error) == ("failed", "Give the study that is to hold the answers a name.")


def test_the_command_imports_answers(rhea: User, tmp_path: Path, capsys: Any) -> None:
    path = written(tmp_path, "x.csv", "rater,item,query,confidence\nann,1,0,3\n")
    call_command(
        "import_answers", path, user="rhea", name="Choices", protocol="two-alternative", map=["annotator=rater"]
    )
    assert "1 new answers to 1 items by 1 annotators, 0 known" in capsys.readouterr().out
    assert Annotation.objects.get().choice == "0"
    with pytest.raises(CommandError, match="OURS=THEIRS"):
        call_command("import_answers", path, user="rhea", name="C", map=["rater"])
