// What a cell shows: the picture, its heat, the outline of its patch, and the marks somebody made.

import { decodeMap, paintHeat } from "../heatmap.js";

const HEAT_OPACITY = 0.45;
export const RATIO = () => Math.min(devicePixelRatio || 1, 2);

/** The heat of a cell as a canvas of one pixel per patch, or null for a cell without a map. */
export function heatOf(spec, [rows, columns]) {
  if (!spec.map) return null;
  const canvas = document.createElement("canvas");
  paintHeat(canvas, decodeMap(spec.map), rows, columns, { opacity: HEAT_OPACITY });
  return canvas;
}

/** Draws a cell into a square canvas; `from` is where its picture lies, `look` what is laid over it. */
export function drawCell(canvas, { picture, from, spec, heat, grid, marks, cursor }) {
  const side = Math.round(canvas.clientWidth * RATIO());
  if (canvas.width !== side) canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, side, side);
  context.drawImage(picture, ...from, 0, 0, side, side);
  if (heat) drawHeat(context, heat, side);
  if (spec.box) outline(context, spec.box, side / spec.w, side / spec.h);
  if (marks) drawMarks(context, grid, side, marks, cursor);
}

/** Patches stay squares: what a patch says is said of the whole patch. */
function drawHeat(context, heat, side) {
  context.imageSmoothingEnabled = false;
  context.drawImage(heat, 0, 0, side, side);
  context.imageSmoothingEnabled = true;
}

/** The patch itself, in white between two dark lines, so that it shows on any picture. */
function outline(context, [x, y, w, h], scaleX, scaleY) {
  const line = Math.max(1.5, scaleX > 1 ? 1.5 * RATIO() : RATIO());
  frame(context, [x * scaleX, y * scaleY, w * scaleX, h * scaleY], line);
}

function frame(context, rectangle, line, color = "#fff") {
  context.lineWidth = line * 2.4;
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.strokeRect(...rectangle);
  context.lineWidth = line;
  context.strokeStyle = color;
  context.strokeRect(...rectangle);
}

function drawMarks(context, [rows, columns], side, marks, cursor) {
  const [w, h] = [side / columns, side / rows];
  context.lineWidth = 1;
  context.strokeStyle = "rgb(255 255 255 / 0.22)";
  context.beginPath();
  for (let row = 1; row < rows; row += 1) context.rect(0, row * h, side, 0);
  for (let column = 1; column < columns; column += 1) context.rect(column * w, 0, 0, side);
  context.stroke();
  const rectangle = (patch) => [(patch % columns) * w, Math.floor(patch / columns) * h, w, h];
  for (const patch of marks) {
    context.fillStyle = "rgb(254 232 56 / 0.5)";
    context.fillRect(...rectangle(patch));
    frame(context, rectangle(patch), RATIO() * 0.8, "#fee838");
  }
  if (cursor !== null) frame(context, rectangle(cursor), RATIO() * 1.6);
}
