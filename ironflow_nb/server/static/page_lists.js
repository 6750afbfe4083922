// The pages that list: runs, questions, flows to start, schedules, lanes and breakers. Each returns how it is shown anew.

import { get, post, query } from "./page_client.js";
import { button, chip, duration, field, heading, instant, link, linkToRun, make, Table, text } from "./page_elements.js";
import { answer } from "./page_run.js";
import { showTable, showTimes, waitElement } from "./question_form.js";

const STATUSES = ["running", "waiting", "pending", "paused", "interrupted", "failed", "cancelled", "completed"];
const SINCE = [["", "any time"], ["1h", "the last hour"], ["1d", "the last day"], ["7d", "the last week"], ["30d", "the last 30 days"]];

/** @typedef {{place: HTMLElement, given: URLSearchParams, app: any}} Context  Where it stands, its filters, the page. */

// -- runs -----------------------------------------------------------------------------------------------------------

/** @param {Context} context */
export function runsPage({ place, given, app }) {
  heading(place, "Runs");
  const form = make("form", "page-filters", place);
  form.setAttribute("role", "search");
  const flow = field(form, "Flow", make("input", "", null));
  flow.name = "flow";
  flow.type = "search";
  flow.placeholder = "any";
  flow.setAttribute("list", "flows");
  flow.value = given.get("flow") ?? "";
  const names = make("datalist", "", form);
  names.id = "flows";
  const status = field(form, "Status", make("select", "", null));
  status.name = "status";
  options(status, [["", "any"], ...STATUSES.map((each) => [each, each])], given.get("status") ?? "");
  const since = field(form, "Begun in", make("select", "", null));
  since.name = "since";
  options(since, SINCE, given.get("since") ?? "");
  const chosen = () => ({ flow: flow.value.trim(), status: status.value, since: since.value });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", () => app.go(`#/runs${query(chosen())}`));
  const table = new Table(place, "Runs, the newest first", runColumns(), (row) => row.run_id, "No run is like that.");
  const foot = make("div", "page-foot", place);
  const after = given.get("after");
  if (after) foot.append(link(`#/runs${query(chosen())}`, "Newest", "page-step"));
  const older = link("", "Older", "page-step");
  foot.append(older);
  get("flows").then(({ flows }) => options(names, flows.map(({ name }) => [name, name]), ""), () => {});
  const refresh = async () => {
    const found = await get(`runs${query({ ...Object.fromEntries(given), limit: 50 })}`);
    table.show(found.runs);
    older.hidden = !found.next;
    if (found.next) older.href = `#/runs${query({ ...chosen(), after: found.next })}`;
  };
  return { refresh };
}

function runColumns() {
  return [
    { title: "Status", cell: (run) => chip(run.status) },
    { title: "Flow", cell: (run) => text(run.name, 60) },
    { title: "Run", cell: (run) => linkToRun(run.run_id) },
    { title: "Arguments", cell: (run) => text(run.arguments, 80) },
    { title: "Begun", cell: (run) => instant(run.started_at) },
    { title: "Took", cell: (run) => duration(run.duration_s), isNumber: true },
    { title: "Steps", cell: (run) => stepsOf(run), isNumber: true },
    { title: "Result", cell: (run) => text(run.error ?? run.output, 100) },
  ];
}

function stepsOf({ n_steps, n_completed, n_failed }) {
  const done = n_completed === n_steps ? `${n_steps}` : `${n_completed} of ${n_steps}`;
  return n_failed ? `${done}, ${n_failed} failed` : done;
}

function options(place, pairs, chosen) {
  for (const [value, words] of pairs) {
    const made = make("option", "", place);
    made.value = value;
    made.textContent = words;
    made.selected = value === chosen;
  }
}

// -- questions ------------------------------------------------------------------------------------------------------

export function inboxPage({ place, app }) {
  heading(place, "Inbox");
  const told = make("p", "", place);
  const list = make("div", "page-questions", place);
  const shown = new Map();
  const clock = setInterval(() => showTimes(list, Date.now()), 1000);
  const refresh = async () => {
    const { waiting } = await get("waiting");
    told.textContent = waiting.length ? `${waiting.length} open, the oldest first` : "Nothing is asked now.";
    const wanted = new Map(waiting.map((asked) => [`${asked.run_id} ${asked.step}`, asked]));
    for (const [key, element] of shown) {
      if (wanted.has(key)) continue;
      element.remove();
      shown.delete(key);
    }
    for (const [key, asked] of wanted) {
      if (!shown.has(key)) shown.set(key, questionElement(list, asked, app));
    }
    showTimes(list, Date.now());
  };
  return { refresh, close: () => clearInterval(clock) };
}

function questionElement(list, asked, app) {
  const item = make("section", "ironflow-card page-question", list);
  item.setAttribute("aria-label", asked.question);
  const head = make("div", "page-question-head", item);
  head.append(text(asked.flow, 80), linkToRun(asked.run_id), " asked ", instant(asked.asked_at));
  const told = make("p", "ironflow-told", item);
  told.setAttribute("role", "alert");
  const wait = {
    step: asked.step, kind: "approval", question: asked.question, fits: asked.fits, form: asked.form, signals: [],
    choices: asked.choices, payload: asked.payload, expression: "", due_at: microseconds(asked.expires_at),
  };
  const send = async (content, made) => {
    if (made) made.disabled = true;
    told.textContent = "";
    try {
      if (content.do === "table") {
        const { table } = await post(`runs/${encodeURIComponent(asked.run_id)}/look`, { do: "table", step: asked.step });
        showTable(item.querySelector(".ironflow-wait"), table, send);
      } else {
        await answer(asked.run_id, content);
      }
    } catch (error) {
      told.textContent = error.message;
    }
    if (made) made.disabled = false;
    app.refresh();
  };
  item.append(waitElement(wait, send));
  return item;
}

