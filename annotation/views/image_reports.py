"""Taking a reported image out of what a study still hands out; reports themselves: annotation.views.study_remarks."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect
from django.urls import path
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from annotation.domain.image_reports import hide_image
from annotation.domain.studies import StudyError
from annotation.models import ImageReport, Study
from annotation.views.access import signed_in_user
from annotation.views.study_access import study_editor


@require_POST
@study_editor
def image_hide(request: HttpRequest, study: Study, pk: int) -> HttpResponseBase:
    report = get_object_or_404(ImageReport.objects.select_related("image"), pk=pk, study=study)
    try:
        n_items = hide_image(study=study, image=report.image, user=signed_in_user(request))
        said = ngettext(
            "The image is hidden: %(n)s item that shows it is not handed out any more.",
            "The image is hidden: %(n)s items that show it are not handed out any more.",
            n_items,
        )
        messages.success(request, said % {"n": n_items})
    except StudyError as error:
        messages.error(request, str(error))
    return redirect("study-remarks", slug=study.slug)


urlpatterns = [path("studies/<slug:slug>/reports/<int:pk>/hide/", image_hide, name="image-hide")]
