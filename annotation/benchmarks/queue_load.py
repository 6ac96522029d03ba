"""Closed-loop annotators over HTTP, run as a process of its own: claim five, answer each, claim again, no thinking.

Reads one JSON object (url, slug, seconds, annotators: [{session, user}]) from standard input and writes one to standard
output. Standard library only, and only to the loopback interface.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

CSRF = "c" * 32  # double submit: any token will do if cookie and header agree
CLAIMED = 5


class Annotator:
    """One person with one kept connection."""

    def __init__(self, url: str, slug: str, session: str) -> None:
        parts = urlsplit(url)
        if parts.hostname not in {"127.0.0.1", "localhost"}:
            raise SystemExit("The load generator talks to this machine only.")
        self.connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=60)
        self.slug = slug
        self.headers = {
            "Content-Type": "application/json", "Cookie": f"sessionid={session}; csrftoken={CSRF}",
            "X-CSRFToken": CSRF,
        }  # fmt: skip
        self.next_ms: list[float] = []
        self.submit_ms: list[float] = []
        self.uuids: list[str] = []
        self.statuses: dict[int, int] = {}

    def post(self, name: str, body: dict[str, Any], times: list[float]) -> dict[str, Any]:
        start = time.perf_counter()
        self.connection.request("POST", f"/work/{self.slug}/{name}", json.dumps(body), self.headers)
        response = self.connection.getresponse()
        content = response.read()
        times.append(1000 * (time.perf_counter() - start))
        self.statuses[response.status] = self.statuses.get(response.status, 0) + 1
        reply: dict[str, Any] = json.loads(content) if response.status == 200 else {}
        return reply

    def work_until(self, deadline: float) -> None:
        while time.monotonic() < deadline:
            items = self.post("claim", {"n": CLAIMED, "have": []}, self.next_ms).get("items", [])
            for item in items:
                self.answer(item)
            if not items:
                time.sleep(0.2)

    def answer(self, item: dict[str, Any]) -> None:
        rating = 1 + item["item"] % 4
        body = {
            "uuid": str(uuid.uuid4()), "slot": item["slot"], "item": item["item"], "revision_of": None,
            "payload": {
                "patch_rating": rating, "image_rating": rating, "category": "shape",
                "label": f"label {item['item'] % 400}",
            },
            "timing": {"visible_ms": 900}, "submitted_at": datetime.now(UTC).isoformat(),
            "stimulus_id": item["stimulus"]["id"], "protocol_version": "1.0", "guideline_version": 1,
        }  # fmt: skip
        if self.post("answers", body, self.submit_ms).get("uuid") == body["uuid"]:
            self.uuids.append(str(body["uuid"]))


def main() -> None:
    order = json.load(sys.stdin)
    people = [Annotator(order["url"], order["slug"], session) for session in order["sessions"]]
    started = time.monotonic()
    threads = [threading.Thread(target=one.work_until, args=(started + order["seconds"],)) for one in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    statuses: dict[int, int] = {}
    for one in people:
        for status, n in one.statuses.items():
            statuses[status] = statuses.get(status, 0) + n
    json.dump(
        {
            "seconds": time.monotonic() - started,
            "next_ms": [value for one in people for value in one.next_ms],
            "submit_ms": [value for one in people for value in one.submit_ms],
            "uuids": [value for one in people for value in one.uuids],
            "statuses": statuses,
        },
        sys.stdout,
    )


if __name__ == "__main__":
    main()
