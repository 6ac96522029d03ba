// One cell, large, in the picture's own resolution; the heat can be taken off, arrows go to the next cell.

import { drawCell } from "./drawing.js";

export class Zoom {
  constructor(dialog, board) {
    this.dialog = dialog;
    this.board = board;
    this.canvas = dialog.querySelector("canvas");
    this.caption = dialog.querySelector("[data-caption]");
    dialog.addEventListener("click", (event) => event.target.closest("button") ?? this.close());
  }

  get isOpen() {
    return this.dialog.open;
  }

  show(cell) {
    this.cell = cell;
    if (!this.dialog.open) this.dialog.showModal();
    this.draw();
  }

  close() {
    this.dialog.close();
  }

  step(by) {
    const cells = this.board.cells;
    this.show(cells[(cells.indexOf(this.cell) + by + cells.length) % cells.length]);
  }

  draw() {
    const { pictures } = this.board;
    const { spec } = this.cell;
    const isLarge = spec.zoom && pictures.zoom.complete && pictures.zoom.naturalWidth > 0;
    const picture = isLarge ? pictures.zoom : pictures.of(spec);
    const from = isLarge ? spec.zoom : [spec.x, spec.y, spec.w, spec.h];
    drawCell(this.canvas, { ...this.board.look(this.cell), picture, from });
    this.caption.textContent = this.cell.firstElementChild.ariaLabel;
  }
}
