// How far somebody has come, how a session ends, and how to leave before it does.

import { Offline, Refused, SignedOut, request } from "./api.js";
import { t } from "./texts.js";

async function ask(url, options) {
  try {
    return await request(url, options);
  } catch (error) {
    if (error instanceof Offline || error instanceof SignedOut || error instanceof Refused) return { error: error.message };
    throw error;
  }
}

function line(tag, textContent) {
  return Object.assign(document.createElement(tag), { textContent });
}

export class Session {
  constructor(root, urls, { onLeft }) {
    Object.assign(this, { root, urls, onLeft });
    this.dialog = root.querySelector("#leave");
    this.told = this.dialog.querySelector("[data-told]");
    this.dialog.querySelector("[data-confirm]").addEventListener("click", () => this.#leave());
    root.addEventListener("click", (event) => event.target.closest("[data-copy]") && this.#copy());
  }

  /** What the server says of the session; its end brings a code where the study gives one. */
  async refresh() {
    if (!this.urls.session) return;
    const { code, url, is_over: isOver, may_leave: mayLeave, error } = await ask(this.urls.session, { method: "GET" });
    if (error) return;
    this.isOver = isOver;
    document.body.classList.toggle("is-over", Boolean(isOver));
    for (const button of this.root.querySelectorAll("[data-action=quit]")) button.hidden = !mayLeave || isOver;
    if (isOver && (code || url)) this.#show(code, url);
  }

  #show(code, url) {
    this.code = code;
    for (const place of this.root.querySelectorAll("[data-completion]")) {
      place.hidden = !code && !url;
      place.querySelector("[data-code]").textContent = code;
      place.querySelector("[data-code]").parentElement.hidden = !code;
      const link = place.querySelector("[data-finish]");
      link.hidden = !url;
      if (url) link.href = url;
    }
  }

  #copy() {
    navigator.clipboard?.writeText(this.code);
  }

  askToLeave() {
    this.told.textContent = "";
    this.dialog.showModal();
  }

  async #leave() {
    if (this.outbox?.waiting.length) return void (this.told.textContent = t("leave_unsaved"));
    const { code, url, error } = await ask(this.urls.leave, { body: {} });
    if (error) return void (this.told.textContent = error);
    this.dialog.close();
    this.#show(code, url);
    return this.onLeft();
  }

  /** What researchers answered to the person's remarks, once. */
  async tell(dialog) {
    if (!this.urls.notices || dialog.open) return;
    const { notices } = await ask(this.urls.notices, { method: "GET" });
    if (!notices?.length || dialog.open) return;
    dialog.querySelector("dl").replaceChildren(...notices.flatMap(({ remark, reply }) => [line("dt", remark), line("dd", reply)]));
    dialog.showModal();
    dialog.onclose = () => ask(this.urls.notices, { body: { seen: notices.map(({ id }) => id) } });
  }

  /** The person's own figures, for the help page: never anybody else's. */
  async showOwn(place) {
    const own = this.urls.me ? await ask(this.urls.me, { method: "GET" }) : { error: "" };
    place.hidden = own.error !== undefined;
    if (place.hidden) return;
    const lines = [t("own_done", { done: own.done })];
    if (own.checks_right !== null) lines.push(t("own_gold", { percent: Math.round(100 * own.checks_right), n: own.n_checks }));
    place.querySelector("p").textContent = lines.join(" ");
  }
}
