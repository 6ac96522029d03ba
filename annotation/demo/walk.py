"""A walk through the demo as its people: what they see is checked, and said in a line each."""

from __future__ import annotations

import csv
import io
import re
import time
import uuid
from datetime import UTC, datetime
from typing import Any

from annotation.demo.accounts import DEMO_PASSWORD
from annotation.demo.build import SAE, TEST_SET
from annotation.demo.runs import Say
from annotation.demo.studies import INTRUDER, OPEN, SIMULATED
from annotation.demo.visitor import Page, Visitor, WalkError
from annotation.domain.protocols import protocol_of
from annotation.domain.row_numbers import numbers_of
from annotation.models import Dictionary, Feature, ReferenceItem, Run, Study

N_ANSWERS = 3
EXPORT_SECONDS = 60


def walk(site: str, say: Say) -> None:
    """Look at everything over HTTP; raises WalkError at the first thing that is wrong."""
    walk_as_stranger(site, say)
    walk_as_annotator(site, say)
    walk_as_reviewer(site, say)
    walk_as_researcher(site, say)


def require(condition: bool, sentence: str) -> None:
    if not condition:
        raise WalkError(sentence)


def walk_as_stranger(site: str, say: Say) -> None:
    stranger = Visitor(site)
    require("Vitrine" in stranger.get("/").text, "The front page does not say what this is.")
    page = stranger.get("/dictionaries/")
    require("/login/" in page.url, "A stranger sees the dictionaries.")
    say("stranger: the front page; dictionaries ask to sign in")


def walk_as_annotator(site: str, say: Say) -> None:
    ada = Visitor(site)
    ada.sign_in("ada", DEMO_PASSWORD)
    study = Study.objects.get(name=OPEN)
    require(study.name in ada.get("/studies/").text, "The annotator's list lacks the open study.")
    for path in ("/dictionaries/", "/runs/", "/runs/new/", "/studies/new/"):
        ada.get(path, status=403)
    say("annotator: sees the study, is refused dictionaries and runs")
    prepare(ada, study, say)
    answer_some(ada, study, say)
    find_intruders(ada, Study.objects.get(name=INTRUDER), say)


def find_intruders(ada: Visitor, study: Study, say: Say) -> None:
    """The second open study: practice by what is frozen, then some guesses."""
    prepare(ada, study, say)
    config = ada.get(f"/work/{study.slug}/").embedded("player-config")
    claimed = ada.post_json(config["urls"]["claim"], {"n": N_ANSWERS, "have": []})
    for item in claimed["items"]:
        cells = item["stimulus"]["panels"][0]["cells"]
        require(len(cells) == 5, f"An item of the intruder study shows {len(cells)} images, not 5.")
        answer = answer_of(item, config) | {"payload": {"intruder": 0}}
        require(ada.post_json(config["urls"]["answers"], answer)["stored"] == "new", "A guess was not stored as new.")
    say(f"annotator: {len(claimed['items'])} guesses in '{study.name}'")


def walk_as_reviewer(site: str, say: Say) -> None:
    rosa = Visitor(site)
    rosa.sign_in("rosa", DEMO_PASSWORD)
    study = Study.objects.get(name=OPEN)
    require(study.name in rosa.get(f"/studies/{study.slug}/").text, "The reviewer does not see the study.")
    rosa.get("/runs/", status=403)
    rosa.get(f"/studies/{study.slug}/edit/", status=403)
    say("reviewer: sees the study, is refused its settings and the runs")


def prepare(ada: Visitor, study: Study, say: Say) -> None:
    work = f"/work/{study.slug}/"
    page = ada.get(work)
    if "/consent/" in page.url:
        page = ada.post(f"{work}consent/", {"agree": "yes"})
    if "/guideline/" in page.url:
        page = ada.post(f"{work}guideline/", {})
    if "/practice/" in page.url:
        config = page.embedded("player-config")
        replies = [practise(ada, study, config, item) for item in config["items"]]
        require(all(reply["is_right"] for reply in replies), "An accepted practice answer was called wrong.")
        reason = replies[0]["reason"]
        say(f"annotator: consent, guideline, {len(replies)} practice items with feedback such as “{reason}”")


def practise(ada: Visitor, study: Study, config: dict[str, Any], item: dict[str, Any]) -> Any:
    shown = numbers_of(study).practice.row_id(item["item"])
    reference = ReferenceItem.objects.select_related("study").get(pk=shown)
    known = {name: answers[0] for name, answers in reference.accepted.items()}
    payload = known if protocol_of(reference.study).has_truth else answer_payload() | known
    return ada.post_json(config["urls"]["answers"], {"reference": item["item"], "payload": payload})


def answer_payload() -> dict[str, Any]:
    return {"patch_rating": 3, "image_rating": 2, "category": "", "label": "seen on the walk"}


