// The dashboard of a journal: numbers, runs, failures, and what waits. A run is opened as its card below the list.
// The model has get, set, on, off and send, and nothing else of a kernel.

import { button, isNew, make, spoken } from "./elements.js";
import { InnerCards } from "./inner_card.js";
import { initialize as initializeRun, render as renderRun } from "./run_card.js";
import { clockTime, itemsOf, merged } from "./views.js";

const ALIVE_MS = 20000;
const SPANS = { "": "all", "1h": "last hour", "24h": "last day", "7d": "last 7 days", "30d": "last 30 days" };
const ORDERS = ["newest", "oldest", "longest", "shortest", "flow", "status"];
const SVG = "http://www.w3.org/2000/svg";
const CHART = { width: 320, height: 48 };

/** Keep the latest view in the model, for all who show it, and say that somebody does. */
function initialize({ model }) {
  const keep = (frame) => {
    const view = merged({}, frame.change);
    model.set("shown", { ...frame, view, skew: frame.now / 1000 - Date.now() });
  };
  keep(model.get("frame"));
  model.on("msg:custom", (content) => {
    if (content.frame) return keep(content.frame);
    if (!content.change) return;
    const shown = model.get("shown");
    const skew = content.now / 1000 - Date.now();
    model.set("shown", { ...shown, ...content.about, view: merged(shown.view, content.change), skew });
  });
  model.send({ do: "hello" });
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const card = make("section", "ironflow-card ironflow-dashboard", el);
  card.setAttribute("aria-label", "dashboard of the journal");
  const shown = () => model.get("shown");
  const now = () => Date.now() + shown().skew;
  const told = make("p", "ironflow-told", null);
  const send = (content) => {
    told.textContent = "";
    model.send(content);
  };
  const head = make("div", "ironflow-bar", card);
  const open = (runId) => {
    inner.closeAll();
    inner.open(runId);
  };
  const filters = new Filters(make("div", "ironflow-form", card), send);
  card.append(told);
  told.setAttribute("role", "status");
  const numbers = make("div", "ironflow-numbers", card);
  const list = new RunList(card, (runId) => open(runId));
  const place = make("div", "ironflow-opened", card);
  const inner = new InnerCards(model, { initialize: initializeRun, render: renderRun });
  inner.changed = (runId) => {
    showOpened(place, inner, runId);
    list.choose(inner);
  };
  const rest = make("div", "ironflow-rest", card);
  const paint = () => {
    showHead(head, shown());
    filters.show(shown());
    showNumbers(numbers, shown(), send);
    list.show(shown(), now());
    for (const section of SECTIONS) showSection(rest, section, shown(), open);
  };
  const hear = (content) => {
    if (content.error) told.textContent = content.error;
    inner.hear(content);
    if (content.frame || content.change) paint();
  };
  model.on("msg:custom", hear);
  paint();
  const alive = () => document.visibilityState === "visible" && model.send({ do: "alive" });
  const timers = [setInterval(() => list.showTimes(now()), 1000), setInterval(alive, ALIVE_MS)];
  document.addEventListener("visibilitychange", alive);
  model.send({ do: "show" });
  return () => {
    model.send({ do: "hide" });
    timers.forEach(clearInterval);
    document.removeEventListener("visibilitychange", alive);
    inner.closeAll();
    model.off("msg:custom", hear);
  };
}

// -- above the list -------------------------------------------------------------------------------------------------

function showHead(place, { view }) {
  const said = [view.n_processes === 1 ? "1 process" : `${view.n_processes ?? 0} processes`];
  if (view.n_waiting) said.push(`${view.n_waiting} wait for an answer`);
  if (view.n_dead) said.push(view.n_dead === 1 ? "1 dead letter" : `${view.n_dead} dead letters`);
  if (!isNew(place, [view.location, said])) return;
  place.replaceChildren();
  make("strong", "ironflow-location", place).textContent = view.location;
  make("span", "", place).textContent = said.join(" · ");
}

