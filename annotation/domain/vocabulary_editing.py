"""What researchers change of a vocabulary: terms, synonyms, merges, the mode. Each change is an event and a version.

A synonym, a former name and a merged term are one thing: a wording that stands for another term, with a row that says
who decided so and why. No answer is touched by any of it, so all of it can be undone.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

from django.db import transaction
from django.db.models import F, Sum
from django.utils import timezone
from django.utils.translation import gettext

from annotation.domain.import_tables import without_apostrophe
from annotation.domain.studies import log_event
from annotation.domain.term_matching import fold
from annotation.domain.vocabulary import TERM_LENGTH, root_of, roots
from annotation.models import Study, Term, TermMerge, User

MOST_IMPORTED = 20_000
SYNONYM_SEPARATOR = ";"


class VocabularyError(Exception):
    """A change of the vocabulary cannot be made; the message is fit for the user."""


class ImportedTerm(NamedTuple):
    """One row of a list: a term and the other wordings of it."""

    text: str
    synonyms: tuple[str, ...]


class ImportResult(NamedTuple):
    n_new: int
    n_known: int
    n_synonyms: int


class MergePreview(NamedTuple):
    """What a merge would come to, before it is made."""

    source: Term
    target: Term
    n_source: int
    n_target: int
    wordings: list[str]

    @property
    def n_after(self) -> int:
        return self.n_source + self.n_target


def tidy(text: str) -> str:
    """A term's text: one line, at most 120 characters, something in it; raises VocabularyError."""
    words = " ".join(text.split())
    if not words:
        raise VocabularyError(gettext("Write the term first."))
    if len(words) > TERM_LENGTH:
        raise VocabularyError(
            gettext("The term has %(n)s characters; %(term_length)s is the most.")
            % {"n": len(words), "term_length": TERM_LENGTH}
        )
    return words


def locked_study(study: Study) -> Study:
    """Changes of one vocabulary go one after the other."""
    return Study.objects.select_for_update().get(pk=study.pk)


def new_version(study: Study, user: User | None, kind: str, **detail: object) -> None:
    Study.objects.filter(pk=study.pk).update(vocabulary_version=F("vocabulary_version") + 1)
    study.refresh_from_db(fields=["vocabulary_version"])
    log_event(study, user, kind, version=study.vocabulary_version, **detail)


def add_term(*, study: Study, user: User | None, text: str) -> Term:
    """Put a term on the list; one that is in use already is listed as it is."""
    words = tidy(text)
    with transaction.atomic():
        locked_study(study)
        term = Term.objects.filter(study=study, text=words).first()
        if term is not None and term.merged_into is not None:
            raise VocabularyError(
                gettext("“%(words)s” stands for “%(text)s”; undo that first.")
                % {"words": words, "text": term.merged_into.text}
            )
        if term is not None and term.is_listed:
            raise VocabularyError(gettext("“%(words)s” is on the list already.") % {"words": words})
        term = list_term(study, user, words)
        new_version(study, user, "term added", term=words)
    return term


def list_term(study: Study, user: User | None, words: str) -> Term:
    values = {"is_listed": True, "made_by": user}
    term, _ = Term.objects.update_or_create(study=study, text=words, defaults=values)
    return term


def rename_term(*, term: Term, user: User, text: str) -> Term:
    """A new wording for the term; the former one stands for it from now on."""
    words = tidy(text)
    with transaction.atomic():
        locked_study(term.study)
        fresh = free_wording(term.study, words)
        if fresh is None:
            raise VocabularyError(
                gettext("There is a term “%(words)s” already; merge the two instead.") % {"words": words}
            )
        fresh.is_listed, fresh.made_by = True, user
        fresh.save(update_fields=["is_listed", "made_by"])
        merge_into(term, fresh, user, TermMerge.Kind.RENAME, "")
        new_version(term.study, user, "term renamed", term=term.text, into=words)
    return fresh


def free_wording(study: Study, words: str) -> Term | None:
    """A row for words that nobody used or listed yet; None where they are a term of their own."""
    term, is_new = Term.objects.get_or_create(study=study, text=words)
    is_free = is_new or (not term.n_uses and not term.is_listed and term.merged_into_id is None)
    return term if is_free else None


