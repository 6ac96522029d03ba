"""The demo's people: one login per role, all with the same password, printed by ``./run demo``."""

from __future__ import annotations

from typing import NamedTuple

from annotation.models import Role, User

DEMO_PASSWORD = "look-closely"


class DemoLogin(NamedTuple):
    username: str
    role: Role


DEMO_LOGINS = (
    DemoLogin("ada", Role.ANNOTATOR),
    DemoLogin("rosa", Role.REVIEWER),
    DemoLogin("rhea", Role.RESEARCHER),
    DemoLogin("admin", Role.ADMINISTRATOR),
)


def create_demo_users() -> None:
    """One account per role; an account that exists already is left as it is."""
    for login in DEMO_LOGINS:
        user, is_new = User.objects.get_or_create(username=login.username, defaults={"role": login.role})
        if is_new:
            is_administrator = login.role == Role.ADMINISTRATOR
            user.is_staff = is_administrator or login.role == Role.RESEARCHER
            user.is_superuser = is_administrator
            user.set_password(DEMO_PASSWORD)
            user.save()


def researcher() -> User:
    return User.objects.get(username="rhea")
