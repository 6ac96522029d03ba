// How long and how an item was looked at. Screening signals, never an automatic exclusion.

const IDLE_AFTER = 120000;

export class Timing {
  constructor() {
    this.counts = { overlay_toggles: 0, zooms: 0, keys: 0, clicks: 0, changes: 0 };
    this.shownAt = new Date();
    this.firstKeyAt = null;
    this.visible = 0;
    this.idle = 0;
    this.since = document.visibilityState === "visible" ? performance.now() : null;
    this.lastSign = performance.now();
    this.onVisibility = () => this.#flip();
    document.addEventListener("visibilitychange", this.onVisibility);
  }

  #flip() {
    if (document.visibilityState === "visible") this.since ??= performance.now();
    else this.#bank();
  }

  #bank() {
    if (this.since !== null) this.visible += performance.now() - this.since;
    this.since = null;
  }

  /** Somebody is there: a key or a click. */
  sign(kind) {
    const now = performance.now();
    if (now - this.lastSign > IDLE_AFTER) this.idle += now - this.lastSign;
    this.lastSign = now;
    this.counts[kind] += 1;
    if (kind === "keys") this.firstKeyAt ??= new Date();
  }

  count(kind) {
    this.counts[kind] += 1;
  }

  finish() {
    document.removeEventListener("visibilitychange", this.onVisibility);
    this.#bank();
    return {
      shown_at: this.shownAt.toISOString(),
      first_key_at: this.firstKeyAt?.toISOString() ?? null,
      visible_ms: Math.round(this.visible),
      idle_ms: Math.round(this.idle),
      ...this.counts,
    };
  }
}

/** From a key to the paint that shows what it did: the slowest since it was last taken, in ms. */
export class PaintClock {
  constructor() {
    this.slowest = null;
  }

  start(event) {
    requestAnimationFrame(() => {
      const { port1, port2 } = new MessageChannel(); // Its message comes after the frame was painted.
      port1.onmessage = () => {
        this.slowest = Math.max(this.slowest ?? 0, performance.now() - event.timeStamp);
        port1.close();
      };
      port2.postMessage(null);
    });
  }

  take() {
    const slowest = this.slowest;
    this.slowest = null;
    return slowest === null ? null : Math.round(10 * slowest) / 10;
  }
}
