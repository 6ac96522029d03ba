// The annotation player: load → show → answer → send → next. Fed by JSON, no framework; what is asked and shown comes
// from the protocol. The answer is durable in the browser before the next item shows; the server's word clears it.

import { paintScale } from "../heatmap.js";
import { AnswerForm, valueOf } from "./answer.js";
import { Offline, Refused, SignedOut } from "./api.js";
import { Board } from "./board.js";
import { Controls } from "./controls.js";
import { NoteDialog, fillHelp } from "./dialogs.js";
import { showEarlier, showFeedback } from "./feedback.js";
import { KeySettings } from "./key_settings.js";
import { Keymap } from "./keymap.js";
import { Machine } from "./machine.js";
import { Outbox } from "./outbox.js";
import { Pace } from "./pace.js";
import { Remarks } from "./remarks.js";
import { Revisions } from "./revisions.js";
import { Session } from "./session.js";
import { PracticeSource, ReviewSource } from "./source_practice.js";
import { WorkSource } from "./source_work.js";
import { Status } from "./status.js";
import { t, useTexts } from "./texts.js";
import { PaintClock, Timing } from "./timing.js";
import { Typeahead } from "./typeahead.js";
import { Zoom } from "./zoom.js";

const TRY_AGAIN_AFTER = 3000;
const LOOK_AGAIN_AFTER = 20000;
const DOUBLE_CLICK = 300;
const ENDS = { open: "empty", paused: "paused", closed: "closed" };
const SOURCES = { work: WorkSource, review: ReviewSource, practice: PracticeSource, preview: PracticeSource };
const $ = (selector) => document.querySelector(selector);

class Player {
  constructor(config) {
    this.config = config;
    this.isWork = config.mode === "work";
    this.isKept = this.isWork || config.mode === "review";
    this.machine = new Machine((state) => (document.body.dataset.state = state));
    this.status = new Status(document.body);
    this.pace = new Pace(config, $("#at-once"));
    this.paint = new PaintClock();
    this.lastShown = null;
    this.#makeParts(config);
    addEventListener("beforeunload", (event) => this.outbox?.waiting.length && event.preventDefault());
    addEventListener("online", () => this.machine.is("waiting") && this.advance());
    document.querySelectorAll("[data-scale]").forEach((canvas) => paintScale(canvas));
  }

  #makeParts(config) {
    this.answer = new AnswerForm($("#answer"), config.questions, (name) => this.#changed(name));
    this.board = new Board($("#board"), config, {
      onZoom: (cell) => this.zoomIn(cell),
      onChoose: (question, index) => this.choose(question.name, index, DOUBLE_CLICK),
      onMark: (question, mark) => this.choose(question.name, mark),
    });
    this.zoom = new Zoom($("#zoom"), this.board);
    this.help = $("#help");
    this.note = new NoteDialog($("#note"));
    this.remarks = new Remarks(this, this.note);
    this.revisions = new Revisions(this);
    this.session = new Session(document.body, config.urls, { onLeft: () => this.#left() });
    this.keymap = new Keymap(config.keys, (under) => this.answer.isOffered(under));
    new KeySettings($("#key-settings"), { url: config.urls.keys, own: config.own_keys }, this.keymap, () => this.#hint());
    const label = $("#answer [role=combobox]");
    this.typeahead = label && new Typeahead(label, $("#terms"), config.urls.terms);
    new Controls(this);
  }

  async start() {
    await this.#hint();
    if (this.isKept && !(await this.#openOutbox())) return;
    this.source = new SOURCES[this.config.mode](this.config, this.outbox);
    const unsent = this.isKept ? this.outbox.waiting.filter(({ body }) => body.payload && !body.revision_of).length : 0;
    this.done = this.config.done + unsent;
    this.of = this.config.session_length;
    this.#showProgress();
    this.session.refresh();
    this.session.tell($("#notices"));
    await this.advance();
  }

  /** The keys as they are now: on the buttons and in the help. */
  async #hint() {
    await this.keymap.readKeyboard();
    for (const button of document.querySelectorAll("[data-action] > kbd, .hint-of > kbd")) this.#hintOn(button.parentElement, button);
    fillHelp(this.help.querySelector("[data-keys]"), this.keymap);
  }

  #hintOn({ dataset, parentElement }, kbd) {
    const question = parentElement.closest("[data-question]")?.dataset.question;
    const value = dataset.value === undefined ? undefined : valueOf({ dataset });
    kbd.textContent = this.keymap.row(dataset.action ?? dataset.hintOf, value, question)?.hint ?? kbd.textContent;
  }

  async #openOutbox() {
    try {
      this.outbox = await Outbox.open(`${this.config.study}/${this.config.user}`);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      this.#stuck(t("no_storage"));
      return false;
    }
    this.session.outbox = this.outbox;
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

  #left() {
    this.source.release?.();
    this.machine.go("left");
  }

  #acknowledged(reply) {
    if (reply.stored === "late_extra") this.status.say(t("late_extra"));
    if (reply.warning) this.status.say(reply.warning);
    if (this.machine.is("rest")) this.session.refresh();
    if (this.machine.is("waiting", "signedout")) this.advance();
  }

  #showProgress() {
    const inSession = this.isWork && this.of && !this.machine.is("rest") ? this.done % this.of : this.done;
    this.status.showProgress(Math.min(inSession, this.of), this.of);
  }

