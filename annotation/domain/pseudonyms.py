"""People whose answers came from elsewhere: here they are a code, and an account that nobody can sign in to.

A code is kept as the person's code here where it looks like one of ours and nobody has it; else they get one of ours,
and what they were called stays in `Pseudonym`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from annotation.domain.participation import new_annotator
from annotation.models import Participation, Pseudonym, Study, User

OUR_CODE = re.compile(r"A-[2-9A-HJ-NP-Z]{8}")


def people_called(study: Study, codes: Mapping[str, bool]) -> dict[str, User]:
    """The account of each code in this study; the value says whether the person is simulated. Made where missing."""
    known = {one.code: one.user for one in Pseudonym.objects.filter(study=study).select_related("user")}
    for code, is_simulated in codes.items():
        if code not in known:
            known[code] = stranger(study, code, is_simulated=is_simulated)
    return known


def stranger(study: Study, code: str, *, is_simulated: bool) -> User:
    user = new_annotator(is_simulated=is_simulated)
    if OUR_CODE.fullmatch(code) and not User.objects.filter(annotator_code=code).exists():
        User.objects.filter(pk=user.pk).update(annotator_code=code)
        user.annotator_code = code
    User.objects.filter(pk=user.pk).update(is_active=False)
    Participation.objects.create(study=study, user=user)
    Pseudonym.objects.create(study=study, code=code, user=user)
    return user
