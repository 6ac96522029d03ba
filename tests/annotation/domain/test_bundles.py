"""A study travels to a second site without torch, is answered there, and its answers come home once."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from annotation.domain.bundle_files import STUDY_KIND, open_bundle, sign
from annotation.domain.bundles import export_bundle
from annotation.domain.bundles_received import import_bundle
from annotation.domain.bundles_returned import return_answers
from annotation.domain.errands import ErrandError
from annotation.domain.studies import close_study
from annotation.domain.unblinding import unblind
from annotation.models import (
    Annotation,
    Bundle,
    Condition,
    Item,
    Participation,
    ReferenceItem,
    Remark,
    Slot,
    Study,
    User,
)
from tests.annotation.second_site import SecondSite
from tests.factories import OpenStudy, make_annotation, make_annotator, make_open_study

pytestmark = pytest.mark.django_db
SECRETS = ("condition", "feature", "image_index", "patch_index", "dictionary", "accepted_gold", "random_directions")


@pytest.fixture
def home(artifact_root: Path) -> OpenStudy:
    made = make_open_study(n_items=8, is_simulated=True, locked_hash="f" * 64)
    Item.objects.filter(pk=made.items[0].pk).update(
        condition=Condition.GOLD, accepted={"patch_rating": [1, 2, 3, 4, None]}, truth={"right": 1}
    )
    Item.objects.filter(pk=made.items[1].pk).update(condition=Condition.RANDOM_DIRECTIONS)
    return made


@pytest.fixture
def sent(home: OpenStudy, tmp_path: Path) -> Path:
    path = tmp_path / "study.zip"
    export_bundle(study=home.study, user=home.researcher, path=path)
    return path


def rewritten(path: Path, to: Path, name: str, change: Any, *, signed_with: str | None = None) -> Path:
    """The archive with one file changed; with a key, its manifest is made to fit."""
    with zipfile.ZipFile(path) as source:
        contents = {info.filename: source.read(info) for info in source.infolist()}
    contents[name] = change(contents[name])
    if signed_with is not None:
        import hashlib

        manifest = json.loads(contents["manifest.json"])
        entry = {"size": len(contents[name]), "sha256": hashlib.sha256(contents[name]).hexdigest()}
        manifest["files"][name] = entry
        manifest["signature"] = sign(manifest, signed_with)
        contents["manifest.json"] = json.dumps(manifest).encode()
    with zipfile.ZipFile(to, "w") as target:
        for file_name, content in contents.items():
            target.writestr(file_name, content)
    return to


def key_of(path: Path) -> str:
    return str(open_bundle(path, STUDY_KIND).manifest["key"])


def test_a_bundle_says_what_to_judge_and_not_what_it_is(home: OpenStudy, sent: Path) -> None:
    with zipfile.ZipFile(sent) as archive:
        names = set(archive.namelist())
        text = "".join(archive.read(name).decode() for name in names if not name.endswith(".webp"))
    opened = open_bundle(sent, STUDY_KIND)
    items = list(opened.lines("items.jsonl"))
    assert [item["item"] for item in items] == [item.pk for item in home.items]
    assert {item["n"] for item in items} == {1}
    assert sum(name.startswith("stimuli/sprites/") for name in names) == len(home.items) + len(home.practice)
    assert not [word for word in SECRETS if word in text.replace('"other_feature"', "")]
    assert "All of them are discs of one color." in text  # practice shows its reason
    assert Bundle.objects.get().n_items == 8
    assert home.study.events.filter(kind="bundle made").exists()


def test_judgements_given_are_not_asked_for_again(home: OpenStudy, tmp_path: Path) -> None:
    Slot.objects.filter(item__in=home.items[:5]).update(state=Slot.State.DONE)
    report = export_bundle(study=home.study, user=None, path=tmp_path / "a.zip")
    assert (report["n_items"], report["n_judgements"]) == (3, 3)
    report = export_bundle(study=home.study, user=None, path=tmp_path / "b.zip", per_item=2)
    assert (report["n_items"], report["n_judgements"]) == (8, 16)
    Slot.objects.update(state=Slot.State.DONE)
    with pytest.raises(ErrandError, match="say how many per item"):
        export_bundle(study=home.study, user=None, path=tmp_path / "c.zip")
    with pytest.raises(ErrandError, match="1 to 20"):
        export_bundle(study=home.study, user=None, path=tmp_path / "c.zip", per_item=0)


def test_a_draft_does_not_travel(home: OpenStudy, tmp_path: Path) -> None:
    home.study.state = Study.State.DRAFT
    with pytest.raises(ErrandError, match="only a launched study"):
        export_bundle(study=home.study, user=None, path=tmp_path / "a.zip")


def test_the_site_it_was_made_on_does_not_take_it_in(sent: Path) -> None:
    with pytest.raises(ErrandError, match="was made here"):
        import_bundle(path=sent, user=None)


def test_there_and_back(home: OpenStudy, sent: Path, tmp_path: Path, capsys: Any) -> None:
    second, back = SecondSite(tmp_path / "second"), tmp_path / "answers.zip"
    told = second.python(f"sent, back = {str(sent)!r}, {str(back)!r}\n{ANSWER_THERE}").splitlines()
    assert told[:2] == ["'Study of discs' is here, paused: /studies/study-of-discs/", "here already"]
    assert told[2].split() == ["8", "8", "2", "0", "True"]
    assert told[3] == "5 simulated answers given to 'Study of discs'."
    assert told[4].startswith("5 answers in ")
    there = set(told[5].split())

    assert return_answers(path=back, user=None, is_dry_run=True)["n_new"] == 5
    assert Annotation.objects.count() == 0
    call_command("import_bundle", back, user="rhea")
    assert "5 answers are new" in capsys.readouterr().out
    call_command("import_bundle", back, user="rhea")
    assert "0 answers are new in 'discs', 5 were there already" in capsys.readouterr().out
    assert Annotation.objects.count() == 5
    assert set(Annotation.objects.values_list("source", "is_simulated", "is_late_extra")) == {("bundle", True, False)}
    assert Slot.objects.filter(state=Slot.State.DONE).count() == 5
    assert set(Annotation.objects.values_list("annotator__annotator_code", flat=True)) == there
    assert not User.objects.filter(annotations__isnull=False, is_active=True).exists()

    second.python(f"back = {str(back)!r}\n{FINISH_THERE}")
    report = return_answers(path=back, user=home.researcher, study=home.study)
    assert (report["n_new"], report["n_known"]) == (3, 5)
    home.study.refresh_from_db()
    assert (home.study.n_slots_done, home.study.n_slots) == (8, 8)
    gold = Annotation.objects.get(item=home.items[0])
    assert gold.is_gold_right is True
    refuse_what_is_wrong(home, back, tmp_path)


def refuse_what_is_wrong(home: OpenStudy, back: Path, tmp_path: Path) -> None:
    other = make_open_study("others", n_items=1).study
    with pytest.raises(ErrandError, match="belong to 'Study of discs', not to 'Study of others'"):
        return_answers(path=back, user=None, study=other)
    altered = rewritten(back, tmp_path / "x.zip", "answers.jsonl", lambda text: text.replace(b"bot", b"bat"))
    bent = rewritten(back, tmp_path / "y.zip", "answers.jsonl", lambda text: text + b"{}\n")
    for path in (bent, altered):
        if path.read_bytes() != back.read_bytes() and b"bot" in back.read_bytes():
            with pytest.raises(ErrandError, match="altered"):
                return_answers(path=path, user=None)
    forged = rewritten(back, tmp_path / "z.zip", "answers.jsonl", lambda text: text + b"{}\n", signed_with="guess")
    with pytest.raises(ErrandError, match="altered on its way"):
        return_answers(path=forged, user=None)
    key = Bundle.objects.get(study=home.study).key
    broken = rewritten(back, tmp_path / "w.zip", "answers.jsonl", lambda text: text + b"{}\n", signed_with=key)
    with pytest.raises(ErrandError, match="Line 9: The line is not as a bundle has it"):
        return_answers(path=broken, user=None)
    stimulus = home.items[2].stimulus_id.encode()
    moved = rewritten(
        back,
        tmp_path / "v.zip",
        "answers.jsonl",
        lambda text: text.replace(stimulus, b"0" * 63 + b"9"),
        signed_with=key,
    )
    with pytest.raises(ErrandError, match="shows something else"):
        return_answers(path=moved, user=None)
    Study.objects.filter(pk=home.study.pk).update(is_simulated=False)
    with pytest.raises(ErrandError, match="given by a program"):
        return_answers(path=back, user=None)
    home.study.refresh_from_db()
    close_study(study=home.study, user=None)
    unblind(study=home.study, user=None)
    with pytest.raises(ErrandError, match="unblinded"):
        return_answers(path=back, user=None)
    Bundle.objects.all().delete()
    with pytest.raises(ErrandError, match="not made here"):
        return_answers(path=back, user=None)


ANSWER_THERE = """
from pathlib import Path
from django.core.management import CommandError, call_command
from annotation.domain.stimuli import stimulus_for_player
from annotation.domain.studies import resume_study
from annotation.models import Annotation, Dictionary, Item, ReferenceItem, Slot, Study
call_command("import_bundle", sent, user="sid")
try:
    call_command("import_bundle", sent, user="sid")
