"""Import of what is to be judged: a table of features becomes the list of a draft study, or its explanations.

Columns: `dictionary` (its name, or the beginning of its digest), `hookpoint`, `latent`, and if wanted `pole` (1 or -1)
and `text`. With texts, a set of explanations is made and given to the study. All lines are good or nothing changes;
the same table again changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from django.db import transaction
from django.utils.translation import gettext

from annotation.domain.errands import ErrandError, Progress, input_path
from annotation.domain.import_tables import Faults, Line, RowError, number_in, read_table, text_in
from annotation.domain.studies import StudyError, log_event
from annotation.domain.study_editing import require_draft
from annotation.models import Dictionary, Errand, Explanation, ExplanationSet, Feature, Study, User

COLUMNS = ("dictionary", "hookpoint", "latent", "pole", "text")
TEXT_LENGTH = 500
BATCH = 2000
NUMBERS_PER_QUERY = 5000


class Wanted(NamedTuple):
    """A line of the table, read."""

    line: int
    dictionary: str
    hookpoint: str
    latent: int
    pole: int
    text: str

    @property
    def place(self) -> str:
        return f"{self.hookpoint} / {self.latent}{'' if self.pole > 0 else ' (negative)'} of '{self.dictionary}'"


def perform_errand(errand: Errand, progress: Progress) -> Mapping[str, Any]:
    study, user = errand.study, errand.created_by
    if study is None or user is None:
        raise ErrandError(gettext("The draft that was to have these items is gone."))
    lines = read_table(input_path(errand), errand.file_name)
    return import_items(study=study, user=user, lines=lines, name=errand.file_name, is_dry_run=errand.is_dry_run)


def import_items(
    *, study: Study, user: User, lines: Iterable[Line], name: str, is_dry_run: bool = False
) -> dict[str, Any]:
    """Set a draft's list of features, and its explanations where the table has texts; says what was found."""
    try:
        require_draft(study)
    except StudyError as error:
        raise ErrandError(str(error)) from error
    faults = Faults()
    wanted = read_wanted(lines, faults)
    found = find_features(wanted, faults)
    texts = {pk: one.text for one, pk in found if one.text}
    report = {
        "n_lines": len(wanted), "n_features": len(found), "n_texts": len(texts),
        "dictionaries": sorted({one.dictionary for one, _ in found}),
    } | faults.as_report()  # fmt: skip
    if texts and len(texts) != len(found):
        raise ErrandError(gettext("Some lines have a text and some have none; give every feature one, or none."))
    if not is_dry_run:
        if faults.n:
            raise ErrandError(
                gettext("%(n)s lines are wrong, so nothing was changed; check the file again.") % {"n": faults.n}
            )
        settle(study, user, [pk for _, pk in found], texts, name)
    return report


def read_wanted(lines: Iterable[Line], faults: Faults) -> list[Wanted]:
    wanted = []
    for line in lines:
        unknown = sorted(set(line.values) - set(COLUMNS))
        if unknown:
            raise ErrandError(
                gettext("The table has a column '%(unknown)s'; it can have %(values)s.")
                % {"unknown": unknown[0], "values": ", ".join(COLUMNS)}
            )
        try:
            wanted.append(wanted_in(line))
        except RowError as error:
            faults.add(line.number, str(error))
    if not wanted and not faults.n:
        raise ErrandError(gettext("The table has no lines."))
    return wanted


def wanted_in(line: Line) -> Wanted:
    row = line.values
    pole = number_in(row, "pole", default=1)
    if pole not in (1, -1):
        raise RowError(gettext("The pole is %(pole)s; it can be 1 or -1.") % {"pole": pole})
    return Wanted(
        line.number, text_in(row, "dictionary", limit=120), text_in(row, "hookpoint", limit=60),
        number_in(row, "latent"), pole, text_in(row, "text", limit=TEXT_LENGTH, default=""),
    )  # fmt: skip