def add_synonym(*, term: Term, user: User | None, text: str) -> Term:
    """Another wording that stands for the term: type-ahead finds the term by it."""
    words = tidy(text)
    with transaction.atomic():
        locked_study(term.study)
        wording = free_wording(term.study, words)
        if wording is None:
            raise VocabularyError(
                gettext("“%(words)s” is a term of its own; merge it instead, so that the reason is kept.")
                % {"words": words}
            )
        merge_into(wording, term, user, TermMerge.Kind.SYNONYM, "")
        new_version(term.study, user, "synonym added", term=term.text, synonym=words)
    return wording


def preview_merge(*, source: Term, target: Term) -> MergePreview:
    """What would stand for what; raises VocabularyError where it cannot be."""
    root_ids = roots(source.study)
    if source.study_id != target.study_id:
        raise VocabularyError(gettext("Terms of two studies cannot be merged."))
    if source.merged_into_id is not None:
        raise VocabularyError(
            gettext("“%(text)s” stands for another term already; undo that merge first.") % {"text": source.text}
        )
    root = root_of(target.pk, root_ids)
    if root == source.pk:
        raise VocabularyError(
            gettext("“%(text)s” is the same term as “%(source)s”; there is nothing to merge.")
            % {"text": target.text, "source": source.text}
        )
    kept = target if root == target.pk else Term.objects.get(pk=root)
    moved = [pk for pk, into in root_ids.items() if into == source.pk]
    wordings = list(Term.objects.filter(pk__in=moved).values_list("text", flat=True))
    return MergePreview(source, kept, n_uses(source, root_ids), n_uses(kept, root_ids), wordings)


def n_uses(term: Term, root_ids: dict[int, int]) -> int:
    pks = [term.pk, *(pk for pk, root in root_ids.items() if root == term.pk)]
    return int(Term.objects.filter(pk__in=pks).aggregate(n=Sum("n_uses"))["n"] or 0)


def merge_terms(*, source: Term, target: Term, user: User, reason: str) -> TermMerge:
    """From now on the source stands for the target; the answers keep their words, and it can be undone."""
    if not reason.strip():
        raise VocabularyError(gettext("Say why the two are one; the reason is kept with the merge."))
    with transaction.atomic():
        locked_study(source.study)
        source.refresh_from_db()
        preview = preview_merge(source=source, target=target)
        merge = merge_into(source, preview.target, user, TermMerge.Kind.MERGE, reason.strip()[:300])
        new_version(source.study, user, "terms merged", term=source.text, into=preview.target.text, reason=merge.reason)
    return merge


def merge_into(source: Term, target: Term, user: User | None, kind: str, reason: str) -> TermMerge:
    Term.objects.filter(pk=source.pk).update(merged_into=target)
    return TermMerge.objects.create(
        study=source.study, kind=kind, source=source, target=target, reason=reason, n_uses=source.n_uses, by=user
    )


def undo_merge(*, merge: TermMerge, user: User) -> None:
    """The wording is a term of its own again."""
    with transaction.atomic():
        study = locked_study(merge.study)
        undone = TermMerge.objects.filter(pk=merge.pk, undone_at__isnull=True)
        if not undone.update(undone_at=timezone.now(), undone_by=user):
            raise VocabularyError(gettext("This merge was undone before."))
        Term.objects.filter(pk=merge.source_id).update(merged_into=None)
        new_version(study, user, "merge undone", term=merge.source.text, from_=merge.target.text)


def set_mode(*, study: Study, user: User, mode: str) -> None:
    """Fixed, extensible or open; a fixed vocabulary needs a list, or no label could be given."""
    if mode not in Study.VocabularyMode.values:
        raise VocabularyError(
            gettext("A vocabulary is %(values)s, not '%(mode)s'.")
            % {"values": ", ".join(Study.VocabularyMode.values), "mode": mode}
        )
    with transaction.atomic():
        locked = locked_study(study)
        if mode == locked.vocabulary_mode:
            return
        if mode == Study.VocabularyMode.FIXED and not Term.objects.filter(study=study, is_listed=True).exists():
            raise VocabularyError(gettext("List some terms first: a fixed vocabulary takes only what is on its list."))
        Study.objects.filter(pk=study.pk).update(vocabulary_mode=mode)
        study.vocabulary_mode = mode
        new_version(study, user, "vocabulary mode", mode=mode)


