// The answer column: two ratings, a category, a label. Holds what is answered and says what is missing.

const UNANSWERED = Symbol("unanswered");
const RATINGS = ["patch_rating", "image_rating"];

export class AnswerForm {
  constructor(root, onChange) {
    this.root = root;
    this.label = root.querySelector("[name=label]");
    this.onChange = onChange;
    this.reset(null);
    root.addEventListener("click", (event) => this.#clicked(event));
  }

  #clicked(event) {
    const button = event.target.closest("[data-question] button[data-value]");
    if (button) this.set(button.closest("[data-question]").dataset.question, parse(button.dataset.value));
  }

  /** Puts an earlier answer in, or clears the form. */
  reset(payload) {
    this.values = { patch_rating: UNANSWERED, image_rating: UNANSWERED, category: "" };
    if (payload) this.values = { ...this.values, ...payload };
    delete this.values.label;
    this.label.value = payload?.label ?? "";
    this.#paint();
  }

  set(question, value) {
    // The same category again takes it away; a rating stays.
    const isAgain = question === "category" && this.values.category === value;
    this.values[question] = isAgain ? "" : value;
    this.#paint();
    this.onChange(question);
  }

  get missing() {
    return RATINGS.filter((question) => this.values[question] === UNANSWERED);
  }

  get payload() {
    return { ...this.values, label: this.label.value.trim() };
  }

  /** What was typed so far, to come back to after looking at an earlier answer. */
  get draft() {
    return this.payload;
  }

  markMissing() {
    for (const question of RATINGS) {
      this.#fieldset(question).classList.toggle("is-missing", this.missing.includes(question));
    }
  }

  #fieldset(question) {
    return this.root.querySelector(`[data-question=${question}]`);
  }

  #paint() {
    for (const [question, value] of Object.entries(this.values)) {
      const buttons = [...this.#fieldset(question).querySelectorAll("button[data-value]")];
      let chosen = null;
      for (const button of buttons) {
        const isChosen = value !== UNANSWERED && parse(button.dataset.value) === value;
        button.ariaChecked = String(isChosen);
        button.tabIndex = -1;
        if (isChosen) chosen = button;
      }
      (chosen ?? buttons[0])?.setAttribute("tabindex", "0");
      if (value !== UNANSWERED) this.#fieldset(question).classList.remove("is-missing");
    }
  }

  /** Arrow keys inside a group of choices, as in any radio group. */
  moveWithin(button, by) {
    const buttons = [...button.closest("[data-question]").querySelectorAll("button[data-value]")];
    const next = buttons[(buttons.indexOf(button) + by + buttons.length) % buttons.length];
    next.focus();
    next.click();
  }
}

/** Buttons write a rating as a number, "null" for can't tell, and a category as its name. */
function parse(value) {
  if (value === "null") return null;
  return /^[1-4]$/.test(value) ? Number(value) : value;
}

export function sameAnswer(a, b) {
  return ["patch_rating", "image_rating", "category", "label"].every((question) => a[question] === b[question]);
}
