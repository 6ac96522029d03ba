// The page of a study: copies the link to join.

for (const button of document.querySelectorAll("[data-copy]")) {
  button.addEventListener("click", async () => {
    const field = document.querySelector(button.dataset.copy);
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Press Ctrl+C"; // Not a secure page, or not allowed: the text is selected.
    }
    setTimeout(() => (button.textContent = "Copy"), 2500);
  });
}