  // ---- moving between items

  async advance() {
    if (this.isAdvancing) return;
    this.isAdvancing = true;
    try {
      await this.next();
    } finally {
      this.isAdvancing = false;
    }
  }

  /** The next item, or what stands in for it. */
  next(started = performance.now()) {
    this.entry = null;
    return this.source
      .next()
      .then((entry) => (entry ? this.show(entry, null, started) : this.#end()))
      .catch((error) => this.#trouble(error));
  }

  #end() {
    const state = this.isWork ? (ENDS[this.source.studyState] ?? "closed") : "finished";
    this.machine.go(state);
    this.#showProgress();
    if (state === "finished") $('.state[data-for="finished"] a').focus(); // Enter begins
    if (state === "empty" || state === "closed") this.#lookWhetherOver();
    if (state === "paused" || state === "empty") this.#later(LOOK_AGAIN_AFTER);
  }

  async #lookWhetherOver() {
    await this.session.refresh();
    if (this.session.isOver && this.machine.is("empty")) this.machine.go("rest");
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

  show(entry, payload, started) {
    this.entry = entry;
    this.timing?.finish();
    this.typeahead?.close();
    this.machine.go("showing", entry);
    showEarlier($("[data-earlier]"), entry.item.earlier);
    this.board.setOverlay(true);
    this.board.show(entry.item, entry.pictures);
    this.answer.reset(payload);
    for (const { name } of this.config.questions) this.#showChosen(name);
    document.body.classList.toggle("is-revising", this.revisions.isActive);
    if (document.activeElement !== document.body) document.activeElement?.blur();
    this.#showProgress();
    this.pace.shown();
    requestAnimationFrame(() => {
      this.timing = new Timing();
      if (started !== undefined) this.lastShown = Math.round(performance.now() - started);
      document.body.dataset.shown = entry.item.item;
    });
  }

  // ---- answering

  #changed(name) {
    this.timing?.count("changes");
    this.#showChosen(name);
  }

  /** The cells that a question is about show what is chosen among them. */
  #showChosen(name) {
    const { kind, panel } = this.config.questions.find((question) => question.name === name);
    const given = this.answer.values[name];
    if (kind === "marks") this.board.marking.set(given);
    else if (panel) this.board.choose(panel, Array.isArray(given) ? given : [given]);
  }

