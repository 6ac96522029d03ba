"""Import of earlier answers into a study of their own, closed from the start and marked as imported.

Every line is good or nothing is stored; an answer is known by its UUID (made from what it says where the table has
none), so the same table again adds nothing. Annotators stay who they were there: a code and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db import transaction
from django.db.models import Count
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation import __version__
from annotation.domain.elsewhere import stand_in_features
from annotation.domain.errands import ErrandError, Progress, input_path
from annotation.domain.import_answer_rows import EarlierAnswer, ItemRow, Place, Table, read_answers
from annotation.domain.import_tables import Faults, Line, read_table
from annotation.domain.importing_items import dictionary_called
from annotation.domain.protocols import PROTOCOLS, OptionError, columns_of, options_of, protocol_of, questions_of
from annotation.domain.pseudonyms import people_called
from annotation.domain.studies import create_study, log_event
from annotation.models import Annotation, Category, Errand, Feature, ForeignItem, Item, Study, User

BATCH = 1000
KEYS = "abcdefghijklmnopqrstuvwxyz"
T = TypeVar("T")


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    user = errand.created_by
    if user is None:
        raise ErrandError(_("The person who asked for this is gone."))
    study = errand.study or draft_of(errand.options)
    lines = read_table(input_path(errand), errand.file_name)
    mapping = errand.options.get("mapping", {})
    report = import_answers(study=study, user=user, lines=lines, mapping=mapping, is_dry_run=errand.is_dry_run)
    if not errand.is_dry_run:
        Errand.objects.filter(pk=errand.pk).update(study=study)
    return report


def draft_of(options: Mapping[str, Any]) -> Study:
    """A study that is not stored yet, as the form asks for it."""
    name, protocol = str(options.get("name", "")).strip()[:120], options.get("protocol", "")
    if not name:
        raise ErrandError(_("Give the study that is to hold the answers a name."))
    if protocol not in PROTOCOLS or not PROTOCOLS[protocol].panels:
        raise ErrandError(_("'%(protocol)s' is no protocol whose answers can be imported.") % {"protocol": protocol})
    study = Study(name=name, protocol=protocol, protocol_options=options.get("protocol_options") or {})
    try:
        study.protocol_version = protocol_of(study).version
        options_of(study)
    except OptionError as error:
        raise ErrandError(str(error)) from error
    return study


def import_answers(
    *, study: Study, user: User, lines: Iterable[Line], mapping: Mapping[str, str], is_dry_run: bool = False
) -> dict[str, Any]:
    """Store what the table says in a new study, or in one made by an earlier import; says what was found."""
    if study.pk is not None and study.origin != Study.Origin.IMPORT:
        raise ErrandError(
            _("'%(name)s' was made here; earlier answers go into a study of their own.") % {"name": study.name}
        )
    faults, scope = Faults(), study.name
    table = read_answers(lines, questions=questions_of(study), mapping=mapping, scope=scope, faults=faults)
    if not table.answers and not faults.n:
        raise ErrandError(_("The table has no lines."))
    check_once_each(table.answers, faults)
    known = known_answers(study, [answer.uuid for answer in table.answers])
    new = [answer for answer in table.answers if answer.uuid not in known]
    features = features_at({item.place for item in table.items.values() if item.place is not None})
    report = report_of(table, new, features) | faults.as_report()
    if not is_dry_run:
        if faults.n:
            raise ErrandError(
                _("%(n)s lines are wrong, so nothing was stored; check the file again.") % {"n": faults.n}
            )
        with transaction.atomic():
            store_all(study, user, table, new, features)
        report["study"] = study.slug
    return report


def report_of(table: Table, new: list[EarlierAnswer], features: Mapping[Place, int]) -> dict[str, Any]:
    places = {item.place for item in table.items.values()}
    return {
        "n_lines": len(table.answers) + table.n_repeated,
        "n_new": len(new),
        "n_known": len(table.answers) - len(new) + table.n_repeated,
        "n_items": len(table.items),
        "n_annotators": len({answer.annotator for answer in table.answers}),
        "n_features": len(set(features.values())),
        "n_items_without_feature": sum(item.place not in features for item in table.items.values()),
        "n_features_not_here": len({place for place in places if place is not None and place not in features}),
        "n_simulated": sum(answer.is_simulated for answer in table.answers),
    }


def check_once_each(answers: Iterable[EarlierAnswer], faults: Faults) -> None:
    """One current answer per person and item, as everywhere."""
    seen: dict[tuple[str, str], int] = {}
    for answer in answers:
        if not answer.is_current or answer.is_late_extra:
            continue
        first = seen.setdefault((answer.item, answer.annotator), answer.line)
        if first != answer.line:
            who = _("'%(annotator)s' answered item '%(item)s'") % {"annotator": answer.annotator, "item": answer.item}
            faults.add(
                answer.line,
                _("%(who)s in line %(first)s already; mark all but one with is_current = false.")
                % {"who": who, "first": first},
            )


def known_answers(study: Study, uuids: Iterable[UUID]) -> set[UUID]:
    """Those that are stored here already; raises ErrandError if they are another study's."""
    known: set[UUID] = set()
    for some in batches(uuids):
        for uuid, study_id, name in Annotation.objects.filter(uuid__in=some).values_list(
            "uuid", "study_id", "study__name"
        ):
            if study_id != study.pk:
                raise ErrandError(_("These answers are here already, in the study '%(name)s'.") % {"name": name})
            known.add(uuid)
    return known


def batches(values: Iterable[T]) -> Iterator[list[T]]:
    iterator = iter(values)
    while some := list(islice(iterator, BATCH)):
        yield some


