// A study that is not read yet: its stage as it changes, and what can be done about it.

import { ask, base, complain, duration, follow } from "./common.js";

const root = document.getElementById("study");
const id = root.dataset.study;

if (["queued", "running"].includes(root.dataset.state)) {
  const show = (event) => {
    const study = JSON.parse(event.data);
    if (!["queued", "running"].includes(study.state)) {
      location.reload();
      return;
    }
    const place = study.place ? `, place ${study.place} in the queue` : "";
    const left = study.seconds_left ? `, about ${duration(study.seconds_left)} left` : "";
    document.getElementById("stage").textContent = `${study.stage_name || "Waiting"}${place}${left}`;
    const bar = document.getElementById("bar");
    bar.max = study.total || 1;
    bar.value = study.done;
  };
  follow(`/api/v1/events?study_id=${id}`, { study: show });
}

for (const button of root.querySelectorAll("button[data-act]")) {
  button.addEventListener("click", async () => {
    await ask("POST", `/api/v1/studies/${id}/${button.dataset.act}`).then(() => location.reload(), complain);
  });
}
document.getElementById("delete")?.addEventListener("click", async () => {
  if (!confirm("Delete this study with everything that belongs to it?")) return;
  await ask("DELETE", `/api/v1/studies/${id}`).then(() => location.assign(`${base}/`), complain);
});
