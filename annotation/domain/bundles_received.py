"""Taking in a study bundle of another site: a paused study that people here can answer, without torch or a dictionary.

Its items point at stand-ins (annotation.domain.elsewhere), and each remembers what it is called at home. The stimuli
become an artefact of this site, stripped as they came. The same bundle twice is refused, and so is one of this site.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.domain.answer_message import AnswerError
from annotation.domain.bundle_files import STUDY_KIND, Opened, is_signed, open_bundle, verify
from annotation.domain.bundles import MOST_PER_ITEM, TRAVELS
from annotation.domain.elsewhere import stand_in_features
from annotation.domain.errands import ErrandError, Progress, input_path
from annotation.domain.protocols import OptionError, options_of, protocol_of
from annotation.domain.queue_lanes import first_lane
from annotation.domain.storage import artifact_store
from annotation.domain.studies import create_study, log_event
from annotation.models import (
    Bundle,
    Category,
    Errand,
    Feature,
    ForeignItem,
    Guideline,
    Item,
    ReferenceItem,
    Slot,
    Study,
    Term,
    User,
)
from annotation.models.study import QUEUE_KEYS

BATCH = 2000
MOST_ITEMS = 200_000
WEBP = (b"RIFF", b"WEBP")
STIMULI = "stimuli/"
T = TypeVar("T")
MADE_ELSEWHERE = gettext_noop(
    "The bundle's %(part)s is not as this version makes it; use the same version on both sites."
)


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    if errand.created_by is None:
        raise ErrandError(_("The person who asked for this is gone."))
    study = import_bundle(path=input_path(errand), user=errand.created_by, progress=progress)
    Errand.objects.filter(pk=errand.pk).update(study=study)
    return {"study": study.slug, "n_items": study.n_items, "n_judgements": study.n_slots}


def import_bundle(*, path: Path, user: User | None, progress: Progress = lambda n_done, n_wanted: None) -> Study:
    """The study of a bundle, paused; raises ErrandError, and then nothing is stored but unused pictures."""
    opened = open_bundle(path, STUDY_KIND)
    with opened.archive:
        manifest = opened.manifest
        uuid = uuid_of(manifest)
        refuse_known(uuid)
        if not is_signed(manifest, str(manifest.get("key", ""))):
            raise ErrandError(_("The manifest of the bundle was altered; fetch the bundle again."))
        verify(opened, progress)
        check_pictures(opened)
        facts, items = checked("study.json", lambda: study_of(opened)), checked("items.jsonl", lambda: items_of(opened))
        digest = store_stimuli(opened, uuid)
        with transaction.atomic():
            return store_study(opened, facts, items, digest, user)


def uuid_of(manifest: Mapping[str, Any]) -> UUID:
    try:
        return UUID(str(manifest.get("bundle")))
    except ValueError as error:
        raise ErrandError(_(MADE_ELSEWHERE) % {"part": "manifest"}) from error


def refuse_known(uuid: UUID) -> None:
    known = Bundle.objects.filter(uuid=uuid).select_related("study").first()
    if known is not None and known.direction == Bundle.Direction.SENT:
        raise ErrandError(
            _("This bundle was made here, of '%(name)s'; it is for another site.") % {"name": known.study.name}
        )
    if known is not None:
        raise ErrandError(_("This bundle is here already, as '%(name)s'.") % {"name": known.study.name})


def checked(part: str, read: Callable[[], T]) -> T:
    """What `read` gives; a missing entry or one of another kind is a sentence that names the file."""
    try:
        return read()
    except (KeyError, TypeError, ValueError, AttributeError, OptionError, AnswerError) as error:
        raise ErrandError(_(MADE_ELSEWHERE) % {"part": part}) from error


def check_pictures(opened: Opened) -> None:
    """Pictures are WebP, whatever they are called: they are served under our own address."""
    for name in opened.manifest["files"]:
        if name.endswith(".webp"):
            with opened.archive.open(name) as file:
                head = file.read(12)
            if (head[:4], head[8:12]) != WEBP:
                raise ErrandError(_("The file '%(name)s' of the bundle is no picture.") % {"name": name})


def study_of(opened: Opened) -> dict[str, Any]:
    """The settings, each of the kind it has here."""
    facts = opened.json("study.json")
    values = {name: facts[name] for name in TRAVELS}
    blank = Study()
    for name, value in values.items():
        if not is_alike(value, getattr(blank, name)):
            raise TypeError(name)
    blank.protocol, blank.protocol_options = values["protocol"], values["protocol_options"]
    protocol_of(blank)
    options_of(blank)
    categories = [(str(row["name"])[:60], str(row["key"])[:1], row["parent"]) for row in facts["categories"]]
    return {"values": values, "categories": categories, "guideline_version": int(facts["guideline_version"])}


def is_alike(value: Any, usual: Any) -> bool:
    """Whether a setting is of the kind it has in a study that nobody changed."""
    if usual is None:
        return value is None or type(value) is int
    kinds = {bool: (bool,), int: (int,), float: (int, float), dict: (dict,)}
    return type(value) in kinds.get(type(usual), (str,))


def items_of(opened: Opened) -> list[dict[str, Any]]:
    files, items = opened.manifest["files"], []
    for row in opened.lines("items.jsonl"):
        item: dict[str, Any] = {
            "item": int(row["item"]), "stimulus": str(row["stimulus"]), "variant": str(row["variant"])[:40],
            "text": str(row["text"])[:500], "n": int(row["n"]),
        }  # fmt: skip
        if f"{STIMULI}items/{item['stimulus']}.json" not in files or not 1 <= item["n"] <= MOST_PER_ITEM:
            raise ValueError(row["item"])
        items.append(item)
    if not 1 <= len(items) <= MOST_ITEMS or len({item["item"] for item in items}) != len(items):
        raise ValueError("items")
    return items


def store_stimuli(opened: Opened, uuid: UUID) -> str:
    """The pictures and records as an artefact of this site; the same ones are the same artefact."""
    with artifact_store().write("stimuli", config={"bundle": str(uuid)}) as writer:
        for name in opened.manifest["files"]:
            if name.startswith(STIMULI):
                target = writer.folder / name.removeprefix(STIMULI)
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.archive.open(name) as source, target.open("wb") as file:
                    shutil.copyfileobj(source, file)
    return writer.digest


def store_study(
    opened: Opened, facts: Mapping[str, Any], items: list[dict[str, Any]], digest: str, user: User | None
) -> Study:
    manifest, values = opened.manifest, dict(facts["values"])
    study = create_study(
        user=user, **values, origin=Study.Origin.BUNDLE, state=Study.State.PAUSED, stimuli_digest=digest,
        consent_text=opened.text("consent.md"), control_share=0, control_kinds=[], launched_at=timezone.now(),
    )  # fmt: skip
    bundle = Bundle.objects.create(
        uuid=uuid_of(manifest), direction=Bundle.Direction.RECEIVED, study=study, key=manifest["key"],
        site=str(manifest.get("site", ""))[:120], n_items=len(items), created_by=user,
    )  # fmt: skip
    Guideline.objects.create(
        study=study, version=facts["guideline_version"], text=opened.text("guideline.md"), created_by=user
    )
    store_categories(study, facts["categories"])
    terms = [Term(study=study, text=str(row["text"])[:120], is_listed=bool(row["is_listed"]))
             for row in opened.lines("terms.jsonl")]  # fmt: skip
    Term.objects.bulk_create(terms, batch_size=BATCH)
    practice = list(opened.lines("practice.jsonl"))
    features = stand_in_features(study, len(items) + len(practice))
    store_practice(study, practice, features[len(items) :])
    study.n_items, study.n_slots = len(items), store_items(study, items, features)
    study.save(update_fields=["n_items", "n_slots"])
    log_event(study, user, "bundle received", bundle=str(bundle.uuid), site=bundle.site, n_items=len(items))
    return study


def store_categories(study: Study, rows: Iterable[tuple[str, str, str | None]]) -> None:
    study.categories.all().delete()
    made: dict[str, Category] = {}
    for position, (name, key, parent) in enumerate(rows):
        made[name] = Category.objects.create(
            study=study, name=name, key=key, position=position, parent=made.get(parent) if parent else None
        )


def store_practice(study: Study, rows: list[dict[str, Any]], features: list[Feature]) -> None:
    ReferenceItem.objects.bulk_create(
        ReferenceItem(
            study=study, kind=ReferenceItem.Kind.PRACTICE, feature=feature, position=int(row["position"]),
            stimulus_id=str(row["stimulus"]), accepted=row["accepted"], reason=str(row["reason"]),
            variant=str(row["variant"])[:40], text=str(row["text"])[:500], truth=row["truth"],
        )
        for row, feature in zip(rows, features, strict=True)
    )  # fmt: skip


def store_items(study: Study, rows: list[dict[str, Any]], features: list[Feature]) -> int:
    """Items, what they are called at home, and the judgements wanted; returns how many are."""
    rng = random.Random(f"{study.locked_hash}/slots")
    n_slots = 0
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        made = Item.objects.bulk_create(
            Item(
                study=study, feature=feature, stimulus_id=row["stimulus"], variant=row["variant"], text=row["text"],
                seed=rng.randrange(QUEUE_KEYS),
            )
            for row, feature in zip(some, features[start : start + len(some)], strict=True)
        )  # fmt: skip
        ForeignItem.objects.bulk_create(
            ForeignItem(study=study, key=str(row["item"]), item=item) for row, item in zip(some, made, strict=True)
        )
        slots = Slot.objects.bulk_create(
            Slot(study=study, item=item, lane=first_lane(study, number), random_key=rng.randrange(QUEUE_KEYS))
            for row, item in zip(some, made, strict=True)
            for number in range(row["n"])
        )
        n_slots += len(slots)
    return n_slots
