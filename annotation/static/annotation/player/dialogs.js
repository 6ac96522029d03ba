// The help page and the note dialog (skip, comment, report). Native <dialog>: focus is kept and given back.

import { t } from "./texts.js";

const REASONS = {
  skip: ["skip_unseen", "skip_disturbing", "skip_seen"],
  comment: [],
  report: ["report_disturbing", "report_private", "report_broken"],
};

export function fillHelp(place, keymap) {
  place.replaceChildren(...[...keymap.groups()].map(([title, rows]) => helpSection(title, rows)));
}

function helpSection(title, rows) {
  const section = document.createElement("section");
  const list = document.createElement("dl");
  for (const row of rows) {
    const term = document.createElement("dt");
    term.append(Object.assign(document.createElement("kbd"), { textContent: row.hint }));
    list.append(term, Object.assign(document.createElement("dd"), { textContent: row.help }));
  }
  section.append(Object.assign(document.createElement("h3"), { textContent: title }), list);
  return section;
}

export class NoteDialog {
  constructor(dialog) {
    this.dialog = dialog;
    this.form = dialog.querySelector("form");
    this.text = dialog.querySelector("textarea");
    this.reasons = dialog.querySelector("[data-reasons]");
    dialog.addEventListener("keydown", (event) => this.#key(event));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#finish(this.text.value.trim());
    });
    dialog.querySelector("[data-cancel]").addEventListener("click", () => this.#close(null));
    dialog.addEventListener("cancel", () => this.resolve(null)); // Esc; the browser closes it
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** Resolves with the text, or null when it was given up. */
  ask(kind, about = "") {
    this.dialog.querySelector("h2").textContent = t(`${kind}_title`);
    this.dialog.querySelector("[data-lead]").textContent = [about, t(`${kind}_lead`)].filter(Boolean).join(" ");
    this.dialog.querySelector("[type=submit]").textContent = t(`${kind}_send`);
    this.text.value = "";
    this.reasons.replaceChildren(...REASONS[kind].map((name, i) => this.#reason(t(name), i)));
    this.dialog.showModal();
    (this.reasons.firstElementChild ?? this.text).focus();
    // Not on the close event: it comes late, and would end the next question of somebody who types fast.
    return new Promise((resolve) => (this.resolve = resolve));
  }

  #reason(reason, index) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "choice choice--row";
    button.append(Object.assign(document.createElement("kbd"), { textContent: index + 1 }), ` ${reason}`);
    button.addEventListener("click", () => this.#finish([reason, this.text.value.trim()].filter(Boolean).join(": ")));
    return button;
  }

  #key(event) {
    event.stopPropagation();
    if (event.target === this.text) {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#finish(this.text.value.trim());
      }
      return;
    }
    const button = this.reasons.children[Number(event.code.replace(/^(Digit|Numpad)/, "")) - 1];
    if (button) {
      event.preventDefault();
      button.click();
    }
  }

  #finish(text) {
    if (text) return this.#close(text);
    this.text.value = "";
    this.text.reportValidity(); // the browser says that something has to be written, and puts the cursor there
    return undefined;
  }

  #close(text) {
    this.dialog.close();
    this.resolve(text);
  }
}
