// What a run waits for: questions with a form for the answer, signals, and the time that is left.
import { button, form, make, spoken } from "./elements.js";

/** @param {import("./elements.js").Send} send */
export function waitElement(wait, send) {
  const item = make("div", "ironflow-wait");
  item.dataset.step = wait.step;
  const head = make("div", "ironflow-wait-head", item);
  make("strong", "", head).textContent = wait.question ?? waitWords(wait);
  if (wait.due_at) make("span", "ironflow-due", head).dataset.due = String(wait.due_at);
  if (wait.payload) make("pre", "", item).textContent = wait.payload;
  if (wait.question) answerForm(item, wait, send);
  for (const name of wait.signals) signalForm(item, name, send);
  return item;
}

function waitWords(wait) {
  return wait.kind === "signal" ? `waits for ${wait.signals.join(", ")}` : `${wait.step} waits`;
}

function answerForm(item, wait, send) {
  const answer = (line, made) => send({ do: "answer", step: wait.step, line }, made);
  const yes = ["yes", "no"];
  if (wait.form === "choice" && String(wait.choices) === String(yes)) {
    const words = wait.step.startsWith("iron.approve") ? ["Approve", "Reject"] : ["Yes", "No"];
    const row = make("div", "ironflow-form", item);
    yes.forEach((line, n) => button(row, words[n], wait.question, (made) => answer(line, made)));
  } else if (wait.form === "frame") {
    const row = make("div", "ironflow-form", item);
    button(row, "Edit the table", wait.fits, (made) => send({ do: "table", step: wait.step }, made));
    make("div", "ironflow-table", item);
  } else if (wait.form) {
    const field = inputOf(wait);
    form(item, field, "Answer", wait.question, (made) => answer(typed(field, wait.form), made));
    if (!wait.choices.length) field.title = wait.fits;
  } else {
    make("code", "", item).textContent = wait.expression;
  }
}

function signalForm(item, name, send) {
  const field = make("input");
  field.placeholder = "payload: JSON, text, or nothing";
  form(item, field, `Send ${name}`, `payload of ${name}`, (made) => send({ do: "signal", name, line: field.value }, made));
}

/** The field of a form, of the kind that fits. */
export function inputOf(wait) {
  if (wait.form === "choice") {
    const select = make("select");
    for (const choice of wait.choices) make("option", "", select).textContent = choice;
    return select;
  }
  if (wait.form === "json") {
    const area = make("textarea");
    area.placeholder = wait.fits;
    return area;
  }
  const field = make("input");
  field.type = { number: "number", date: "date", datetime: "datetime-local" }[wait.form] ?? "text";
  if (wait.form === "number") field.step = "any";
  field.placeholder = wait.fits;
  return field;
}

/** What was typed, as it is sent. */
export function typed(field, kind) {
  return kind === "datetime" && field.value ? new Date(field.value).toISOString() : field.value;
}

/** Show how long each wait still has. */
export function showTimes(card, now) {
  for (const place of card.querySelectorAll("[data-due]")) {
    const left = Number(place.dataset.due) / 1000 - now;
    const at = new Date(Number(place.dataset.due) / 1000).toLocaleString();
    place.textContent = left > 0 ? `until ${at} (${spoken(left)} left)` : `until ${at}: its time is over`;
  }
}

/**
 * Show the table that a question asks to edit, in the element of its wait.
 * @param {import("./elements.js").Send} send
 */
export function showTable(item, table, send) {
  const place = item.querySelector(".ironflow-table");
  const step = item.dataset.step;
  const grid = make("table");
  const head = make("tr", "", make("thead", "", grid));
  table.columns.forEach((name, n) => {
    const title = make("th", "", head);
    title.scope = "col";
    title.textContent = name;
    title.title = table.kinds[n];
  });
  make("td", "", head);
  const body = make("tbody", "", grid);
  const add = (cells, from) => body.append(rowElement(table.columns, cells, from));
  table.rows.forEach(add);
  const tools = make("div", "ironflow-form");
  if (table.may_add) button(tools, "Add a row", "Add an empty row", () => add(table.columns.map(() => ""), null));
  button(tools, "Answer with this table", "Send the table as it is now", (made) => {
    send({ do: "answer", step, rows: [...body.rows].map(rowOf) }, made);
  });
  place.replaceChildren(grid, tools);
  for (const made of item.querySelectorAll("button:disabled")) made.disabled = false;
}

function rowElement(columns, cells, from) {
  const row = make("tr");
  row.dataset.from = from == null ? "" : String(from);
  columns.forEach((name, n) => {
    const field = make("input", "", make("td", "", row));
    field.value = cells[n];
    field.setAttribute("aria-label", name);
    field.addEventListener("keydown", (event) => event.stopPropagation());
  });
  button(make("td", "", row), "×", "Remove this row", () => row.remove());
  return row;
}

function rowOf(row) {
  const cells = [...row.querySelectorAll("input")].map((field) => field.value);
  return { from: row.dataset.from === "" ? null : Number(row.dataset.from), cells };
}
