"""Sets of explanations: the list with the form that makes one, and the rows of a set."""

from __future__ import annotations

from django.contrib import messages
from django.core.paginator import Paginator
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import path
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.explanations import ExplanationError, explanations_from_labels, import_explanations
from annotation.domain.visibility import visible_features
from annotation.forms.explanations import ExplanationsForm
from annotation.models import ExplanationSet, User
from annotation.views.access import researcher_required, signed_in_user

PAGE_SIZE = 100


@require_http_methods(["GET", "POST"])
@researcher_required
def explanations(request: HttpRequest) -> HttpResponseBase:
    form = ExplanationsForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = made_of(form, signed_in_user(request))
            n = made.explanations.count()
            said = ngettext(
                "Made the set '%(name)s' of %(n)s explanation.", "Made the set '%(name)s' of %(n)s explanations.", n
            )
            messages.success(request, said % {"name": made.name, "n": n})
            return redirect("explanation-set", pk=made.pk)
        except ExplanationError as error:
            form.add_error(None, str(error))
    sets = ExplanationSet.objects.annotate(n=Count("explanations")).select_related("created_by")
    return render(request, "annotation/studies/explanations.html", {"form": form, "sets": sets})


def made_of(form: ExplanationsForm, user: User) -> ExplanationSet:
    values = form.cleaned_data
    if values["study"] is not None:
        return explanations_from_labels(study=values["study"], name=values["name"], user=user)
    file = values["file"]
    return import_explanations(
        name=values["name"], source=values["source"], content=file.read(), file_name=file.name, user=user
    )


@require_GET
@researcher_required
def explanation_set(request: HttpRequest, pk: int) -> HttpResponse:
    one = get_object_or_404(ExplanationSet, pk=pk)
    shown = one.explanations.filter(feature__in=visible_features(signed_in_user(request)))
    rows = shown.select_related("feature__dictionary").order_by("feature_id")
    page = Paginator(rows, PAGE_SIZE).get_page(request.GET.get("page"))
    return render(request, "annotation/studies/explanation_set.html", {"set": one, "page": page})


urlpatterns = [
    path("explanations/", explanations, name="explanations"),
    path("explanations/<int:pk>/", explanation_set, name="explanation-set"),
]