/** What is listed and counted: the fields show what the frame says, and ask for something else when they are changed. */
class Filters {
  constructor(place, send) {
    const ask = () => send({ do: "filter", of: this.of.value, status: this.status.value, since: this.since.value, order: this.order.value });
    this.of = choice(place, "of", "flow, graph or decider", ask);
    this.status = choice(place, "status", "status", ask);
    this.since = choice(place, "since", "since", ask);
    this.order = choice(place, "order", "order of the list", ask);
  }

  show({ view, filter, looks }) {
    const flows = itemsOf(view, "flows").map((flow) => [`${flow.kind} ${flow.name}`, flow.name]);
    if (filter.of && !flows.some(([key]) => key === filter.of)) flows.push([filter.of, filter.of.split(" ").slice(1).join(" ")]);
    options(this.of, [["", "all flows"], ...flows], filter.of);
    options(this.status, [["", "every status"], ...Object.keys(looks).map((status) => [status, status])], filter.status);
    const since = SPANS[filter.since] === undefined ? [[filter.since, `since ${filter.since}`]] : [];
    options(this.since, [...Object.entries(SPANS), ...since], filter.since);
    options(this.order, ORDERS.map((order) => [order, `by: ${order}`]), filter.order);
  }
}

function choice(place, name, label, changed) {
  const select = make("select", "", place);
  select.name = name;
  select.setAttribute("aria-label", label);
  select.addEventListener("change", changed);
  select.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has shortcuts of its own
  return select;
}

function options(select, pairs, chosen) {
  if (isNew(select, pairs)) {
    select.replaceChildren();
    for (const [value, label] of pairs) {
      const option = make("option", "", select);
      option.value = value;
      option.textContent = label;
    }
  }
  if (document.activeElement !== select || select.dataset.asked !== chosen) select.value = chosen;
  select.dataset.asked = chosen;
}

function showNumbers(place, { view, filter, looks }, send) {
  if (!isNew(place, [view.n_by_status, view.p50_s, view.p95_s, view.throughput, filter])) return;
  const held = document.activeElement;
  const focused = held instanceof HTMLElement && place.contains(held) ? held.dataset.status : null;
  place.replaceChildren();
  const chips = make("div", "ironflow-chips", place);
  const counts = Object.entries(view.n_by_status ?? {});
  for (const [status, n] of counts) {
    const isChosen = filter.status === status;
    const chip = button(chips, `${looks[status].glyph} ${n} ${status}`, isChosen ? "List every status" : `List only ${status} runs`, () =>
      send({ do: "filter", ...filter, status: isChosen ? "" : status }),
    );
    chip.dataset.status = status;
    chip.setAttribute("aria-pressed", String(isChosen));
    paintAs(chip, looks[status]);
    if (status === focused) chip.focus();
  }
  if (!counts.length) make("span", "", chips).textContent = "no runs";
  if (view.throughput?.n_completed?.length) chart(place, view.throughput, looks);
  if (view.p50_s != null) {
    const speed = make("div", "ironflow-speed", place);
    speed.textContent = `p50 ${spoken(view.p50_s * 1000)} · p95 ${spoken(view.p95_s * 1000)}`;
    speed.title = "how long runs took that completed at the first go";
  }
}

