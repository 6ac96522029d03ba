// The pictures: sixteen patch crops and the images, each a canvas in a fixed place, drawn from one sprite.

import { decodeMap, paintHeat } from "../heatmap.js";

const RATIO = () => Math.min(devicePixelRatio || 1, 2);

const GAP = 6;
const STRENGTH_HEIGHT = 5;
const SMALLEST = 40;
const PATCH_COLUMNS = 4;
const IMAGES_SHARE = 0.53;
const HEAT_OPACITY = 0.45;
const NARROW = matchMedia("(max-width: 900px)"); // as in player.css: the grids stand below one another

function cellSize(n, columns, width, height, below) {
  const rows = Math.ceil(n / columns);
  const side = Math.min((width - GAP * (columns - 1)) / columns, (height - GAP * (rows - 1)) / rows - below);
  return Math.max(SMALLEST, Math.floor(side));
}

function bestColumns(n, width, height) {
  const size = (columns) => cellSize(n, columns, width, height, STRENGTH_HEIGHT);
  return (n > 9 ? [4, 5, 6] : [2, 3, 4]).reduce((best, columns) => (size(columns) > size(best) ? columns : best));
}

function heatOf(image, [rows, columns]) {
  const canvas = document.createElement("canvas");
  paintHeat(canvas, decodeMap(image.map), rows, columns, { opacity: HEAT_OPACITY });
  return canvas;
}

/** Patches stay squares: what a patch says is said of the whole patch. */
export function drawHeat(context, heat, side) {
  context.imageSmoothingEnabled = false;
  context.drawImage(heat, 0, 0, side, side);
  context.imageSmoothingEnabled = true;
}

export class Board {
  constructor(root, { onZoom }) {
    this.root = root;
    this.patchGrid = root.querySelector("[data-grid=patches]");
    this.imageGrid = root.querySelector("[data-grid=images]");
    this.onZoom = onZoom;
    this.hasOverlay = true;
    this.focused = null;
    this.hovered = null;
    this.cells = [];
    new ResizeObserver(() => this.#layout()).observe(root);
    root.addEventListener("pointerover", (event) => (this.hovered = event.target.closest(".cell")));
    root.addEventListener("pointerleave", () => (this.hovered = null));
    root.addEventListener("click", (event) => this.#clicked(event));
    root.addEventListener("focusin", (event) => this.#focus(event.target.closest(".cell")));
    root.addEventListener("focusout", () => (this.focused = null));
  }

  #clicked(event) {
    const cell = event.target.closest(".cell");
    if (cell) this.onZoom(cell);
  }

  /** Puts an item on the board; the pictures are decoded already. */
  show(item, pictures) {
    this.item = item;
    this.pictures = pictures;
    const { patches, images, grid } = item.stimulus;
    this.heats = images.map((image) => heatOf(image, grid));
    const patchCells = this.#fill(this.patchGrid, "patches", patches);
    const imageCells = this.#fill(this.imageGrid, "images", images);
    this.cells = [...patchCells, ...imageCells];
    this.cells[0].tabIndex = 0;
    this.#layout();
  }

  #fill(grid, kind, specs) {
    while (grid.children.length > specs.length) grid.lastElementChild.remove();
    while (grid.children.length < specs.length) grid.append(this.#makeCell(kind));
    return specs.map((spec, index) => this.#fillCell(grid.children[index], kind, spec, index, specs.length));
  }

  #makeCell(kind) {
    const cell = document.createElement("div");
    cell.className = `cell cell--${kind}`;
    cell.role = "img";
    cell.append(document.createElement("canvas"));
    if (kind === "images") cell.append(Object.assign(document.createElement("span"), { className: "strength" }));
    return cell;
  }

  #fillCell(cell, kind, spec, index, n) {
    cell.tabIndex = -1;
    cell.spec = spec;
    cell.dataset.cell = `${kind}/${index}`;
    const strength = kind === "images" ? `, strength ${Math.round(100 * spec.value)} percent` : "";
    cell.ariaLabel = `${kind === "images" ? "Image" : "Patch"} ${index + 1} of ${n}${strength}`;
    if (kind === "images") cell.querySelector(".strength").style.setProperty("--strength", spec.value);
    return cell;
  }

  /** The largest square cells that fit without scrolling: the images take the height, the patches what is left. */
  #layout() {
    if (!this.cells.length) return;
    const { patches, images } = this.item.stimulus;
    const most = NARROW.matches ? this.imageGrid.clientWidth : this.root.clientWidth * IMAGES_SHARE;
    const columns = bestColumns(images.length, most, this.imageGrid.clientHeight);
    const size = cellSize(images.length, columns, most, this.imageGrid.clientHeight, STRENGTH_HEIGHT);
    this.#setCells(this.imageGrid, columns, size);
    this.root.style.setProperty("--images-width", `${columns * size + GAP * (columns - 1)}px`);
    const box = this.patchGrid;
    this.#setCells(box, PATCH_COLUMNS, cellSize(patches.length, PATCH_COLUMNS, box.clientWidth, box.clientHeight, 0));
    this.columns = { patches: PATCH_COLUMNS, images: columns };
    this.draw();
  }

