"""What comes into a study and goes out of it: items, bundles, answers that come home, simulated annotators, imports."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.forms import Form
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.bundles import LAUNCHED
from annotation.domain.errands import ErrandError, ask_errand, confirm_errand, output_path
from annotation.forms.exchange import AnswersForm, BundleFileForm, BundleForm, SimulateForm, TableForm
from annotation.models import Errand, Study, User
from annotation.views.access import researcher_required, signed_in_user
from annotation.views.study_access import may_edit, study_editor, study_reader
from config.wakeup import wake_workers

SHOWN = 20
UNFINISHED = (Errand.State.QUEUED, Errand.State.RUNNING)


@require_GET
@study_reader
def exchange(request: HttpRequest, study: Study) -> HttpResponse:
    return exchange_page(request, study)


def exchange_page(request: HttpRequest, study: Study, **forms: Form) -> HttpResponse:
    is_draft, is_launched = study.state == Study.State.DRAFT, study.state in LAUNCHED
    context: dict[str, Any] = {
        "study": study, "tab": "exchange", "is_editor": may_edit(study, signed_in_user(request)),
        "errands": study.errands.select_related("created_by")[:SHOWN], "webhooks": study.webhooks.all(),
        "bundles": study.bundles.all()[:SHOWN], "is_here": study.origin == Study.Origin.HERE,
        "is_received": study.origin == Study.Origin.BUNDLE, "is_launched": is_launched,
        "items_form": forms.get("items") or (TableForm() if is_draft else None),
        "bundle_form": forms.get("bundle") or BundleForm(), "return_form": forms.get("returns") or BundleFileForm(),
        "simulate_form": forms.get("simulate") or SimulateForm(),
    }  # fmt: skip
    return render(request, "annotation/bundles.html", context, status=400 if forms else 200)


def ask(request: HttpRequest, user: User, kind: str, **values: Any) -> HttpResponse:
    """The errand's own page, where it can be watched; a file that cannot be taken is a message."""
    try:
        errand = ask_errand(kind=kind, user=user, **values)
    except ErrandError as error:
        messages.error(request, str(error))
        study = values.get("study")
        return redirect("study-exchange", slug=study.slug) if study else redirect("imports")
    transaction.on_commit(lambda: wake_workers("cpu"))
    return redirect("errand", pk=errand.pk)


def sent_file(form: Form) -> tuple[str, Any]:
    file = form.cleaned_data["file"]
    return file.name, file.chunks()


@require_POST
@study_editor
def exchange_items(request: HttpRequest, study: Study) -> HttpResponse:
    form = TableForm(request.POST, request.FILES)
    if not form.is_valid():
        return exchange_page(request, study, items=form)
    kind, user = Errand.Kind.IMPORT_ITEMS, signed_in_user(request)
    return ask(request, user, kind, study=study, upload=sent_file(form), is_dry_run=True)


@require_POST
@study_editor
def exchange_bundle(request: HttpRequest, study: Study) -> HttpResponse:
    """The study itself, or, of one that came from elsewhere, its answers."""
    form = BundleForm(request.POST)
    if not form.is_valid():
        return exchange_page(request, study, bundle=form)
    is_received = study.origin == Study.Origin.BUNDLE
    kind = Errand.Kind.EXPORT_ANSWERS if is_received else Errand.Kind.EXPORT_BUNDLE
    return ask(request, signed_in_user(request), kind, study=study, options=form.cleaned_data)


@require_POST
@study_editor
def exchange_returns(request: HttpRequest, study: Study) -> HttpResponse:
    form = BundleFileForm(request.POST, request.FILES)
    if not form.is_valid():
        return exchange_page(request, study, returns=form)
    kind, user = Errand.Kind.RETURN_ANSWERS, signed_in_user(request)
    return ask(request, user, kind, study=study, upload=sent_file(form), is_dry_run=True)


@require_POST
@study_editor
def exchange_simulate(request: HttpRequest, study: Study) -> HttpResponse:
    form = SimulateForm(request.POST)
    if not form.is_valid():
        return exchange_page(request, study, simulate=form)
    cleaned = form.cleaned_data
    options = {"annotators": cleaned["rows"], "limit": cleaned["limit"], "by_sight": cleaned["by_sight"]}
    return ask(request, signed_in_user(request), Errand.Kind.SIMULATE, study=study, options=options)


