// The page of one run: the card of the notebook, from the same module, and beside it what is recorded of the run.

import { ask, get, post, query } from "./page_client.js";
import { chip, duration, heading, instant, linkToRun, make, sureButton, Table, text } from "./page_elements.js";
import { PageModel } from "./page_model.js";
import card from "./run_card.js";
import slider from "./slider.js";

const MOST_STEPS = 200;

/** The model of the card of a run: it is told what the stream says of its run, and what the card asks for becomes a request. */
class RunModel extends PageModel {
  constructor(runId) {
    super();
    this.runId = runId;
  }

  send(content) {
    if (content.do === "hello") return;
    this.perform(content).then(
      (said) => this.tell({ done: content.do, ...said }),
      (error) => this.tell({ error: error.message, of: content.do }),
    );
  }

  async perform(content) {
    const run = `runs/${encodeURIComponent(this.runId)}`;
    switch (content.do) {
      case "details":
        return { details: await get(`${run}/nodes/${encodeURIComponent(content.element)}`) };
      case "log":
      case "table":
      case "plan": {
        const { do: what, step, edit, line, reason } = content;
        return post(`${run}/look`, { do: what, step, edit, line, reason });
      }
      case "answer":
        return answer(this.runId, content);
      case "signal":
        return void (await post(`${run}/signals/${encodeURIComponent(content.name)}`, { payload: payload(content.line) }));
      case "retry":
        return void (await post(`${run}/resume`, { retry: "failed" }));
      case "resume":
        return void (await post(`${run}/resume`, { keep: content.keep, rerun: content.rerun }));
      case "inject":
        return told(await post(`${run}/inject`, { step: content.step, line: content.line, reason: content.reason }));
      case "fork":
        return told(await post(`${run}/fork`, { step: content.step, line: content.line }));
      default:
        return void (await post(`${run}/${encodeURIComponent(content.do)}`));
    }
  }

  /** Take a frame, or what changes the last one. A frame with the same picture as the last one changes that, too. */
  hear({ frame, change, elements }) {
    const known = this.get("frame");
    if (frame && known?.picture === frame.picture) {
      const { svg, elements: all, ...rest } = frame;
      this.tell({ change: rest, elements: differing(known.elements, all) });
    } else if (frame) {
      this.set("frame", frame);
      this.tell({ frame });
    } else if (change && known) {
      this.tell({ change, elements });
    }
  }
}

/** The model of the slider: each move is a request, whose answer changes what is shown. */
class MomentsModel extends PageModel {
  constructor(runId) {
    super();
    this.runId = runId;
  }

  async look({ at, other, is_live }) {
    const picture = this.get("shown")?.picture;
    return get(`runs/${encodeURIComponent(this.runId)}/moments${query({ at: is_live ? null : at, other, picture })}`);
  }

  send(content) {
    if (content.do !== "move") return;
    this.look(content).then(
      (moment) => this.tell({ change: this.changeTo(moment), moved: true }),
      (error) => this.tell({ error: error.message, of: "move" }),
    );
  }

  changeTo({ elements, ...moment }) {
    return moment.svg ? { ...moment, elements } : { ...moment, elements: differing(this.get("shown").elements, elements) };
  }
}

/** The slider over the moments of a run, which is there while a person wants it. */
function momentsOf(place, runId, app) {
  const details = make("details", "page-moments", place);
  make("summary", "", details).textContent = "Moments";
  const shown = make("div", "", details);
  let model = new MomentsModel(runId);
  let forget = null;
  const refresh = async () => {
    if (!details.open) return;
    const asked = model;
    const moment = await asked.look(asked.get("shown") ?? { is_live: true });
    if (asked !== model || !details.open) return; // it was closed meanwhile
    if (forget) {
      const { at, other, is_live } = model.get("shown");
      if (is_live === moment.is_live && other === moment.other && (is_live || at === moment.at)) model.tell({ change: model.changeTo(moment) });
      return;
    }
    model.set("frame", moment);
    slider.initialize({ model });
    forget = slider.render({ model, el: shown });
  };
  const close = () => {
    forget?.();
    forget = null;
    shown.replaceChildren();
    model = new MomentsModel(runId);
  };
  details.addEventListener("toggle", () => (details.open ? refresh().catch((error) => app.say(error.message)) : close()));
  return { refresh, close };
}

