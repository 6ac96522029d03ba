// One cell, large, in the picture's own resolution; Space takes the heat off, arrows go to the next cell.

import { drawHeat, outline } from "./board.js";

export class Zoom {
  constructor(dialog, board) {
    this.dialog = dialog;
    this.board = board;
    this.canvas = dialog.querySelector("canvas");
    this.caption = dialog.querySelector("[data-caption]");
    dialog.addEventListener("click", () => this.close());
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
    const { pictures, hasOverlay, heats } = this.board;
    const { spec } = this.cell;
    const side = Math.round(this.canvas.clientWidth * Math.min(devicePixelRatio || 1, 2));
    this.canvas.width = this.canvas.height = side;
    const context = this.canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    const isLarge = spec.zoom && pictures.zoom.complete && pictures.zoom.naturalWidth > 0;
    const [x, y, w, h] = isLarge ? spec.zoom : [spec.x, spec.y, spec.w, spec.h];
    context.drawImage(isLarge ? pictures.zoom : pictures.of(spec), x, y, w, h, 0, 0, side, side);
    if (spec.box) outline(context, spec.box, side / spec.w, side / spec.h);
    else if (hasOverlay) drawHeat(context, heats[this.board.indexOf(this.cell)], side);
    this.caption.textContent = this.cell.ariaLabel;
  }
}
