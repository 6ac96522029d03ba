// The study form shows the fields that apply to the chosen protocol; what is hidden is not looked at by the server.

const form = document.querySelector(".study-form");
const kinds = JSON.parse(document.getElementById("control-kinds-by-protocol").textContent);
const share = form.elements.control_share;

function show() {
  const chosen = form.elements.protocol.value;
  for (const part of form.querySelectorAll("[data-for]")) {
    part.hidden = !part.dataset.for.split(" ").includes(chosen);
  }
  for (const part of form.querySelectorAll("[data-not-for]")) {
    part.hidden = part.dataset.notFor.split(" ").includes(chosen);
  }
  const possible = kinds[chosen] ?? [];
  const boxes = [...form.querySelectorAll("[name=control_kinds]")];
  for (const box of boxes) {
    box.closest("label").hidden = !possible.includes(box.value);
  }
  return boxes.filter((box) => possible.includes(box.value));
}

form.addEventListener("change", (event) => {
  if (event.target.name !== "protocol") return;
  const boxes = show();
  // A share that is still the usual one follows the protocol: half of the items are controls where their origin is guessed.
  if (event.target.value === "nature-origin" && share.value === "10") share.value = "50";
  else if (event.target.value !== "nature-origin" && share.value === "50") share.value = "10";
  if (boxes.length && !boxes.some((box) => box.checked)) boxes[0].checked = true;
});
show();
