// Studies that are already somewhere: a folder of the server, or the PACS.

import { ask, complain, givenName, tell } from "./common.js";

/** Whether the study is queued; what went wrong is shown. */
async function have(json, name) {
  try {
    await ask("POST", "/api/v1/studies", { json: { label: givenName(), ...json } });
    document.getElementById("label").value = "";
    tell(`${name} is waiting to be read.`);
    document.body.dispatchEvent(new Event("studies-changed"));
    return true;
  } catch (error) {
    complain(error);
    return false;
  }
}

// -- a folder of the server ---------------------------------------------------------------------------------------------

const entry = document.getElementById("entry");
let listed = [];

function showEntries() {
  const chosen = listed.find((one) => one.folder === document.getElementById("folder").value);
  const studies = chosen?.studies ?? [];
  entry.replaceChildren(...studies.map((one) => new Option(`${one.name} (${new Date(1000 * one.changed_at).toISOString().slice(0, 10)})`, one.name)));
  entry.disabled = document.getElementById("pick-entry").disabled = !studies.length;
  if (!studies.length) entry.append(new Option("empty"));
}

document.getElementById("folders")?.addEventListener("toggle", async (event) => {
  if (!event.target.open) return;
  try {
    listed = (await (await ask("GET", "/api/v1/folders")).json()).folders;
    showEntries();
  } catch (error) {
    complain(error);
  }
});
document.getElementById("folder")?.addEventListener("change", showEntries);
document.getElementById("pick-entry")?.addEventListener("click", () => {
  have({ folder: document.getElementById("folder").value, name: entry.value }, "The study");
});

// -- the PACS -----------------------------------------------------------------------------------------------------------

const found = document.getElementById("pacs-found");

function row(study) {
  const line = document.createElement("tr");
  const date = study.date.replace(/^(\d{4})(\d{2})(\d{2})$/, "$1-$2-$3");
  for (const [text, kind] of [[date || "no date", ""], [study.description || "–", ""], [study.object_count ?? "–", "number"]]) {
    const cell = document.createElement("td");
    cell.textContent = text;
    cell.className = kind;
    line.append(cell);
  }
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Fetch and read";
  button.setAttribute("aria-label", `Fetch and read the study of ${date || "no date"}`);
  button.addEventListener("click", async () => {
    button.disabled = true;
    button.disabled = await have({ study_uid: study.study_uid }, `The study of ${date || "no date"}`);
  });
  const cell = document.createElement("td");
  cell.append(button);
  line.append(cell);
  return line;
}

document.getElementById("pacs-search")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const status = document.getElementById("pacs-state");
  status.textContent = "Searching…";
  found.hidden = true;
  try {
    const query = new URLSearchParams(new FormData(event.target));
    const { studies } = await (await ask("GET", `/api/v1/pacs/studies?${query}`)).json();
    found.tBodies[0].replaceChildren(...studies.map(row));
    found.hidden = !studies.length;
    status.textContent = studies.length ? "" : "The PACS holds no CT study for that patient or order.";
  } catch (error) {
    status.textContent = error.message;
  }
});
