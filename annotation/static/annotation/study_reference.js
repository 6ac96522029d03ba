// Choosing a feature for a practice or gold item: a click on its pictures puts its number into the form.

const field = document.querySelector("#form [name=feature]");
for (const link of document.querySelectorAll("[data-feature]")) {
  link.addEventListener("click", (event) => {
    event.preventDefault();
    field.value = link.dataset.feature;
    document.querySelectorAll(".is-chosen").forEach((other) => other.classList.remove("is-chosen"));
    link.classList.add("is-chosen");
    field.scrollIntoView({ block: "center" });
    field.focus();
  });
}