def find_features(wanted: list[Wanted], faults: Faults) -> list[tuple[Wanted, int]]:
    """Each line with the id of its feature, in the order of the table; what is not here, or twice, is a fault."""
    dictionaries = {name: dictionary_called(name) for name in {one.dictionary for one in wanted}}
    ids = feature_ids(wanted, dictionaries)
    found: dict[int, Wanted] = {}
    for one in wanted:
        dictionary = dictionaries[one.dictionary]
        pk = ids.get((dictionary, one.hookpoint, one.latent, one.pole)) if dictionary else None
        if dictionary is None:
            faults.add(
                one.line,
                gettext("There is no dictionary '%(dictionary)s' here, or more than one.")
                % {"dictionary": one.dictionary},
            )
        elif pk is None:
            faults.add(one.line, gettext("There is no feature %(place)s.") % {"place": one.place})
        elif pk in found:
            faults.add(
                one.line,
                gettext("The feature %(place)s is in line %(line)s already.")
                % {"place": one.place, "line": found[pk].line},
            )
        else:
            found[pk] = one
    return [(one, pk) for pk, one in found.items()]


def dictionary_called(name: str) -> int | None:
    """By name, or by the beginning of the digest where that is long enough to mean one."""
    rows = Dictionary.objects.filter(name=name)
    if not rows and len(name) >= 8:
        rows = Dictionary.objects.filter(digest__startswith=name)
    ids = list(rows.values_list("pk", flat=True)[:2])
    return ids[0] if len(ids) == 1 else None


def feature_ids(
    wanted: Iterable[Wanted], dictionaries: Mapping[str, int | None]
) -> dict[tuple[int, str, int, int], int]:
    by_place: dict[tuple[int, str], set[int]] = {}
    for one in wanted:
        dictionary = dictionaries[one.dictionary]
        if dictionary is not None:
            by_place.setdefault((dictionary, one.hookpoint), set()).add(one.latent)
    ids = {}
    for (dictionary, hookpoint), latents in by_place.items():
        listed = sorted(latents)
        for start in range(0, len(listed), NUMBERS_PER_QUERY):
            rows = Feature.objects.filter(
                dictionary=dictionary, hookpoint=hookpoint, latent__in=listed[start : start + NUMBERS_PER_QUERY]
            )
            for pk, latent, pole in rows.values_list("pk", "latent", "pole"):
                ids[dictionary, hookpoint, latent, pole] = pk
    return ids


def settle(study: Study, user: User, features: list[int], texts: Mapping[int, str], name: str) -> None:
    dictionaries = sorted(set(Feature.objects.filter(pk__in=features).values_list("dictionary_id", flat=True)))
    with transaction.atomic():
        locked = Study.objects.select_for_update().get(pk=study.pk)
        require_draft(locked)
        locked.sampler = locked.sampler | {"dictionaries": dictionaries, "feature_ids": features}
        if texts:
            locked.explanations = explanation_set(texts, name, user)
        locked.save(update_fields=["sampler", "explanations"])
        log_event(locked, user, "items imported", n_features=len(features), n_texts=len(texts), file=name)
    study.refresh_from_db()


def explanation_set(texts: Mapping[int, str], name: str, user: User) -> ExplanationSet:
    """The set of exactly these texts under this name: made once, whatever is imported again."""
    for number in range(1, 1000):
        called = name[:100] if number == 1 else f"{name[:100]} ({number})"
        existing = ExplanationSet.objects.filter(name=called).first()
        if existing is None:
            made = ExplanationSet.objects.create(name=called, source=f"imported from {name}"[:200], created_by=user)
            Explanation.objects.bulk_create(
                (Explanation(explanation_set=made, feature_id=pk, text=text) for pk, text in texts.items()),
                batch_size=BATCH,
            )
            return made
        if dict(existing.explanations.values_list("feature_id", "text")) == dict(texts):
            return existing
    raise ErrandError(
        gettext("There are too many sets of explanations called '%(name)s'; rename the file.") % {"name": name}
    )
