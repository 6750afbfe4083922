// The slider over a history: one moment as a picture, played or moved through; a second handle compares two moments.
// The model has get, set, on, off and send, and nothing else of a kernel.

import { button, isNew, make } from "./elements.js";
import { Canvas } from "./run_card.js";
import { clockTime } from "./views.js";

const ALIVE_MS = 20000;
const PLAY_STEPS = 60;
const FRAME_MS = 120;
const SVG = "http://www.w3.org/2000/svg";
const HINTS = "slider over the moments; arrows move by one change, Page Up and Page Down by more, Home and End to the ends";

/** Keep the latest frame in the model, for all who show it, and say that somebody does. */
function initialize({ model }) {
  const keep = (frame) => model.set("shown", frame);
  keep(model.get("frame"));
  model.on("msg:custom", (content) => {
    if (content.frame) return keep(content.frame);
    if (!content.change) return;
    const shown = model.get("shown");
    const elements = content.change.svg ? content.change.elements : { ...shown.elements, ...content.change.elements };
    keep({ ...shown, ...content.change, elements });
  });
  model.send({ do: "hello" });
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const card = make("section", "ironflow-card ironflow-slider", el);
  const shown = () => model.get("shown");
  card.setAttribute("aria-label", `moments of ${shown().view.title}`);
  const head = make("div", "ironflow-bar", card);
  const tools = make("div", "ironflow-buttons", card);
  const told = make("p", "ironflow-told", card);
  told.setAttribute("role", "alert");
  const track = make("div", "ironflow-track", card);
  const canvasBar = make("div", "ironflow-bar", null);
  const mover = new Mover(model, shown);
  const marks = make("div", "ironflow-marks", track);
  const first = range(track, `first handle: ${HINTS}`, (at) => mover.go({ at, is_live: false }));
  const second = range(track, `second handle, to compare with: ${HINTS}`, (other) => mover.go({ other }));
  const player = new Player(mover, shown);
  const buttons = controls(tools, mover, player, shown);
  card.append(canvasBar);
  const body = make("div", "ironflow-body", card);
  const canvas = new Canvas(canvasBar, body, () => {});
  const side = make("div", "ironflow-side", body);
  const paint = () => {
    showHead(head, shown());
    showTrack(first, second, marks, shown(), mover);
    buttons.show();
    showSide(side, shown());
    dim(canvas, shown().ghosts);
  };
  const hear = (content) => {
    if (content.error) told.textContent = content.error;
    if (content.moved || content.error) mover.arrived();
    if (!content.frame && !content.change) return;
    if (content.frame) canvas.draw(content.frame.svg, content.frame.elements);
    else if (content.change.svg) canvas.draw(content.change.svg, content.change.elements);
    else if (content.change.elements) canvas.patch(content.change.elements);
    if (!content.error) told.textContent = "";
    paint();
  };
  model.on("msg:custom", hear);
  canvas.draw(shown().svg, shown().elements);
  paint();
  const alive = () => document.visibilityState === "visible" && model.send({ do: "alive" });
  const timer = setInterval(alive, ALIVE_MS);
  document.addEventListener("visibilitychange", alive);
  model.send({ do: "show" });
  return () => {
    model.send({ do: "hide" });
    clearInterval(timer);
    player.stop();
    document.removeEventListener("visibilitychange", alive);
    model.off("msg:custom", hear);
  };
}

/** Asks for moments: one at a time, and of those that were wanted meanwhile only the last. */
class Mover {
  constructor(model, shown) {
    this.model = model;
    this.shown = shown;
    this.isAsking = false;
    this.wanted = null;
  }

  /** What is shown, or will be. */
  target() {
    const { at, other, is_live } = this.shown();
    return { at, other, is_live, ...this.asked, ...this.wanted };
  }

  go(change) {
    this.wanted = { ...this.wanted, ...change };
    if (!this.isAsking) this.ask();
  }

  ask() {
    this.asked = this.target();
    this.wanted = null;
    this.isAsking = true;
    this.model.send({ do: "move", ...this.asked });
  }

  arrived() {
    this.isAsking = false;
    this.asked = null;
    if (this.wanted) this.ask();
  }
}

class Player {
  constructor(mover, shown) {
    this.mover = mover;
    this.shown = shown;
    this.timer = 0;
  }

  get isPlaying() {
    return this.timer !== 0;
  }

  start(changed) {
    const { view, at } = this.shown();
    this.changed = changed;
    if (at >= view.newest) this.mover.go({ at: view.first, is_live: false });
    const reduced = window.matchMedia?.("(prefers-reduced-motion: reduce)").matches;
    this.timer = setInterval(() => this.step(), reduced ? FRAME_MS * 5 : FRAME_MS);
    changed();
  }

  step() {
    if (this.mover.isAsking) return;
    const { view, at } = this.shown();
    if (at >= view.newest) return this.stop();
    const step = Math.max(1, Math.round((view.newest - view.first) / PLAY_STEPS));
    this.mover.go({ at: Math.min(at + step, view.newest), is_live: false });
  }

  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.changed?.();
  }
}