function differing(before, elements) {
  return Object.fromEntries(Object.entries(elements).filter(([name, markup]) => before[name] !== markup));
}

const told = ({ told: words }) => ({ told: words });

/** Answer a question by what a form has sent. */
export async function answer(runId, { line, rows, step }) {
  await post(`waiting/${encodeURIComponent(runId)}/answer`, { line, rows, step });
}

/** The payload of a signal as it was typed: JSON, or a text; null for nothing. */
function payload(line) {
  if (!line.trim()) return null;
  try {
    return JSON.parse(line);
  } catch {
    return line;
  }
}

/** @param {{place: HTMLElement, runId: string, app: any}} context */
export function runPage({ place, runId, app }) {
  const head = make("div", "page-run-head", place);
  const title = heading(head, `Run ${runId}`);
  const tools = make("div", "ironflow-buttons", head);
  sureButton(tools, "Delete", "Delete it with its history", "Delete for ever?", async () => {
    try {
      await ask("DELETE", `runs/${encodeURIComponent(runId)}`);
      app.go("#/runs");
    } catch (error) {
      app.say(error.message);
    }
  });
  const shown = make("div", "page-card", place);
  const facts = make("dl", "page-facts", place);
  const moments = momentsOf(place, runId, app);
  const table = new Table(place, "Steps, in the order of their beginnings", stepColumns(), (row) => row.step, "No step was begun.");
  const more = make("p", "page-nothing", place);
  const model = new RunModel(runId);
  let forget = null;

  const refresh = async () => {
    const run = await get(`runs/${encodeURIComponent(runId)}?steps=${MOST_STEPS}`);
    if (run.run_id !== runId) return app.go(`#/runs/${run.run_id}`, true); // the beginning of an id was given
    title.textContent = `${run.name} ${run.run_id}`;
    document.title = `${run.status} · ${run.name} · ironflow`;
    showFacts(facts, run);
    table.show(run.steps);
    await moments.refresh();
    more.textContent = run.n_steps > run.steps.length ? `The newest ${run.steps.length} of ${run.n_steps} steps.` : "";
  };
  const hear = (content) => {
    if (content.error) return app.refresh(); // which is told the same
    model.hear(content);
    if (!forget && model.get("frame")) {
      card.initialize({ model });
      forget = card.render({ model, el: shown });
    }
    app.refresh();
  };
  const close = () => {
    forget?.();
    moments.close();
  };
  return { refresh, hear, follows: [runId], close };
}

function stepColumns() {
  return [
    { title: "Status", cell: (step) => chip(step.status) },
    { title: "Step", cell: (step) => text(step.step, 80) },
    { title: "Attempt", cell: (step) => step.attempt, isNumber: true },
    { title: "Begun", cell: (step) => instant(step.started_at) },
    { title: "Took", cell: (step) => duration(step.duration_s), isNumber: true },
    { title: "Why", cell: (step) => text(step.reused ? "reused" : step.reason, 60) },
    { title: "Output", cell: (step) => text(step.error ?? step.output ?? step.progress, 140) },
  ];
}

function showFacts(place, run) {
  const rows = [
    ["Status", chip(run.status)],
    ["Arguments", run.arguments],
    ["Begun", instant(run.started_at)],
    ["Took", duration(run.duration_s)],
    ["Result", "result" in run ? pretty(run.result) : ""],
    ["Error", run.error ? pretty(typeof run.error === "string" ? run.error : `${run.error.code}: ${run.error.message}`) : ""],
    ["Key", run.key],
    ["Notebook", run.notebook],
    ["Part of", run.parent_run_id && linkToRun(run.parent_run_id)],
    ["Built on", run.origin_run_id && linkToRun(run.origin_run_id)],
  ];
  const said = JSON.stringify(run);
  if (place.dataset.shown === said) return;
  place.dataset.shown = said;
  place.replaceChildren();
  for (const [name, value] of rows) {
    if (!value) continue;
    make("dt", "", place).textContent = name;
    make("dd", "", place).append(value);
  }
}

function pretty(value) {
  const made = make("pre", "", null);
  made.textContent = typeof value === "string" ? value : JSON.stringify(value, null, 1);
  return made;
}
