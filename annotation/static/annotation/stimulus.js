// Frozen stimuli outside the player: whole boards on a review page, strips of a few cells in lists. Each element with
// data-stimulus names the JSON that lies beside it; cells are canvases drawn from one sprite, as the player draws them.

import { decodeMap, paintHeat } from "./heatmap.js";

const RATIO = Math.min(devicePixelRatio || 1, 2);
const HEAT_OPACITY = 0.45;
const pictures = new Map();
let hasHeat = true;

function load(source) {
  if (!pictures.has(source)) {
    const image = new Image();
    image.decoding = "async";
    image.src = source;
    pictures.set(source, image.decode().then(() => image));
  }
  return pictures.get(source);
}

function outline(context, [x, y, w, h], scale) {
  for (const [style, width] of [["rgb(0 0 0 / 0.55)", 3.6], ["#fff", 1.5]]) {
    context.strokeStyle = style;
    context.lineWidth = width * RATIO;
    context.strokeRect(x * scale, y * scale, w * scale, h * scale);
  }
}

function paintCell(canvas, picture, [x, y, w, h], spec, grid) {
  const side = Math.round(canvas.clientWidth * RATIO);
  if (!side) return;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, x, y, w, h, 0, 0, side, side);
  if (spec.box) outline(context, spec.box, side / spec.w);
  else if (spec.map && hasHeat) {
    const heat = document.createElement("canvas");
    paintHeat(heat, decodeMap(spec.map), grid[0], grid[1], { opacity: HEAT_OPACITY });
    context.imageSmoothingEnabled = false;
    context.drawImage(heat, 0, 0, side, side);
  }
}

function cellOf(stimulus, panel, spec, index) {
  const canvas = document.createElement("canvas");
  canvas.className = "stimulus-cell";
  canvas.role = "img";
  canvas.ariaLabel = `${panel.title ?? panel.name} ${index + 1}`;
  canvas.draw = async () => {
    const picture = await load(spec.src ?? stimulus.sprite);
    paintCell(canvas, picture, [spec.x, spec.y, spec.w, spec.h], spec, stimulus.grid);
  };
  return canvas;
}

function strip(root, stimulus, n) {
  const panel = stimulus.panels.find(({ kind }) => kind === "images") ?? stimulus.panels[0];
  root.append(...panel.cells.slice(0, n).map((spec, index) => cellOf(stimulus, panel, spec, index)));
}

function board(root, stimulus, titles) {
  if (stimulus.text) {
    root.append(Object.assign(document.createElement("p"), { className: "stimulus-text", textContent: stimulus.text }));
  }
  for (const panel of stimulus.panels) {
    const section = document.createElement("section");
    section.className = `stimulus-panel stimulus-panel--${panel.kind}`;
    section.style.setProperty("--columns", panel.kind === "patches" ? 4 : Math.min(panel.cells.length, 6));
    const head = Object.assign(document.createElement("h2"), { textContent: titles[panel.name] ?? panel.name });
    const cells = document.createElement("div");
    cells.className = "stimulus-cells";
    panel.cells.forEach((spec, index) => {
      const canvas = cellOf(stimulus, panel, spec, index);
      canvas.tabIndex = 0;
      canvas.addEventListener("click", () => enlarge(stimulus, spec, canvas.ariaLabel));
      canvas.addEventListener("keydown", (event) => {
        if (event.key === "Enter" || event.key === "z") enlarge(stimulus, spec, canvas.ariaLabel);
      });
      cells.append(canvas);
    });
    section.append(head, cells);
    root.append(section);
  }
}

/** One picture large, from the sharper sheet where the stimulus has one. */
async function enlarge(stimulus, spec, caption) {
  const dialog = document.querySelector("#enlarged");
  if (!dialog) return;
  dialog.showModal();
  dialog.querySelector("[data-caption]").textContent = caption;
  const canvas = dialog.querySelector("canvas");
  const isSharp = Boolean(spec.zoom && stimulus.zoom);
  const picture = await load(isSharp ? stimulus.zoom : spec.src ?? stimulus.sprite);
  paintCell(canvas, picture, isSharp ? spec.zoom : [spec.x, spec.y, spec.w, spec.h], spec, stimulus.grid);
}

const roots = [...document.querySelectorAll("[data-stimulus]")];
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      seen.unobserve(target);
      for (const canvas of target.querySelectorAll("canvas")) canvas.draw();
    }
  },
  { rootMargin: "300px" },
);

for (const root of roots) {
  const stimulus = JSON.parse(document.getElementById(root.dataset.stimulus).textContent);
  const titles = root.dataset.titles ? JSON.parse(document.getElementById(root.dataset.titles).textContent) : {};
  if (root.dataset.cells) strip(root, stimulus, Number(root.dataset.cells));
  else board(root, stimulus, titles);
  seen.observe(root);
}

function redraw() {
  for (const root of roots) for (const canvas of root.querySelectorAll("canvas")) canvas.draw();
}

const heatSwitch = document.querySelector("#heat-on");
heatSwitch?.addEventListener("change", () => {
  hasHeat = heatSwitch.checked;
  redraw();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== " " || !heatSwitch || event.target.matches("input, textarea, select, button, summary, a")) return;
  event.preventDefault();
  heatSwitch.click();
});
let waiting;
addEventListener("resize", () => {
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 120);
});
