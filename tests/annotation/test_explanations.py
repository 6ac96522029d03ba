"""Sets of explanations: whole files or nothing, and labels only of studies that were unblinded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.urls import reverse

from annotation.domain.explanations import ExplanationError, explanations_from_labels, import_explanations
from annotation.domain.storage import artifact_store
from annotation.models import Dictionary, Explanation, ExplanationSet, Feature, Role, Study, User
from tests.exemplar_factory import build_catalog

pytestmark = pytest.mark.django_db


@pytest.fixture
def dictionary(artifact_root: Path, tmp_path: Path) -> Dictionary:
    return build_catalog(artifact_store(), tmp_path).dictionary


def texts_of(made: ExplanationSet) -> dict[int, str]:
    return dict(Explanation.objects.filter(explanation_set=made).values_list("feature_id", "text"))


def imported(content: str, file_name: str = "a.csv") -> ExplanationSet:
    return import_explanations(name="a", source="", content=content.encode(), file_name=file_name, user=None)


def test_a_csv_names_features_by_number_or_by_place(dictionary: Dictionary) -> None:
    one, other = Feature.objects.filter(dictionary=dictionary).order_by("id")[2:4]
    made = imported(f'feature,text\n{one.pk},  red   discs \n{other.pk},"a, b"\n')
    assert texts_of(made) == {one.pk: "red discs", other.pk: "a, b"}
    rows = [{"dictionary": dictionary.name, "hookpoint": one.hookpoint, "latent": one.latent, "text": "discs"}]
    rows.append({"dictionary": dictionary.digest, "hookpoint": other.hookpoint, "latent": other.latent, "text": "b"})
    lines = "\n".join(json.dumps(row) for row in rows)
    made = import_explanations(name="b", source="", content=lines.encode(), file_name="b.jsonl", user=None)
    assert texts_of(made) == {one.pk: "discs", other.pk: "b"}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("feature,text\n{one},a\n{one},b\n", "Row 3 explains feature .* a second time"),
        ("feature,text\n{one},a\n99999999,b\n", "no such feature as row 3 names"),
        ("feature,text\n{one},a\nx,b\n", "The feature of row 3 is 'x'; it must be a whole number"),
        ("feature,text\n{one},\n", "Row 2 has no text"),
        ("feature,text\n{one},a,b\n", "Row 2 has more cells"),
        ("feature,words\n{one},a\n", "has a column 'words'"),
        ("feature\n{one}\n", "has no column 'text'"),
        ("dictionary,hookpoint,text\nx,blocks.0,a\n", "Row 2 names no feature"),
        ("dictionary,hookpoint,latent,text\nnone,blocks.0,1,a\n", "there is no such dictionary"),
        ("dictionary,hookpoint,latent,text\n{name},blocks.9,1,a\n", "no such feature as row 2 names"),
        ("feature,text\n", "no explanations"),
    ],
)
def test_a_bad_row_refuses_the_whole_file_with_a_sentence(dictionary: Dictionary, content: str, sentence: str) -> None:
    one = Feature.objects.filter(dictionary=dictionary)[0].pk
    with pytest.raises(ExplanationError, match=sentence):
        imported(content.replace("{one}", str(one)).replace("{name}", dictionary.name))
    assert not ExplanationSet.objects.exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [("{", "Row 1 is not JSON"), ("[1]", "not a JSON object"), ('{"feature": 1, "words": "a"}', "an entry 'words'"),
     ('{"feature": true, "text": "a"}', "must be a whole number"),
     ('{"feature": 1.5, "text": "a"}', "must be a whole")],
)  # fmt: skip
def test_a_bad_line_of_json_is_named(content: str, sentence: str) -> None:
    with pytest.raises(ExplanationError, match=sentence):
        imported(content, "a.jsonl")


def test_other_files_and_names_taken_are_refused(dictionary: Dictionary) -> None:
    one = Feature.objects.filter(dictionary=dictionary)[0].pk
    with pytest.raises(ExplanationError, match=r"neither \.csv nor \.jsonl"):
        imported("x", "a.xlsx")
    with pytest.raises(ExplanationError, match="not in UTF-8"):
        import_explanations(name="a", source="", content=b"\xff\xfe", file_name="a.csv", user=None)
    imported(f"feature,text\n{one},a\n")
    with pytest.raises(ExplanationError, match="a set 'a' already"):
        imported(f"feature,text\n{one},a\n")


def test_labels_of_a_study_that_is_not_unblinded_are_not_taken() -> None:
    study = Study.objects.create(name="s", slug="s", state=Study.State.CLOSED)
    with pytest.raises(ExplanationError, match="must be closed and unblinded"):
        explanations_from_labels(study=study, name="labels", user=None)


def test_the_page_makes_a_set_and_says_what_is_wrong(client: Client, dictionary: Dictionary) -> None:
    client.force_login(User.objects.create(username="rhea", role=Role.RESEARCHER))
    one = Feature.objects.filter(dictionary=dictionary)[0].pk
    bad = SimpleUploadedFile("a.csv", b"feature,text\n0,a\n")
    page = client.post(reverse("explanations"), {"name": "a", "file": bad}).content.decode()
    assert "There is no such feature as row 2 names." in page
    good = SimpleUploadedFile("a.csv", f"feature,text\n{one},round things\n".encode())
    page = client.post(reverse("explanations"), {"name": "a", "file": good}, follow=True).content.decode()
    assert "round things" in page
    assert "Give either a file or a study." in client.post(reverse("explanations"), {"name": "b"}).content.decode()


def test_annotators_see_no_explanations(client: Client) -> None:
    client.force_login(User.objects.create(username="ada"))
    assert client.get(reverse("explanations")).status_code == 403
    assert client.get(reverse("protocols")).status_code == 403


def test_the_command_imports_a_file(dictionary: Dictionary, tmp_path: Path) -> None:
    one = Feature.objects.filter(dictionary=dictionary)[0].pk
    file = tmp_path / "a.csv"
    file.write_text(f"feature,text\n{one},a\n")
    call_command("import_explanations", "by model", file, source="a model")
    assert ExplanationSet.objects.get().source == "a model"
    with pytest.raises(CommandError, match="either a file or --study"):
        call_command("import_explanations", "by model")
