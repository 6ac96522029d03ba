// The pictures: the panels of a stimulus, each cell a canvas in a fixed place, drawn from one sprite.

import { drawCell, heatOf } from "./drawing.js";
import { BETWEEN, GAP, arrange } from "./layouts.js";
import { Marking } from "./marking.js";
import { t } from "./texts.js";

const NARROW = matchMedia("(max-width: 600px)"); // as in player.css: there the page scrolls

function element(tag, className, properties = {}) {
  return Object.assign(document.createElement(tag), { className }, properties);
}

export class Board {
  /** `answers` is the answer form: cells of the panel that a question names are chosen there. */
  constructor(root, { layout, panels, questions }, handlers) {
    this.root = root;
    this.layout = layout;
    this.titles = new Map(panels.map((panel) => [panel.name, panel]));
    this.asking = new Map(questions.filter(({ panel }) => panel).map((question) => [question.panel, question]));
    this.handlers = handlers;
    this.hasOverlay = true;
    this.panels = new Map();
    this.cells = [];
    this.marking = new Marking(this, handlers.onMark);
    new ResizeObserver(() => this.#place()).observe(root);
    this.#listen();
  }

  #listen() {
    const { root } = this;
    const cellOf = (event) => event.target.closest(".cell");
    root.addEventListener("pointerover", (event) => (this.hovered = cellOf(event)));
    root.addEventListener("pointerleave", () => (this.hovered = null));
    root.addEventListener("click", (event) => this.#clicked(event, cellOf(event)));
    root.addEventListener("dblclick", (event) => cellOf(event) && this.handlers.onZoom(cellOf(event)));
    root.addEventListener("focusin", (event) => this.#focus(cellOf(event)));
    root.addEventListener("focusout", () => this.#focus(null));
  }

  #clicked(event, cell) {
    if (!cell) return;
    const question = this.asking.get(cell.panel);
    if (event.target.closest(".enlarge") || !question) this.handlers.onZoom(cell);
    else if (question.kind !== "marks") this.handlers.onChoose(question, cell.index);
  }

  /** Puts an item on the board; the pictures are decoded already. */
  show(item, pictures) {
    this.item = item;
    this.pictures = pictures;
    const { panels, grid, text } = item.stimulus;
    this.#say(text);
    for (const [name, section] of this.panels) section.hidden = !panels.some((panel) => panel.name === name);
    this.cells = panels.flatMap((panel) => this.#fill(this.#section(panel.name), panel));
    for (const cell of this.cells) cell.heat = heatOf(cell.spec, grid);
    this.root.classList.toggle("has-heat", this.cells.some((cell) => cell.heat));
    this.marking.reset(grid);
    this.#makeReachable(this.cells[0]);
    this.#place();
  }

  #say(text) {
    const place = this.root.querySelector("[data-text]");
    place.textContent = text ?? "";
    place.hidden = !text;
  }

  #section(name) {
    if (!this.panels.has(name)) this.panels.set(name, this.#makeSection(name));
    return this.panels.get(name);
  }

  #makeSection(name) {
    const { title, hint } = this.titles.get(name) ?? { title: name };
    const section = element("section", `panel panel--${name}`);
    const heading = element("h2", "", { id: `panel-${name}`, textContent: title });
    if (hint) heading.append(" ", element("span", "muted", { textContent: hint }));
    const grid = element("div", "cells", { role: "group" });
    grid.setAttribute("aria-labelledby", heading.id);
    section.append(heading, grid);
    return section;
  }

  #fill(section, { name, kind, cells }) {
    const grid = section.lastElementChild;
    while (grid.children.length > cells.length) grid.lastElementChild.remove();
    while (grid.children.length < cells.length) grid.append(this.#makeCell(name, kind));
    return cells.map((spec, index) => this.#fillCell(grid.children[index], spec, index, cells.length));
  }

  #makeCell(panel, kind) {
    const question = this.asking.get(panel);
    const cell = element("div", `cell cell--${kind}${question ? ` cell--${question.kind}` : ""}`, { panel });
    const canvas = element("canvas", "", { role: question?.kind === "marks" ? "application" : "img" });
    cell.append(canvas, element("span", "strength"));
    if (!question) return cell;
    const enlarge = element("button", "enlarge", { type: "button", tabIndex: -1, textContent: "⤢", title: t("enlarge") });
    cell.append(element("span", "number", { ariaHidden: "true" }), enlarge);
    return cell;
  }

  #fillCell(cell, spec, index, n) {
    Object.assign(cell, { spec, index });
    cell.dataset.cell = `${cell.panel}/${index}`;
    const values = { number: index + 1, n };
    cell.label = t(cell.matches(".cell--patches") ? "patch_n" : "image_n", values);
    cell.classList.toggle("has-strength", spec.value !== undefined);
    if (spec.value !== undefined) {
      cell.label += `, ${t("strength", { percent: Math.round(100 * spec.value) })}`;
      cell.querySelector(".strength").style.setProperty("--strength", spec.value);
    }
    const enlarge = cell.querySelector(".enlarge");
    if (enlarge) {
      cell.querySelector(".number").textContent = index + 1;
      enlarge.ariaLabel = `${t("enlarge")}: ${cell.label}`;
    }
    cell.firstElementChild.ariaLabel = cell.label;
    return cell;
  }

