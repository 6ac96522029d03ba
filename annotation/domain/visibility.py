"""Who may see which pixels: an image set is for everyone, for people who are signed in, or for its team.

The same rule guards pages, pixels, and the dictionaries and features whose exemplars are images of the set.
"""

from __future__ import annotations

from django.contrib.auth.models import AnonymousUser
from django.db.models import Q, QuerySet

from annotation.models import Dictionary, Feature, Image, ImageSet, User

Viewer = User | AnonymousUser


def visible_to(user: Viewer, path: str = "") -> Q:
    """The condition that an image set reached by ``path`` (such as 'image_set__') is visible to this person."""
    if isinstance(user, User) and user.is_administrator:
        return Q()
    seen = Q(**{f"{path}visibility": ImageSet.Visibility.PUBLIC})
    if isinstance(user, User) and user.is_active:
        own = ImageSet.objects.filter(Q(team=user) | Q(created_by=user)).values("pk")
        seen |= Q(**{f"{path}visibility": ImageSet.Visibility.SIGNED_IN}) | Q(**{f"{path}pk__in": own})
    return seen


def visible_image_sets(user: Viewer) -> QuerySet[ImageSet]:
    return ImageSet.objects.filter(visible_to(user))


def visible_images(user: Viewer) -> QuerySet[Image]:
    return Image.objects.filter(visible_to(user, "image_set__"))


def visible_dictionaries(user: Viewer) -> QuerySet[Dictionary]:
    """Dictionaries trained on an image set this person may see."""
    return Dictionary.objects.filter(visible_to(user, "image_set__"))


def visible_features(user: Viewer) -> QuerySet[Feature]:
    """Features whose exemplars are images this person may see."""
    return Feature.objects.filter(visible_to(user, "exemplar_set__image_set__"))