  #setCells(grid, columns, size) {
    grid.style.setProperty("--columns", columns);
    grid.style.setProperty("--size", `${size}px`);
  }

  setOverlay(isOn) {
    this.hasOverlay = isOn;
    this.root.classList.toggle("is-clean", !isOn);
    this.draw();
  }

  draw() {
    for (const cell of this.cells) this.#drawCell(cell);
  }

  #drawCell(cell) {
    const canvas = cell.firstElementChild;
    const side = Math.round(canvas.clientWidth * RATIO());
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const { x, y, w, h, box } = cell.spec;
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.clearRect(0, 0, side, side);
    context.drawImage(this.pictures.of(cell.spec), x, y, w, h, 0, 0, side, side);
    if (box) outline(context, box, side / w, side / h);
    else if (this.hasOverlay) drawHeat(context, this.heats[this.indexOf(cell)], side);
  }

  indexOf(cell) {
    return Number(cell.dataset.cell.split("/")[1]);
  }

  /** The cell that z and i speak of: under the pointer, else in focus. */
  get target() {
    return this.hovered ?? this.focused;
  }

  #focus(cell) {
    if (!cell) return;
    for (const other of this.cells) other.tabIndex = other === cell ? 0 : -1;
    this.focused = cell;
  }

  /** Arrows walk over both grids as if they stood side by side. */
  move(action) {
    const from = this.focused ?? null;
    if (!from) return this.cells[0]?.focus();
    const [kind, index] = [from.dataset.cell.split("/")[0], this.indexOf(from)];
    const grid = kind === "patches" ? this.patchGrid : this.imageGrid;
    const columns = this.columns[kind];
    const steps = { "focus-left": -1, "focus-right": 1, "focus-up": -columns, "focus-down": columns };
    const row = Math.floor(index / columns);
    if (action === "focus-right" && kind === "patches" && index % columns === columns - 1) return this.#enter("images", row, 0);
    if (action === "focus-left" && kind === "images" && index % columns === 0) return this.#enter("patches", row, -1);
    return grid.children[index + steps[action]]?.focus();
  }

  #enter(kind, row, column) {
    const grid = kind === "patches" ? this.patchGrid : this.imageGrid;
    const columns = this.columns[kind];
    const index = row * columns + (column < 0 ? columns - 1 : column);
    grid.children[Math.min(index, grid.children.length - 1)]?.focus();
  }
}

/** The patch itself, in white between two dark lines, so that it shows on any picture. */
export function outline(context, [x, y, w, h], scaleX, scaleY) {
  const line = Math.max(1.5, scaleX > 1 ? 1.5 * RATIO() : RATIO());
  const rectangle = [x * scaleX, y * scaleY, w * scaleX, h * scaleY];
  context.lineWidth = line * 2.4;
  context.strokeStyle = "rgb(0 0 0 / 0.55)";
  context.strokeRect(...rectangle);
  context.lineWidth = line;
  context.strokeStyle = "#fff";
  context.strokeRect(...rectangle);
}