const microseconds = (at) => (at ? new Date(at).getTime() * 1000 : null);

// -- flows ----------------------------------------------------------------------------------------------------------

export function flowsPage({ place, app }) {
  heading(place, "Flows");
  const told = make("p", "", place);
  const list = make("div", "page-flows", place);
  let known = "";
  const refresh = async () => {
    const { flows } = await get("flows");
    if (known === JSON.stringify(flows)) return;
    known = JSON.stringify(flows);
    told.textContent = flows.length
      ? "What this server defines, and begins on request."
      : "This server defines no flow: ironflow-nb serve FILE.py";
    list.replaceChildren(...flows.map((flow) => flowElement(flow, app)));
  };
  return { refresh };
}

function flowElement(flow, app) {
  const item = make("details", "page-flow", null);
  const head = make("summary", "", item);
  make("code", "", head).textContent = flow.call ?? flow.name;
  head.append(` ${flow.kind}`);
  if (flow.description) make("p", "", item).textContent = flow.description;
  if (flow.events.length) make("p", "", item).textContent = `begun by ${flow.events.join(", ")}`;
  item.append(link(`#/runs${query({ flow: flow.name })}`, "its runs"));
  const form = make("form", "page-start", item);
  const input = field(form, "Input: the arguments by name, as JSON", make("textarea", "", null));
  input.value = "{}";
  input.spellcheck = false;
  const key = field(form, "Key: one key is one run (optional)", make("input", "", null));
  const told = make("p", "ironflow-told", form);
  told.setAttribute("role", "alert");
  const begin = button(form, "Start", `Start ${flow.name}`, () => {});
  begin.type = "submit";
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    told.textContent = "";
    begin.disabled = true;
    try {
      const given = JSON.parse(input.value || "{}");
      const begun = await post("runs", { flow: flow.name, input: given, key: key.value || null });
      app.go(`#/runs/${begun.run_id}`);
    } catch (error) {
      told.textContent = error instanceof SyntaxError ? `the input is no JSON: ${error.message}` : error.message;
    }
    begin.disabled = false;
  });
  return item;
}

// -- schedules, lanes, breakers -------------------------------------------------------------------------------------

export function schedulesPage({ place }) {
  heading(place, "Schedules");
  const table = new Table(place, "Schedules by flow and name", [
    { title: "Schedule", cell: (row) => text(row.schedule, 60) },
    { title: "Flow", cell: (row) => link(`#/runs${query({ flow: row.flow })}`, row.flow) },
    { title: "When", cell: (row) => text([row.when, row.tz].filter(Boolean).join(" "), 60) },
    { title: "State", cell: (row) => row.state },
    { title: "Next", cell: (row) => instant(row.next_at) },
    { title: "Last", cell: (row) => instant(row.last_at) },
    { title: "Fired", cell: (row) => row.n_fired, isNumber: true },
    { title: "Missed", cell: (row) => row.n_missed, isNumber: true },
  ], (row) => `${row.flow} ${row.schedule}`, "Nothing is scheduled: flow.schedule(cron=...)");
  return { refresh: async () => table.show((await get("schedules")).schedules) };
}

export function limitsPage({ place }) {
  heading(place, "Lanes and breakers");
  const lanes = new Table(place, "Lanes that somebody is in or waits for", [
    { title: "Lane", cell: (row) => text(row.lane, 60) },
    { title: "Key", cell: (row) => text(row.key, 60) },
    { title: "Of", cell: (row) => row.kind },
    { title: "Limit", cell: (row) => row.limit, isNumber: true },
    { title: "Rate", cell: (row) => row.rate },
    { title: "At work", cell: (row) => row.held, isNumber: true },
    { title: "Waiting", cell: (row) => row.waiting, isNumber: true },
    { title: "First waits", cell: (row) => duration(row.waited_s), isNumber: true },
    { title: "Next", cell: (row) => text(row.next, 60) },
  ], (row) => `${row.lane} ${row.key}`, "Nobody is in a lane.");
  const breakers = new Table(place, "Circuit breakers", [
    { title: "Breaker", cell: (row) => text(row.name, 80) },
    { title: "Status", cell: (row) => chip(row.status) },
    { title: "Failures in a row", cell: (row) => `${row.n_failed} of ${row.failures}`, isNumber: true },
    { title: "Open until", cell: (row) => instant(row.open_until) },
    { title: "Probe", cell: (row) => text(row.probe, 60) },
    { title: "Changed", cell: (row) => instant(row.changed_at) },
  ], (row) => row.name, "No breaker was ever asked.");
  const refresh = async () => {
    lanes.show((await get("lanes")).lanes);
    breakers.show((await get("breakers")).breakers);
  };
  return { refresh };
}
