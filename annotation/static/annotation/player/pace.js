// The pace: how long an item must be looked at first, whether one key answers and goes on, and when to rest the eyes.

const STORED = "vitrine-at-once";

export class Pace {
  constructor({ min_viewing_ms: least, submits_at_once: canGoAtOnce, break_minutes: minutes, questions }, toggle) {
    this.least = least ?? 0;
    this.canGoAtOnce = canGoAtOnce && questions.every(({ kind }) => kind === "choice" || kind === "cell");
    this.isAtOnce = this.canGoAtOnce && localStorage.getItem(STORED) !== "no";
    this.breakAfter = minutes * 60000;
    this.rested();
    if (!toggle) return;
    toggle.checked = this.isAtOnce;
    toggle.addEventListener("change", () => this.#choose(toggle.checked));
  }

  #choose(isAtOnce) {
    this.isAtOnce = isAtOnce;
    localStorage.setItem(STORED, isAtOnce ? "yes" : "no");
  }

  shown() {
    this.shownAt = performance.now();
  }

  get isTooEarly() {
    return performance.now() - this.shownAt < this.least;
  }

  rested() {
    this.since = performance.now();
  }

  get isTired() {
    return performance.now() - this.since > this.breakAfter;
  }
}
