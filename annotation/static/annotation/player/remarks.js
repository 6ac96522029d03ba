// What a person says besides the answer: skip, flag, comment, report an image.

import { t } from "./texts.js";

export class Remarks {
  constructor(player, note) {
    this.player = player;
    this.note = note;
    this.flagged = new Set();
  }

  get #item() {
    return this.player.entry.item;
  }

  #say(name) {
    this.player.status.say(t(name));
  }

  async skip() {
    if (this.player.revisions.isActive) return this.#say("no_skip_earlier");
    const text = await this.note.ask("skip");
    if (text === null) return undefined;
    await this.player.source.remark(this.#item, "skip", text);
    this.#say("skipped");
    return this.player.next();
  }

  async flag() {
    const item = this.#item;
    if (this.flagged.has(item.item)) return this.#say("flagged_already");
    this.flagged.add(item.item);
    await this.player.source.remark(item, "flag", "");
    return this.#say("flagged");
  }

  async comment() {
    const item = this.#item;
    const text = await this.note.ask("comment");
    if (text === null) return;
    await this.player.source.remark(item, "comment", text);
    this.#say("comment_kept");
  }

  async report() {
    const { zoom, board, source } = this.player;
    const cell = zoom.isOpen ? zoom.cell : board.target;
    if (!cell) return this.#say("point_first");
    const item = this.#item;
    const reason = await this.note.ask("report", `${cell.label.split(",")[0]}.`);
    if (reason === null) return undefined;
    await source.report(item, cell, reason);
    return this.#say("reported");
  }
}
