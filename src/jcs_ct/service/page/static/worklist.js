// The worklist: sending studies, and rows that follow what happens.

import { ask, complain, duration, follow, givenName, tell } from "./common.js";

const rows = document.getElementById("rows");

// -- sending ----------------------------------------------------------------------------------------------------------

/** Files of a drop, folders included: [{file, name}]. */
async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, name: file.name }));
  const found = [];
  const walk = async (entry) => {
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push({ file, name: entry.fullPath.slice(1) });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!some.length) return;
      for (const child of some) await walk(child);
    }
  };
  for (const entry of entries) await walk(entry);
  return found;
}

/** The bytes from `offset` on, at most `size`, of files that follow each other. */
function piece(files, offset, size) {
  const parts = [];
  for (const { file } of files) {
    if (size <= 0) break;
    if (offset >= file.size) {
      offset -= file.size;
      continue;
    }
    const part = file.slice(offset, offset + size);
    parts.push(part);
    size -= part.size;
    offset = 0;
  }
  return new Blob(parts);
}

const pause = (seconds) => new Promise((done) => setTimeout(done, 1000 * seconds));

/** Send chunk after chunk; after a cut ask how much arrived and go on from there. */
async function sendAll(upload, files, stop, onBytes) {
  let offset = upload.received;
  let failures = 0;
  while (offset < upload.total_bytes) {
    try {
      const body = piece(files, offset, upload.chunk_bytes);
      const answer = await ask("PUT", `/api/v1/uploads/${upload.upload_id}?offset=${offset}`, { body, signal: stop });
      offset = (await answer.json()).received;
      failures = 0;
    } catch (error) {
      if (stop.aborted || (error.status && error.status < 500 && error.code !== "WRONG_OFFSET") || ++failures > 8) throw error;
      await pause(Math.min(30, 2 ** failures / 2));
      const state = await ask("GET", `/api/v1/uploads/${upload.upload_id}`).catch(() => null);
      if (state) offset = (await state.json()).received;
    }
    onBytes(offset);
  }
}

/** Have what was sent made a study; asked again after a cut, the server answers with the same one. */
async function complete(upload, stop) {
  for (let failures = 0; ; ) {
    try {
      return await ask("POST", `/api/v1/uploads/${upload.upload_id}/complete`);
    } catch (error) {
      if (stop.aborted || (error.status && error.status < 500) || ++failures > 8) throw error;
      await pause(Math.min(30, 2 ** failures / 2));
    }
  }
}

