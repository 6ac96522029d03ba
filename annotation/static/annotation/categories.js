// The tree of categories: drag a row before another, or onto it to put it inside; a changed key or name is kept at once.

const tree = document.querySelector("[data-tree]");
const form = document.querySelector("#place");
let dragged = null;

for (const field of document.querySelectorAll("[data-submits]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}

/** The lower half of a first-level row takes the dragged one inside; the upper half puts it before. */
function isInto(row, event) {
  if (row.dataset.parent || dragged.querySelector("ul")) return false;
  const { top, height } = row.firstElementChild.getBoundingClientRect();
  return event.clientY > top + height / 2;
}

function clear() {
  for (const row of tree.querySelectorAll(".is-over, .is-into")) row.classList.remove("is-over", "is-into");
}

function rowUnder(event) {
  const row = event.target.closest("[data-category]");
  return row && dragged && !dragged.contains(row) ? row : null;
}

tree?.addEventListener("dragstart", (event) => {
  dragged = event.target.closest("[data-category]");
  dragged.classList.add("is-dragged");
  event.dataTransfer.effectAllowed = "move";
  event.dataTransfer.setData("text/plain", dragged.dataset.category);
});
tree?.addEventListener("dragend", () => {
  dragged?.classList.remove("is-dragged");
  clear();
  dragged = null;
});
tree?.addEventListener("dragover", (event) => {
  const row = rowUnder(event);
  if (!row) return;
  event.preventDefault();
  clear();
  row.classList.add(isInto(row, event) ? "is-into" : "is-over");
});
tree?.addEventListener("drop", (event) => {
  const row = rowUnder(event);
  if (!row) return;
  event.preventDefault();
  const into = isInto(row, event);
  form.elements.category.value = dragged.dataset.category;
  form.elements.parent.value = into ? row.dataset.category : row.dataset.parent;
  form.elements.before.value = into ? "" : row.dataset.category;
  form.requestSubmit();
});