except CommandError as error:
    print("here already" if "is here already" in str(error) else error)
study = Study.objects.get()
shown = stimulus_for_player(study=study, stimulus_id=Item.objects.first().stimulus_id)
print(Item.objects.count(), Slot.objects.count(), ReferenceItem.objects.count(), Dictionary.objects.count(),
      len(shown["panels"]) == 2 and study.guidelines.get().text.startswith("# What to do"))
resume_study(study=study, user=None)
call_command("simulate_annotators", study.slug, n=2, limit=5)
call_command("export_bundle", study.slug, out=Path(back))
print(*set(Annotation.objects.values_list("annotator__annotator_code", flat=True)))
"""
FINISH_THERE = """
from pathlib import Path
from django.core.management import call_command
call_command("simulate_annotators", "study-of-discs", n=2)
call_command("export_bundle", "study-of-discs", out=Path(back))
"""


def test_a_person_answers_there_over_http_and_reports_an_image(home: OpenStudy, tmp_path: Path) -> None:
    Study.objects.update(is_simulated=False)
    bundle, back = tmp_path / "people.zip", tmp_path / "answers.zip"
    home.study.refresh_from_db()
    export_bundle(study=home.study, user=None, path=bundle)
    second = SecondSite(tmp_path / "fourth")
    item = int(second.python(f"sent, back = {str(bundle)!r}, {str(back)!r}\n{PERSON_THERE}").split()[-1])
    ada = make_annotator(home.study)
    make_annotation(Item.objects.get(pk=item), ada)
    Slot.objects.filter(item=item).update(state=Slot.State.DONE, annotator=ada)
    report = return_answers(path=back, user=None)
    assert (report["n_new"], report["n_annotators"], report["n_remarks"], report["n_errors"]) == (1, 1, 1, 0)
    answer = Annotation.objects.get(source="bundle")
    assert answer.is_late_extra  # somebody here was quicker
    assert (answer.item_id, answer.label, answer.is_simulated, answer.visible_ms) == (item, "red discs", False, 4100)
    place = Participation.objects.get(user=answer.annotator)
    assert (place.consented_at is not None, place.practised_at is not None, place.n_done) == (True, True, 1)
    remark = Remark.objects.get()
    assert (remark.kind, remark.text) == ("flag", "Image 1 of 'images' is reported: it is private")
    assert return_answers(path=back, user=None)["n_new"] == 0
    assert Remark.objects.count() == 1


PERSON_THERE = """
import json, uuid
from pathlib import Path
from django.core.management import call_command
from django.test import Client
from django.utils import timezone
from annotation.domain.participation import join_study
from annotation.domain.row_numbers import numbers_of
from annotation.domain.studies import resume_study
from annotation.models import ForeignItem, Participation, Study
call_command("import_bundle", sent, user="sid")
study = Study.objects.get()
resume_study(study=study, user=None)
place = join_study(token=study.join_token)
now = timezone.now()
Participation.objects.filter(pk=place.pk).update(
    consented_at=now, consent_version=study.consent_version, guideline_version=1, practised_at=now)
