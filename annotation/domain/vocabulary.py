"""The vocabulary of a study: which labels it takes, what it offers while somebody types, what a label stands for.

A *fixed* vocabulary takes listed terms and their synonyms only; an *extensible* one offers the list, shows what is near
before a new term is made, and takes it; an *open* one takes any words. An answer keeps the words that were typed for
good: merges say what they stand for, and figures and exports ask `canonical_labels`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from typing import NamedTuple, TypeVar

from django.utils.translation import gettext as _

from annotation.domain.answer_message import AnswerError
from annotation.domain.term_matching import Entry, TermIndex, fold
from annotation.models import Study, Term

Name = TypeVar("Name", int, str)
N_OFFERED = 7
TERM_LENGTH = 120
KEPT_SECONDS = 300  # after which counts, and rows committed out of order, are read again
MOST_STUDIES = 32


class Offered(NamedTuple):
    """A term as type-ahead shows it; `wording` is the synonym that was found, if it was not the term itself."""

    text: str
    n_uses: int
    wording: str
    pk: int


class Suggestions(NamedTuple):
    """What is offered for what was typed. `near`: terms it may be another spelling of."""

    terms: list[Offered]
    near: list[Offered]
    is_known: bool
    may_create: bool


def roots(study: Study) -> dict[int, int]:
    """The id of the term that each merged wording stands for, by the wording's id; chains are followed to their end."""
    into: dict[int, int] = {
        pk: target
        for pk, target in Term.objects.filter(study=study, merged_into__isnull=False).values_list(
            "id", "merged_into_id"
        )
        if target is not None
    }
    return {pk: root_of(pk, into) for pk in into}


def root_of(start: Name, into: Mapping[Name, Name]) -> Name:
    """Where a chain of merges ends, by ids or by texts."""
    while start in into:
        start = into[start]
    return start


class CanonicalLabels:
    """What each label of a study stands for. Only merged wordings are held, so a million answers cost no memory."""

    def __init__(self, by_text: Mapping[str, str]) -> None:
        self._by_text = by_text

    def __call__(self, label: str) -> str:
        return self._by_text.get(label[:TERM_LENGTH], label)


def canonical_labels(study: Study) -> CanonicalLabels:
    """For exports and figures: call it with each label."""
    merged = Term.objects.filter(study=study, merged_into__isnull=False)
    into = {text: str(target) for text, target in merged.values_list("text", "merged_into__text")}
    return CanonicalLabels({text: root_of(text, into) for text in into})


def canonical(study: Study, label: str) -> str:
    """What one label stands for in this study."""
    term = Term.objects.filter(study=study, text=label[:TERM_LENGTH]).select_related("merged_into").first()
    if term is None or term.merged_into is None:
        return label
    while term.merged_into is not None:
        term = term.merged_into
    return term.text


def check_label(study: Study, label: str) -> None:
    """Raises AnswerError for a label that the study's vocabulary does not take: the one place that decides."""
    if not label or study.vocabulary_mode != Study.VocabularyMode.FIXED:
        return
    if fold(label) not in accepted_labels(study.pk, study.vocabulary_version):
        raise AnswerError(
            _("This study takes labels from its list only, and “%(label)s” is not on it; choose one that is offered.")
            % {"label": label}
        )


@lru_cache(maxsize=64)
def accepted_labels(study_id: int, vocabulary_version: int) -> frozenset[str]:
    """Folded texts of listed terms and of what was merged into them; every change of the list is a new version."""
    study = Study(pk=study_id)
    root_ids = roots(study)
    rows = list(Term.objects.filter(study_id=study_id).values_list("id", "text", "is_listed"))
    listed = {pk for pk, _text, is_listed in rows if is_listed}
    return frozenset(fold(text) for pk, text, is_listed in rows if is_listed or root_ids.get(pk) in listed)


