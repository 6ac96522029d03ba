// Practice: what was answered, what is accepted, and why. Adjudication: what others answered before.

import { t } from "./texts.js";
import { wording } from "./wording.js";

function make(tag, textContent, className = "") {
  return Object.assign(document.createElement(tag), { textContent, className });
}

function row(question, { name, given, accepted, is_right: isRight }) {
  const line = make("li", "", isRight ? "is-right" : "is-wrong");
  const words = accepted.map((answer) => (question ? wording(question, answer) : answer));
  const verdict = isRight ? t("right") : t("expected", { answers: words.join(` ${t("or")} `) });
  line.append(
    make("span", isRight ? "✓" : "✗", "mark"),
    make("strong", question?.text ?? name),
    ` ${question ? wording(question, given) : given} `,
    make("span", `— ${verdict}`, "muted"),
  );
  return line;
}

export function showFeedback(root, questions, feedback) {
  const asked = new Map(questions.map((question) => [question.name, question]));
  const order = [...asked.keys()];
  const answers = [...feedback.questions].sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  root.querySelector("h2").textContent = t(feedback.is_right ? "feedback_right" : "feedback_wrong");
  root.querySelector("ul").replaceChildren(...answers.map((one) => row(asked.get(one.name), one)));
  root.querySelector("[data-reason]").textContent = feedback.reason;
  root.querySelector("[data-sentence]").textContent = feedback.sentence ?? "";
}

/** Cards of the answers that disagree; who gave them is not said. */
export function showEarlier(place, earlier) {
  place.hidden = !earlier?.length;
  place.replaceChildren(...(earlier ?? []).map(card));
}

function card({ letter, words }) {
  const article = make("article", "", "earlier");
  const list = document.createElement("dl");
  for (const said of words) list.append(make("dt", said.question), make("dd", said.words));
  article.append(make("h3", t("answer_n", { name: letter })), list);
  return article;
}
