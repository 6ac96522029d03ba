// Going back to earlier answers: the last twenty, also those from before the page was opened. A change is a revision.

import { sameAnswer } from "./answer.js";
import { Offline, SignedOut } from "./api.js";
import { t } from "./texts.js";

export class Revisions {
  constructor(player) {
    this.player = player;
    this.cursor = null; // Place in the history while an earlier answer is looked at.
  }

  get isActive() {
    return this.cursor !== null;
  }

  get #history() {
    return this.player.source.history;
  }

  async back() {
    const { player } = this;
    if (!player.isWork || !player.machine.is("showing") || this.isGoingBack) return;
    this.isGoingBack = true;
    try {
      await player.source.recall();
      await this.#backOne();
    } catch (error) {
      if (!(error instanceof Offline) && !(error instanceof SignedOut)) throw error;
      player.status.say(t("no_earlier_now"));
    } finally {
      this.isGoingBack = false;
    }
  }

  async #backOne() {
    const { player } = this;
    const place = this.isActive ? this.cursor - 1 : this.#history.length - 1;
    if (place < 0) {
      player.status.say(t(this.#history.length ? "earliest" : "no_earlier"));
      return;
    }
    if (!this.isActive) this.live = { entry: player.entry, draft: player.answer.payload };
    await this.#show(place);
  }

  async #show(place) {
    const earlier = this.#history[place];
    earlier.pictures ??= await this.player.source.load(earlier.item);
    this.cursor = place;
    this.player.show(earlier, earlier.payload);
    this.player.status.say(t("earlier_hint"));
  }

  /** Sends the change, if it is one, and goes on to the next earlier answer or back to the item in hand. */
  async send(payload) {
    const { player } = this;
    const earlier = this.#history[this.cursor];
    if (!sameAnswer(payload, earlier.payload)) {
      await player.source.send({ ...earlier, payload, timing: player.takeTiming(), revisionOf: earlier.uuid });
      player.status.say(t("changed"));
    }
    if (this.cursor + 1 < this.#history.length) return this.#show(this.cursor + 1);
    this.cursor = null;
    return player.show(this.live.entry, this.live.draft);
  }
}