/** Draw how many runs ended in each span of time, by how they ended. */
function chart(place, { began_at, span_s, n_completed, n_failed, n_other }, looks) {
  const totals = n_completed.map((n, at) => n + n_failed[at] + n_other[at]);
  const top = Math.max(...totals, 1);
  const whole = totals.reduce((sum, n) => sum + n, 0);
  const figure = make("figure", "ironflow-chart", place);
  const svg = figure.appendChild(document.createElementNS(SVG, "svg"));
  const width = CHART.width / totals.length;
  const words = `${whole} runs ended, at most ${top} in ${spoken(span_s * 1000)}`;
  for (const [name, value] of Object.entries({ ...CHART, viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": words }))
    svg.setAttribute(name, String(value));
  totals.forEach((total, at) => {
    const group = svg.appendChild(document.createElementNS(SVG, "g"));
    const title = group.appendChild(document.createElementNS(SVG, "title"));
    title.textContent = `from ${clockTime(began_at + at * span_s * 1e6)}: ${n_completed[at]} completed, ${n_failed[at]} failed, ${n_other[at]} otherwise`;
    const parts = [[n_completed[at], looks.completed], [n_failed[at], looks.failed], [n_other[at], looks.cancelled]];
    let y = CHART.height;
    if (!total) bar(group, at * width, y - 1, width, 1, "currentColor", 0.25);
    for (const [n, look] of parts) {
      const height = n ? Math.max((n / top) * (CHART.height - 2), 2) : 0;
      y -= height;
      if (n) bar(group, at * width, y, width, height, look.stroke, 1);
    }
  });
  make("figcaption", "", figure).textContent = words;
}

function bar(group, x, y, width, height, fill, opacity) {
  const rect = group.appendChild(document.createElementNS(SVG, "rect"));
  const place = { x: x + 0.5, y, width: Math.max(width - 1, 1), height, fill, "fill-opacity": opacity };
  for (const [name, value] of Object.entries(place)) rect.setAttribute(name, String(value));
}

function paintAs(element, look) {
  element.style.background = look.fill;
  element.style.color = look.text;
  element.style.borderColor = look.stroke;
}

// -- the list -------------------------------------------------------------------------------------------------------

const COLUMNS = ["run", "name", "status", "started", "took", "steps", "error"];

/** The runs, one row each. Only rows that differ are made anew, so that the focus stays. */
class RunList {
  constructor(card, open) {
    this.open = open;
    this.rows = new Map();
    this.chosen = null;
    const part = section(card, "runs", "Runs");
    this.title = /** @type {HTMLElement} */ (part.firstElementChild);
    const scroll = make("div", "ironflow-scroll", part);
    scroll.tabIndex = 0; // it can be scrolled by keyboard
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "list of runs");
    this.body = table(scroll, COLUMNS);
  }

  show({ view, looks }, now) {
    const runs = itemsOf(view, "runs");
    const more = view.n_found > runs.length ? `, the first ${runs.length} of ${view.n_found}` : "";
    this.title.textContent = `Runs${more || ` (${runs.length})`}`;
    const rows = new Map(runs.map((run) => [run.run_id, this.row(run, looks)]));
    for (const [runId, row] of this.rows) if (!rows.has(runId)) row.remove();
    let at = this.body.firstElementChild;
    for (const row of rows.values()) {
      if (at && row === at) at = at.nextElementSibling;
      else this.body.insertBefore(row, at);
    }
    this.rows = rows;
    this.showTimes(now);
  }

  row(run, looks) {
    const row = this.rows.get(run.run_id) ?? document.createElement("tr");
    if (!isNew(row, run)) return row;
    if (!row.firstElementChild) {
      for (const name of COLUMNS) make("td", `ironflow-of-${name}`, row);
      const opener = button(row.children[0], run.run_id, `Open run ${run.run_id} of ${run.name}`, () => this.open(run.run_id));
      opener.classList.add("ironflow-link");
      opener.setAttribute("aria-expanded", "false");
    }
    const [, name, status, started, took, steps, error] = row.children;
    name.textContent = run.key ? `${run.name} (${run.key})` : run.name;
    status.replaceChildren(statusChip(run.status, looks));
    started.textContent = clockTime(run.started_at);
    took.dataset.since = run.ended_at == null ? String(run.started_at) : "";
    took.textContent = run.ended_at == null ? "" : spoken((run.ended_at - run.started_at) / 1000);
    steps.textContent = run.n_known ? `${run.n_done} of ${run.n_known}${run.n_failed ? `, ${run.n_failed} failed` : ""}` : "";
    error.textContent = run.error ?? "";
    error.title = run.error ?? "";
    return row;
  }

  choose(inner) {
    for (const [id, row] of this.rows) row.querySelector("button")?.setAttribute("aria-expanded", String(inner.isOpen(id)));
  }

  /** Show how long the runs that go on have taken. */
  showTimes(now) {
    for (const place of /** @type {NodeListOf<HTMLElement>} */ (this.body.querySelectorAll("[data-since]")))
      if (place.dataset.since) place.textContent = spoken(Math.max(now - Number(place.dataset.since) / 1000, 0));
  }
}

function statusChip(status, looks) {
  const chip = make("span", "ironflow-chip", null);
  chip.textContent = `${looks[status]?.glyph ?? "·"} ${status}`;
  if (looks[status]) paintAs(chip, looks[status]);
  return chip;
}

/** Show the card of the run that was opened, below the list. */
function showOpened(place, inner, runId) {
  place.replaceChildren();
  if (!inner.isOpen(runId)) return;
  const head = make("div", "ironflow-bar", place);
  make("strong", "", head).textContent = `run ${runId}`;
  const closer = button(head, "Close", "Close the card of the run", () => inner.close(runId));
  place.append(inner.element(runId));
  closer.focus({ preventScroll: true });
  place.scrollIntoView?.({ block: "nearest" });
}

// -- the other tables -----------------------------------------------------------------------------------------------

const opener = (runId) => (open) => {
  const made = button(null, runId, `Open run ${runId}`, () => open(runId));
  made.classList.add("ironflow-link");
  return made;
};
const at = (instant) => (instant == null ? "" : clockTime(instant));
const took = (seconds) => (seconds == null ? "" : spoken(seconds * 1000));

/**
 * The parts of a view that are shown as tables: columns, and the cells of an item.
 * @type {[string, string, string[], (each: any, looks: any) => any[]][]}
 */
const SECTIONS = [
  ["failures", "Failures", ["times", "flow", "error", "last", "newest run"], (each) => [each.n, each.flow, each.signature, at(each.last_at), opener(each.run_id)]],
  ["waiting", "Waiting for an answer", ["flow", "question", "asked", "until", "run"], (each) => [each.flow, each.question, at(each.asked_at), at(each.due_at), opener(each.run_id)]],
  ["flows", "Flows", ["name", "kind", "runs", "p50", "p95"], (each, looks) => [each.name, each.kind, countWords(each.n_by_status, looks), took(each.p50_s), took(each.p95_s)]],
  ["lanes", "Lanes", ["lane", "at work", "limit", "waiting"], (each) => [`${each.lane} ${each.key}`, each.n_held, each.limit ?? "", each.n_waiting]],
  ["breakers", "Breakers", ["breaker", "failures in a row", "open until"], (each) => [each.name, each.n_failed, at(each.open_until)]],
  ["schedules", "Schedules", ["schedule", "flow", "when", "state", "next", "last", "missed"], (each) => [each.name, each.flow, each.rule, each.state, at(each.next_at), at(each.last_at), each.n_missed]],
  ["dead_letters", "Dead letters", ["kind", "of", "error", "since", "run"], (each) => [each.kind, each.name, each.error ?? "", at(each.dead_at), each.run_id ? opener(each.run_id) : ""]],
  ["projections", "Projections", ["projection", "events behind", "error"], (each) => [each.name, each.lag ?? "not defined here", each.error ?? ""]],
];

function countWords(counts, looks) {
  return Object.entries(counts).map(([status, n]) => `${looks[status]?.glyph ?? "·"} ${n} ${status}`).join(", ");
}

/** @param {HTMLElement} place */
function showSection(place, [name, title, columns, cells], { view, looks }, open) {
  const items = itemsOf(view, name);
  let part = /** @type {HTMLElement | null} */ (place.querySelector(`[data-part="${name}"]`));
  if (!items.length) return part?.remove();
  part ??= section(place, name, title);
  if (!isNew(part, items)) return;
  part.firstElementChild?.replaceChildren(`${title} (${items.length})`);
  part.querySelector(".ironflow-scroll")?.remove();
  const body = table(make("div", "ironflow-scroll", part), columns);
  for (const item of items) {
    const row = make("tr", "", body);
    for (const cell of cells(item, looks)) {
      const place = make("td", "", row);
      if (typeof cell === "function") place.append(cell(open));
      else place.textContent = String(cell);
    }
  }
}

function section(place, name, title) {
  const part = make("details", "ironflow-section", place);
  part.dataset.part = name;
  part.open = name !== "flows" && name !== "schedules";
  make("summary", "", part).textContent = title;
  return part;
}

function table(place, columns) {
  const made = make("table", "ironflow-grid", place);
  const head = make("tr", "", make("thead", "", made));
  for (const column of columns) {
    const cell = make("th", "", head);
    cell.scope = "col";
    cell.textContent = column;
  }
  return make("tbody", "", made);
}

export { initialize, render };
export default { initialize, render };
