// Marking patches: click or drag over them, or walk with the arrows and press the key; touching a mark takes it away.

import { t } from "./texts.js";

const STEPS = { left: [0, -1], right: [0, 1], up: [-1, 0], down: [1, 0] };

export class Marking {
  constructor(board, onMark) {
    this.board = board;
    this.onMark = onMark;
    this.question = [...board.asking.values()].find(({ kind }) => kind === "marks");
    this.marks = [];
    if (this.question) this.#listen(board.root);
  }

  #listen(root) {
    root.addEventListener("pointerdown", (event) => this.#begin(event));
    root.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) root.addEventListener(name, () => (this.stroke = null));
  }

  isOf(cell) {
    return this.question?.panel === cell.panel;
  }

  get cells() {
    return this.question ? this.board.cells.filter((cell) => this.isOf(cell)) : [];
  }

  get first() {
    return this.cells[0];
  }

  reset([rows, columns]) {
    [this.rows, this.columns] = [rows, columns];
    this.cursors = new Map();
    this.stroke = null;
  }

  /** Marks as [cell, patch] pairs, from the answer form. */
  set(marks) {
    this.marks = marks;
    for (const cell of this.cells) if (this.board.pictures) this.board.drawOne(cell);
  }

  look(cell) {
    if (!this.isOf(cell)) return {};
    const marks = this.marks.filter(([index]) => index === cell.index).map(([, patch]) => patch);
    return { marks, cursor: this.board.focused === cell ? this.cursor(cell) : null };
  }

  cursor(cell) {
    return this.cursors.get(cell.index) ?? Math.floor(this.rows / 2) * this.columns + Math.floor(this.columns / 2);
  }

  has(cell, patch) {
    return this.marks.some(([index, other]) => index === cell.index && other === patch);
  }

  /** True while the arrow stays inside the picture. */
  move(cell, direction) {
    const at = this.cursor(cell);
    const row = Math.floor(at / this.columns) + STEPS[direction][0];
    const column = (at % this.columns) + STEPS[direction][1];
    if (row < 0 || column < 0 || row >= this.rows || column >= this.columns) return false;
    this.cursors.set(cell.index, row * this.columns + column);
    this.#told(cell);
    return true;
  }

  #told(cell) {
    this.board.drawOne(cell);
    const at = this.cursor(cell);
    const place = t("patch_at", { row: Math.floor(at / this.columns) + 1, column: (at % this.columns) + 1 });
    cell.firstElementChild.ariaLabel = `${cell.label}, ${place}${this.has(cell, at) ? `, ${t("marked")}` : ""}`;
  }

  /** The patch in focus; false when none is. */
  toggleFocused() {
    const cell = this.board.focused;
    if (!cell || !this.isOf(cell)) return false;
    this.#put(cell, this.cursor(cell), !this.has(cell, this.cursor(cell)));
    this.#told(cell);
    return true;
  }

  #put(cell, patch, isMarked) {
    if (this.has(cell, patch) !== isMarked) this.onMark(this.question, [cell.index, patch]);
  }

  #patchUnder(event) {
    const { left, top, width, height } = this.stroke.cell.firstElementChild.getBoundingClientRect();
    const column = Math.floor((this.columns * (event.clientX - left)) / width);
    const row = Math.floor((this.rows * (event.clientY - top)) / height);
    const isInside = row >= 0 && column >= 0 && row < this.rows && column < this.columns;
    return isInside ? row * this.columns + column : null;
  }

  /** What the first patch becomes the whole stroke becomes. */
  #begin(event) {
    const cell = event.target.closest(".cell");
    if (!cell || !this.isOf(cell) || event.target.closest(".enlarge") || event.button > 0) return;
    this.stroke = { cell, isMarking: true };
    const patch = this.#patchUnder(event);
    if (patch === null) return void (this.stroke = null);
    this.stroke.isMarking = !this.has(cell, patch);
    this.cursors.set(cell.index, patch);
    this.#put(cell, patch, this.stroke.isMarking);
  }

  #drag(event) {
    if (!this.stroke || !event.buttons) return;
    const patch = this.#patchUnder(event);
    if (patch !== null) this.#put(this.stroke.cell, patch, this.stroke.isMarking);
  }
}
