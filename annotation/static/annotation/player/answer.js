// The answer column, made from the protocol's questions: holds what is answered and says what is missing.

const UNANSWERED = Symbol("unanswered");
const EMPTY = { cells: [], marks: [], category: "" };

export class AnswerForm {
  constructor(root, questions, onChange) {
    this.root = root;
    this.questions = questions;
    this.onChange = onChange;
    this.reset(null);
    root.addEventListener("input", (event) => event.target.closest("[data-question]")?.classList.remove("is-missing"));
  }

  #question(name) {
    return this.questions.find((question) => question.name === name);
  }

  #group(name) {
    return this.root.querySelector(`[data-question="${name}"]`);
  }

  field(name) {
    return this.root.querySelector(`[name="${name}"]`);
  }

  /** Puts an earlier answer in, or clears the form. */
  reset(payload) {
    this.values = {};
    for (const { name, kind } of this.questions) {
      if (kind === "text") this.field(name).value = payload?.[name] ?? "";
      else this.values[name] = this.#first(name, kind, payload);
      this.#group(name).classList.remove("is-missing");
    }
    this.#paint();
  }

  #first(name, kind, payload) {
    if (payload && name in payload) return payload[name];
    return kind in EMPTY ? structuredClone(EMPTY[kind]) : UNANSWERED;
  }

  /** One choice more; what may stay open can be taken back by giving it again. */
  set(name, value) {
    const { kind, is_required: isRequired } = this.#question(name);
    if (kind === "cells" || kind === "marks") this.values[name] = toggled(this.values[name], value);
    else if (this.values[name] === value && !isRequired) this.values[name] = kind === "category" ? "" : UNANSWERED;
    else this.values[name] = value;
    this.#paint();
    this.onChange(name);
  }

  clear(name) {
    this.values[name] = this.#first(name, this.#question(name).kind, null);
    this.#paint();
    this.onChange(name);
  }

  isChosen(name, value) {
    const given = this.values[name];
    return Array.isArray(given) ? given.includes(value) : given === value;
  }

  get missing() {
    return this.questions.filter((question) => question.is_required && this.#isOpen(question));
  }

  #isOpen({ name, kind }) {
    if (kind === "text") return !this.field(name).value.trim();
    return this.values[name] === UNANSWERED;
  }

  get payload() {
    const payload = {};
    for (const { name, kind } of this.questions) {
      const value = kind === "text" ? this.field(name).value.trim() : this.values[name];
      if (value !== UNANSWERED) payload[name] = structuredClone(value);
    }
    return payload;
  }

  markMissing() {
    const missing = this.missing;
    for (const question of this.questions) this.#group(question.name).classList.toggle("is-missing", missing.includes(question));
  }

  #paint() {
    for (const [name, value] of Object.entries(this.values)) {
      const group = this.#group(name);
      const count = group.querySelector("[data-count]");
      if (count) count.textContent = value.length;
      this.#offer(group, value);
      this.#paintButtons(name, [...group.querySelectorAll("button[data-value]")]);
      if (value !== UNANSWERED) group.classList.remove("is-missing");
    }
  }

  /** Whether the categories under one are shown: it or one of them is chosen. */
  isOffered(under) {
    const place = this.root.querySelector(`[data-under="${CSS.escape(under)}"]`);
    return Boolean(place && !place.hidden);
  }

  #offer(group, value) {
    for (const place of group.querySelectorAll("[data-under]")) {
      const names = [...place.querySelectorAll("button")].map(valueOf);
      place.hidden = value !== place.dataset.under && !names.includes(value);
    }
  }

  #paintButtons(name, buttons) {
    let chosen = null;
    for (const button of buttons) {
      const isChosen = this.isChosen(name, valueOf(button));
      button.ariaChecked = String(isChosen);
      button.classList.toggle("is-above", !isChosen && this.isOffered(String(valueOf(button))));
      button.tabIndex = -1;
      if (isChosen) chosen ??= button;
    }
    (chosen ?? buttons[0])?.setAttribute("tabindex", "0");
  }

  /** Arrow keys inside a group of choices, as in any radio group; check boxes are only walked over. */
  moveWithin(button, by) {
    const all = [...button.closest("[data-question]").querySelectorAll("button[data-value]")];
    const buttons = all.filter((one) => one.checkVisibility());
    const next = buttons[(buttons.indexOf(button) + by + buttons.length) % buttons.length];
    next.focus();
    return next.role === "radio" ? next : null;
  }
}

/** What a button of a question stands for. */
export function valueOf(button) {
  return JSON.parse(button.dataset.value);
}

function toggled(values, value) {
  const text = JSON.stringify(value);
  const rest = values.filter((other) => JSON.stringify(other) !== text);
  return rest.length < values.length ? rest : [...rest, value].sort(byNumber);
}

function byNumber(a, b) {
  return Array.isArray(a) ? a[0] - b[0] || a[1] - b[1] : a - b;
}

export function sameAnswer(a, b) {
  const names = new Set([...Object.keys(a), ...Object.keys(b)]);
  return [...names].every((name) => JSON.stringify(a[name] ?? null) === JSON.stringify(b[name] ?? null));
}
