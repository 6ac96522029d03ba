// From a keyboard event to an action, by the table the page brought (annotation/domain/player_keys.py).
// Letters are words and go by what they print; ratings go by place, so that they lie in a row on every keyboard.

const TEXT_FIELDS = "input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable=true]";

export class Keymap {
  constructor(rows) {
    this.rows = rows;
    this.byChord = new Map();
    for (const row of rows) for (const chord of row.chords) this.byChord.set(chord, row);
  }

  /** The row an event asks for, or undefined. Control, Alt and Meta belong to the browser. */
  find(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return undefined;
    const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const isLetter = event.key.length === 1 && key !== event.key.toUpperCase();
    const byLetter = event.shiftKey && isLetter ? undefined : this.byChord.get(`key:${key}`);
    return byLetter ?? this.byChord.get(`${event.shiftKey ? "shift+" : ""}code:${event.code}`);
  }

  row(action, value) {
    return this.rows.find((row) => row.action === action && (value === undefined || row.value === value));
  }

  hint(action, value) {
    return this.row(action, value)?.hint ?? "";
  }

  /** The rows of the help page, by group, those without a text left out. */
  groups() {
    const groups = new Map();
    for (const row of this.rows.filter((candidate) => candidate.help)) {
      groups.set(row.group, [...(groups.get(row.group) ?? []), row]);
    }
    return groups;
  }
}

export function isTyping(target) {
  return target instanceof Element && target.matches(TEXT_FIELDS);
}

/** A control reached by Tab keeps its own Enter and Space; one that was clicked does not. */
export function isOperated(target) {
  return target instanceof Element && target.matches("button:focus-visible, a:focus-visible, summary:focus-visible");
}
