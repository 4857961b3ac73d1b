"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const { slices, words, windows } = data;
  const small = new Set(data.small);
  const screen = byId("screen"), viewer = byId("viewer"), slider = byId("slider"), outlines = byId("outlines");
  const plot = byId("plot"), cursor = byId("cursor"), views = [...document.querySelectorAll(".view-picture")];
  const svgNamespace = outlines.namespaceURI;
  const letter = data.width / 40; // height of a lesion's number in picture units
  outlines.style.fontSize = `${letter}px`;
  let current = 0, chosenLesion = null, shownWindow = windows.lung;

  /** A text with its {names} filled in. */
  const fill = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
  const hidesSmall = () => byId("hide-small")?.checked ?? false;

  /** Place in the shown slices that is nearest to a slice of the study. */
  const nearest = (index) => {
    let best = 0;
    slices.forEach((slice, place) => {
      if (Math.abs(slice.index - index) < Math.abs(slices[best].index - index)) best = place;
    });
    return best;
  };

  /** The rightmost point of an outline, where its number stands. */
  const rightmost = (path) => path.slice(1).split(/[MLZ]+/).filter(Boolean)
    .map((point) => point.split(",").map(Number)).reduce((best, point) => (point[0] > best[0] ? point : best));

  const drawOutlines = (slice) => {
    outlines.replaceChildren();
    const isShown = byId("show-outlines")?.checked ?? false;
    for (const [legend, isThere] of [["outline-legend", isShown], ["chosen-legend", isShown && chosenLesion !== null]]) {
      byId(legend)?.toggleAttribute("hidden", !isThere);
    }
    if (!isShown) return;
    for (const [lesion, path] of slice.outlines) {
      for (const kind of ["outline rim", "outline"]) {
        const shape = document.createElementNS(svgNamespace, "path");
        shape.setAttribute("d", path);
        shape.setAttribute("class", lesion === chosenLesion ? `${kind} chosen` : kind);
        outlines.append(shape);
      }
      if (!byId("show-numbers").checked || (hidesSmall() && small.has(lesion))) continue;
      const [x, y] = rightmost(path);
      const number = document.createElementNS(svgNamespace, "text");
      number.textContent = lesion;
      number.setAttribute("x", Math.min(x + letter * 0.2, data.width - letter * 2));
      number.setAttribute("y", Math.max(y + letter * 0.35, letter));
      number.setAttribute("class", lesion === chosenLesion ? "chosen" : "");
      outlines.append(number);
    }
  };

  const drawFields = (slice) => {
    const rows = slice.fields.filter(([lesion]) => !(hidesSmall() && small.has(lesion)));
    byId("on-slice").hidden = rows.length === 0;
    byId("fields").replaceChildren(...rows.map((row) => {
      const line = document.createElement("tr");
      line.append(...row.map((value) => {
        const cell = document.createElement("td");
        cell.textContent = value === null ? "–" : String(value).replace(".", words.decimal_mark);
        return cell;
      }));
      return line;
    }));
  };

  const show = (place) => {
    current = Math.max(0, Math.min(slices.length - 1, place));
    const slice = slices[current];
    const state = slice.infected ? words.infected : slice.lung ? words.clear : words.outside;
    const ct = byId("ct");
    ct.src = slice[shownWindow.picture];
    ct.style.filter = shownWindow.filter;
    ct.alt = fill(words.picture, { slice: slice.index + 1, state });
    const map = byId("map");
    const showMap = byId("show-map").checked && slice.map !== null;
    map.hidden = !showMap;
    if (showMap) map.src = slice.map;
    map.style.opacity = byId("map-opacity").value / 100;
    byId("map-legend").hidden = !byId("show-map").checked;
    const where = fill(words.where, { slice: slice.index + 1, count: data.count });
    byId("where").textContent = [
      where, fill(words.probability, { probability: slice.probability, state }),
      ...(byId("show-map").checked && slice.map === null ? [words.no_map] : []),
    ].join("\n");
    slider.value = current;
    slider.setAttribute("aria-valuetext", `${where}, ${state}`);
    const left = Number(cursor.dataset.left), width = Number(cursor.dataset.width);
    const x = left + ((slice.index + 0.5) / data.count) * width;
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    for (const view of views) {
      const line = view.querySelector(".view-cursor"), y = ((slice.index + 0.5) / data.count) * view.viewBox.baseVal.height;
      line.setAttribute("y1", y);
      line.setAttribute("y2", y);
    }
    drawOutlines(slice);
    drawFields(slice);
  };

  const choose = (lesion) => {
    chosenLesion = lesion;
    for (const row of document.querySelectorAll("#lesion-table tbody tr")) {
      row.classList.toggle("chosen", Number(row.dataset.lesion) === lesion);
    }
  };

  /** Show a slice of the study; where a phone has the viewer out of sight, bring it back. */
  const jump = (index, lesion) => {
    choose(lesion);
    show(nearest(index));
    const place = screen.getBoundingClientRect();
    if (place.bottom < 80 || place.top > window.innerHeight - 80) viewer.scrollIntoView({ block: "start" });
  };

  slider.addEventListener("input", () => show(Number(slider.value)));
  for (const id of ["show-outlines", "show-numbers", "show-map", "map-opacity"].filter(byId)) {
    byId(id).addEventListener("input", () => show(current));
  }
  for (const button of document.querySelectorAll("input[name=window]")) {
    button.addEventListener("input", () => { shownWindow = windows[button.value]; show(current); });
  }

  let wheel = 0;
  screen.addEventListener("wheel", (event) => {
    event.preventDefault();
    wheel += event.deltaMode === 0 ? event.deltaY / 100 : event.deltaY / 3; // one notch, one slice
    const steps = Math.trunc(wheel) || (Math.abs(event.deltaY) >= 60 ? Math.sign(event.deltaY) : 0);
    if (steps !== 0) { wheel = 0; show(current + Math.sign(steps) * Math.min(Math.abs(steps), 5)); }
  }, { passive: false });

  let drag = null;
  screen.addEventListener("pointerdown", (event) => {
    drag = { y: event.clientY, place: current };
    screen.setPointerCapture(event.pointerId);
    viewer.focus({ preventScroll: true });
  });
  screen.addEventListener("pointermove", (event) => {
    if (drag === null) return;
    const perSlice = Math.max(3, screen.clientHeight / Math.max(slices.length, 60));
    show(drag.place + Math.round((event.clientY - drag.y) / perSlice));
  });
  for (const end of ["pointerup", "pointercancel"]) screen.addEventListener(end, () => { drag = null; });

  const keys = {
    ArrowUp: () => current - 1, ArrowLeft: () => current - 1, ArrowDown: () => current + 1, ArrowRight: () => current + 1,
    PageUp: () => current - 10, PageDown: () => current + 10, Home: () => 0, End: () => slices.length - 1,
  };
  viewer.addEventListener("keydown", (event) => {
    if (!(event.key in keys) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(keys[event.key]());
  });

  plot.addEventListener("click", (event) => {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(plot.getScreenCTM().inverse());
    const place = (point.x - Number(cursor.dataset.left)) / Number(cursor.dataset.width);
    jump(Math.max(0, Math.min(data.count - 1, Math.floor(place * data.count))), null);
  });
  for (const view of views) {
    view.addEventListener("click", (event) => {
      const box = view.getBoundingClientRect(), place = (event.clientY - box.top) / box.height;
      jump(Math.max(0, Math.min(data.count - 1, Math.floor(place * data.count))), null);
    });
  }
  for (const button of document.querySelectorAll(".key-slice")) {
    button.addEventListener("click", () => jump(Number(button.dataset.slice), null));
  }

  const table = byId("lesion-table");
  if (table !== null) {
    const body = table.tBodies[0];
    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (row !== null) jump(Number(row.dataset.slice), Number(row.dataset.lesion));
    });
    const filter = byId("hide-small");
    const applyFilter = () => table.classList.toggle("hides-small", hidesSmall());
    filter?.addEventListener("input", () => { applyFilter(); show(current); });
    applyFilter();
    const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        const upwards = heading.getAttribute("aria-sort") !== "ascending";
        for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", upwards ? "ascending" : "descending");
        const compare = (a, b) => value(a, column).localeCompare(value(b, column), "en", { numeric: true });
        const byNumber = (a, b) => Number(value(a, column)) - Number(value(b, column));
        const rows = [...body.rows];
        const isNumeric = rows.every((row) => !Number.isNaN(Number(value(row, column))));
        rows.sort((a, b) => (upwards ? 1 : -1) * (isNumeric ? byNumber(a, b) : compare(a, b)));
        body.append(...rows);
      });
    });
  }

  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  show(nearest(data.first));
})();
