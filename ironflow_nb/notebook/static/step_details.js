// What belongs to a chosen node: its steps with inputs, output and error, its log and its source; and the log of a run.
import { button, make, spoken } from "./elements.js";
import { editControls } from "./step_forms.js";

const LOG_AGAIN_MS = 1000;

/**
 * Show the details of a node. A form that is open there stays as it is.
 * @param {import("./elements.js").Send} send
 */
export function showDetails(place, found, frame, send, forget) {
  if (place.dataset.node === found.node_id && place.querySelector(".ironflow-edit[data-edit]")) return;
  const opened = Object.fromEntries([...place.querySelectorAll("details")].map((each) => [each.dataset.name, each.open]));
  place.dataset.node = found.node_id;
  place.replaceChildren();
  const head = make("div", "ironflow-wait-head", place);
  make("strong", "", head).textContent = found.label || "several nodes";
  if (found.n_steps > 1) make("span", "", head).textContent = `${found.n_steps} steps`;
  button(head, "Close", "Close the details", () => {
    place.replaceChildren();
    forget();
  });
  if (!found.steps.length) make("p", "", place).textContent = found.title || "nothing of it is recorded";
  for (const step of found.steps) {
    const item = stepElement(place, step, opened[step.step] ?? (found.steps.length === 1 || !!step.error));
    editControls(item, step, frame.actions, send);
  }
  if (found.n_steps > found.steps.length)
    make("p", "", place).textContent = `and ${found.n_steps - found.steps.length} more: iron.get_run("${frame.run_id}").steps()`;
  if (found.log?.length) textElement(place, "log", found.log.join("\n"), opened.log ?? true);
  if (found.source) textElement(place, "source", found.source, Boolean(opened.source));
}

function textElement(place, name, text, isOpen) {
  const item = make("details", "", place);
  item.dataset.name = name;
  item.open = isOpen;
  make("summary", "", item).textContent = name;
  const shown = make("pre", "", item);
  shown.tabIndex = 0; // it may be longer than its place
  shown.textContent = text;
  return { item, shown };
}

function stepElement(place, step, isOpen) {
  const item = make("details", "ironflow-step", place);
  item.dataset.name = step.step;
  item.open = isOpen;
  const took = step.duration_s == null ? "" : `, ${spoken(step.duration_s * 1000)}`;
  const again = step.attempt > 1 ? `, attempt ${step.attempt}` : "";
  const summary = make("summary", "", item);
  summary.textContent = `${step.step}: ${step.status}${again}${took}`;
  summary.dataset.status = step.status;
  const list = make("dl", "", item);
  const rows = { inputs: step.inputs, output: step.output, error: step.error, reason: step.reason, run: step.child_run_id };
  for (const [name, text] of Object.entries(rows)) {
    if (!text) continue;
    make("dt", "", list).textContent = name;
    make("dd", "", list).textContent = text;
  }
  if (step.child_run_id) make("div", "ironflow-child", item).dataset.run = step.child_run_id;
  return item;
}

/** The log of the run, which is asked for while it is open, not more often than it can be read. */
export function logOfRun(parent, send) {
  const { item, shown: text } = textElement(parent, "log", "", false);
  let timer = 0;
  const ask = () => {
    if (!item.open || timer) return;
    send();
    timer = setTimeout(() => {
      timer = 0;
    }, LOG_AGAIN_MS);
  };
  item.addEventListener("toggle", ask);
  const show = (lines) => {
    const isAtEnd = text.scrollTop + text.clientHeight >= text.scrollHeight - 4;
    text.textContent = lines.join("\n") || "nothing was written yet";
    if (isAtEnd) text.scrollTop = text.scrollHeight;
  };
  return { ask, show };
}
