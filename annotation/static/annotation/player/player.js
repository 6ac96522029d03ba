// The annotation player: load → show → answer → send → next. Fed by JSON, no framework.
// The answer is durable in the browser before the next item shows; the server's word clears it (outbox.js).

import { paintScale } from "../heatmap.js";
import { AnswerForm, sameAnswer } from "./answer.js";
import { Offline, Refused, SignedOut } from "./api.js";
import { Board } from "./board.js";
import { NoteDialog, fillHelp } from "./dialogs.js";
import { showFeedback } from "./feedback.js";
import { Keymap, isOperated, isTyping } from "./keymap.js";
import { Machine } from "./machine.js";
import { Outbox } from "./outbox.js";
import { PracticeSource } from "./source_practice.js";
import { WorkSource } from "./source_work.js";
import { Status } from "./status.js";
import { Timing } from "./timing.js";
import { Typeahead } from "./typeahead.js";
import { Zoom } from "./zoom.js";

const PEEK_AFTER = 350;
const TRY_AGAIN_AFTER = 3000;
const LOOK_AGAIN_AFTER = 20000;
const ENDS = { open: "empty", paused: "paused", closed: "closed" };
const $ = (selector) => document.querySelector(selector);

class Player {
  constructor(config) {
    this.config = config;
    this.isWork = config.mode === "work";
    this.keymap = new Keymap(config.keys);
    this.machine = new Machine((state) => (document.body.dataset.state = state));
    this.status = new Status(document.body, config);
    this.answer = new AnswerForm($("#answer"), () => this.timing?.count("changes"));
    this.board = new Board($("#board"), { onZoom: (cell) => this.zoomIn(cell) });
    this.zoom = new Zoom($("#zoom"), this.board);
    this.note = new NoteDialog($("#note"));
    this.typeahead = new Typeahead($("#answer [name=label]"), $("#terms"), config.urls.terms);
    this.cursor = null; // Place in the history while an earlier answer is looked at.
    this.flagged = new Set();
    this.lastShown = null;
    this.#listen();
    fillHelp($("#help"), this.keymap);
    document.querySelectorAll("[data-scale]").forEach((canvas) => paintScale(canvas));
  }

  async start() {
    if (this.isWork && !(await this.#openOutbox())) return;
    this.source = this.isWork ? new WorkSource(this.config, this.outbox) : new PracticeSource(this.config);
    const unsent = this.isWork ? this.outbox.waiting.filter(({ body }) => body.payload && !body.revision_of).length : 0;
    this.done = this.config.done + unsent;
    this.of = this.config.session_length;
    this.#showProgress();
    await this.advance();
  }

  async #openOutbox() {
    try {
      this.outbox = await Outbox.open(`${this.config.study}/${this.config.user}`);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#stuck("This browser does not let the page keep your answers safe. Open it in an ordinary window, not a private one.");
      return false;
    }
    this.outbox.addEventListener("change", () => this.status.showOutbox(this.outbox));
    this.outbox.addEventListener("acknowledged", ({ detail }) => this.#acknowledged(detail.reply));
    this.status.showOutbox(this.outbox);
    this.outbox.send();
    return true;
  }

  #stuck(sentence) {
    $("[data-stuck]").textContent = sentence;
    this.machine.go("stuck");
  }

  #acknowledged(reply) {
    if (reply.stored === "late_extra") this.status.say("This one had been given on meanwhile; yours is kept as an extra.");
    if (this.machine.is("waiting", "signedout")) this.advance();
  }