  /** Which cells are chosen, by panel: shown on the cell and said in its name. */
  choose(panel, chosen) {
    for (const cell of this.cells.filter((candidate) => candidate.panel === panel)) {
      const isChosen = chosen.includes(cell.index);
      cell.classList.toggle("is-chosen", isChosen);
      cell.firstElementChild.ariaLabel = isChosen ? `${cell.label}, ${t("chosen")}` : cell.label;
    }
  }

  /** What is left for the panels beside their neighbors on the board. */
  #room() {
    const style = getComputedStyle(this.root);
    const sides = (...names) => names.reduce((sum, name) => sum + parseFloat(style[name]), 0);
    const width = this.root.clientWidth - sides("paddingLeft", "paddingRight");
    const others = this.root.querySelectorAll("[data-text]:not([hidden]), [data-earlier]:not([hidden])");
    const taken = [...others].reduce((sum, other) => sum + other.offsetHeight + 2 * GAP, 0);
    const height = this.root.clientHeight - sides("paddingTop", "paddingBottom") - taken;
    return { width, height: NARROW.matches ? width * 2 : height };
  }

  #place() {
    if (!this.cells.length) return;
    const panels = this.item.stimulus.panels.map(({ name, cells }) => ({
      name,
      n: cells.length,
      hasStrength: cells.some(({ value }) => value !== undefined),
    }));
    const { width, height } = this.#room();
    const { rows } = arrange(this.layout, panels, width, height);
    const names = JSON.stringify(rows.map((row) => row.map(({ name }) => name)));
    if (names !== this.placed) this.#line(rows);
    this.placed = names;
    for (const { name, columns, size } of rows.flat()) {
      this.panels.get(name).style.setProperty("--columns", columns);
      this.panels.get(name).style.setProperty("--size", `${size}px`);
    }
    this.#fitScale(this.panels.get(rows[0].at(-1).name));
    this.draw();
  }

  /** The scale stands beside the last heading; where there is little room it goes without its words. */
  #fitScale(section) {
    const words = document.createRange();
    words.selectNodeContents(section.firstElementChild);
    this.root.classList.remove("is-tight");
    const scale = this.root.querySelector(".scale").getBoundingClientRect();
    this.root.classList.toggle("is-tight", scale.width > 0 && words.getBoundingClientRect().right + GAP > scale.left);
  }

  #line(rows) {
    const place = this.root.querySelector("[data-panels]");
    place.style.rowGap = `${BETWEEN}px`;
    const lines = rows.map(() => element("div", "panels"));
    rows.forEach((row, i) => lines[i].append(...row.map(({ name }) => this.panels.get(name))));
    place.replaceChildren(...lines);
  }

  setOverlay(isOn) {
    this.hasOverlay = isOn;
    this.root.classList.toggle("is-clean", !isOn);
    this.draw();
  }

  draw() {
    for (const cell of this.cells) this.drawOne(cell);
  }

  drawOne(cell) {
    const { x, y, w, h } = cell.spec;
    drawCell(cell.firstElementChild, { ...this.look(cell), picture: this.pictures.of(cell.spec), from: [x, y, w, h] });
  }

  /** What is laid over a cell's picture. */
  look(cell) {
    const heat = this.hasOverlay ? cell.heat : null;
    return { spec: cell.spec, heat, grid: this.item.stimulus.grid, ...this.marking.look(cell) };
  }

  /** The cell that zoom and report speak of: under the pointer, else in focus. */
  get target() {
    return this.hovered ?? this.focused ?? null;
  }

  #makeReachable(cell) {
    for (const other of this.cells) other.firstElementChild.tabIndex = other === cell ? 0 : -1;
  }

  #focus(cell) {
    const before = this.focused;
    this.focused = cell;
    if (cell) this.#makeReachable(cell);
    for (const one of [before, cell]) if (one?.spec && this.marking.isOf(one)) this.drawOne(one);
  }

  focusCell(cell) {
    cell?.firstElementChild.focus();
  }

  /** Arrows walk over the cells as they stand, from panel to panel; inside a picture to be marked, from patch to patch. */
  move(direction) {
    const from = this.focused;
    if (!from) return this.focusCell(this.marking.first ?? this.cells[0]);
    if (this.marking.isOf(from) && this.marking.move(from, direction)) return undefined;
    return this.focusCell(this.#neighbor(from, direction));
  }

  /** The nearest cell whose middle lies in that direction, the straightest first. */
  #neighbor(from, direction) {
    const [axis, sign] = { left: ["x", -1], right: ["x", 1], up: ["y", -1], down: ["y", 1] }[direction];
    const across = axis === "x" ? "y" : "x";
    const here = middle(from);
    const distance = (cell) => {
      const there = middle(cell);
      return sign * (there[axis] - here[axis]) + 3 * Math.abs(there[across] - here[across]);
    };
    const ahead = this.cells.filter((cell) => sign * (middle(cell)[axis] - here[axis]) > 4);
    return ahead.reduce((best, cell) => (!best || distance(cell) < distance(best) ? cell : best), null);
  }
}

function middle(cell) {
  const { left, top, width, height } = cell.getBoundingClientRect();
  return { x: left + width / 2, y: top + height / 2 };
}
