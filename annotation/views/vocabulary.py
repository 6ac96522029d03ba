"""The vocabulary: what the player's type-ahead asks for, and the page where researchers keep the terms in order."""

from __future__ import annotations

import csv
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import include, path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.stimuli import StimulusError, stimulus_for_player
from annotation.domain.vocabulary import Offered, near_terms, suggest
from annotation.domain.vocabulary_editing import (
    VocabularyError,
    add_synonym,
    add_term,
    import_terms,
    merge_terms,
    preview_merge,
    read_list,
    rename_term,
    set_mode,
    undo_merge,
)
from annotation.domain.vocabulary_list import SHOWN, TermRow, all_rows, csv_rows, items_called, term_rows
from annotation.models import Participation, Study, Term, TermMerge, User
from annotation.views.access import signed_in_user
from annotation.views.study_access import may_edit, study_editor, study_reader
from annotation.views.work_access import annotator_endpoint, text_in

PER_PAGE = 100
MOST_UPLOADED = 2_000_000
LONGEST_TYPED = 200


@require_GET
@annotator_endpoint
def terms(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """What is offered for the words typed so far, and what these words may be another spelling of."""
    found = suggest(participation.study, text_in(body, "q")[:LONGEST_TYPED])
    return {
        "terms": [term_json(term) for term in found.terms],
        "near": [term_json(term) for term in found.near],
        "is_known": found.is_known,
        "may_create": found.may_create,
        "mode": participation.study.vocabulary_mode,
    }


@require_GET
@annotator_endpoint
def term_check(participation: Participation, body: dict[str, Any]) -> dict[str, Any]:
    """Before a new term is made: the terms it may be another spelling of."""
    near = near_terms(participation.study, text_in(body, "q")[:LONGEST_TYPED])
    return {"near": [term_json(term) for term in near]}


def term_json(term: Offered) -> dict[str, Any]:
    return {"text": term.text, "n_uses": term.n_uses, "wording": term.wording}


@require_GET
@study_reader
def study_vocabulary(request: HttpRequest, study: Study) -> HttpResponseBase:
    asked = asked_of(request)
    rows = term_rows(study, **asked)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    everything = all_rows(study)
    context = {
        "study": study,
        "tab": "vocabulary",
        "page": page,
        "asked": asked,
        "shown": SHOWN,
        "n_terms": len(everything),
        "n_listed": sum(row.is_listed for row in everything),
        "n_uses": sum(row.n_uses for row in everything),
        "n_alike": sum(bool(row.alike) for row in everything),
        "merges": study.term_merges.select_related("source", "target", "by", "undone_by")[:50],
        "modes": Study.VocabularyMode.choices,
        "is_editor": may_edit(study, signed_in_user(request)),
    }
    return render(request, "annotation/vocabulary/vocabulary.html", context)


def asked_of(request: HttpRequest) -> dict[str, str]:
    shown = request.GET.get("show", "")
    return {
        "query": request.GET.get("q", "").strip()[:LONGEST_TYPED],
        "shown": shown if shown in SHOWN else "",
        "order": request.GET.get("sort", "-uses"),
    }


@require_GET
@study_reader
def vocabulary_csv(request: HttpRequest, study: Study) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{study.slug}-vocabulary.csv"'
    csv.writer(response).writerows(csv_rows(term_rows(study, **asked_of(request))))
    return response


@require_POST
@study_editor
def vocabulary_change(request: HttpRequest, study: Study) -> HttpResponseBase:
    """Add a term, set the mode, or put a list on the list."""
    user, given = signed_in_user(request), request.POST
    try:
        match given.get("act"):
            case "add":
                term = add_term(study=study, user=user, text=given.get("text", ""))
                messages.success(request, _("“%(text)s” is on the list.") % {"text": term.text})
            case "mode":
                set_mode(study=study, user=user, mode=given.get("mode", ""))
                messages.success(request, _("The mode is set."))
            case "import":
                messages.success(request, import_list(request, study, user))
            case _:
                messages.error(request, _("Nothing was changed."))
    except VocabularyError as error:
        messages.error(request, str(error))
    return redirect("study-vocabulary", slug=study.slug)


def import_list(request: HttpRequest, study: Study, user: User) -> str:
    """From a file, else from the text beside it; says what came of it."""
    text = request.POST.get("rows", "")
    uploaded = request.FILES.get("file")
    if uploaded is not None:
        if (uploaded.size or 0) > MOST_UPLOADED:
            raise VocabularyError(
                _("The file has %(size)s bytes; %(most_uploaded)s is the most.")
                % {"size": uploaded.size, "most_uploaded": MOST_UPLOADED}
            )
        try:
            text = uploaded.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise VocabularyError(_("The file is not UTF-8 text; save it as CSV in UTF-8.")) from error
    result = import_terms(study=study, user=user, rows=read_list(text))
    return _("%(n_new)s new terms, %(n_known)s known ones listed, %(n_synonyms)s synonyms.") % {
        "n_new": result.n_new, "n_known": result.n_known, "n_synonyms": result.n_synonyms,
    }  # fmt: skip


@require_http_methods(["GET", "POST"])
@study_reader
def vocabulary_term(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """One term: what it means in pictures, its wordings, and what can be done with it."""
    term = get_object_or_404(Term.objects.select_related("study", "merged_into"), pk=pk, study=study)
    if request.method == "POST":
        return change_term(request, slug=study.slug, pk=pk)
    if term.merged_into_id is not None:
        return redirect("vocabulary-term", slug=study.slug, pk=term.merged_into_id)
    row = next((one for one in all_rows(study) if one.pk == pk), None) or TermRow(
        term.pk, term.text, term.n_uses, term.is_listed, term.made_at
    )
    context = {
        "study": study,
        "tab": "vocabulary",
        "row": row,
        "items": pictures(study, row),
        "near": near_terms(study, term.text, besides=term.pk),
        "merges": TermMerge.objects.filter(target=term).select_related("source", "by", "undone_by"),
        "is_editor": may_edit(study, signed_in_user(request)),
    }
    return render(request, "annotation/vocabulary/term.html", context)


def pictures(study: Study, row: TermRow, side: str = "item") -> list[dict[str, Any]]:
    """Items of this name with their frozen pictures; items whose stimulus is gone are left out."""
    shown = []
    for called in items_called(study, row):
        try:
            stimulus = stimulus_for_player(study=study, stimulus_id=called.stimulus_id)
        except StimulusError:
            continue
        name = f"{side}-{called.item_id}"
        shown.append({"item": called.item_id, "n": called.n, "stimulus": stimulus, "name": name})
    return shown


@study_editor
def change_term(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    term = get_object_or_404(Term.objects.select_related("study"), pk=pk, study=study)
    acts: dict[str, Callable[..., Term]] = {"rename": rename_term, "synonym": add_synonym}
    act = acts.get(request.POST.get("act", ""))
    if act is not None:
        try:
            changed = act(term=term, user=signed_in_user(request), text=request.POST.get("text", ""))
            messages.success(request, _("“%(text)s” is kept.") % {"text": changed.text})
        except VocabularyError as error:
            messages.error(request, str(error))
    return redirect("vocabulary-term", slug=study.slug, pk=pk)


@require_http_methods(["GET", "POST"])
@study_editor
def vocabulary_merge(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    """Pick a target, look at what it comes to, say why, and merge."""
    source = get_object_or_404(Term.objects.select_related("study"), pk=pk, study=study)
    given = request.POST if request.method == "POST" else request.GET
    context: dict[str, Any] = {"study": study, "tab": "vocabulary", "source": source, "into": given.get("into", "")}
    context["texts"] = [row.text for row in term_rows(study)[:500] if row.pk != pk]
    try:
        target = target_of(study, given.get("into", "").strip())
        if target is not None:
            context["preview"] = preview_merge(source=source, target=target)
        if request.method == "POST" and target is not None:
            merge = merge_terms(
                source=source, target=target, user=signed_in_user(request), reason=given.get("reason", "")
            )
            messages.success(
                request,
                _("“%(text)s” stands for “%(target)s” from now on.")
                % {"text": source.text, "target": merge.target.text},
            )
            return redirect("vocabulary-term", slug=study.slug, pk=merge.target_id)
    except VocabularyError as error:
        context["problem"] = str(error)
    if "preview" in context:
        preview = context["preview"]
        rows = {row.pk: row for row in all_rows(study)}
        sides = (("source", preview.source), ("target", preview.target))
        context["sides"] = [(term, pictures(study, rows[term.pk], side)) for side, term in sides if term.pk in rows]
    return render(request, "annotation/vocabulary/merge.html", context)


def target_of(study: Study, text: str) -> Term | None:
    """By its text; None while nothing was picked."""
    if not text:
        return None
    target = Term.objects.filter(study=study, text=text).select_related("study", "merged_into").first()
    if target is None:
        raise VocabularyError(_("There is no term “%(text)s”; pick one that is offered.") % {"text": text})
    return target


@require_POST
@study_editor
def merge_undo(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    merge = get_object_or_404(TermMerge.objects.select_related("study", "source", "target"), pk=pk, study=study)
    try:
        undo_merge(merge=merge, user=signed_in_user(request))
        messages.success(request, _("“%(text)s” is a term of its own again.") % {"text": merge.source.text})
    except VocabularyError as error:
        messages.error(request, str(error))
    return redirect("study-vocabulary", slug=study.slug)


urlpatterns = [
    path("", include("annotation.views.categories")),
    path("work/<slug:slug>/terms", terms, name="work-terms"),
    path("work/<slug:slug>/terms/check", term_check, name="work-term-check"),
    path("studies/<slug:slug>/vocabulary/", study_vocabulary, name="study-vocabulary"),
    path("studies/<slug:slug>/vocabulary.csv", vocabulary_csv, name="vocabulary-csv"),
    path("studies/<slug:slug>/vocabulary/change/", vocabulary_change, name="vocabulary-change"),
    path("studies/<slug:slug>/vocabulary/<int:pk>/", vocabulary_term, name="vocabulary-term"),
    path("studies/<slug:slug>/vocabulary/<int:pk>/merge/", vocabulary_merge, name="vocabulary-merge"),
    path("studies/<slug:slug>/vocabulary/merges/<int:pk>/undo/", merge_undo, name="vocabulary-undo"),
]
