// The page of a study that was read: verdict and thresholds, strip, viewer, corrections, the reader's view.

import { ask, base, complain, tell, work } from "./common.js";
import { startBeside } from "./beside.js";
import { Changes, growByGrey, growOnSlice, packed } from "./painting.js";
import { inWords } from "./thresholds.js";
import { Viewer, onSlice, sliceOf } from "./viewer.js";

const find = (id) => document.getElementById(id);
const data = JSON.parse(find("page-data").textContent);
const id = data.study_id;
const shape = data.grid.shape;

// -- what other thresholds would say ------------------------------------------------------------------------------------

function whatIf() {
  const threshold = Number(find("threshold").value);
  const cut = Number(find("cut").value);
  const count = data.slices.filter((slice) => slice.has_lung && slice.infection_probability >= cut).length;
  find("threshold-value").textContent = threshold;
  find("cut-value").textContent = cut.toFixed(2);
  const would = count > threshold ? "positive" : "negative";
  const withheld = data.verdict.positive_slice_threshold === null ? " This study is too small for a verdict." : "";
  find("what-if").textContent = `${count} slices count as infected: ${would}.${withheld}`;
  find("validation").textContent = inWords(data.validation, cut, threshold, data.verdict.lung_slice_count);
  drawStrip(cut);
}
find("threshold").addEventListener("input", whatIf);
find("cut").addEventListener("input", whatIf);

// -- strip of slice probabilities ---------------------------------------------------------------------------------------

const strip = find("strip");
const svg = (name, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
};
let marker = null;

function drawStrip(cut) {
  const count = data.slices.length;
  strip.setAttribute("viewBox", `0 0 ${count} 100`);
  strip.replaceChildren();
  for (const slice of data.slices) {
    const height = Math.max(2, 100 * slice.infection_probability);
    const kind = !slice.has_lung ? "outside" : slice.infection_probability >= cut ? "infected" : "";
    strip.append(svg("rect", { x: slice.slice_index + 0.1, y: 100 - height, width: 0.8, height, class: `bar ${kind}` }));
  }
  strip.append(svg("line", { x1: 0, x2: count, y1: 100 - 100 * cut, y2: 100 - 100 * cut, class: "cut" }));
  marker = svg("rect", { x: 0, y: 0, width: 1, height: 100, class: "here" });
  strip.append(marker);
}

// -- viewer -------------------------------------------------------------------------------------------------------------

const state = { tool: "look", brush: 5, dirty: false, parent: data.version, viewer: null, beside: null, changes: null };
work.isUnsaved = () => state.dirty;
window.jcsState = state; // for tests and for those who look under the bonnet

function showPosition({ voxel, mm, hu }) {
  const slice = sliceOf(data.grid, voxel);
  const known = data.slices[slice];
  const side = (value, plus, minus) => `${value >= 0 ? plus : minus} ${Math.abs(value).toFixed(1)}`;
  const place = data.grid.is_measurable ? `${side(mm[0], "R", "L")} · ${side(mm[1], "A", "P")} · ${side(mm[2], "S", "I")} mm` : "position unknown";
  const probability = known ? ` · infection probability ${known.infection_probability.toFixed(2)}` : "";
  find("where").textContent = `slice ${slice + 1} of ${data.slices.length} · ${hu === null ? "outside" : `${String(hu).replace("-", "−")} HU`} · ${place}${probability}`;
  find("slice").value = slice;
  find("slice-value").textContent = slice + 1;
  marker?.setAttribute("x", slice);
  markLesion(state.viewer?.lesionAt(voxel) ?? 0);
}

/** Show in the list which lesion the crosshair is in. */
function markLesion(lesion) {
  for (const row of document.querySelectorAll("#lesions tbody tr")) {
    const is = Number(row.dataset.lesionId) === lesion;
    if (is && !row.classList.contains("current")) {
      const box = row.closest(".scroll");
      box.scrollTop = Math.min(row.offsetTop, Math.max(box.scrollTop, row.offsetTop + row.offsetHeight - box.clientHeight));
    }
    row.classList.toggle("current", is);
    if (is) row.setAttribute("aria-current", "true");
    else row.removeAttribute("aria-current");
  }
}

