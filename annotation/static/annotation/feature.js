// Heat maps on the list of features and on the page of one feature: switch, opacity, palette, zoom, keys.
// The maps come with the page in one JSON script; choices are kept in this browser.
import { decodeMap, paintHeat, paintScale } from "./heatmap.js";

const STORE = "vitrine-heat";
const data = JSON.parse(document.getElementById("heat-data")?.textContent ?? "null");
const controls = {
  on: document.getElementById("heat-on"),
  opacity: document.getElementById("heat-opacity"),
  palette: document.getElementById("heat-palette"),
};
const zoom = document.getElementById("zoom");

function settings() {
  if (controls.on === null) return {};
  return { opacity: Number(controls.opacity.value) / 100, palette: controls.palette.value };
}

function paintTile(canvas, index) {
  const { map, rows, columns } = data.tiles[index];
  paintHeat(canvas, decodeMap(map), rows, columns, settings());
}

function paintAll() {
  for (const tile of document.querySelectorAll("[data-tile]")) paintTile(tile.querySelector(".heat"), Number(tile.dataset.tile));
  if (controls.on === null) return;
  document.documentElement.classList.toggle("heat-off", !controls.on.checked);
  paintScale(document.getElementById("heat-scale"), controls.palette.value);
}

function remember() {
  const { opacity, palette } = controls;
  localStorage.setItem(STORE, JSON.stringify({ on: controls.on.checked, opacity: opacity.value, palette: palette.value }));
}

function recall() {
  const kept = JSON.parse(localStorage.getItem(STORE) ?? "null");
  if (kept === null) return;
  controls.on.checked = kept.on;
  controls.opacity.value = kept.opacity;
  controls.palette.value = kept.palette;
}

/** Draw the patch of a tile with `reach` patches on each side, the patch itself outlined. */
function drawSurroundings(canvas, picture) {
  const { patch, rows, columns } = data.tiles[Number(canvas.dataset.patchOf)];
  const reach = Math.max(1, Math.round(Math.min(rows, columns) / 7));
  const span = 2 * reach + 1;
  const [row, column] = [Math.floor(patch / columns), patch % columns];
  const clamp = (at, n) => Math.max(0, Math.min(at - reach, n - span));
  const [firstRow, firstColumn] = [clamp(row, rows), clamp(column, columns)];
  const [height, width] = [picture.naturalHeight / rows, picture.naturalWidth / columns];
  const side = canvas.width / span;
  const context = canvas.getContext("2d");
  context.drawImage(picture, firstColumn * width, firstRow * height, span * width, span * height, 0, 0, canvas.width, canvas.height);
  const corner = [(column - firstColumn) * side, (row - firstRow) * side];
  for (const [color, thickness] of [["#000000", 6], ["#ffffff", 3]]) {
    context.strokeStyle = color;
    context.lineWidth = thickness;
    context.strokeRect(corner[0], corner[1], side, side);
  }
}

async function loadSurroundings(canvas) {
  const picture = new Image();
  picture.src = canvas.dataset.source;
  await picture.decode();
  drawSurroundings(canvas, picture);
  canvas.dataset.isDrawn = "yes";
}

function openZoom(tile) {
  const picture = zoom.querySelector("img");
  picture.src = tile.dataset.large;
  paintTile(zoom.querySelector(".heat"), Number(tile.dataset.tile));
  document.getElementById("zoom-caption").textContent = tile.dataset.caption;
  document.getElementById("zoom-link").href = tile.href;
  zoom.showModal();
}

function onClick(event) {
  const tile = event.target.closest("a[data-large]");
  if (tile === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  openZoom(tile);
}

function onKey(event) {
  const isTyping = event.target.matches("input:not([type=checkbox]):not([type=range]), select, textarea");
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === " " && !event.target.matches("button, summary, input[type=checkbox]")) {
    event.preventDefault();
    controls.on.click();
  }
  if (event.key === "j") document.getElementById("next-feature")?.click();
  if (event.key === "k") document.getElementById("previous-feature")?.click();
}

function listen() {
  for (const control of Object.values(controls)) {
    control.addEventListener("input", () => {
      paintAll();
      remember();
    });
  }
  document.addEventListener("keydown", onKey);
}

if (data !== null) {
  if (controls.on !== null) {
    recall();
    listen();
  }
  paintAll();
  for (const canvas of document.querySelectorAll(".surroundings")) loadSurroundings(canvas);
  if (zoom !== null) document.addEventListener("click", onClick);
}