def read_list(text: str) -> list[ImportedTerm]:
    """Rows of a CSV: a term, then its synonyms separated by ';'. A first row 'term' or 'term,synonyms' is a heading."""
    rows: list[ImportedTerm] = []
    seen: set[str] = set()
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        cells = [without_apostrophe(cell.strip()) for cell in row]
        if not any(cells) or (number == 1 and cells[0].casefold() == "term"):
            continue
        try:
            synonyms = [part for cell in cells[1:2] for part in cell.split(SYNONYM_SEPARATOR) if part.strip()]
            term = ImportedTerm(tidy(cells[0]), tuple(tidy(synonym) for synonym in synonyms))
        except VocabularyError as error:
            raise VocabularyError(gettext("Line %(number)s: %(error)s") % {"number": number, "error": error}) from error
        for words in (term.text, *term.synonyms):
            if fold(words) in seen:
                raise VocabularyError(
                    gettext("Line %(number)s: “%(words)s” stands twice in the list.")
                    % {"number": number, "words": words}
                )
            seen.add(fold(words))
        rows.append(term)
    if not rows:
        raise VocabularyError(gettext("The list is empty; give a term per line, its synonyms after a comma."))
    if len(rows) > MOST_IMPORTED:
        raise VocabularyError(
            gettext("The list has %(n)s terms; %(most_imported)s is the most.")
            % {"n": len(rows), "most_imported": MOST_IMPORTED}
        )
    return rows


def import_terms(*, study: Study, user: User | None, rows: Sequence[ImportedTerm]) -> ImportResult:
    """Put a list on the list, all of it or nothing."""
    with transaction.atomic():
        locked_study(study)
        known = {term.text: term for term in Term.objects.filter(study=study)}
        merged = [row.text for row in rows if row.text in known and known[row.text].merged_into_id is not None]
        taken = [word for row in rows for word in row.synonyms if word in known and known[word].merged_into_id is None]
        if merged:
            raise VocabularyError(
                gettext("“%(merged)s” stands for another term here; undo that first or leave it out.")
                % {"merged": merged[0]}
            )
        if taken:
            raise VocabularyError(
                gettext("“%(taken)s” is a term of its own here; merge it, or leave it out of the synonyms.")
                % {"taken": taken[0]}
            )
        fresh = [
            Term(study=study, text=row.text, is_listed=True, made_by=user) for row in rows if row.text not in known
        ]
        Term.objects.bulk_create(fresh, batch_size=1000)
        old = [known[row.text].pk for row in rows if row.text in known]
        for start in range(0, len(old), 1000):
            Term.objects.filter(pk__in=old[start : start + 1000]).update(is_listed=True)
        known |= {term.text: term for term in fresh}
        n_synonyms = import_synonyms(study, user, rows, known)
        new_version(study, user, "terms imported", n_new=len(fresh), n_known=len(old), n_synonyms=n_synonyms)
    return ImportResult(len(fresh), len(old), n_synonyms)


def import_synonyms(study: Study, user: User | None, rows: Sequence[ImportedTerm], known: dict[str, Term]) -> int:
    wanted = [(row.text, word) for row in rows for word in row.synonyms if word not in known]
    if not wanted:
        return 0
    wordings = Term.objects.bulk_create(
        [Term(study=study, text=word, merged_into=known[text]) for text, word in wanted], batch_size=1000
    )
    TermMerge.objects.bulk_create(
        [
            TermMerge(
                study=study, kind=TermMerge.Kind.SYNONYM, source=wording, target=known[text], reason="from a list",
                by=user,
            )
            for wording, (text, _) in zip(wordings, wanted, strict=True)
        ],
        batch_size=1000,
    )  # fmt: skip
    return len(wordings)