function goToSlice(slice) {
  const held = Math.max(0, Math.min(data.slices.length - 1, slice));
  state.viewer?.goTo(onSlice(data.grid, held, state.viewer.position().voxel));
}

function press(attribute, value) {
  for (const button of document.querySelectorAll(`button[data-${attribute}]`)) {
    button.setAttribute("aria-pressed", String(button.dataset[attribute] === value));
  }
}

/** What is shown, of both studies where two stand side by side. */
const shown = () => [state.viewer, state.beside].filter(Boolean);

function setLayout(name) {
  for (const viewer of shown()) viewer.setLayout(name);
  press("layout", name);
}

function setWindow(key) {
  const { level_hu: level, width_hu: width } = data.windows.find((window) => window.key === key);
  for (const viewer of shown()) viewer.setWindow(level, width);
  press("window", key);
}

function setTool(tool) {
  if (tool === "measure" && !data.grid.is_measurable) return tell("Nothing can be measured: this study's geometry is unknown.");
  state.tool = tool;
  if (["paint", "erase"].includes(tool) && ["render", "multi"].includes(state.viewer.layout)) setLayout("axial");
  state.viewer.setTool(tool, state.brush);
  state.beside?.setTool(["measure", "move"].includes(tool) ? tool : "look", state.brush);
  return press("tool", tool);
}

/** Zoom by a factor; 0 shows all. */
function zoom(factor) {
  for (const viewer of shown()) {
    if (factor) viewer.zoom(factor);
    else viewer.fit();
  }
}

/** The slice to begin with where there is no lesion: of those with lung the one with the highest probability. */
function mostSuspicious() {
  const inside = data.slices.filter((slice) => slice.has_lung);
  return (inside.length ? inside : data.slices).reduce((most, slice) => (slice.infection_probability > most.infection_probability ? slice : most)).slice_index;
}

async function startViewer() {
  if (!Viewer.isPossible()) {
    find("no-webgl").hidden = false;
    find("loading").hidden = true;
    return;
  }
  const viewer = new Viewer(find("canvas"), data.grid);
  await viewer.load(id, data.version, data.windows[0]);
  state.viewer = viewer;
  state.changes = new Changes(viewer.mask);
  viewer.onMove = showPosition;
  find("slice").max = data.slices.length - 1;
  find("loading").hidden = true;
  const first = data.lesions[0];
  if (first) viewer.goTo(first.place);
  else goToSlice(mostSuspicious());
  if (data.beside) state.beside = await startBeside(find("canvas-beside"), data, viewer, data.beside);
  await offerDraft();
  document.body.dataset.viewer = "ready";
}

strip.addEventListener("click", (event) => {
  const box = strip.getBoundingClientRect();
  goToSlice(Math.floor((data.slices.length * (event.clientX - box.left)) / box.width));
});
find("slice").addEventListener("input", (event) => goToSlice(Number(event.target.value)));
for (const name of ["activation", "lesions", "densities"]) {
  find(`opacity-${name}`).addEventListener("input", (event) => {
    for (const viewer of shown()) viewer.setOpacity(name, Number(event.target.value)).catch(complain);
  });
}
document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button || !state.viewer) return;
  if (button.dataset.layout) setLayout(button.dataset.layout);
  if (button.dataset.window) setWindow(button.dataset.window);
  if (button.dataset.tool) setTool(button.dataset.tool);
  if (button.dataset.zoom) zoom(Number(button.dataset.zoom));
  if (button.dataset.lesion) {
    const lesion = data.lesions[Number(button.dataset.lesion)];
    state.viewer.goTo(lesion.place);
    find("canvas").scrollIntoView({ block: "nearest" });
  }
});

// -- corrections --------------------------------------------------------------------------------------------------------

function showChanges() {
  find("undo").disabled = !state.changes.past.length;
  find("redo").disabled = !state.changes.future.length;
  find("save").disabled = !state.dirty;
}

function changed() {
  if (!state.changes.note(state.viewer.mask)) return;
  state.dirty = true;
  find("edit-state").textContent = "Unsaved changes.";
  showChanges();
  draftSoon();
}

