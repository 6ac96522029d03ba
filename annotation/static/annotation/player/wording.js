// An answer in words, as feedback and the cards of earlier answers show it.

import { t } from "./texts.js";

export function wording({ kind, choices }, value) {
  if (kind === "marks") return t("n_marked", { n: value?.length ?? 0 });
  if (kind === "cells") return value?.length ? value.map((cell) => cell + 1).join(", ") : t("none_of_them");
  if (kind === "cell") return value === null || value === undefined ? t("nothing") : String(value + 1);
  if (kind === "choice") return choices.find((choice) => choice.value === (value ?? null))?.word ?? t("nothing");
  return value || t("nothing");
}