function controls(place, mover, player, shown) {
  const near = (sign) => {
    const { at } = mover.target();
    const found = shown().view.marks.map((mark) => mark.version).filter((version) => (version - at) * sign > 0);
    return sign > 0 ? Math.min(...found) : Math.max(...found);
  };
  const go = (at) => mover.go({ at, is_live: false });
  const play = button(place, "▶ Play", "Play the changes from here", () => (player.isPlaying ? player.stop() : player.start(show)));
  const before = button(place, "◀ Note", "Go to the event of note before", () => go(near(-1)));
  const back = button(place, "− 1", "One change back", () => go(mover.target().at - 1));
  const on = button(place, "+ 1", "One change on", () => go(mover.target().at + 1));
  const after = button(place, "Note ▶", "Go to the next event of note", () => go(near(1)));
  const live = button(place, "Live", "Show the newest moment, and follow it", () => mover.go({ is_live: true, at: shown().view.newest }));
  const compare = button(place, "Compare", "Show what differs between two moments", () => {
    const { other, at } = mover.target();
    mover.go({ other: other == null ? (at === shown().view.newest ? shown().view.first : shown().view.newest) : null });
  });
  function show() {
    const { view, at, other, is_live } = shown();
    play.textContent = player.isPlaying ? "‖ Stop" : "▶ Play";
    back.disabled = at <= view.first;
    on.disabled = at >= view.newest;
    before.disabled = !Number.isFinite(near(-1));
    after.disabled = !Number.isFinite(near(1));
    live.textContent = view.is_over ? "End" : "Live";
    live.setAttribute("aria-pressed", String(is_live));
    compare.setAttribute("aria-pressed", String(other != null));
  }
  return { show };
}

function showHead(place, { view, change_at, status }) {
  const said = `${change_at.version} of ${view.newest}: ${change_at.words} · ${clockTime(change_at.at)} · ${status}`;
  if (!isNew(place, [view.title, said])) return;
  place.replaceChildren();
  make("strong", "", place).textContent = view.title;
  make("span", "", place).textContent = said;
}

function range(place, label, moved) {
  const field = make("input", "ironflow-range", place);
  field.type = "range";
  field.step = "1";
  field.setAttribute("aria-label", label);
  field.addEventListener("input", () => moved(Number(field.value)));
  field.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has shortcuts of its own
  return field;
}

function showTrack(first, second, marks, { view, at, other, change_at }, mover) {
  for (const field of [first, second]) {
    field.min = String(view.first);
    field.max = String(view.newest);
  }
  const target = mover.target();
  first.value = String(target.at ?? at);
  first.setAttribute("aria-valuetext", `${change_at.version} of ${view.newest}: ${change_at.words}`);
  second.hidden = other == null;
  if (other != null) {
    second.value = String(target.other ?? other);
    second.setAttribute("aria-valuetext", `${other} of ${view.newest}`);
  }
  if (!isNew(marks, [view.first, view.newest, view.marks])) return;
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 1000 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true"); // the buttons go to these events, and the list names them
  const whole = Math.max(view.newest - view.first, 1);
  for (const mark of view.marks) {
    const line = svg.appendChild(document.createElementNS(SVG, "rect"));
    const x = ((mark.version - view.first) / whole) * 1000;
    const place = { x: Math.min(x, 997), y: mark.is_failure ? 0 : 3, width: 3, height: mark.is_failure ? 10 : 7 };
    for (const [name, value] of Object.entries(place)) line.setAttribute(name, String(value));
    line.classList.add(mark.is_failure ? "ironflow-failure" : "ironflow-note");
    line.appendChild(document.createElementNS(SVG, "title")).textContent = `${mark.version}: ${mark.words}`;
  }
  marks.replaceChildren(svg);
}

/** Show the changes until the moment, and what differs between the two handles. */
function showSide(place, { at, other, recent, differences }) {
  if (!isNew(place, [at, other, recent, differences])) return;
  place.replaceChildren();
  if (other != null) {
    const [from, to] = [Math.min(at, other), Math.max(at, other)];
    make("strong", "", place).textContent = `What differs between ${from} and ${to}`;
    const list = make("dl", "ironflow-differences", place);
    if (!differences.length) make("p", "", place).textContent = "nothing";
    for (const { name, before, after } of differences) {
      make("dt", "", list).textContent = name;
      make("dd", "", list).textContent = `${before ?? "not there yet"} → ${after ?? "gone"}`;
    }
  }
  make("strong", "", place).textContent = "Changes";
  const list = make("ol", "ironflow-changes", place);
  for (const each of recent) {
    const line = make("li", each.is_failure ? "ironflow-failed" : "", list);
    line.value = each.version;
    line.textContent = `${each.is_failure ? "✗ " : ""}${each.words}`;
    line.title = clockTime(each.at);
    if (each.version === at) line.setAttribute("aria-current", "true");
  }
}

/** Mark the nodes of which nothing had begun at the moment. */
function dim(canvas, ghosts) {
  if (!canvas.svg) return;
  for (const node of canvas.svg.querySelectorAll("g[data-kind]")) {
    const isGhost = ghosts.includes(node.id);
    node.classList.toggle("ironflow-ghost", isGhost);
    const label = node.querySelector("title")?.textContent ?? "";
    node.setAttribute("aria-label", isGhost ? `${label} (later)` : label);
  }
}

export { initialize, render };
export default { initialize, render };
