"""The personal link of whoever looks, for pages on which they can keep it: `{% load own_links %}`."""

from __future__ import annotations

from typing import Any

from django import template
from django.urls import reverse

from annotation.domain.coming_back import place_with_link, proof_of
from annotation.models import Study, User

register = template.Library()


@register.simple_tag(takes_context=True)
def own_link(context: dict[str, Any], study: Study) -> str:
    """`{% own_link study as link %}`: the whole address; empty for those who sign in with a password."""
    request = context["request"]
    place = place_with_link(study, request.user) if isinstance(request.user, User) else None
    if place is None:
        return ""
    return str(request.build_absolute_uri(reverse("own-link", args=[place.pk, proof_of(place)])))
