"""The data card of an export: what it is, where it comes from, what may be done with it, what each column means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from annotation.domain.export_columns import Column
from annotation.domain.export_stimuli import image_sets_of
from annotation.domain.unblinding import unblinding_of
from annotation.models import Study

FORMAT_VERSION = 1
REPORT_EVERY = 20_000


class Seen:
    """Counts of the rows that pass by on their way to the file."""

    def __init__(self, columns: list[Column], report: Callable[[int], None]) -> None:
        self._report = report
        names = [column.name for column in columns]
        self._annotator, self._simulated = names.index("annotator"), names.index("is_simulated")
        self._current, self._late = names.index("is_current"), names.index("is_late_extra")
        self._excluded = names.index("excluded_reason")
        self.n_rows = self.n_simulated = self.n_revised = self.n_late_extras = 0
        self.annotators: set[str] = set()
        self.excluded: Counter[str] = Counter()

    def count(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
        for row in rows:
            self.n_rows += 1
            if self.n_rows % REPORT_EVERY == 0:
                self._report(self.n_rows)
            self.n_simulated += row[self._simulated]
            self.n_revised += not row[self._current]
            self.n_late_extras += row[self._late]
            self.annotators.add(row[self._annotator])
            if row[self._excluded]:
                self.excluded[row[self._excluded]] += 1
            yield row

    def as_dict(self) -> dict[str, Any]:
        share = round(self.n_simulated / self.n_rows, 4) if self.n_rows else 0.0
        return {
            "answers": self.n_rows,
            "annotators": len(self.annotators),
            "simulated": self.n_simulated,
            "simulated_share": share,
            "revised": self.n_revised,
            "late_extras": self.n_late_extras,
            "excluded": dict(sorted(self.excluded.items())),
        }


class File(NamedTuple):
    name: str
    size: int
    sha256: str


def make_card(study: Study, columns: list[Column], seen: Seen, files: list[File]) -> dict[str, Any]:
    act = unblinding_of(study)
    return {
        "format": FORMAT_VERSION,
        "study": {
            "name": study.name,
            "slug": study.slug,
            "description": study.description,
            "state": study.state,
            "protocol": study.protocol,
            "protocol_version": study.protocol_version,
            "protocol_options": study.protocol_options,
            "ineligible": [] if act is None else study.ineligible,
            "guideline_versions": sorted(study.guidelines.values_list("version", flat=True)),
            "is_simulated": study.is_simulated,
            "seed": study.seed,
            "sampler": study.sampler,
            "features_never_drawn": study.exclusions,
            "control_share": study.control_share,
            "control_kinds": study.control_kinds,
            "catch_share": study.catch_share,
            "gold_share": study.gold_share,
            "overlap": study.overlap,
            "core_overlap": study.core_overlap,
            "locked_hash": study.locked_hash,
            "stimuli_digest": study.stimuli_digest,
        },
        "unblinded": None if act is None else {"at": act.at.isoformat(timespec="seconds"), "over": act.n_annotations},
        "counts": seen.as_dict(),
        "images": [
            {"image_set": one.name, "digest": one.digest, "licence": one.licence, "pixels": one.allows_redistribution}
            for one in image_sets_of(study)
        ],
        "columns": [{"name": one.name, "type": one.type, "meaning": one.meaning} for one in columns],
        "files": [file._asdict() for file in files],
    }


def card_text(card: dict[str, Any]) -> str:
    """The card for people, in Markdown."""
    study, counts = card["study"], card["counts"]
    lines = [f"# {study['name']}", ""]
    if study["description"]:
        lines += [study["description"], ""]
    if counts["simulated"]:
        lines += [f"**{counts['simulated']} of {counts['answers']} answers are simulated:** made by programs.", ""]
    lines += [
        f"Answers of annotators to the protocol {study['protocol']} {study['protocol_version']} "
        f"(guideline versions {', '.join(map(str, study['guideline_versions'])) or 'none'}). "
        f"Locked at launch as `{study['locked_hash'] or 'not launched'}`; "
        f"stimuli `{study['stimuli_digest'] or 'none'}`.",
        "",
        _blindness_sentence(card),
        "",
        "## Counts",
        "",
        f"- answers stored: {counts['answers']}, by {counts['annotators']} annotators",
        f"- simulated: {counts['simulated']} (share {counts['simulated_share']})",
        f"- revised later: {counts['revised']}; late extras: {counts['late_extras']}",
        *([f"- excluded, {reason}: {n}" for reason, n in counts["excluded"].items()] or ["- excluded: 0"]),
        "",
        "## Images",
        "",
        *(_image_sentence(image) for image in card["images"]),
        "",
        "## Columns",
        "",
        "| column | type | meaning |",
        "|---|---|---|",
        *(f"| {column['name']} | {column['type']} | {column['meaning']} |" for column in card["columns"]),
        "",
        "## Files",
        "",
        *(f"- `{file['name']}`: {file['size']} bytes, sha256 `{file['sha256']}`" for file in card["files"]),
        "",
        _cursor_sentence(card),
        "",
        "Annotators appear by a pseudonymous code; no name, address or account is in these files.",
    ]
    return "\n".join(lines) + "\n"


def _cursor_sentence(card: dict[str, Any]) -> str:
    after, last = card["cursor"]["after"], card["cursor"]["last"]
    if after == 0:
        return f"All answers up to the cursor {last}; an export after {last} has what came later."
    return (
        f"Only answers after the cursor {after}, up to {last}. What was decided since about earlier ones (exclusions, "
        "verdicts, merged wordings) is in a whole export only; a revised answer is named by its revision."
    )


def _blindness_sentence(card: dict[str, Any]) -> str:
    if card["unblinded"] is None:
        return "The study is blind: what each item is stays out until the study is closed and unblinded."
    return f"Unblinded at {card['unblinded']['at']} over {card['unblinded']['over']} answers."


def _image_sentence(image: dict[str, Any]) -> str:
    how = "the pixels shown are included" if image["pixels"] else "only references (sha256 and path) are included"
    return f"- {image['image_set']} (`{image['digest']}`), licence: {image['licence'] or 'not stated'}; {how}"
