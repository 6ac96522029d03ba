// Where the items of a study come from and where the answers go: claimed a few at a time, pictures decoded ahead.

import { Offline, SignedOut, request } from "./api.js";
import { t } from "./texts.js";

const CLAIM = 5;
const KEEP_AHEAD = 3;
const HISTORY = 20;
const HEARTBEAT = 60000;

async function loadPicture(address, priority) {
  const picture = new Image();
  picture.fetchPriority = priority;
  picture.src = address;
  await picture.decode();
  return picture;
}

/**
 * Loads and decodes the pictures of an item; low priority unless somebody waits for it. A frozen item has one sheet
 * (sprite), and a second for enlarging that is only begun; in the preview of a draft each cell names its own picture.
 */
export async function loadPictures({ stimulus }, priority = "low") {
  const cells = stimulus.panels.flatMap((panel) => panel.cells);
  const own = [...new Set(cells.map((cell) => cell.src).filter(Boolean))];
  const loading = own.map(async (address) => [address, await loadPicture(address, priority)]);
  const sprite = stimulus.sprite ? await loadPicture(stimulus.sprite, priority) : null;
  const pictures = new Map(await Promise.all(loading));
  const zoom = new Image();
  zoom.fetchPriority = "low";
  if (stimulus.zoom) zoom.src = stimulus.zoom;
  return { sprite, zoom, of: (cell) => (cell.src ? pictures.get(cell.src) : sprite) };
}

export class WorkSource {
  constructor(config, outbox) {
    this.config = config;
    this.outbox = outbox;
    this.ahead = [];
    this.history = [];
    this.studyState = "open";
    this.claiming = null;
    setInterval(() => this.#heartbeat(), HEARTBEAT);
    addEventListener("pagehide", () => this.release());
  }

  get slots() {
    return this.ahead.map((entry) => entry.item.slot);
  }

  /** The next item with its pictures, or null when nothing is left to do (see studyState). */
  async next(current) {
    this.current = current ?? null;
    if (!this.ahead.length) await this.#claimOnce();
    while (this.ahead.length) {
      const entry = this.ahead.shift();
      this.current = entry.item;
      this.fill().catch((error) => this.#ignoreOffline(error));
      try {
        return { item: entry.item, pictures: await entry.pictures() };
      } catch {
        // The sprite did not load (EncodingError): keep the item and say that we are waiting.
        this.ahead.unshift(entry);
        throw new Offline(t("no_pictures"));
      }
    }
    return null;
  }

  /** Claims ahead, unless answers cannot get through: then more items would only keep them from others. */
  fill() {
    return this.ahead.length >= KEEP_AHEAD || this.outbox.trouble ? Promise.resolve() : this.#claimOnce();
  }

  #claimOnce() {
    this.claiming ??= this.#claim().finally(() => (this.claiming = null));
    return this.claiming;
  }

  async #claim() {
    const have = [...this.slots, ...this.outbox.slots, ...(this.current ? [this.current.slot] : [])];
    const reply = await request(this.config.urls.claim, { body: { n: CLAIM, have } });
    this.studyState = reply.study_state;
    this.counts = { done: reply.done, of: reply.of };
    const known = new Set([...have, ...this.outbox.slots, ...this.slots]);
    for (const item of reply.items.filter((candidate) => !known.has(candidate.slot))) this.ahead.push(this.#entry(item));
  }

  #entry(item) {
    let loading = null;
    const pictures = () => {
      loading ??= loadPictures(item).catch((error) => {
        loading = null;
        throw error;
      });
      return loading;
    };
    pictures().catch(() => {}); // Asked for again when it is shown; the failure is told then.
    return { item, pictures };
  }

  /** Work done ahead may fail; whoever needs its result asks again and tells. */
  #ignoreOffline(error) {
    if (!(error instanceof Offline) && !(error instanceof SignedOut)) throw error;
  }

  /** Durable when it resolves. Remembered for Backspace. */
  async send({ item, pictures, payload, timing, revisionOf }) {
    const { protocol_version, guideline_version, urls } = this.config;
    const body = {
      uuid: crypto.randomUUID(),
      slot: item.slot,
      item: item.item,
      revision_of: revisionOf ?? null,
      payload,
      timing,
      submitted_at: new Date().toISOString(),
      stimulus_id: item.stimulus.id,
      protocol_version,
      guideline_version,
    };
    this.#remember({ item, pictures, payload, uuid: body.uuid });
    await this.outbox.put(urls.answers, body);
  }

  #remember(entry) {
    const place = this.history.findIndex((other) => other.item.item === entry.item.item);
    if (place >= 0) this.history[place] = entry;
    else this.history.push(entry);
    if (this.history.length > HISTORY) this.history.shift();
  }

  /** The last answers from before the page was opened, once; without a connection there are none. */
  async recall() {
    if (this.isRecalled || this.history.length) return;
    const { answers } = await request(this.config.urls.history, { method: "GET" });
    this.isRecalled = true;
    this.history = answers.map(({ payload, uuid, ...item }) => ({ item, payload, uuid, pictures: null }));
  }

  /** The pictures of an item; a picture that does not come counts as a lost connection. */
  load(item) {
    return loadPictures(item, "high").catch(() => {
      throw new Offline(t("no_pictures"));
    });
  }

  remark(item, kind, text) {
    const body = { uuid: crypto.randomUUID(), item: item.item, slot: item.slot, kind, text };
    return this.outbox.put(this.config.urls.remarks, body);
  }

  report(item, cell, reason) {
    const place = { panel: cell.panel, cell: cell.index };
    return this.outbox.put(this.config.urls.reports, { uuid: crypto.randomUUID(), item: item.item, ...place, reason });
  }

  async #heartbeat() {
    const slots = [...this.slots, ...(this.current ? [this.current.slot] : [])];
    if (!slots.length || document.visibilityState !== "visible") return;
    await request(this.config.urls.heartbeat, { body: { slots } }).catch((error) => this.#ignoreOffline(error));
  }

  /** Gives back what was not looked at, so that somebody else need not wait for the lease to run out. */
  release() {
    const onTheirWay = new Set(this.outbox.slots);
    const slots = [...this.slots, ...(this.current ? [this.current.slot] : [])].filter((slot) => !onTheirWay.has(slot));
    if (!slots.length) return;
    this.ahead = [];
    request(this.config.urls.release, { body: { slots }, keepalive: true }).catch(() => {});
  }
}