def features_at(places: Iterable[Place]) -> dict[Place, int]:
    """The features that are known here; the others get stand-ins."""
    listed = list(places)
    dictionaries = {name: dictionary_called(name) for name in {place.dictionary for place in listed}}
    found: dict[Place, int] = {}
    for (name, hookpoint), some in grouped(listed).items():
        rows = Feature.objects.filter(dictionary_id=dictionaries[name] or 0, hookpoint=hookpoint)
        ids = {(latent, pole): pk for pk, latent, pole in rows.values_list("pk", "latent", "pole").iterator()}
        found |= {place: ids[place.latent, place.pole] for place in some if (place.latent, place.pole) in ids}
    return found


def grouped(places: Iterable[Place]) -> dict[tuple[str, str], list[Place]]:
    groups: dict[tuple[str, str], list[Place]] = {}
    for place in places:
        groups.setdefault((place.dictionary, place.hookpoint), []).append(place)
    return groups


def store_all(study: Study, user: User, table: Table, new: list[EarlierAnswer], features: Mapping[Place, int]) -> None:
    if study.pk is None:
        found_study(study, user, new)
    add_categories(study, {str(answer.payload.get("category", "")) for answer in new})
    items = stored_items(study, table.items, features)
    people = people_called(study, {answer.annotator: answer.is_simulated for answer in new})
    store_answers(study, new, items, people)
    n = study.annotations.count()
    Study.objects.filter(pk=study.pk).update(
        n_items=study.items.count(), n_slots=n, n_slots_done=n,
        is_simulated=study.annotations.filter(is_simulated=True).exists(),
    )  # fmt: skip
    log_event(study, user, "answers imported", n_answers=len(new), n_annotators=len(people))


def found_study(study: Study, user: User, answers: Iterable[EarlierAnswer]) -> None:
    """The study itself: closed, so that it can be unblinded and reported on, and nobody is asked to work in it."""
    times = [answer.submitted_at for answer in answers if answer.submitted_at is not None]
    made = create_study(
        name=study.name, user=user, origin=Study.Origin.IMPORT, state=Study.State.CLOSED, protocol=study.protocol,
        protocol_version=study.protocol_version, protocol_options=study.protocol_options, control_share=0,
        closed_at=timezone.now(), launched_at=min(times, default=timezone.now()),
    )  # fmt: skip
    made.categories.all().delete()
    study.__dict__.update(made.__dict__)


def add_categories(study: Study, names: Iterable[str]) -> None:
    known = dict(study.categories.values_list("name", "key"))
    free = iter([key for key in KEYS if key not in known.values()])
    for position, name in enumerate(sorted(set(names) - set(known) - {""}), start=len(known)):
        key = next(free, None)
        if key is None:
            raise ErrandError(
                _("The answers have more than %(n)s categories; that is more than a study can have.") % {"n": len(KEYS)}
            )
        Category.objects.create(study=study, name=name, key=key, position=position)


def stored_items(study: Study, rows: Mapping[str, ItemRow], features: Mapping[Place, int]) -> dict[str, int]:
    """The id of the item of each key; made where it is not there yet."""
    known = dict(ForeignItem.objects.filter(study=study).values_list("key", "item_id"))
    missing = [row for key, row in rows.items() if key not in known]
    strangers = [row.key for row in missing if row.place not in features]
    stand_ins = stand_in_features(study, len(known) + len(strangers))[len(known) :] if strangers else []
    feature_of = {row.key: features[row.place] for row in missing if row.place is not None and row.place in features}
    feature_of |= {key: feature.pk for key, feature in zip(strangers, stand_ins, strict=False)}
    for some in batches(missing):
        made = Item.objects.bulk_create(
            Item(
                study=study, feature_id=feature_of[row.key], condition=row.condition, stratum=row.stratum,
                variant=row.variant, text=row.text, truth=row.truth, stimulus_id=row.stimulus,
            )
            for row in some
        )  # fmt: skip
        ForeignItem.objects.bulk_create(
            ForeignItem(study=study, key=row.key, item=item) for row, item in zip(some, made, strict=True)
        )
        known |= {row.key: item.pk for row, item in zip(some, made, strict=True)}
    return known


def store_answers(
    study: Study, answers: Iterable[EarlierAnswer], items: Mapping[str, int], people: Mapping[str, User]
) -> None:
    questions, now = questions_of(study), timezone.now()
    revisions: dict[UUID, UUID] = {}
    for some in batches(answers):
        revisions |= {answer.uuid: answer.revision_of for answer in some if answer.revision_of is not None}
        Annotation.objects.bulk_create(
            Annotation(
                uuid=one.uuid, study=study, item_id=items[one.item], annotator=people[one.annotator],
                is_current=one.is_current, is_late_extra=one.is_late_extra, is_simulated=one.is_simulated,
                payload=one.payload, timing=one.timing, visible_ms=one.visible_ms, shown_at=one.shown_at,
                submitted_at=one.submitted_at or now, protocol_version=one.protocol_version,
                guideline_version=one.guideline_version, stimulus_id=one.stimulus, app_version=__version__,
                is_gold_right=one.is_gold_right, excluded_reason=one.excluded_reason,
                source=Annotation.Source.IMPORT, **columns_of(questions, one.payload),
            )
            for one in some
        )  # fmt: skip
    for pairs in batches(revisions.items()):
        ids = dict(Annotation.objects.filter(uuid__in=[u for pair in pairs for u in pair]).values_list("uuid", "pk"))
        for revision, earlier in pairs:
            if earlier in ids:
                Annotation.objects.filter(pk=ids[revision]).update(revision_of_id=ids[earlier])
    count_answers(study)


def count_answers(study: Study) -> None:
    counts = study.annotations.filter(is_current=True).values_list("annotator_id").annotate(n=Count("id"))
    for annotator, n in counts:
        study.participations.filter(user_id=annotator).update(n_done=n)
