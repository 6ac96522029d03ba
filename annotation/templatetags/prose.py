"""Markdown for guidelines and consent: headings, lists, quotes, emphasis, code and links; everything else is text.

A small subset on purpose. The text is escaped first, and only tags of this module are put in afterwards, so that no
guideline can bring a script, a picture of another host or a form into the page.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

BULLET = re.compile(r"^\s*[-*+]\s+(.*)$")
NUMBERED = re.compile(r"^\s*\d+[.)]\s+(.*)$")
HEADING = re.compile(r"^(#{1,4})\s+(.*?)\s*#*$")
QUOTE = re.compile(r"^&gt;\s?(.*)$")
INLINE = (
    (re.compile(r"\[([^\]]+)\]\((https?://[^\s)]+|/[^/\s)][^\s)]*|mailto:[^\s)]+)\)"), r'<a href="\2">\1</a>'),
    (re.compile(r"\*\*(?=\S)(.+?)(?<=\S)\*\*"), r"<strong>\1</strong>"),
    (re.compile(r"(?<![\w*])\*(?=\S)(.+?)(?<=\S)\*(?![\w*])"), r"<em>\1</em>"),
    (re.compile(r"(?<!\w)_(?=\S)(.+?)(?<=\S)_(?!\w)"), r"<em>\1</em>"),
)


@register.filter
def prose(text: str) -> SafeString:
    """The text as HTML."""
    lines = escape(text).replace("\r\n", "\n").split("\n")
    return mark_safe("\n".join(blocks(lines)))  # escaped above; only our own tags are added


def blocks(lines: list[str]) -> Iterator[str]:
    """Headings, lists, quotes and paragraphs, one after the other."""
    place = 0
    while place < len(lines):
        line = lines[place]
        heading = HEADING.match(line)
        if not line.strip():
            place += 1
        elif heading:
            level = len(heading[1]) + 1  # the page has the only h1
            yield f"<h{level}>{inline(heading[2])}</h{level}>"
            place += 1
        else:
            kind = kind_of(line)
            end = end_of_block(lines, place, kind)
            yield rendered(kind, lines[place:end])
            place = end


def kind_of(line: str) -> str:
    for kind, pattern in (("ul", BULLET), ("ol", NUMBERED), ("blockquote", QUOTE)):
        if pattern.match(line):
            return kind
    return "p"


def end_of_block(lines: list[str], start: int, kind: str) -> int:
    """A list goes on over indented lines; a paragraph ends where another kind begins."""
    end = start + 1
    while end < len(lines) and lines[end].strip():
        line = lines[end]
        goes_on = kind_of(line) == kind or (kind in {"ul", "ol"} and line.startswith(" "))
        if HEADING.match(line) or not goes_on:
            break
        end += 1
    return end


def rendered(kind: str, lines: list[str]) -> str:
    if kind == "p":
        return f"<p>{inline(' '.join(line.strip() for line in lines))}</p>"
    if kind == "blockquote":
        quoted = " ".join(QUOTE.sub(r"\1", line) for line in lines)
        return f"<blockquote><p>{inline(quoted)}</p></blockquote>"
    entries: list[str] = []
    for line in lines:
        found = (BULLET if kind == "ul" else NUMBERED).match(line)
        if found:
            entries.append(found[1])
        else:
            entries[-1] += f" {line.strip()}"
    return f"<{kind}>" + "".join(f"<li>{inline(entry)}</li>" for entry in entries) + f"</{kind}>"


def inline(text: str) -> str:
    """Emphasis and links outside code, code as it stands."""
    parts = re.split(r"`([^`]+)`", text)
    return "".join(f"<code>{part}</code>" if i % 2 else emphasized(part) for i, part in enumerate(parts))


def emphasized(text: str) -> str:
    for pattern, replacement in INLINE:
        text = pattern.sub(replacement, text)
    return text
