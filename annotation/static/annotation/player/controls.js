// Keys, buttons and touches become acts of the player. What cannot be done in a state is not done.

import { valueOf } from "./answer.js";
import { isOperated, isTyping } from "./keymap.js";
import { t } from "./texts.js";

const PEEK_AFTER = 350;
const STEPS = { "focus-left": -1, "focus-up": -1, "focus-right": 1, "focus-down": 1 };
const REMARKS = ["skip", "flag", "comment", "report"];

export class Controls {
  constructor(player) {
    this.player = player;
    addEventListener("keydown", (event) => this.#keydown(event));
    addEventListener("keyup", (event) => this.#keyup(event));
    addEventListener("pointerdown", () => player.timing?.sign("clicks"));
    document.addEventListener("click", (event) => this.#clicked(event));
  }

  #clicked(event) {
    const button = event.target.closest("[data-action]");
    if (button) {
      const question = button.closest("[data-question]")?.dataset.question;
      const value = button.dataset.value === undefined ? undefined : valueOf(button);
      this.act({ action: button.dataset.action, value, question }, event);
    }
    // A click leaves no focus behind that would take the next Space or Enter.
    if (event.detail > 0 && event.target.closest("button")) event.target.closest("button").blur();
  }

  #keydown(event) {
    const { player } = this;
    const row = player.keymap.find(event);
    if (!row || document.querySelector("dialog[open]:not(#help, #zoom)")) return;
    const { action } = row;
    if (player.help.open) return void (action === "help" && this.#take(event, row));
    if (isTyping(event.target) && !["submit", "leave"].includes(action)) return;
    if (isTyping(event.target) && event.target.matches("textarea") && event.shiftKey) return;
    if (isOperated(event.target) && ["submit", "overlay"].includes(action)) return;
    if (player.zoom.isOpen) return void this.#keyInZoom(event, row);
    if (event.repeat && action !== "back" && !(action in STEPS)) return void event.preventDefault();
    player.timing?.sign("keys");
    player.paint.start(event);
    this.#take(event, row);
  }

  #take(event, row) {
    event.preventDefault();
    this.act(row, event);
  }

  #keyInZoom(event, row) {
    const { zoom } = this.player;
    event.preventDefault();
    if (row.action in STEPS) zoom.step(STEPS[row.action]);
    else if (row.action === "zoom" || row.action === "leave") zoom.close();
    else if (row.action === "overlay" || row.action === "report") this.act(row, event);
  }

  #keyup(event) {
    if (event.key !== " " || this.peekSince === undefined || isTyping(event.target)) return;
    const isPeek = performance.now() - this.peekSince > PEEK_AFTER;
    this.peekSince = undefined;
    if (isPeek) this.player.toggleOverlay();
  }

  act(row, event) {
    const always = this.#always(row.action, event);
    if (always) return always();
    return this.player.machine.is("showing") ? this.#whileShowing(row, event)?.() : undefined;
  }

  #always(action, event) {
    const { player } = this;
    return {
      submit: () => player.submit(),
      help: () => player.toggleHelp(),
      leave: () => event.target.blur?.(),
      retry: () => player.outbox.retryRefused(),
      again: () => player.advance(),
      quit: () => player.session.askToLeave(),
      "zoom-back": () => player.zoom.step(-1),
      "zoom-on": () => player.zoom.step(1),
      "zoom-close": () => player.zoom.close(),
    }[action];
  }

  #whileShowing(row, event) {
    const { player } = this;
    const { action } = row;
    if (action in STEPS) return () => this.#move(action, event);
    if (REMARKS.includes(action)) {
      return () => (player.isWork ? player.remarks[action]() : player.status.say(t("not_in_practice")));
    }
    return {
      answer: () => player.choose(row.question, row.value),
      label: () => player.answer.field(row.question).focus(),
      mark: () => player.mark(),
      clear: () => player.answer.clear(row.question),
      back: () => player.revisions.back(),
      overlay: () => {
        if (event.type === "keydown") this.peekSince = performance.now();
        player.toggleOverlay();
      },
      zoom: () => player.toggleZoom(),
    }[action];
  }

  #move(action, event) {
    const { player } = this;
    const button = event.target.closest?.("[data-question] button[data-value]");
    if (!button) return player.board.move(action.replace("focus-", ""));
    const next = player.answer.moveWithin(button, STEPS[action]);
    if (next && !player.pace.isAtOnce) player.choose(next.closest("[data-question]").dataset.question, valueOf(next));
    return undefined;
  }
}
