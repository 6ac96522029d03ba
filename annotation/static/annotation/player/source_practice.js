// Practice, preview and review: a fixed list of items. In practice the server checks each answer and the feedback is
// shown; in a review the answer is kept like any other.

import { request } from "./api.js";
import { loadPictures } from "./source_work.js";

export class PracticeSource {
  constructor(config) {
    this.config = config;
    this.items = [...config.items];
    this.history = [];
    this.studyState = "open";
  }

  async next() {
    const item = this.items.shift();
    if (!item) return null;
    if (this.items[0]) loadPictures(this.items[0]).catch(() => {}); // Warms the cache; told when it is shown.
    return { item, pictures: await loadPictures(item, "high") };
  }

  /** Returns the feedback: per question what was given, what is accepted and why. */
  send({ item, payload }) {
    return request(this.config.urls.answers, { body: { reference: item.item, payload } });
  }
}

export class ReviewSource extends PracticeSource {
  constructor(config, outbox) {
    super(config);
    this.outbox = outbox;
  }

  send({ item, payload, timing }) {
    const { urls, protocol_version: version } = this.config;
    const body = { uuid: crypto.randomUUID(), item: item.item, payload, timing, protocol_version: version };
    return this.outbox.put(urls.answers, body);
  }
}
