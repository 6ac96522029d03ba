// A text field that offers the terms used in this study so far (ARIA combobox with a listbox).

import { Offline, request } from "./api.js";

const WAIT = 120;

export class Typeahead {
  constructor(input, list, url) {
    Object.assign(this, { input, list, url, options: [], active: -1 });
    input.addEventListener("input", () => this.#ask());
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("blur", () => this.close());
    list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.#take(option.dataset.term);
    });
  }

  get isOpen() {
    return !this.list.hidden;
  }

  #ask() {
    clearTimeout(this.timer);
    const query = this.input.value.trim();
    if (!query || !this.url) return this.close();
    this.timer = setTimeout(() => this.#fetch(query), WAIT);
    return undefined;
  }

  async #fetch(query) {
    try {
      const { terms } = await request(`${this.url}?q=${encodeURIComponent(query)}`, { method: "GET", timeout: 4000 });
      if (this.input.value.trim() === query && document.activeElement === this.input) this.#open(terms);
    } catch (error) {
      if (!(error instanceof Offline)) throw error; // Without a connection there is nothing to offer.
    }
  }

  #open(terms) {
    const others = terms.filter(({ text }) => text !== this.input.value.trim());
    this.options = others.map(({ text, n_uses }, index) => this.#option(text, n_uses, index));
    this.list.replaceChildren(...this.options);
    this.list.hidden = others.length === 0;
    this.input.ariaExpanded = String(others.length > 0);
    this.#activate(others.length ? 0 : -1);
  }

  #option(text, uses, index) {
    const option = document.createElement("li");
    option.id = `term-${index}`;
    option.role = "option";
    option.dataset.term = text;
    option.append(text, Object.assign(document.createElement("span"), { className: "muted num", textContent: uses }));
    return option;
  }

  #activate(index) {
    this.active = index;
    this.options.forEach((option, i) => (option.ariaSelected = String(i === index)));
    if (index < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `term-${index}`);
  }

  #take(term) {
    this.input.value = term;
    this.close();
    this.input.dispatchEvent(new Event("change"));
  }

  close() {
    clearTimeout(this.timer);
    this.list.hidden = true;
    this.input.ariaExpanded = "false";
    this.#activate(-1);
  }

  #key(event) {
    if (!this.isOpen || event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.#activate((this.active + step + this.options.length) % this.options.length);
    else if (event.key === "Tab") this.#take(this.options[this.active].dataset.term);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
