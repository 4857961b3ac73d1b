// What every page needs: addresses under the base path, requests with the token against forgery, messages.

const meta = (name) => document.querySelector(`meta[name="${name}"]`).content;

export const base = meta("base");

/** Whether the page holds what leaving it for the login would lose; a page that can says so here. */
export const work = { isUnsaved: () => false };

let csrf = meta("csrf");

/** Take the token of the session that this browser has now; whether there is one, of the same reader. */
async function renewed() {
  const answer = await fetch(`${base}/api/v1/session`, { credentials: "same-origin" });
  const now = answer.ok ? await answer.json() : { user: "" };
  if (now.user !== meta("user")) return false;
  csrf = now.csrf;
  return true;
}

/** The login, which leads back to this page. */
const login = () => `${base}/login?next=${encodeURIComponent(location.pathname + location.search)}`;

/** A request to the interface; throws an Error with the answer's code, message and status. */
export async function ask(method, path, { body, json, headers = {}, signal } = {}, isFirst = true) {
  const options = { method, signal, headers: { ...headers }, credentials: "same-origin" };
  if (method !== "GET") options.headers["X-CSRF-Token"] = csrf;
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers["Content-Type"] = "application/json";
  } else if (body !== undefined) {
    options.body = body;
  }
  const answer = await fetch(`${base}${path}`, options);
  if (answer.ok) return answer;
  const content = await answer.json().catch(() => ({}));
  if (content.code === "FORGED" && isFirst && (await renewed())) return ask(method, path, { body, json, headers, signal }, false);
  let text = content.message ?? `the server answered ${answer.status}`;
  if (answer.status === 401) {
    if (work.isUnsaved()) text = "Your session has ended. Log in again in another tab: what you painted stays here, and you can save it then";
    else location.assign(login());
  }
  const error = new Error(content.code ? `${text} (${content.code})` : text);
  Object.assign(error, { status: answer.status, code: content.code ?? "", facts: content });
  error.retryAfter = Number(answer.headers.get("Retry-After") ?? 0);
  throw error;
}

/** Follow server-sent events, also after the server, or the proxy before it, was away; without a session, to the login. */
export function follow(path, acts) {
  const events = new EventSource(`${base}${path}`);
  for (const [name, act] of Object.entries(acts)) events.addEventListener(name, act);
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    const again = () => follow(path, acts);
    setTimeout(() => ask("GET", "/api/v1/session").then(again, again), 3000);
  });
}

/** Tell the reader something, for some seconds; problems stay longer, but not beyond the next success. */
export function tell(text, { bad = false } = {}) {
  if (!bad) document.querySelectorAll("#messages .bad").forEach((line) => line.remove());
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

/** How many studies of this page have which name by the time of day. */
const named = new Map();

/** A name by the time of day, another one for each study. */
function unnamed() {
  const moment = new Date();
  moment.setMinutes(moment.getMinutes() - moment.getTimezoneOffset()); // the reader's clock, as ISO 8601
  const name = `Study of ${moment.toISOString().slice(0, 19).replace("T", " ")}`;
  named.set(name, (named.get(name) ?? 0) + 1);
  return named.get(name) > 1 ? `${name} (${named.get(name)})` : name;
}

/** What the person typed as a study's name, or one by the time of day: never the folder's, which may be a patient's. */
export const givenName = () => document.getElementById("label").value.trim() || unnamed();