function step(way) {
  if (!state.changes[way](state.viewer.mask)) return;
  state.viewer.refreshMask();
  state.dirty = true;
  showChanges();
  draftSoon();
}

let draftTimer = 0;
/** Keep a draft on the server, some seconds after the last stroke. */
function draftSoon() {
  clearTimeout(draftTimer);
  draftTimer = setTimeout(keepDraft, 4000);
}

async function keepDraft() {
  if (!state.dirty) return;
  try {
    await ask("PUT", `/api/v1/studies/${id}/draft?parent=${state.parent}`, { body: await packed(state.viewer.mask) });
    if (state.dirty) find("edit-state").textContent = "Unsaved changes; a draft is kept.";
  } catch (error) {
    complain(error);
    draftTimer = setTimeout(keepDraft, 15000);
  }
}

/** Ask about a draft that was left; closing the question goes on with it, so that nothing is lost by a slip. */
async function offerDraft() {
  const answer = await ask("GET", `/api/v1/studies/${id}/draft`);
  if (answer.status === 204) return;
  const question = find("draft");
  question.showModal();
  await new Promise((done) => question.addEventListener("close", done, { once: true }));
  if (question.returnValue === "discard") {
    await ask("DELETE", `/api/v1/studies/${id}/draft`);
    return;
  }
  const content = answer.body.pipeThrough(new DecompressionStream("gzip"));
  state.viewer.setMask(new Uint8Array(await new Response(content).arrayBuffer()));
  state.parent = Number(answer.headers.get("X-Parent"));
  changed();
}

async function save(althoughNewer = false) {
  if (!state.dirty) return;
  clearTimeout(draftTimer);
  const button = find("save");
  button.disabled = true;
  find("edit-state").textContent = "Measuring the corrected lesions…";
  const query = new URLSearchParams({ parent: state.parent, note: find("note").value, although_newer: althoughNewer });
  try {
    const answer = await ask("POST", `/api/v1/studies/${id}/corrections?${query}`, { body: await packed(state.viewer.mask) });
    const saved = await answer.json();
    state.dirty = false;
    location.assign(`${base}/studies/${id}?version=${saved.version}`);
  } catch (error) {
    find("edit-state").textContent = error.message;
    button.disabled = false;
    if (error.code === "NEWER_VERSION" && confirm(`${error.message}\n\nSave yours as another version?`)) await save(true);
    else complain(error);
  }
}

// NiiVue paints while the button is down; a stroke is whole when it has handled the release.
window.addEventListener("pointerup", () => {
  if (["paint", "erase"].includes(state.tool) && state.viewer) setTimeout(changed, 0);
});
window.addEventListener("beforeunload", (event) => {
  if (state.dirty) event.preventDefault();
});
find("undo").addEventListener("click", () => step("undo"));
find("redo").addEventListener("click", () => step("redo"));
find("save").addEventListener("click", () => save());
find("grow").addEventListener("click", () => {
  growOnSlice(state.viewer.mask, shape, state.viewer.position().voxel[2]);
  state.viewer.refreshMask();
  changed();
});
function growGrey() {
  const { viewer } = state;
  const added = growByGrey(viewer.hu, viewer.mask, shape, viewer.spacing, viewer.position().voxel, Number(find("tolerance").value), Number(find("reach").value));
  viewer.refreshMask();
  changed();
  tell(added ? `${added} voxels added.` : "No further voxels of that grey value here.");
}
find("grow-grey").addEventListener("click", growGrey);
for (const name of ["tolerance", "reach"]) {
  find(name).addEventListener("input", (event) => {
    find(`${name}-value`).textContent = event.target.value;
  });
}
find("interpolate").addEventListener("click", () => {
  try {
    state.viewer.interpolateSlices();
    changed();
  } catch (error) {
    tell(`Paint the first and the last slice first (${error.message}).`, { bad: true });
  }
});
find("brush").addEventListener("input", (event) => {
  state.brush = Number(event.target.value);
  find("brush-value").textContent = state.brush;
  state.viewer?.setTool(state.tool, state.brush);
});

