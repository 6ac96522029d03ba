// Requests to the server, and the few ways in which they fail.

import { t } from "./texts.js";

export class Offline extends Error {}
export class SignedOut extends Error {}
export class Refused extends Error {}

function csrfToken() {
  // Read at each request: signing in again in another tab changes it.
  const match = document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/);
  return match ? decodeURIComponent(match[1]) : document.body.dataset.csrf ?? "";
}

export async function request(url, { body, method = "POST", timeout = 20000, keepalive = false } = {}) {
  let response;
  try {
    response = await fetch(url, {
      method,
      keepalive,
      credentials: "same-origin",
      redirect: "error",
      headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": csrfToken() },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(timeout),
    });
  } catch (error) {
    throw new Offline(t("unreachable"), { cause: error });
  }
  // Only our own JSON counts: a captive portal answers 200 with a page of its own.
  if (!(response.headers.get("Content-Type") ?? "").includes("json")) {
    throw new Offline(t("foreign_answer", { status: response.status }));
  }
  const reply = await response.json();
  if (response.ok) return reply;
  throw failure(response.status, reply.error ?? t("bad_answer", { status: response.status }));
}

function failure(status, text) {
  if (status === 401) return new SignedOut(text);
  const isPassing = status === 408 || status === 429 || status >= 500;
  return Object.assign(isPassing ? new Offline(text) : new Refused(text), { status });
}
