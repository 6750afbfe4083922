// Elements of the page. Whatever comes from the server becomes text, never markup.

import { button, make, spoken, sureButton } from "./elements.js";

export { button, make, spoken, sureButton };

/** Words and shapes of statuses, so that colour is never the only sign; the same as in pictures. */
const GLYPHS = {
  pending: "○", running: "►", waiting: "◷", retrying: "↻", completed: "✓", failed: "✗", timed_out: "⧖", unknown: "?",
  interrupted: "↯", skipped: "↷", cancelled: "⊘", cancelling: "⊖", compensated: "↶", compensating: "↺", paused: "‖",
  open: "✗", "half-open": "◷", closed: "✓",
};

export function chip(status) {
  const made = make("span", "page-chip", null);
  made.dataset.status = status;
  const glyph = make("span", "", made);
  glyph.textContent = `${GLYPHS[status] ?? "·"} `;
  glyph.setAttribute("aria-hidden", "true");
  made.append(String(status));
  return made;
}

export function link(address, text, name = "") {
  const made = make("a", name, null);
  made.href = address;
  made.textContent = text;
  return made;
}

export const linkToRun = (runId) => link(`#/runs/${encodeURIComponent(runId)}`, runId, "page-id");

/** An instant as a person reads it; the exact one is its title. */
export function instant(text) {
  if (!text) return "";
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return String(text);
  const made = make("time", "", null);
  made.dateTime = text;
  made.title = at.toISOString();
  const isToday = at.toDateString() === new Date().toDateString();
  made.textContent = isToday ? at.toLocaleTimeString() : at.toLocaleString();
  return made;
}

export const duration = (seconds) => (seconds == null ? "" : spoken(seconds * 1000));

export function text(value, limit = 120) {
  if (value == null) return "";
  const whole = typeof value === "string" ? value : JSON.stringify(value);
  const made = make("span", "", null);
  made.textContent = whole.length > limit ? `${whole.slice(0, limit)}…` : whole;
  if (whole.length > limit) made.title = whole;
  return made;
}

/**
 * A table whose rows are kept while they are as they were, so that what has the focus keeps it.
 * @typedef {{title: string, cell: (row: any) => Node | string | number, isNumber?: boolean}} Column
 */
export class Table {
  /** @param {string} caption  @param {Column[]} columns  @param {(row: any) => string} keyOf */
  constructor(parent, caption, columns, keyOf, nothing) {
    const frame = make("div", "page-table", parent);
    frame.tabIndex = 0; // it can be scrolled by keys
    frame.setAttribute("role", "region");
    frame.setAttribute("aria-label", caption);
    const table = make("table", "", frame);
    make("caption", "", table).textContent = caption;
    const head = make("tr", "", make("thead", "", table));
    for (const { title, isNumber } of columns) {
      const cell = make("th", isNumber ? "page-number" : "", head);
      cell.scope = "col";
      cell.textContent = title;
    }
    this.body = make("tbody", "", table);
    this.columns = columns;
    this.keyOf = keyOf;
    this.nothing = make("p", "page-nothing", parent);
    this.nothing.textContent = nothing;
    this.nothing.hidden = true;
    this.rows = new Map();
  }

  show(rows) {
    this.nothing.hidden = rows.length > 0;
    const shown = new Map();
    for (const row of rows) {
      const key = this.keyOf(row);
      const known = this.rows.get(key);
      const said = JSON.stringify(row);
      const element = known?.dataset.shown === said ? known : this.row(row, said);
      if (known && known !== element) {
        const hadFocus = known.contains(document.activeElement);
        known.replaceWith(element);
        if (hadFocus) element.querySelector("a, button")?.focus();
      }
      shown.set(key, element);
    }
    for (const [key, element] of this.rows) if (!shown.has(key)) element.remove();
    [...shown.values()].forEach((element, n) => {
      if (this.body.children[n] !== element) this.body.insertBefore(element, this.body.children[n] ?? null);
    });
    this.rows = shown;
  }

  row(row, said) {
    const made = make("tr", "", null);
    made.dataset.shown = said;
    for (const { cell, isNumber } of this.columns) make("td", isNumber ? "page-number" : "", made).append(cell(row) ?? "");
    return made;
  }
}

/** A field with its label. @returns {any} */
export function field(parent, label, control) {
  const made = make("label", "page-field", parent);
  make("span", "", made).textContent = label;
  made.append(control);
  return control;
}

export function heading(parent, words) {
  const made = make("h1", "", parent);
  made.textContent = words;
  return made;
}
