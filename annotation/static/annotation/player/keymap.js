// From a keyboard event to an action, by the table the page brought (annotation/domain/player_keys.py).
// Words go by the letter a key prints; ratings go by place, so that they lie in a row on every keyboard. Where a key is
// both, its place counts.

const TEXT_FIELDS = "input:not([type=radio]):not([type=checkbox]), textarea, select, [contenteditable=true]";

export class Keymap {
  /** `isOffered` says whether what lies under a category can be chosen now. */
  constructor(rows, isOffered = () => true) {
    this.isOffered = isOffered;
    this.use(rows);
  }

  use(rows) {
    this.rows = rows.map((row) => ({ ...row }));
    this.byChord = new Map();
    for (const row of this.rows) {
      for (const chord of row.chords) this.byChord.set(chord, [...(this.byChord.get(chord) ?? []), row]);
    }
  }

  /** The row an event asks for, or undefined. Control, Alt and Meta belong to the browser. */
  find(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return undefined;
    return this.#bound(placeOf(event)) ?? this.#bound(letterOf(event));
  }

  #bound(chord) {
    return this.byChord.get(chord)?.find(({ under }) => !under || this.isOffered(under));
  }

  row(action, value, question) {
    const isIt = (row) => row.action === action && (value === undefined || row.value === value);
    return this.rows.find((row) => isIt(row) && (question === undefined || row.question === question));
  }

  /** Keys that go by their place are shown as this keyboard prints them, where the browser tells. */
  async readKeyboard() {
    const printed = await navigator.keyboard?.getLayoutMap?.().catch(() => null);
    for (const row of printed ? this.rows : []) {
      const code = row.chords.map((chord) => chord.match(/^code:(Key.)$/)?.[1]).find(Boolean);
      if (code && row.hint === code.slice(3).toLowerCase()) row.hint = printed.get(code) ?? row.hint;
    }
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

function placeOf(event) {
  return `${event.shiftKey ? "shift+" : ""}code:${event.code}`;
}

/** Undefined for a capital: Shift and a letter mean nothing. */
export function letterOf(event) {
  const key = event.key === " " ? "Space" : event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isLetter = event.key.length === 1 && key !== event.key.toUpperCase();
  return event.shiftKey && isLetter ? undefined : `key:${key}`;
}

export function isTyping(target) {
  return target instanceof Element && target.matches(TEXT_FIELDS);
}

/** A control reached by Tab keeps its own Enter and Space; one that was clicked does not. */
export function isOperated(target) {
  return target instanceof Element && target.matches("button:focus-visible, a:focus-visible, summary:focus-visible, [type=checkbox]:focus-visible");
}
