// What every page needs: addresses under the base path, requests with the token against forgery, messages.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const base = meta("base");

/** A request to the interface; throws an Error with the answer's code, message and status. */
export async function ask(method, path, { body, json, headers = {}, signal } = {}) {
  const options = { method, signal, headers: { ...headers }, credentials: "same-origin" };
  if (method !== "GET") options.headers["X-CSRF-Token"] = meta("csrf");
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["Content-Type"] = "application/json";
  } else if (body !== undefined) {
    options.body = body;
  }
  const answer = await fetch(`${base}${path}`, options);
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  const text = content.message ?? `the server answered ${answer.status}`;
  const error = new Error(content.code ? `${text} (${content.code})` : text);
  Object.assign(error, { status: answer.status, code: content.code ?? "", facts: content });
  error.retryAfter = Number(answer.headers.get("Retry-After") ?? 0);
  if (answer.status === 401) location.assign(`${base}/login`);
  throw error;
}

/** Tell the reader something, for some seconds; problems stay longer. */
export function tell(text, { bad = false } = {}) {
  const line = document.createElement("p");
  line.textContent = text;
  line.classList.toggle("bad", bad);
  document.getElementById("messages").append(line);
  setTimeout(() => line.remove(), bad ? 15000 : 5000);
}

/** Seconds in words: "40 s", "3 min". */
export function duration(seconds) {
  return seconds < 120 ? `${seconds} s` : `${Math.round(seconds / 60)} min`;
}

export function complain(error) {
  tell(error.message, { bad: true });
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "w" || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]), textarea, select")) return;
  location.assign(`${base}/`);
});

document.getElementById("logout")?.addEventListener("click", async () => {
  await ask("POST", "/logout").catch(complain);
  location.assign(`${base}/login`);
});
