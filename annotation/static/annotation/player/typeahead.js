// A text field that offers the terms of the study's vocabulary (ARIA combobox with a listbox): up to seven that fit, and
// last the words typed themselves, as a new term. A new term that is much like one there is asked about once.

import { Offline, request } from "./api.js";
import { t } from "./texts.js";

const WAIT = 120;
const NOTHING = { terms: [], near: [], is_known: false, may_create: false };

export class Typeahead {
  constructor(input, list, url) {
    Object.assign(this, { input, list, url, options: [], active: -1, mode: "open", kept: "", asked: "" });
    input.addEventListener("input", () => this.#ask());
    input.addEventListener("keydown", (event) => this.#key(event));
    input.addEventListener("blur", () => this.close());
    list.addEventListener("pointerdown", (event) => {
      event.preventDefault();
      const option = event.target.closest("[role=option]");
      if (option) this.#take(option);
    });
  }

  get isOpen() {
    return !this.list.hidden;
  }

  get #words() {
    return this.input.value.trim().replace(/\s+/g, " ");
  }

  #ask() {
    clearTimeout(this.timer);
    if (!this.#words || !this.url) return this.close();
    this.timer = setTimeout(() => this.#fetch(this.#words), WAIT);
    return undefined;
  }

  async #fetch(query) {
    this.found = { query, ...(await this.#found(query)) };
    this.mode = this.found.mode ?? this.mode;
    if (this.#words === query && document.activeElement === this.input) this.#offer();
  }

  async #found(query) {
    try {
      return await request(`${this.url}?q=${encodeURIComponent(query)}`, { method: "GET", timeout: 4000 });
    } catch (error) {
      if (!(error instanceof Offline)) throw error;
      return NOTHING; // Without a connection there is nothing to offer.
    }
  }

  /**
   * Whether the label can go as it is. False once for a new term that is much like another: the list then shows those,
   * and the same words a second time are kept. Where new terms are asked about always, an answer not looked up yet
   * waits for the look-up and is sent by it.
   */
  settles() {
    const words = this.#words;
    if (!words || !this.url || words === this.kept) return true;
    if (this.found?.query !== words) return this.mode === "open" || this.#lookUp(words);
    if (this.found.is_known || !this.found.near.length) return true;
    this.kept = words;
    this.input.focus();
    this.#open(this.found.near.map((term) => this.#option(term)), t("term_near"));
    return false;
  }

  #lookUp(words) {
    if (this.asked !== words) {
      this.asked = words;
      this.#fetch(words).then(() => {
        this.asked = "";
        if (this.#words === words) this.input.form.querySelector("[data-action=submit]").click();
      });
    }
    return false;
  }

  #offer() {
    const { terms, query, may_create: mayCreate, mode } = this.found;
    const options = terms.filter(({ text }) => text !== query).map((term) => this.#option(term));
    if (mayCreate) options.push(this.#creation(query));
    this.#open(options, mode === "fixed" && !terms.length ? t("term_only_listed") : "");
  }

  #open(options, lead) {
    this.options = options;
    options.forEach((option, index) => (option.id = `term-${index}`));
    this.list.replaceChildren(...(lead ? [this.#lead(lead)] : []), ...options);
    this.list.hidden = !this.list.children.length;
    this.input.ariaExpanded = String(!this.list.hidden);
    this.#activate(options.length ? 0 : -1);
  }

  #lead(text) {
    return Object.assign(document.createElement("li"), { role: "presentation", className: "lead", textContent: text });
  }

  /** A term with its uses, and the synonym by which it was found. */
  #option({ text, n_uses: uses, wording }) {
    const option = document.createElement("li");
    option.role = "option";
    option.dataset.term = text;
    const small = (textContent) => Object.assign(document.createElement("span"), { className: "muted num", textContent });
    option.append(...(wording ? [text, small(`← ${wording}`)] : [text]), small(uses));
    return option;
  }

  #creation(words) {
    const option = document.createElement("li");
    option.role = "option";
    option.dataset.term = words;
    option.dataset.isNew = "";
    option.textContent = t("term_create", { term: words });
    return option;
  }

  #activate(index) {
    this.active = index;
    this.options.forEach((option, i) => (option.ariaSelected = String(i === index)));
    if (index < 0) this.input.removeAttribute("aria-activedescendant");
    else this.input.setAttribute("aria-activedescendant", `term-${index}`);
  }

  #take({ dataset }) {
    this.input.value = dataset.term;
    if (!("isNew" in dataset)) this.kept = dataset.term;
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
    if (step && this.options.length) this.#activate((this.active + step + this.options.length) % this.options.length);
    else if (event.key === "Tab" && this.active >= 0) this.#take(this.options[this.active]);
    else if (event.key === "Escape") this.close();
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