// -- keys ---------------------------------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const isUndo = (event.ctrlKey || event.metaKey) && !event.altKey && ["z", "Z", "y"].includes(event.key);
  if (!state.viewer || find("draft").open || event.altKey || ((event.ctrlKey || event.metaKey) && !isUndo) || event.target.closest("input:not([type=range]), textarea, select")) return;
  const preset = data.windows[Number(event.key) - 1];
  const acts = {
    ArrowUp: () => goToSlice(Number(find("slice").value) - 1),
    ArrowDown: () => goToSlice(Number(find("slice").value) + 1),
    b: () => setTool("paint"),
    e: () => setTool("erase"),
    g: growGrey,
    n: () => setTool("look"),
    m: () => setTool("measure"),
    "+": () => zoom(1.25),
    "-": () => zoom(0.8),
    0: () => zoom(0),
    z: () => step("undo"),
    Z: () => step("redo"),
    y: () => step("redo"),
    s: () => save(),
    "[": () => find("brush").stepDown() ?? find("brush").dispatchEvent(new Event("input")),
    "]": () => find("brush").stepUp() ?? find("brush").dispatchEvent(new Event("input")),
  };
  const act = preset ? () => setWindow(preset.key) : acts[event.key];
  if (!act || (event.target.matches("input[type=range]") && event.key.startsWith("Arrow"))) return;
  event.preventDefault();
  event.stopImmediatePropagation();
  act();
}, true);

// -- the reader's view, sharing, deletion -----------------------------------------------------------------------------

/** Whoever disagrees must say why. */
function requireReason() {
  const form = find("opinion");
  form.elements.reason.required = form.elements.agrees.value === "no";
  find("reason-required").hidden = !form.elements.reason.required;
}
find("opinion").addEventListener("change", requireReason);
find("opinion").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const json = { agrees: form.get("agrees") === "yes", reason: form.get("reason") };
  await ask("POST", `/api/v1/studies/${id}/opinions`, { json }).then(() => {
    const line = document.createElement("li");
    line.textContent = `You ${json.agrees ? "agree" : "disagree"}${json.reason ? `: ${json.reason}` : ""}`;
    find("opinions").prepend(line);
    event.target.reset();
    requireReason();
    tell("Your answer is saved beside the automatic result.");
  }, complain);
});
find("send")?.addEventListener("click", async ({ target }) => {
  target.disabled = true;
  tell("Sending to the PACS…");
  try {
    const receipt = await (await ask("POST", `/api/v1/studies/${id}/send?version=${target.dataset.version}`)).json();
    const present = receipt.present ? `; ${receipt.present} of them were there already` : "";
    const changed = receipt.changed ? `; the PACS warns that it changed ${receipt.changed} of them, see its log` : "";
    tell(`${receipt.stored} objects are in the PACS${present}${changed}.`);
  } catch (error) {
    complain(error);
  }
  target.disabled = false;
});
function showShares(users) {
  const lines = users.map((user) => {
    const line = document.createElement("li");
    const stop = document.createElement("button");
    Object.assign(stop, { type: "button", className: "plain", textContent: "Stop sharing", ariaLabel: `Stop sharing with ${user}` });
    stop.dataset.unshare = user;
    line.append(`Shared with ${user} `, stop);
    return line;
  });
  find("shared").replaceChildren(...lines);
}
find("share")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const user = new FormData(event.target).get("user");
  await ask("POST", `/api/v1/studies/${id}/shares`, { json: { user } }).then(async (answer) => {
    showShares((await answer.json()).shared_with);
    event.target.reset();
    tell(`Shared with ${user}.`);
  }, complain);
});
find("shared")?.addEventListener("click", async ({ target }) => {
  const user = target.dataset.unshare;
  if (!user) return;
  await ask("DELETE", `/api/v1/studies/${id}/shares/${encodeURIComponent(user)}`).then(async (answer) => {
    showShares((await answer.json()).shared_with);
    tell(`No longer shared with ${user}.`);
  }, complain);
});
find("delete")?.addEventListener("click", async () => {
  if (!confirm("Delete this study with everything that belongs to it?")) return;
  state.dirty = false;
  await ask("DELETE", `/api/v1/studies/${id}`).then(() => location.assign(`${base}/`), complain);
});

whatIf();
startViewer().catch((error) => {
  find("loading").textContent = `The viewer could not start: ${error.message}`;
  complain(error);
});
