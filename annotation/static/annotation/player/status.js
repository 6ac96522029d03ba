// What the annotator is told without asking: progress, what is saved, and short announcements.

const SHOWN_FOR = 4000;

function plural(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

export class Status {
  constructor(root, config) {
    this.config = config;
    this.saved = root.querySelector("[data-saved]");
    this.retry = root.querySelector("[data-retry]");
    this.signin = root.querySelector("[data-signin]");
    this.toast = root.querySelector("[data-toast]");
    this.progress = root.querySelector("[data-progress]");
    this.bar = root.querySelector("[data-progress-bar]");
  }

  /** "23 of 60"; after the sixtieth it stays full until the next session begins. */
  showProgress(done, of, isResting = false) {
    const shown = of ? (isResting ? of : done % of) : done;
    this.progress.textContent = `${shown} of ${of}`;
    this.bar.ariaValueNow = shown;
    this.bar.ariaValueMax = of;
    this.bar.firstElementChild.style.width = `${(100 * shown) / Math.max(of, 1)}%`;
  }

  showOutbox(outbox) {
    const [waiting, refused] = [outbox.waiting.length, outbox.refused.length];
    let [text, tone] = ["All saved", "calm"];
    if (waiting) [text, tone] = [`Saving ${waiting}…`, "busy"];
    if (outbox.trouble === "offline" && waiting) {
      [text, tone] = [`No connection: ${plural(waiting, "answer")} kept on this computer`, "trouble"];
    }
    if (outbox.trouble === "signedout" && waiting) {
      [text, tone] = [`Signed out: ${plural(waiting, "answer")} kept on this computer`, "trouble"];
    }
    if (refused) [text, tone] = [`${plural(refused, "answer")} refused: ${outbox.refused[0].refused}`, "trouble"];
    this.saved.textContent = text;
    this.saved.dataset.tone = tone;
    this.saved.dataset.unsaved = waiting + refused;
    this.retry.hidden = !refused && outbox.trouble !== "offline";
    this.signin.hidden = outbox.trouble !== "signedout";
  }

  say(text) {
    this.toast.textContent = text;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => (this.toast.textContent = ""), SHOWN_FOR);
  }
}
