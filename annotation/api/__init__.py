"""The HTTP interface for programs, a module per noun. Described at /api/docs; docs/api.md is the guide.

A token (`Authorization: Bearer ...`) acts for its owner and within its scopes: 401 without a live token, 403 for what
its scope or its owner's role does not allow, 404 for what its owner may not know of, 422 for what cannot be understood.
Every refusal is one sentence under `detail`. Lists are paged by key: pass `next` of one page as `after` of the next.
What an item really is stays out of every answer until its study is unblinded, as on the pages.
"""

from annotation.api import annotations, errands, exports, items, people, studies, webhooks
from annotation.api.base import api, study_for_token

NOUNS = (studies, items, annotations, people, exports, errands, webhooks)

__all__ = ["NOUNS", "api", "study_for_token"]