@require_http_methods(["GET", "POST"])
@researcher_required
def imports(request: HttpRequest) -> HttpResponse:
    """Studies that come from elsewhere: a bundle, or answers of earlier work."""
    user = signed_in_user(request)
    is_answers, is_bundle = (request.POST.get("what") == what for what in ("answers", "bundle"))
    answers = AnswersForm(*((request.POST, request.FILES) if is_answers else ()))
    bundle = BundleFileForm(*((request.POST, request.FILES) if is_bundle else ()))
    if is_answers and answers.is_valid():
        options = {name: answers.cleaned_data[name] for name in ("name", "protocol", "mapping")}
        study = answers.cleaned_data["study"]
        kind = Errand.Kind.IMPORT_ANSWERS
        return ask(request, user, kind, study=study, options=options, upload=sent_file(answers), is_dry_run=True)
    if is_bundle and bundle.is_valid():
        return ask(request, user, Errand.Kind.IMPORT_BUNDLE, upload=sent_file(bundle))
    kinds = (Errand.Kind.IMPORT_ANSWERS, Errand.Kind.IMPORT_BUNDLE)
    errands = Errand.objects.filter(kind__in=kinds).select_related("study", "created_by")[:SHOWN]
    context = {"answers_form": answers, "bundle_form": bundle, "errands": errands}
    status = 400 if request.method == "POST" else 200
    return render(request, "annotation/imports.html", context, status=status)


def errand_or_404(request: HttpRequest, pk: int) -> Errand:
    user = signed_in_user(request)
    errand = Errand.objects.select_related("study", "created_by").filter(pk=pk).first()
    is_allowed = errand is not None and (
        errand.created_by_id == user.pk or (errand.study is not None and may_edit(errand.study, user))
    )
    if errand is None or not is_allowed:
        raise Http404(_("There is no such errand of yours."))
    return errand


@require_http_methods(["GET", "POST"])
@login_required
def errand(request: HttpRequest, pk: int) -> HttpResponse:
    """How it goes; after a dry run, what was found and the button to do it."""
    shown = errand_or_404(request, pk)
    if request.method == "POST":
        try:
            confirm_errand(errand=shown)
            transaction.on_commit(lambda: wake_workers("cpu"))
        except ErrandError as error:
            messages.error(request, str(error))
        return redirect("errand", pk=pk)
    context = {
        "errand": shown, "study": shown.study, "is_unfinished": shown.state in UNFINISHED,
        "percent": 100 * shown.n_done / shown.n_wanted if shown.n_wanted else None,
        "facts": facts_of(shown), "faults": shown.report.get("errors", []),
        "n_faults": shown.report.get("n_errors", 0), "has_file": has_file(shown),
    }  # fmt: skip
    return render(request, "annotation/errand.html", context)


WORDS = {
    "n_lines": gettext_noop("lines"),
    "n_features": gettext_noop("features"),
    "n_texts": gettext_noop("texts"),
    "n_new": gettext_noop("new answers"),
    "n_known": gettext_noop("known already"),
    "n_items": gettext_noop("items"),
    "n_annotators": gettext_noop("annotators"),
    "n_items_without_feature": gettext_noop("items of features not known here"),
    "n_simulated": gettext_noop("simulated answers"),
    "n_answers": gettext_noop("answers"),
    "n_judgements": gettext_noop("judgements wanted"),
    "n_late_extras": gettext_noop("late extras"),
    "n_revisions": gettext_noop("revisions"),
    "n_remarks": gettext_noop("remarks"),
    "n_bytes": "bytes",
}
MAIN = frozenset({"n_lines", "n_new", "n_answers"})


def facts_of(errand: Errand) -> list[tuple[int, str]]:
    """Counts in words; of those that are usually none, only what there is."""
    report = errand.report
    return [
        (report[name], word) for name, word in WORDS.items() if report.get(name) or (name in report and name in MAIN)
    ]


def has_file(errand: Errand) -> bool:
    try:
        return output_path(errand).is_file()
    except ErrandError:
        return False


@require_GET
@login_required
def errand_file(request: HttpRequest, pk: int) -> HttpResponseBase:
    shown = errand_or_404(request, pk)
    try:
        return FileResponse(output_path(shown).open("rb"), as_attachment=True, filename=shown.file_name)
    except ErrandError as error:
        raise Http404(str(error)) from error


urlpatterns = [
    path("imports/", imports, name="imports"),
    path("errands/<int:pk>/", errand, name="errand"),
    path("errands/<int:pk>/file", errand_file, name="errand-file"),
    path("studies/<slug:slug>/exchange/", exchange, name="study-exchange"),
    path("studies/<slug:slug>/exchange/items/", exchange_items, name="exchange-items"),
    path("studies/<slug:slug>/exchange/bundle/", exchange_bundle, name="exchange-bundle"),
    path("studies/<slug:slug>/exchange/returns/", exchange_returns, name="exchange-returns"),
    path("studies/<slug:slug>/exchange/simulate/", exchange_simulate, name="exchange-simulate"),
]
