// A person's own keys: each action can be given another letter or sign. The server refuses a key that is taken, keeps
// the rest with the account, and answers with the table that is in force.

import { Offline, Refused, SignedOut, request } from "./api.js";
import { letterOf } from "./keymap.js";
import { t } from "./texts.js";

export class KeySettings {
  constructor(root, { url, own }, keymap, onChange) {
    Object.assign(this, { root, url, keymap, onChange, own: { ...own } });
    this.list = root.querySelector("[data-bindings]");
    this.told = root.querySelector("[data-told]");
    root.hidden = !url;
    root.querySelector("[data-reset]").addEventListener("click", () => this.#send({}));
    this.list.addEventListener("click", (event) => this.#listenFor(event.target.closest("button")));
    addEventListener("keydown", (event) => this.#key(event), { capture: true }); // Before the key does what it did.
    this.#fill();
  }

  #fill() {
    const rows = this.keymap.rows.filter((row) => row.help && row.name);
    this.list.replaceChildren(...rows.map((row) => this.#row(row)));
  }

  #row(row) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "choice choice--row";
    button.dataset.name = row.name;
    button.append(Object.assign(document.createElement("kbd"), { textContent: row.hint }), ` ${row.help}`);
    return button;
  }

  #listenFor(button) {
    if (!button) return;
    this.#settle();
    this.asked = button;
    button.classList.add("is-asked");
    this.told.textContent = t("press_key", { action: this.#action(button) });
  }

  #action({ dataset }) {
    return this.keymap.rows.find((row) => row.name === dataset.name).help;
  }

  #settle() {
    this.asked?.classList.remove("is-asked");
    this.asked = null;
  }

  #key(event) {
    if (!this.asked || ["Tab", "Shift", "Control", "Alt", "Meta"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    const { name } = this.asked.dataset;
    const chord = letterOf(event);
    this.#settle();
    if (event.key === "Escape" || !chord) this.told.textContent = "";
    else this.#send({ ...this.own, [name]: chord });
  }

  async #send(keys) {
    try {
      const reply = await request(this.url, { body: { keys } });
      this.own = keys;
      this.keymap.use(reply.keys);
      this.told.textContent = t("keys_kept");
      this.#fill();
      this.onChange();
    } catch (error) {
      if (!(error instanceof Refused || error instanceof Offline || error instanceof SignedOut)) throw error;
      this.told.textContent = error.message;
    }
  }
}
