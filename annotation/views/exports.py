"""Pages to take answers away: exports of a study, and the tokens with which programs do the same."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import transaction
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import gettext
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.export_writers import WRITERS
from annotation.domain.exports import ExportError, download_path, downloads_of, request_export
from annotation.domain.results import require_results_role, study_with_results
from annotation.domain.tokens import LIFETIMES, SCOPES, TokenError, create_token, revoke_token
from annotation.domain.unblinding import unblinding_of
from annotation.models import ApiToken, ExportFile, Study
from annotation.views.access import signed_in_user
from config.wakeup import wake_workers

SHOWN = 50


def study_or_404(request: HttpRequest, slug: str) -> Study:
    try:
        return study_with_results(signed_in_user(request), slug)
    except Study.DoesNotExist as error:
        raise Http404(str(error)) from error


@login_required
@require_http_methods(["GET", "POST"])
def exports(request: HttpRequest, slug: str) -> HttpResponse:
    study = study_or_404(request, slug)
    if request.method == "POST":
        try:
            after, chosen = request.POST.get("after", ""), request.POST.get("format", "")
            cursor = int(after) if after.isdecimal() and len(after) < 19 else 0
            request_export(study=study, file_format=chosen, user=signed_in_user(request), after=cursor)
            transaction.on_commit(lambda: wake_workers("cpu"))
            messages.success(request, gettext("The export is being written; it appears below when it is whole."))
        except ExportError as error:
            messages.error(request, str(error))
        return redirect("exports", slug=slug)
    rows = [(export, downloads_of(export)) for export in study.export_files.select_related("created_by")[:SHOWN]]
    is_running = any(export.state in (ExportFile.State.QUEUED, ExportFile.State.RUNNING) for export, _ in rows)
    last = next((export.last for export, _ in rows if export.state == ExportFile.State.DONE), 0)
    context = {"study": study, "rows": rows, "formats": list(WRITERS), "is_running": is_running, "last": last}
    return render(request, "annotation/exports.html", context | {"unblinding": unblinding_of(study)})


@login_required
@require_GET
def export_download(request: HttpRequest, slug: str, pk: int, name: str) -> HttpResponseBase:
    export = get_object_or_404(ExportFile.objects.select_related("study"), pk=pk, study=study_or_404(request, slug))
    try:
        path = download_path(export, name)
    except ExportError as error:
        raise Http404(str(error)) from error
    return FileResponse(path.open("rb"), as_attachment=True, filename=f"{slug}-{export.pk}-{name}")


@login_required
@require_http_methods(["GET", "POST"])
def tokens(request: HttpRequest) -> HttpResponse:
    user = signed_in_user(request)
    require_results_role(user)
    context: dict[str, object] = {"scopes": SCOPES, "lifetimes": LIFETIMES}
    if request.method == "POST":
        try:
            name, days = request.POST.get("name", ""), request.POST.get("days", "")
            made = create_token(user=user, name=name, scopes=request.POST.getlist("scopes"), days=days)
            context["secret"] = made.secret
        except TokenError as error:
            messages.error(request, str(error))
    context["tokens"] = user.api_tokens.order_by("-id")
    return render(request, "annotation/tokens.html", context)


@login_required
@require_POST
def token_revoke(request: HttpRequest, pk: int) -> HttpResponse:
    try:
        revoke_token(user=signed_in_user(request), token_id=pk)
    except ApiToken.DoesNotExist as error:
        raise Http404(gettext("There is no such token of yours.")) from error
    messages.success(request, gettext("The token is revoked."))
    return redirect("tokens")


urlpatterns = [
    path("studies/<slug:slug>/exports/", exports, name="exports"),
    path("studies/<slug:slug>/exports/<int:pk>/<str:name>", export_download, name="export-download"),
    path("tokens/", tokens, name="tokens"),
    path("tokens/<int:pk>/revoke/", token_revoke, name="token-revoke"),
]