  get #isTooEarly() {
    return !this.revisions.isActive && this.pace.isTooEarly;
  }

  /** One answer more. Where one answer is all, it is sent at once; a click waits whether it is a double one. */
  choose(question, value, patience = 0) {
    if (this.#isTooEarly) return this.status.say(t("look_first"));
    this.answer.set(question, value);
    if (!this.pace.isAtOnce || this.answer.missing.length) return undefined;
    clearTimeout(this.sending);
    if (!patience) return this.submit();
    this.sending = setTimeout(() => this.submit(), patience);
    return undefined;
  }

  mark() {
    if (!this.board.marking.toggleFocused()) this.status.say(t("focus_first"));
  }

  async submit() {
    clearTimeout(this.sending);
    if (this.machine.is("feedback")) return this.#afterFeedback();
    if (this.machine.is("rest", "break")) return this.#goOn();
    if (!this.machine.is("showing") || !this.entry || this.isSending) return undefined;
    if (this.#isTooEarly) return this.status.say(t("look_first"));
    if (this.typeahead?.settles && !this.typeahead.settles()) return undefined;
    if (this.answer.missing.length) return this.#complain();
    this.isSending = true;
    try {
      return await (this.isKept ? this.#sendAnswer() : this.#checkAnswer());
    } finally {
      this.isSending = false;
    }
  }

  #complain() {
    this.answer.markMissing();
    const [{ name, kind, text }] = this.answer.missing;
    if (kind === "text") this.answer.field(name).focus(); // letters are answers everywhere else
    return this.status.say(t("missing", { question: text }));
  }

  takeTiming() {
    return { ...this.timing.finish(), next_shown_ms: this.lastShown, key_to_paint_ms: this.paint.take() };
  }

  async #sendAnswer() {
    const started = performance.now();
    const payload = this.answer.payload;
    if (this.revisions.isActive) return this.revisions.send(payload);
    await this.source.send({ ...this.entry, payload, timing: this.takeTiming() });
    this.done += 1;
    if (this.isWork && this.of && this.done % this.of === 0) return this.#rest("rest");
    if (this.isWork && this.pace.isTired) return this.#rest("break");
    return this.next(started);
  }

  #rest(state) {
    this.entry = null;
    this.machine.go(state);
    if (state === "rest") this.session.refresh();
    this.session.tell($("#notices"));
    return this.#showProgress();
  }

  #goOn() {
    this.pace.rested();
    return this.advance();
  }

  async #checkAnswer() {
    try {
      const feedback = await this.source.send({ item: this.entry.item, payload: this.answer.payload });
      showFeedback($("#feedback"), this.config.questions, feedback);
      this.outcome = feedback.outcome;
      this.machine.go("feedback");
      this.done += 1;
      this.#showProgress();
      $("#feedback").focus();
    } catch (error) {
      if (error instanceof SignedOut) this.status.say(t("signed_out"));
      else if (error instanceof Offline || error instanceof Refused) this.status.say(error.message);
      else throw error;
    }
  }

  /** A round of practice that was not passed begins anew; who is thanked and sent home gets there by the study's page. */
  #afterFeedback() {
    if (this.outcome === "again") return location.reload();
    if (this.outcome === "screened-out") return location.assign($('.state[data-for="finished"] a').href);
    return this.next();
  }

  // ---- looking

  toggleOverlay() {
    this.board.setOverlay(!this.board.hasOverlay);
    this.timing?.count("overlay_toggles");
    if (this.zoom.isOpen) this.zoom.draw();
  }

  zoomIn(cell) {
    clearTimeout(this.sending); // It was a double click: not an answer yet.
    this.timing?.count("zooms");
    this.zoom.show(cell);
  }

  toggleZoom() {
    if (this.zoom.isOpen) return this.zoom.close();
    const cell = this.board.target;
    return cell ? this.zoomIn(cell) : this.status.say(t("point_first"));
  }

  toggleHelp() {
    if (this.help.open) return this.help.close();
    this.help.showModal();
    return this.session.showOwn($("#own"));
  }
}

const config = JSON.parse($("#player-config").textContent);
useTexts(config.texts);
new Player(config).start();
