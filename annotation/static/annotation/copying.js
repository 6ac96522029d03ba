// Copies a code or a link. [data-copy-text] is copied; where that is not allowed, what it names is marked instead.

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy-text]");
  if (!button) return;
  const status = button.closest("[data-copies]")?.querySelector("[data-copy-status]");
  try {
    await navigator.clipboard.writeText(button.dataset.copyText);
    say(button.dataset.done);
  } catch {
    mark(document.querySelector(button.dataset.copyFrom)); // Not a secure page, or not allowed.
    say(button.dataset.failed);
  }
  function say(words) {
    if (status) return void (status.textContent = words);
    const usual = (button.dataset.usual ??= button.textContent);
    button.textContent = words;
    setTimeout(() => (button.textContent = usual), 2500);
  }
});

function mark(element) {
  if (!element) return;
  if (element.select) return void element.select();
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}
