// Where the items of a study come from and where the answers go: claimed a few at a time, pictures decoded ahead.

import { Offline, SignedOut, request } from "./api.js";

const CLAIM = 5;
const KEEP_AHEAD = 3;
const HISTORY = 20;
const HEARTBEAT = 60000;

/** Loads and decodes the pictures of an item; low priority unless somebody waits for it. */
export async function loadPictures(item, urls, priority = "low") {
  const [sprite, zoom] = [new Image(), new Image()];
  sprite.fetchPriority = priority;
  zoom.fetchPriority = "low";
  sprite.src = item.stimulus.sprite;
  await sprite.decode();
  if (item.stimulus.zoom) zoom.src = item.stimulus.zoom;
  return { sprite, zoom };
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
    if (!this.ahead.length) await this.fill();
    while (this.ahead.length) {
      const entry = this.ahead.shift();
      this.current = entry.item;
      this.fill().catch((error) => this.#ignoreOffline(error));
      try {
        return { item: entry.item, pictures: await entry.pictures() };
      } catch {
        // The sprite did not load (EncodingError): keep the item and say that we are waiting.
        this.ahead.unshift(entry);
        throw new Offline("The pictures cannot be loaded.");
      }
    }
    return null;
  }

  fill() {
    if (this.ahead.length >= KEEP_AHEAD || this.outbox.trouble) return Promise.resolve();
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
      loading ??= loadPictures(item, this.config.urls).catch((error) => {
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
    this.history = this.history.filter((other) => other.item.item !== entry.item.item);
    this.history.push(entry);
    if (this.history.length > HISTORY) this.history.shift();
  }

  remark(item, kind, text) {
    const body = { uuid: crypto.randomUUID(), item: item.item, slot: item.slot, kind, text };
    return this.outbox.put(this.config.urls.remarks, body);
  }

  report(item, cell, reason) {
    return this.outbox.put(this.config.urls.reports, { uuid: crypto.randomUUID(), item: item.item, cell, reason });
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
