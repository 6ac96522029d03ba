// What the annotator is told without asking: progress, what is saved, and short announcements.

import { t } from "./texts.js";

const SHOWN_FOR = 4000;

export class Status {
  constructor(root) {
    this.saved = root.querySelector("[data-saved]");
    this.retry = root.querySelector("[data-retry]");
    this.signin = root.querySelector("[data-signin]");
    this.toast = root.querySelector("[data-toast]");
    this.progress = root.querySelector("[data-progress]");
    this.bar = root.querySelector("[data-progress-bar]");
  }

  /** "23 of 60". */
  showProgress(done, of) {
    this.progress.textContent = t("progress", { done, of });
    this.bar.ariaValueNow = done;
    this.bar.ariaValueMax = of;
    this.bar.firstElementChild.style.width = `${(100 * done) / Math.max(of, 1)}%`;
  }

  showOutbox(outbox) {
    const [waiting, refused] = [outbox.waiting.length, outbox.refused.length];
    let [text, tone] = [t("all_saved"), "calm"];
    if (waiting) [text, tone] = [t("saving", { n: waiting }), "busy"];
    if (outbox.trouble && waiting) [text, tone] = [t(`${outbox.trouble}_kept`, { n: waiting, reason: outbox.reason }), "trouble"];
    if (refused) [text, tone] = [t("refused_kept", { n: refused, reason: outbox.refused[0].refused }), "trouble"];
    this.saved.textContent = text;
    this.saved.title = text;
    this.saved.dataset.tone = tone;
    this.saved.dataset.unsaved = waiting + refused;
    this.retry.hidden = !refused && !["offline", "server"].includes(outbox.trouble);
    this.signin.hidden = outbox.trouble !== "signedout";
  }

  say(text) {
    this.toast.textContent = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.toast.textContent = ""), SHOWN_FOR);
  }
}