  #showProgress() {
    this.status.showProgress(this.done, this.of, this.machine.is("rest", "finished"));
  }

  // ---- moving between items

  async advance() {
    if (this.isAdvancing) return;
    this.isAdvancing = true;
    const started = performance.now();
    try {
      const entry = await this.source.next();
      if (entry) this.#show(entry, null, started);
      else this.#end();
    } catch (error) {
      this.#trouble(error);
    } finally {
      this.isAdvancing = false;
    }
  }

  #end() {
    this.entry = null;
    const state = this.isWork ? (ENDS[this.source.studyState] ?? "closed") : "finished";
    this.machine.go(state);
    this.#showProgress();
    if (state === "finished") $('.state[data-for="finished"] a').focus();  // Enter begins
    if (state === "paused" || state === "empty") this.#later(LOOK_AGAIN_AFTER);
  }

  #trouble(error) {
    if (error instanceof SignedOut) this.machine.go("signedout");
    else if (error instanceof Offline) this.machine.go("waiting");
    else if (error instanceof Refused) {
      this.#stuck(error.message);
      return;
    } else throw error;
    this.#later(TRY_AGAIN_AFTER);
  }

  #later(after) {
    clearTimeout(this.retryTimer);
    this.retryTimer = setTimeout(() => {
      if (this.machine.is("waiting", "paused", "empty", "signedout")) this.advance();
    }, after);
  }

  #show(entry, payload, started) {
    this.entry = entry;
    this.timing?.finish();
    this.answer.reset(payload);
    this.typeahead.close();
    this.machine.go("showing", entry);
    this.board.setOverlay(true);
    this.board.show(entry.item, entry.pictures);
    document.body.classList.toggle("is-revising", this.cursor !== null);
    if (document.activeElement !== document.body) document.activeElement?.blur();
    this.#showProgress();
    requestAnimationFrame(() => {
      this.timing = new Timing();
      if (started !== undefined) this.lastShown = Math.round(performance.now() - started);
      document.body.dataset.shown = entry.item.item;
    });
  }

  // ---- answering

  async submit() {
    if (this.machine.is("feedback")) return this.#afterFeedback();
    if (this.machine.is("rest")) return this.advance();
    if (!this.machine.is("showing") || this.isSending) return undefined;
    if (this.answer.missing.length) return this.#complain();
    this.isSending = true;
    try {
      return await (this.isWork ? this.#sendAnswer() : this.#checkAnswer());
    } finally {
      this.isSending = false;
    }
  }

  #complain() {
    this.answer.markMissing();
    const names = { patch_rating: "the patches", image_rating: "the images" };
    this.status.say(`Rate ${this.answer.missing.map((name) => names[name]).join(" and ")} first, or say you can’t tell.`);
  }

  #takeTiming() {
    return { ...this.timing.finish(), next_shown_ms: this.lastShown };
  }

  async #sendAnswer() {
    const started = performance.now();
    const payload = this.answer.payload;
    if (this.cursor !== null) return this.#sendRevision(payload);
    await this.source.send({ ...this.entry, payload, timing: this.#takeTiming() });
    this.done += 1;
    if (this.of && this.done % this.of === 0) {
      this.machine.go("rest");
      return this.#showProgress();
    }
    return this.#next(started);
  }

  #next(started) {
    this.entry = null;
    return this.source
      .next()
      .then((entry) => (entry ? this.#show(entry, null, started) : this.#end()))
      .catch((error) => this.#trouble(error));
  }

  async #checkAnswer() {
    try {
      const feedback = await this.source.send({ item: this.entry.item, payload: this.answer.payload });
      showFeedback($("#feedback"), feedback);
      this.machine.go("feedback");
      this.done += 1;
      this.#showProgress();
      $("#feedback").focus();
    } catch (error) {
      if (error instanceof SignedOut) this.status.say("You are signed out. Sign in again and reload this page.");
      else if (error instanceof Offline || error instanceof Refused) this.status.say(error.message);
      else throw error;
    }
  }

  #afterFeedback() {
    return this.#next();
  }

  // ---- earlier answers

  async back() {
    if (!this.isWork || !this.machine.is("showing") || this.isGoingBack) return;
    this.isGoingBack = true;
    try {
      await this.source.recall();
      await this.#backOne();
    } catch (error) {
      if (!(error instanceof Offline) && !(error instanceof SignedOut)) throw error;
      this.status.say("Earlier answers cannot be loaded now.");
    } finally {
      this.isGoingBack = false;
    }
  }

  async #backOne() {
    const { history } = this.source;
    const place = this.cursor === null ? history.length - 1 : this.cursor - 1;
    if (place < 0) {
      this.status.say(history.length ? "This is the earliest answer you can change." : "There is no earlier answer here.");
      return;
    }
    if (this.cursor === null) this.live = { entry: this.entry, draft: this.answer.draft };
    await this.#showEarlier(place);
  }

  async #showEarlier(place) {
    const earlier = this.source.history[place];
    earlier.pictures ??= await this.source.load(earlier.item);
    this.cursor = place;
    this.#show(earlier, earlier.payload);
    this.status.say("An earlier answer: change it, Enter keeps it.");
  }

  async #sendRevision(payload) {
    const earlier = this.source.history[this.cursor];
    if (!sameAnswer(payload, earlier.payload)) {
      await this.source.send({ ...earlier, payload, timing: this.#takeTiming(), revisionOf: earlier.uuid });
      this.status.say("Changed.");
    }
    if (this.cursor + 1 < this.source.history.length) return this.#showEarlier(this.cursor + 1);
    this.cursor = null;
    return this.#show(this.live.entry, this.live.draft);
  }

  // ---- remarks

  async skip() {
    if (this.cursor !== null) return this.status.say("An earlier answer cannot be skipped.");
    const text = await this.note.ask("skip");
    if (text === null) return undefined;
    const { item } = this.entry;
    await this.source.remark(item, "skip", text);
    this.status.say("Skipped.");
    return this.#next();
  }

  async flag() {
    const { item } = this.entry;
    if (this.flagged.has(item.item)) return this.status.say("Flagged already.");
    this.flagged.add(item.item);
    await this.source.remark(item, "flag", "");
    return this.status.say("Flagged for a second look.");
  }

  async comment() {
    const { item } = this.entry;
    const text = await this.note.ask("comment");
    if (text === null) return;
    await this.source.remark(item, "comment", text);
    this.status.say("Comment kept.");
  }

  async report() {
    const cell = this.zoom.isOpen ? this.zoom.cell : this.board.target;
    if (!cell?.dataset.cell.startsWith("images")) {
      return this.status.say("Point at one of the images first, or move to it with the arrows.");
    }
    const { item } = this.entry;
    const reason = await this.note.ask("report", `${cell.ariaLabel.split(",")[0]}.`);
    if (reason === null) return undefined;
    await this.source.report(item, this.board.indexOf(cell), reason);
    return this.status.say("Reported. You can rate it all the same, or skip it.");
  }

  // ---- looking

  toggleOverlay() {
    this.board.setOverlay(!this.board.hasOverlay);
    this.timing?.count("overlay_toggles");
    if (this.zoom.isOpen) this.zoom.draw();
  }

  zoomIn(cell) {
    this.timing?.count("zooms");
    this.zoom.show(cell);
  }

  toggleZoom() {
    if (this.zoom.isOpen) return this.zoom.close();
    const cell = this.board.target;
    return cell ? this.zoomIn(cell) : this.status.say("Point at a picture first, or move to it with the arrows.");
  }

  toggleHelp() {
    const help = $("#help");
    if (help.open) help.close();
    else help.showModal();
  }

  // ---- keys and buttons

  #listen() {
    addEventListener("keydown", (event) => this.#keydown(event));
    addEventListener("keyup", (event) => this.#keyup(event));
    addEventListener("pointerdown", () => this.timing?.sign("clicks"));
    addEventListener("beforeunload", (event) => {
      if (this.outbox?.waiting.length) event.preventDefault();
    });
    addEventListener("online", () => this.machine.is("waiting") && this.advance());
    document.addEventListener("click", (event) => this.#clicked(event));
  }

  #clicked(event) {
    const button = event.target.closest("[data-action]");
    if (button && !button.matches("[data-question] button")) this.act(button.dataset.action);
    // A click leaves no focus behind that would take the next Space or Enter.
    if (event.detail > 0 && event.target.closest("button")) event.target.closest("button").blur();
  }

  #keydown(event) {
    const row = this.keymap.find(event);
    if (!row) return;
    const { action } = row;
    if (this.note.isOpen) return;
    if ($("#help").open) {
      if (action === "help") this.#take(event, () => this.toggleHelp());
      return;
    }
    if (isTyping(event.target) && !["submit", "leave"].includes(action)) return;
    if (isOperated(event.target) && ["submit", "overlay"].includes(action)) return;
    if (this.zoom.isOpen) return void this.#keyInZoom(event, action);
    if (event.repeat && action !== "back" && !action.startsWith("focus")) return void event.preventDefault();
    this.timing?.sign("keys");
    this.#take(event, () => this.act(action, row.value, event));
  }

  #take(event, act) {
    event.preventDefault();
    act();
  }

  #keyInZoom(event, action) {
    const step = { "focus-left": -1, "focus-up": -1, "focus-right": 1, "focus-down": 1 }[action];
    if (step) this.#take(event, () => this.zoom.step(step));
    else if (action === "overlay") this.#take(event, () => this.act("overlay"));
    else if (action === "zoom") this.#take(event, () => this.zoom.close());
    else if (action === "report") this.#take(event, () => this.act("report"));
  }

  #keyup(event) {
    if (event.key !== " " || this.peekSince === undefined || isTyping(event.target)) return;
    const isPeek = performance.now() - this.peekSince > PEEK_AFTER;
    this.peekSince = undefined;
    if (isPeek) this.toggleOverlay();
  }

  act(action, value, event) {
    const acts = this.#always(event);
    if (acts[action]) return acts[action]();
    if (!this.machine.is("showing")) return undefined;
    return this.#whileShowing(action, value, event)?.();
  }

  #always(event) {
    return {
      submit: () => this.submit(),
      help: () => this.toggleHelp(),
      leave: () => event?.target.blur?.(),
      retry: () => this.outbox.retryRefused(),
      again: () => this.advance(),
    };
  }

  #whileShowing(action, value, event) {
    const button = event?.target.closest?.("[data-question] button");
    const by = { "focus-left": -1, "focus-up": -1, "focus-right": 1, "focus-down": 1 }[action];
    if (by && button) return () => this.answer.moveWithin(button, by);
    if (by) return () => this.board.move(action);
    const remarks = { skip: () => this.skip(), flag: () => this.flag(), comment: () => this.comment(), report: () => this.report() };
    if (remarks[action] && !this.isWork) return () => this.status.say("That is for the study itself; here you practise.");
    return {
      ...remarks,
      "rate-patches": () => this.answer.set("patch_rating", value),
      "rate-images": () => this.answer.set("image_rating", value),
      category: () => this.answer.set("category", value),
      label: () => this.answer.label.focus(),
      back: () => this.back(),
      overlay: () => {
        this.peekSince = performance.now();
        this.toggleOverlay();
      },
      zoom: () => this.toggleZoom(),
    }[action];
  }
}

const player = new Player(JSON.parse($("#player-config").textContent));
player.start();