client = Client()
client.force_login(place.user)
def post(what, **body):
    reply = client.post(f"/work/{study.slug}/{what}", json.dumps(body), content_type="application/json")
    assert reply.status_code == 200, reply.content
    return reply.json()
work = post("claim", n=1, have=[])["items"][0]
picture = client.get(work["stimulus"]["sprite"])
assert (picture.status_code, picture["Content-Type"]) == (200, "image/webp")
payload = {"patch_rating": 4, "image_rating": 3, "category": "colour", "label": "red discs"}
post("answers", uuid=str(uuid.uuid4()), item=work["item"], slot=work["slot"], payload=payload,
     stimulus_id=work["stimulus"]["id"], submitted_at=now.isoformat(), protocol_version="1.0", guideline_version=1,
     timing={"visible_ms": 4100})
post("reports", uuid=str(uuid.uuid4()), item=work["item"], panel="images", cell=0, reason="it is private")
call_command("export_bundle", study.slug, out=Path(back))
print(ForeignItem.objects.get(item_id=numbers_of(study).items.row_id(work["item"])).key)
"""


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("guideline.md", lambda text: text + b" and more", "altered"),
        ("guideline.md", lambda text: text.replace(b"Look", b"Took"), "altered"),
        ("manifest.json", lambda text: text.replace(b"Study of discs", b"Study of disks"), "altered"),
        ("manifest.json", lambda text: b"{}", "no bundle of Vitrine"),
        ("../escape.md", lambda text: text, "altered"),
    ],
)
def test_an_altered_bundle_is_refused(sent: Path, tmp_path: Path, name: str, change: Any, sentence: str) -> None:
    Bundle.objects.all().delete()
    with zipfile.ZipFile(sent) as source:
        contents = {info.filename: source.read(info) for info in source.infolist()}
    contents[name] = change(contents.get(name, b"x"))
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as target:
        for file_name, content in contents.items():
            target.writestr(file_name, content)
    with pytest.raises(ErrandError, match=sentence):
        import_bundle(path=tmp_path / "x.zip", user=None)
    assert Study.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("study.json", lambda text: text.replace(b"rate-describe-categorise", b"rate-and-run"), "study.json is not"),
        (
            "study.json",
            lambda text: text.replace(b'"session_length": 60', b'"session_length": "x"'),
            "study.json is not",
        ),
        ("items.jsonl", lambda text: text.replace(b'"n": 1', b'"n": 5000'), "items.jsonl is not"),
        ("items.jsonl", lambda text: b"", "items.jsonl is not"),
        ("stimuli/sprites/" + f"{0:064x}.webp", lambda text: b"<svg onload='x()'/>", "is no picture"),
    ],
)
def test_a_bundle_made_by_somebody_else_is_looked_at(
    sent: Path, tmp_path: Path, name: str, change: Any, sentence: str
) -> None:
    key = key_of(sent)
    Bundle.objects.all().delete()
    path = rewritten(sent, tmp_path / "x.zip", name, change, signed_with=key)
    with pytest.raises(ErrandError, match=sentence):
        import_bundle(path=path, user=None)
    assert (Study.objects.count(), ReferenceItem.objects.count()) == (1, 2)


def test_no_bundle_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK nothing")
    with pytest.raises(ErrandError, match="no bundle of Vitrine"):
        import_bundle(path=path, user=None)
    with pytest.raises(ErrandError, match="no bundle of Vitrine"):
        return_answers(path=path, user=None)


def test_a_study_bundle_is_no_answers_bundle(sent: Path) -> None:
    with pytest.raises(ErrandError, match="The file is a study bundle, not an answers bundle"):
        return_answers(path=sent, user=None)
