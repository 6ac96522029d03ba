// Practice and preview: a fixed list of items; each answer is checked by the server and the feedback shown.

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
