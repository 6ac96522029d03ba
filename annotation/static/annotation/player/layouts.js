// Where the panels of a protocol stand and how large their cells are: of all arrangements and columns that fit the one
// with the largest product of cell sizes, so that no panel grows at the cost of another's legibility. Nothing scrolls,
// and the same parts of an item stand in the same place every time.

export const GAP = 6;
export const BETWEEN = 20;
export const HEADING = 24;
const STRENGTH = 5;
const SMALLEST = 40;
const ALIKE = ["pair"]; // Sides that are compared have cells of one size, so that neither is easier to see.
const SPLITS = [0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7];

// Rows of panels, the first arrangement for choice; of those that are equally good the first is taken.
const ARRANGEMENTS = {
  sheet: [[["patches", "images"]], [["patches"], ["images"]]],
  "two-alternative": [[["reference", "queries", "contrast"]], [["reference", "contrast"], ["queries"]]],
  pair: [[["left", "right"]], [["left"], ["right"]]],
  marking: [[["reference", "queries"]], [["reference"], ["queries"]]],
};
const WEIGHTS = { sheet: { images: 1.4 }, marking: { queries: 1.6 } };
const COLUMNS = {
  sheet: { patches: [4, 8], images: [4, 8] },
  "two-alternative": { reference: [3], contrast: [3] },
  marking: { reference: [2, 3, 4], queries: [2] },
};

/** {rows: [[{name, columns, size}]]} for panels [{name, n, hasStrength}] in a room of that size. */
export function arrange(layout, panels, width, height) {
  const room = { layout, panels: new Map(panels.map((panel) => [panel.name, panel])), width, height };
  const candidates = arrangementsOf(layout, panels).flatMap((rows) => splitsOf(rows.length, layout).map((shares) => ({ rows, shares })));
  const placed = candidates.map(({ rows, shares }) => place(room, rows, shares));
  return placed.reduce((best, other) => (other.score > best.score + 1e-6 ? other : best));
}

function arrangementsOf(layout, panels) {
  const here = panels.map(({ name }) => name);
  const known = ARRANGEMENTS[layout] ?? [];
  const fitting = known.map((rows) => rows.map((row) => row.filter((name) => here.includes(name))).filter((row) => row.length));
  const isWhole = fitting.filter((rows) => rows.flat().length === here.length);
  return isWhole.length ? isWhole : [[here], here.map((name) => [name])];
}

function splitsOf(n, layout) {
  if (n === 1) return [[1]];
  if (n === 2 && !ALIKE.includes(layout)) return SPLITS.map((share) => [share, 1 - share]);
  return [Array(n).fill(1 / n)];
}

function place(room, rows, shares) {
  const free = room.height - BETWEEN * (rows.length - 1);
  const placed = rows.map((row, i) => placeRow(room, row, free * shares[i] - HEADING));
  return { rows: placed.map(({ cells }) => cells), score: placed.reduce((sum, { score }) => sum + score, 0) };
}

/** The columns of each panel of a row, tried together: what is too wide is shrunk as a whole. */
function placeRow(room, row, height) {
  const choices = row.map((name) => columnsOf(room.layout, room.panels.get(name)));
  let best = null;
  for (const columns of product(choices)) {
    if (ALIKE.includes(room.layout) && new Set(columns).size > 1) continue;
    const cells = fit(room, row, columns, height);
    const score = cells.reduce((sum, cell) => sum + weigh(room, cell), 0);
    if (!best || score > best.score + 1e-6) best = { cells, score };
  }
  return best;
}

function weigh({ layout }, { name, size }) {
  return (WEIGHTS[layout]?.[name] ?? 1) * Math.log(size);
}

function columnsOf(layout, { name, n }) {
  const wanted = (COLUMNS[layout]?.[name] ?? []).filter((columns) => columns <= n);
  return wanted.length ? wanted : Array.from({ length: n }, (_, i) => i + 1);
}

function fit({ panels, width }, row, columns, height) {
  const sizes = row.map((name, i) => {
    const { n, hasStrength } = panels.get(name);
    const lines = Math.ceil(n / columns[i]);
    return (height - GAP * (lines - 1)) / lines - (hasStrength ? STRENGTH : 0);
  });
  const gaps = columns.reduce((sum, n) => sum + GAP * (n - 1), 0) + BETWEEN * (row.length - 1);
  const shrink = Math.min(1, (width - gaps) / columns.reduce((sum, n, i) => sum + n * sizes[i], 0));
  return row.map((name, i) => ({ name, columns: columns[i], size: Math.max(SMALLEST, Math.floor(sizes[i] * shrink)) }));
}

function product(choices) {
  return choices.reduce((all, some) => all.flatMap((one) => some.map((other) => [...one, other])), [[]]);
}
