// Pages of a crowd: copies a code or a link, ticks everybody, shows fields where they matter.

import "./copying.js";

for (const all of document.querySelectorAll("[data-tick-all]")) {
  all.addEventListener("change", () => {
    for (const box of document.querySelectorAll(all.dataset.tickAll)) box.checked = all.checked;
  });
}

// [data-when="name=value"]: shown while that field has that value (a checkbox: "yes" or "no").
const shown = [...document.querySelectorAll("[data-when]")];
function valueOf(name) {
  const field = document.querySelector(`[name="${name}"]:checked`) ?? document.querySelector(`[name="${name}"]`);
  if (field?.type === "checkbox") return field.checked ? "yes" : "no";
  return field?.value ?? "";
}
function settle() {
  for (const part of shown) {
    const [name, values] = part.dataset.when.split("=");
    part.hidden = !values.split("|").includes(valueOf(name));
  }
}
if (shown.length) {
  document.addEventListener("change", settle);
  settle();
}