def answer_some(ada: Visitor, study: Study, say: Say) -> None:
    config = ada.get(f"/work/{study.slug}/").embedded("player-config")
    claimed = ada.post_json(config["urls"]["claim"], {"n": 5, "have": []})
    require(len(claimed["items"]) == 5, f"Five items were asked for and {len(claimed['items'])} came.")
    for item in claimed["items"][:N_ANSWERS]:
        n_pictures = sum(len(panel["cells"]) for panel in item["stimulus"]["panels"])
        require(n_pictures >= 24, f"An item shows only {n_pictures} pictures.")
        for name in ("sprite", "zoom"):
            require_picture(ada.get(item["stimulus"][name]))
        answer = answer_of(item, config)
        require(
            ada.post_json(config["urls"]["answers"], answer)["stored"] == "new", "A new answer was not stored as new."
        )
        again = ada.post_json(config["urls"]["answers"], answer)
        require(again["stored"] == "replayed", "An answer sent twice was not recognized.")
    require(again["done"] == claimed["done"] + N_ANSWERS, "The counter does not count the answers.")
    say(f"annotator: {N_ANSWERS} answers given, each sent twice and stored once; {again['done']} of {again['of']}")


def answer_of(item: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    return {
        "uuid": str(uuid.uuid4()), "slot": item["slot"], "item": item["item"], "revision_of": None,
        "payload": answer_payload(), "timing": {}, "submitted_at": datetime.now(UTC).isoformat(),
        "stimulus_id": item["stimulus"]["id"], "protocol_version": config["protocol_version"],
        "guideline_version": config["guideline_version"],
    }  # fmt: skip


def walk_as_researcher(site: str, say: Say) -> None:
    rhea = Visitor(site)
    rhea.sign_in("rhea", DEMO_PASSWORD)
    look_at_catalog(rhea, say)
    look_at_feature(rhea, say)
    look_at_runs(rhea, say)
    look_at_report(rhea, say)
    take_export(rhea, say)


def look_at_catalog(rhea: Visitor, say: Say) -> None:
    for path in ("/", "/images/", f"/images/{TEST_SET}/"):
        require(TEST_SET in rhea.get(path).text or path == "/", f"{path} lacks the image set.")
    dictionary = Dictionary.objects.get(name=SAE)
    page = rhea.get(f"/dictionaries/{dictionary.pk}/").text
    missing = [name for name in dictionary.hookpoints if name not in page]
    require(not missing, f"The dictionary's page lacks {missing}.")
    variance = {name: round(q["explained_variance"]["all"], 3) for name, q in dictionary.quality.items()}
    say(f"researcher: images; dictionary with explained variance {variance}")


def look_at_feature(rhea: Visitor, say: Say) -> None:
    dictionary = Dictionary.objects.get(name=SAE)
    listed = rhea.get(f"/dictionaries/{dictionary.pk}/features/?sort=-density").text
    links = re.findall(r'href="(/features/\d+/[^"]*)"', listed)
    require(len(links) >= 10, f"The list of features has {len(links)} links.")
    page = rhea.get(links[0].replace("&amp;", "&"))
    pictures = re.findall(r'/pixels/[0-9a-f]+/[^"\s]+\.webp', page.text)
    require(len(pictures) >= 16, f"The feature page has {len(pictures)} pictures.")
    for picture in pictures[:4]:
        require_picture(rhea.get(picture))
    n_features = Feature.objects.filter(dictionary=dictionary).count()
    say(f"researcher: {n_features:,} features; a feature page with {len(pictures)} pictures")


def look_at_runs(rhea: Visitor, say: Say) -> None:
    run = Run.objects.filter(stage="train-dictionary", state=Run.State.DONE).latest("id")
    require("blocks.0" in rhea.get(f"/runs/{run.pk}/").text, "The run page lacks its metrics.")
    rhea.get("/runs/")
    metrics = list(csv.reader(io.StringIO(rhea.get(f"/runs/{run.pk}/metrics.csv").text)))
    say(f"researcher: the training run with {len(metrics) - 1:,} points of metrics")


def look_at_report(rhea: Visitor, say: Say) -> None:
    study = Study.objects.get(name=SIMULATED)
    report = rhea.get(f"/analysis/{study.slug}/").text
    require("imulated" in report, "The report does not say that its answers are simulated.")
    require("<svg" in report, "The report has no figure.")
    figures = list(csv.DictReader(io.StringIO(rhea.get(f"/analysis/{study.slug}/figures.csv").text)))
    say(f"researcher: the report of '{study.name}': {len(figures)} figures, {study.n_slots_done} simulated answers")
    opened = Study.objects.get(name=OPEN)
    blind = rhea.get(f"/analysis/{opened.slug}/").text
    require("random directions" not in blind, "The report of an open study names its conditions.")
    say("researcher: the report of the open study is blind")


def take_export(rhea: Visitor, say: Say) -> None:
    """Ask for the answers as CSV by the page, wait until a worker has written them, and count them."""
    study = Study.objects.get(name=SIMULATED)
    exports = f"/studies/{study.slug}/exports/"
    rhea.get(exports)
    page = rhea.post(exports, {"format": "csv"})
    deadline = time.monotonic() + EXPORT_SECONDS
    while not (links := re.findall(rf'href="({exports}\d+/annotations\.csv)"', page.text)):
        require(time.monotonic() < deadline, f"The export was not written within {EXPORT_SECONDS} s.")
        time.sleep(0.5)
        page = rhea.get(exports)
    rows = list(csv.DictReader(io.StringIO(rhea.get(links[0]).text)))
    require(len(rows) == study.n_slots_done, f"The export has {len(rows)} rows for {study.n_slots_done} answers.")
    say(f"researcher: an export of {len(rows)} answers, written by a worker")


def require_picture(page: Page) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(page.body)) as picture:
        picture.load()
        require(picture.width > 0, f"{page.url} is no picture.")