@dataclass
class LoadedTerms:
    """A study's terms in this process's memory, as of a version of the vocabulary."""

    version: int
    index: TermIndex
    roots: dict[int, int]
    loaded_at: float = field(default_factory=monotonic)
    wordings: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    texts: dict[int, str] = field(default_factory=dict)

    def add(self, rows: Iterable[tuple[int, str, int]]) -> None:
        found = list(rows)
        totals: dict[int, int] = defaultdict(int)
        for pk, _text, n_uses in found:
            totals[self.roots.get(pk, pk)] += n_uses
        for pk, text, _n_uses in found:
            root = self.roots.get(pk, pk)
            self.texts[pk] = text
            self.wordings[root].append(pk)
            self.index.add(Entry(pk, text, root, totals[root]))


LOADED: OrderedDict[int, LoadedTerms] = OrderedDict()
LOADING = threading.Lock()


def loaded_terms(study: Study, *, listed_only: bool) -> LoadedTerms:
    """From memory where it is in force, with the terms that came since; one small query either way."""
    key = -study.pk if listed_only else study.pk
    with LOADING:
        loaded = LOADED.get(key)
        is_stale = (
            loaded is None
            or loaded.version != study.vocabulary_version
            or monotonic() - loaded.loaded_at > KEPT_SECONDS
        )
        if loaded is None or is_stale:
            loaded = LoadedTerms(study.vocabulary_version, TermIndex(), roots(study))
        if is_stale or not listed_only:
            loaded.add(new_rows(study, loaded, listed_only=listed_only))
        LOADED[key] = loaded
        LOADED.move_to_end(key)
        while len(LOADED) > MOST_STUDIES:
            LOADED.popitem(last=False)
        return loaded


def new_rows(study: Study, loaded: LoadedTerms, *, listed_only: bool) -> list[tuple[int, str, int]]:
    """Rows not in memory yet; of a fixed vocabulary only the list and what stands for it."""
    rows = list(
        Term.objects.filter(study_id=study.pk, pk__gt=loaded.index.last_pk)
        .order_by("id")
        .values_list("id", "text", "n_uses", "is_listed")
    )
    listed = {pk for pk, _text, _n, is_listed in rows if is_listed}
    return [
        (pk, text, n_uses)
        for pk, text, n_uses, is_listed in rows
        if not listed_only or is_listed or loaded.roots.get(pk) in listed
    ]


def suggest(study: Study, typed: str) -> Suggestions:
    """What type-ahead shows: at most seven terms with their uses, and whether these words may become a new one."""
    text = " ".join(typed.split())[:TERM_LENGTH]
    is_fixed = study.vocabulary_mode == Study.VocabularyMode.FIXED
    loaded = loaded_terms(study, listed_only=is_fixed)
    found = loaded.index.search(text, N_OFFERED) if text else []
    is_known = any(fold(entry.text) == fold(text) for entry in found)
    near = loaded.index.near(text) if text and not is_known and not is_fixed else []
    uses = current_uses(loaded, {entry.canonical for entry in [*found, *near]})
    may_create = bool(text) and not is_known and not is_fixed
    return Suggestions(
        [offered(entry, loaded, uses) for entry in found],
        [offered(entry, loaded, uses) for entry in near],
        is_known,
        may_create,
    )


def near_terms(study: Study, text: str, *, besides: int | None = None) -> list[Offered]:
    """Terms that a new one may be another spelling of; none for a term that exists."""
    loaded = loaded_terms(study, listed_only=False)
    entries = loaded.index.near(" ".join(text.split())[:TERM_LENGTH], besides=besides)
    uses = current_uses(loaded, {entry.canonical for entry in entries})
    return [offered(entry, loaded, uses) for entry in entries]


def offered(entry: Entry, loaded: LoadedTerms, uses: Mapping[int, int]) -> Offered:
    pk = entry.canonical
    return Offered(loaded.texts[pk], uses[pk], "" if entry.pk == pk else entry.text, pk)


def current_uses(loaded: LoadedTerms, root_ids: set[int]) -> dict[int, int]:
    """How often each term was used under all its wordings, as of now."""
    by_pk = {pk: root for root in root_ids for pk in loaded.wordings[root]}
    totals = dict.fromkeys(root_ids, 0)
    for pk, n_uses in Term.objects.filter(pk__in=by_pk).values_list("id", "n_uses"):
        totals[by_pk[pk]] += n_uses
    return totals