/** What these files are called in this browser: a hash, since their names may be a patient's; "" where it knows none. */
async function signature(files) {
  if (!crypto.subtle) return ""; // a page over plain http that is not this machine's
  const text = JSON.stringify(files.map(({ file, name }) => [name, file.size, file.lastModified]));
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return `upload ${[...hash].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}

/** The upload of the same files that was cut when this page was closed, as far as it came; or null. */
async function begun(known) {
  const kept = JSON.parse(localStorage.getItem(known) ?? "null");
  if (!kept) return null;
  try {
    const { received } = await (await ask("GET", `/api/v1/uploads/${kept.upload_id}`)).json();
    return { ...kept, received };
  } catch (error) {
    if (error.code !== "UNKNOWN_UPLOAD") throw error;
    localStorage.removeItem(known);
    return null;
  }
}

async function announce(label, files, status, known) {
  const before = await begun(known);
  if (before) return before;
  for (;;) {
    try {
      const list = files.map(({ file, name }) => ({ name, size: file.size }));
      const upload = await (await ask("POST", "/api/v1/uploads", { json: { label, files: list } })).json();
      if (known) localStorage.setItem(known, JSON.stringify(upload));
      return upload;
    } catch (error) {
      if (error.code !== "TOO_MANY_UPLOADS") throw error;
      status.textContent = "waiting for other uploads";
      await pause(error.retryAfter || 10);
    }
  }
}

/** Why the server will not take these files, before they are announced; "" where it may. */
function beyondLimits(files, { mostFiles, mostBytes }) {
  if (files.length > Number(mostFiles)) return `${files.length} files were chosen, ${mostFiles} are allowed; send one study at a time (TOO_MANY_FILES)`;
  const bytes = files.reduce((sum, { file }) => sum + file.size, 0);
  const gib = (value) => (value / 1024 ** 3).toFixed(1);
  return bytes > Number(mostBytes) ? `${gib(bytes)} GiB were chosen, ${gib(Number(mostBytes))} GiB are allowed; send one series only (UPLOAD_TOO_LARGE)` : "";
}

async function send(files) {
  if (!files.length) return tell("No files were chosen.", { bad: true });
  const tooMuch = beyondLimits(files, drop.dataset);
  if (tooMuch) return tell(tooMuch, { bad: true });
  const label = givenName();
  document.getElementById("label").value = "";
  const line = document.createElement("li");
  const [name, bar, status, cancel] = ["span", "progress", "span", "button"].map((tag) => document.createElement(tag));
  name.textContent = label;
  bar.setAttribute("aria-label", `Sending ${label}`);
  cancel.type = "button";
  cancel.textContent = "Stop";
  line.append(name, bar, status, cancel);
  document.getElementById("uploads").append(line);
  const stop = new AbortController();
  cancel.addEventListener("click", () => stop.abort());
  let upload = null;
  let known = "";
  try {
    known = await signature(files);
    upload = await announce(label, files, status, known);
    const ordered = upload.order.map((index) => files[index]);
    bar.max = upload.total_bytes || 1;
    await sendAll(upload, ordered, stop.signal, (bytes) => {
      bar.value = bytes;
      status.textContent = `${(bytes / 1048576).toFixed(1)} of ${(upload.total_bytes / 1048576).toFixed(1)} MB`;
    });
    await complete(upload, stop.signal);
    localStorage.removeItem(known);
    line.remove();
    tell(`${label} was sent and is waiting to be read.`);
    changed();
  } catch (error) {
    localStorage.removeItem(known);
    if (upload && error.code !== "UNKNOWN_UPLOAD") ask("DELETE", `/api/v1/uploads/${upload.upload_id}`).catch(complain);
    status.textContent = stop.signal.aborted ? "stopped" : error.message;
    status.className = stop.signal.aborted ? "quiet" : "problem";
    cancel.textContent = "Close";
    cancel.addEventListener("click", () => line.remove());
  }
}

const drop = document.getElementById("drop");
for (const name of ["dragover", "dragenter"]) {
  drop.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
}
drop.addEventListener("dragleave", () => drop.classList.remove("over"));
drop.addEventListener("drop", async (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  send(await droppedFiles(event.dataTransfer));
});
/** Send what was chosen; also before this script was there. */
function take(input) {
  const files = [...input.files].map((file) => ({ file, name: file.webkitRelativePath || file.name }));
  input.value = "";
  send(files);
}
for (const id of ["pick-folder", "pick-files"]) {
  const input = document.getElementById(id);
  input.addEventListener("change", () => take(input));
  if (input.files.length) take(input);
}

// -- following --------------------------------------------------------------------------------------------------------

let due = 0;
/** Fetch the rows anew, at most twice a second. */
function changed() {
  clearTimeout(due);
  due = setTimeout(() => document.body.dispatchEvent(new Event("studies-changed")), 300);
}

function follows(event) {
  const study = JSON.parse(event.data);
  const row = rows.querySelector(`tr[data-study="${study.study_id}"]`);
  const bar = row?.querySelector("progress");
  if (row?.dataset.state === "running" && study.state === "running" && bar) {
    row.querySelector(".stage").textContent = study.stage_name || "Starting";
    bar.max = study.total || 1;
    bar.value = study.done;
    const left = row.querySelector(".left");
    if (left && study.seconds_left) left.textContent = `about ${duration(study.seconds_left)} left`;
  } else if (row?.dataset.state !== study.state || study.state === "queued") {
    changed();
  }
}
follow("/api/v1/events", { study: follows, gone: changed });

rows.addEventListener("click", async (event) => {
  const act = event.target.closest("button[data-act]")?.dataset.act;
  if (!act) return;
  const id = event.target.closest("tr").dataset.study;
  await ask("POST", `/api/v1/studies/${id}/${act}`).catch(complain);
  changed();
});

// -- filters, which a phone folds away --------------------------------------------------------------------------------

const filters = document.getElementById("filters");
const fold = document.getElementById("show-filters");
/** Folded filters say how many of them leave studies out. */
function countFilters() {
  const set = [...new FormData(filters).values()].filter(Boolean).length;
  fold.textContent = set ? `Filters (${set} set)` : "Filters";
}
const unfold = (isOpen) => fold.setAttribute("aria-expanded", String(isOpen));
fold.addEventListener("click", () => unfold(fold.getAttribute("aria-expanded") === "false"));
filters.addEventListener("input", countFilters);
countFilters();

// -- keyboard ---------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const search = document.querySelector("#filters input[name=text]");
  if (event.key === "Escape" && event.target.closest("#filters")) event.target.blur();
  if (event.key === "/" && !event.target.closest("input, select, textarea")) {
    unfold(true);
    search.focus();
    event.preventDefault();
  }
  if (!["ArrowDown", "ArrowUp"].includes(event.key) || event.target.closest("input, select, textarea")) return;
  const links = [...rows.querySelectorAll("th a")];
  if (!links.length) return;
  const here = links.indexOf(document.activeElement);
  const next = here < 0 ? 0 : here + (event.key === "ArrowDown" ? 1 : -1);
  links[Math.max(0, Math.min(links.length - 1, next))].focus();
  event.preventDefault();
});
