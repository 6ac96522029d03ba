"""The queue measured as a whole: claims in a new and in a nearly finished study, and answers per second over HTTP.

Rows one and two of the design's budgets. The claim is judged as the clients see it while all work at their pace, which
is never below the time in SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from django.db import connection

from annotation.benchmarks.figures import Row, Target, at_least, at_most, none_of, percentile, percentiles, sentence
from annotation.benchmarks.queue_claims import ClaimLoad, ClaimTimes, measure_claims, times_inside_postgresql
from annotation.benchmarks.queue_http import HttpResult, measure_http
from annotation.benchmarks.queue_rows import QueueScale, annotators, make_study, mark_done
from annotation.models import Study

PACE = 0.5  # 32 annotators who claim 5 items every half second are 320 items per second
CLAIM_MS, ANSWERS_PER_SECOND, NEXT_MS = 10, 150, 200  # the floors of design.md §12
NEW, NEARLY_DONE = "0 % done", "95 % done, one annotator has judged 99 % of the items"
WRONG = ("over-assigned", "repeats", "lost", "server errors")


@dataclass
class QueueRun:
    """One run over one study; `say` is told each figure as it comes."""

    scale: QueueScale
    seconds: float
    n_workers: int
    say: Callable[[str], object]
    figures: dict[str, Row] = field(default_factory=dict)

    def measure(self) -> None:
        self.say(f"Making a study of {self.scale.n_slots:,} slots.")
        study = make_study(self.scale)
        self.claims(study, NEW)
        self.http(study)
        mark_done(study, self.scale, share=0.95)
        self.claims(study, NEARLY_DONE)

    def claims(self, study: Study, title: str) -> None:
        users = tuple(user.pk for user in annotators(study))
        if connection.vendor == "postgresql":
            inside = percentiles(times_inside_postgresql(study, users), "ms")
            self.keep(f"first look inside PostgreSQL, {title}", inside)
        for pace, name in ((PACE, "paced"), (0.0, "closed loop")):
            times = measure_claims(ClaimLoad(study.pk, users, self.seconds, pace))
            self.keep(f"claims, {title}, {name}", claim_row(times, users[0], self.seconds))

    def http(self, study: Study) -> None:
        users = annotators(study)
        result = measure_http(study, users, seconds=self.seconds, n_workers=self.n_workers, n_threads=4)
        self.keep("http, closed loop", http_row(result))

    def keep(self, name: str, row: Row) -> None:
        self.figures[name] = row
        self.say(f"{name[:1].upper()}{name[1:]}: {sentence(row)}")

    def targets(self) -> list[Target]:
        """One line per target of design.md §12."""
        http = self.figures["http, closed loop"]
        claims = {name: row for name, row in self.figures.items() if name.startswith("claims")}
        n_wrong = sum(http[name] for name in WRONG) + sum(row["slots given twice"] for row in claims.values())
        targets = []
        for name, row in claims.items():
            if name.endswith("paced"):
                targets.append(at_most(f"p95 of {name}", row["p95 ms in SQL"], CLAIM_MS, "ms"))
            if name.endswith("paced") and NEARLY_DONE in name:
                targets.append(at_most("p95 of the heavy annotator's", row["heavy annotator p95 ms"], CLAIM_MS, "ms"))
        return [
            *targets,
            at_least("answers per second", http["answers per second"], ANSWERS_PER_SECOND),
            at_most("next item, p95", http["next p95 ms"], NEXT_MS, "ms"),
            none_of("over-assigned, repeats, lost, server errors", n_wrong),
        ]


def claim_row(times: ClaimTimes, heavy: int, seconds: float) -> Row:
    everybody = [ms for one in times.milliseconds.values() for ms in one]
    given = [slot for one in times.slots.values() for slot in one]
    return {
        **percentiles(everybody, "ms in SQL"),
        "heavy annotator p95 ms": percentile(times.milliseconds[heavy], 95),
        "claims per second": round(len(everybody) / seconds, 1),
        "empty claims": times.n_empty,
        "slots given twice": len(given) - len(set(given)),
    }


def http_row(result: HttpResult) -> Row:
    return {
        "answers per second": round(result.answers_per_second, 1),
        **{f"next {name}": value for name, value in percentiles(result.next_ms, "ms").items()},
        **{f"submit {name}": value for name, value in percentiles(result.submit_ms, "ms").items()},
        "accepted": result.n_accepted, "over-assigned": result.n_over_assigned, "repeats": result.n_repeats,
        "lost": result.n_lost, "server errors": result.n_server_errors,
    }  # fmt: skip
