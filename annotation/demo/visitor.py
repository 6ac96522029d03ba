"""A visitor of the site over HTTP: cookies, forms and JSON with the standard library, as a browser would send them."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.cookiejar import CookieJar
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin

TIMEOUT_SECONDS = 60


class WalkError(Exception):
    """A page was not as it should be; the message says which and how."""


class Page(NamedTuple):
    """What a request brought."""

    url: str
    status: int
    content_type: str
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def embedded(self, element_id: str) -> Any:
        """The JSON of a <script type="application/json" id=…> element."""
        found = re.search(rf'<script id="{element_id}" type="application/json">(.*?)</script>', self.text, re.S)
        if found is None:
            raise WalkError(f"{self.url} holds no data '{element_id}'.")
        return json.loads(found[1])


class Visitor:
    """One person with a cookie jar."""

    def __init__(self, site: str) -> None:
        self.site = site
        self.cookies = CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.cookies))

    def get(self, path: str, *, status: int = 200) -> Page:
        return self.fetch(urllib.request.Request(urljoin(self.site, path)), status)

    def post(self, path: str, fields: Mapping[str, str], *, status: int = 200) -> Page:
        data = urlencode({**fields, "csrfmiddlewaretoken": self.csrf_token()}).encode()
        return self.fetch(urllib.request.Request(urljoin(self.site, path), data=data, headers=self.headers()), status)

    def post_json(self, path: str, value: Mapping[str, Any], *, status: int = 200) -> Any:
        headers = self.headers() | {"Content-Type": "application/json"}
        data = json.dumps(value).encode()
        return self.fetch(urllib.request.Request(urljoin(self.site, path), data=data, headers=headers), status).json

    def fetch(self, request: urllib.request.Request, status: int) -> Page:
        """The page, redirects followed; raises WalkError if the status is another."""
        try:
            with self.opener.open(request, timeout=TIMEOUT_SECONDS) as response:
                page = Page(response.url, response.status, response.headers.get_content_type(), response.read())
        except urllib.error.HTTPError as error:
            page = Page(request.full_url, error.code, error.headers.get_content_type(), error.read())
        if page.status != status:
            sentence = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.text))[:200]
            raise WalkError(
                f"{request.get_method()} {request.full_url} answers {page.status}, not {status}: {sentence}"
            )
        return page

    def sign_in(self, username: str, password: str) -> None:
        self.get("/login/")
        page = self.post("/login/", {"username": username, "password": password})
        if page.url.endswith("/login/"):
            raise WalkError(f"{username} cannot sign in.")

    def csrf_token(self) -> str:
        return next((c.value or "" for c in self.cookies if c.name == "csrftoken"), "")

    def headers(self) -> dict[str, str]:
        return {"X-CSRFToken": self.csrf_token(), "Referer": self.site}
