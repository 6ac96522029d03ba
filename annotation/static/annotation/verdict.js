// How long the item was in view goes with a verdict given by the form, so that a hasty one can be told.

const form = document.querySelector("[data-verdict]");
let seen = 0;
let since = document.hidden ? null : performance.now();
document.addEventListener("visibilitychange", () => {
  if (document.hidden && since !== null) seen += performance.now() - since;
  since = document.hidden ? null : performance.now();
});
form?.addEventListener("submit", () => {
  form.elements.visible.value = Math.round(seen + (since === null ? 0 : performance.now() - since));
});
