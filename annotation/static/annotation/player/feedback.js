// Practice: what was answered, what is accepted, and why.

const WORDS = { 1: "no", 2: "a hint", 3: "mostly", 4: "clearly" };
const TITLES = { patch_rating: "Patches", image_rating: "Images", category: "Category", label: "Label" };

function word(value) {
  if (value === null || value === undefined) return "can’t tell";
  return WORDS[value] ?? (value || "nothing");
}

function row({ name, given, accepted, is_right: isRight }) {
  const line = document.createElement("li");
  line.className = isRight ? "is-right" : "is-wrong";
  const verdict = isRight ? "right" : `expected ${accepted.map(word).join(" or ")}`;
  line.append(
    Object.assign(document.createElement("span"), { className: "mark", textContent: isRight ? "✓" : "✗" }),
    Object.assign(document.createElement("strong"), { textContent: TITLES[name] ?? name }),
    ` ${word(given)} `,
    Object.assign(document.createElement("span"), { className: "muted", textContent: `— ${verdict}` }),
  );
  return line;
}

export function showFeedback(root, feedback) {
  root.querySelector("h2").textContent = feedback.is_right ? "That is what we see too" : "We see it differently";
  root.querySelector("ul").replaceChildren(...feedback.questions.map(row));
  root.querySelector("[data-reason]").textContent = feedback.reason;
}
