// The card of a run: its picture, drawn once and patched by what changes, with controls, forms and details.
// A plain module for anywidget: nothing is fetched, and its imports are sent with it.
import { button, childOf, enableButtons, followFrames, isNew, make, spoken, sureButton } from "./elements.js";
import { showContinuation } from "./continuation.js";
import { InnerCards } from "./inner_card.js";
import { showStrip } from "./item_strip.js";
import { showTable, showTimes, waitElement } from "./question_form.js";
import { logOfRun, showDetails } from "./step_details.js";
import { closeForms, showPlan } from "./step_forms.js";

/**
 * @typedef {{[name: string]: any}} Frame  All that a card shows, as `run_card.py` sends it. Instants are microseconds.
 *   `skew` is by how many milliseconds the clock of the run is ahead.
 */

const ACTIONS = {
  pause: ["Pause", "Stop after the steps that are at work; what is finished is kept"],
  resume: ["Resume", "Go on from what is recorded"],
  retry: ["Retry", "Try the failed steps again, and go on"],
  cancel: ["Cancel", "End the run for good"],
};
const SVG = "http://www.w3.org/2000/svg";
const AGAIN_MS = 1000;
const MAX_HEIGHT = 560;

function initialize({ model }) {
  followFrames(model);
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const card = make("section", "ironflow-card", el);
  const bar = make("div", "ironflow-bar", card);
  const buttons = make("div", "ironflow-buttons", bar);
  const meter = make("div", "ironflow-meter", bar);
  const told = make("p", "ironflow-told", card);
  told.setAttribute("role", "status");
  const waits = make("div", "ironflow-waits", card);
  const body = make("div", "ironflow-body", card);
  let items = null; // those of a map that are listed; null for what matters first
  const canvas = new Canvas(bar, body, (element) => {
    if (element !== model.get("chosen")) items = null;
    model.set("chosen", element); // for a view that takes the place of this one
    if (element) model.send({ do: "details", element, items });
  });
  const inner = new InnerCards(model, { initialize, render });
  const details = make("div", "ironflow-details", body);
  const continuation = make("div", "ironflow-continuation", card);
  const log = logOfRun(card, () => model.send({ do: "log" }));
  card.setAttribute("aria-label", `run ${model.get("frame").run_id}`);

  const send = (content, button) => {
    told.textContent = "";
    if (button) button.disabled = true;
    model.send(content);
  };
  const frame = () => model.get("frame");
  const now = () => Date.now() + frame().skew;
  const paint = () => {
    showButtons(buttons, frame(), send);
    showMeter(meter, frame(), now());
    showWaits(waits, frame(), send);
    showContinuation(continuation, frame().continuation, send);
    showTimes(card, now());
  };
  const hear = (content) => {
    if (content.details && canvas.chosen) {
      showDetails(details, content.details, frame(), send, () => canvas.choose(null));
      showStrip(details, content.details, items, (chosen) => {
        items = chosen;
        canvas.choose(canvas.chosen);
      });
      inner.attach(details);
    }
    inner.hear(content);
    if (content.error || content.told) {
      told.textContent = content.error ?? content.told;
      enableButtons(card);
    }
    if (content.told) {
      closeForms(card);
      canvas.chooseAgain();
    }
    if (content.log) log.show(content.log);
    if (content.planned) showPlan(card, content.step, content.planned);
    const wait = content.table && childOf(waits, (data) => data.step === content.step);
    if (wait) showTable(wait, content.table, send);
    if (content.frame) canvas.draw(content.frame.svg, content.frame.elements);
    else if (content.change?.svg) canvas.draw(content.change.svg, content.elements);
    else if (content.change) canvas.patch(content.elements);
    if (!content.frame && !content.change) return;
    paint();
    log.ask();
  };
  model.on("msg:custom", hear);
  canvas.draw(frame().svg, frame().elements);
  canvas.choose(model.get("chosen"));
  paint();
  const clock = setInterval(() => {
    showMeter(meter, frame(), now());
    showTimes(card, now());
  }, 1000);
  return () => {
    clearInterval(clock);
    inner.closeAll();
    model.off("msg:custom", hear);
  };
}

/** The picture: it can be moved, made larger and smaller, and its nodes can be chosen. */
class Canvas {
  constructor(bar, body, choose) {
    this.tell = choose;
    this.chosen = null;
    this.whole = { x: 0, y: 0, width: 1, height: 1 };
    this.box = this.whole;
    /** @type {any} */
    this.svg = null; // a run may have no picture
    const tools = make("div", "ironflow-tools", bar);
    button(tools, "−", "Smaller", () => this.zoom(1.25));
    button(tools, "+", "Larger", () => this.zoom(0.8));
    button(tools, "Fit", "Show all of it", () => this.look(this.whole));
    button(tools, "Follow", "Show what is at work", () => this.follow(true));
    this.place = make("div", "ironflow-canvas", body);
    this.place.tabIndex = 0;
    this.place.setAttribute("role", "group");
    this.place.setAttribute("aria-label", "picture of the run; + and - zoom, arrows move, 0 fits, Enter opens a node");
    this.place.addEventListener("click", (event) => this.onChoice(event));
    this.place.addEventListener("keydown", (event) => this.onKey(event));
    this.place.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    this.place.addEventListener("pointerdown", (event) => this.onPress(event));
  }

  draw(svg, elements) {
    this.isFollowing = false;
    const parsed = svg ? new DOMParser().parseFromString(svg, "image/svg+xml").documentElement : null;
    this.place.replaceChildren(...(parsed ? [document.importNode(parsed, true)] : []));
    this.svg = this.place.querySelector("svg");
    this.place.hidden = !this.svg;
    if (!this.svg) return;
    const { width, height } = this.svg.viewBox.baseVal;
    this.whole = { x: 0, y: 0, width, height };
    this.svg.setAttribute("role", "group"); // what is within an image is read to nobody
    this.svg.setAttribute("width", "100%");
    this.svg.setAttribute("height", String(Math.min(height, MAX_HEIGHT)));
    this.svg.style.maxWidth = `${Math.max(width, 480)}px`;
    this.patch(elements);
    for (const node of this.svg.querySelectorAll("g[data-kind]")) reachable(node);
    this.follow(height > MAX_HEIGHT);
  }

  /** Replace the parts that differ; all of them are parsed at once. */
  patch(elements) {
    const names = Object.keys(elements);
    if (!this.svg || !names.length) return;
    const text = `<svg xmlns="${SVG}">${names.map((name) => elements[name]).join("")}</svg>`;
    const fresh = [...new DOMParser().parseFromString(text, "image/svg+xml").documentElement.children];
    names.forEach((name, n) => {
      const old = this.svg.querySelector(name === "edges" ? '[data-part="edges"]' : `#${CSS.escape(name)}`);
      if (!old || !fresh[n]) return;
      const isFocused = document.activeElement === old;
      const part = /** @type {SVGElement} */ (document.importNode(fresh[n], true));
      old.replaceWith(part);
      if (part.dataset.kind) reachable(part);
      if (name === this.chosen) {
        part.classList.add("ironflow-chosen");
        this.chooseAgain();
      }
      if (isFocused) part.focus();
    });
    if (this.isFollowing) this.follow(true);
  }

  /** Show what is at work in its own size, from now on; or all of the picture. */
  follow(isFollowing) {
    if (!this.svg) return;
    const { width, height } = this.whole;
    const places = ["running", "waiting", "failed"].map((status) => `g[data-kind][data-status="${status}"]`);
    const node = isFollowing && places.map((place) => [...this.svg.querySelectorAll(place)].pop()).find(Boolean);
    if (!node && this.isFollowing) return; // between two steps
    const shown = isFollowing ? { x: 0, y: 0, width, height: Math.min(height, MAX_HEIGHT) } : this.whole;
    this.look(shown);
    this.isFollowing = isFollowing;
    if (!node) return;
    const y = heightOf(node) + heightOf(node.parentNode) - shown.height / 2;
    this.look({ ...shown, y: Math.max(0, Math.min(y, height - shown.height)) });
    this.isFollowing = true;
  }

  onChoice(event) {
    const node = event.target.closest?.("g[data-kind]");
    if (!node || this.wasMoved) return;
    this.choose(node.id);
  }

  /** Choose a node, or none. */
  choose(name) {
    this.svg?.querySelector(".ironflow-chosen")?.classList.remove("ironflow-chosen");
    if (name) this.svg?.querySelector(`#${CSS.escape(name)}`)?.classList.add("ironflow-chosen");
    this.chosen = name;
    this.tell(name);
  }

  /** Ask for the details of the chosen node, which has changed; not more often than they can be read. */
  chooseAgain() {
    this.timer ??= setTimeout(() => {
      this.timer = null;
      if (this.chosen) this.tell(this.chosen);
    }, AGAIN_MS);
  }

  onKey(event) {
    const step = 40 * this.scale();
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key === "Enter" || event.key === " ") this.onChoice(event);
    else if (event.key === "+") this.zoom(0.8);
    else if (event.key === "-") this.zoom(1.25);
    else if (event.key === "0") this.look(this.whole);
    else if (moves[event.key]) this.move(...moves[event.key]);
    else return;
    event.preventDefault();
    event.stopPropagation(); // the notebook has shortcuts of its own
  }

  onWheel(event) {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const box = this.svg.getBoundingClientRect();
    const at = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    this.zoom(event.deltaY > 0 ? 1.1 : 0.9, at);
  }

  onPress(event) {
    if (event.button !== 0 || !this.svg) return;
    this.wasMoved = false;
    let last = [event.clientX, event.clientY];
    const drag = (moved) => {
      const [dx, dy] = [moved.clientX - last[0], moved.clientY - last[1]];
      if (!this.wasMoved && Math.hypot(dx, dy) < 4) return;
      this.wasMoved = true;
      last = [moved.clientX, moved.clientY];
      this.move(-dx * this.scale(), -dy * this.scale());
    };
    const stop = () => {
      window.removeEventListener("pointermove", drag);
      window.removeEventListener("pointerup", stop);
    };
    window.addEventListener("pointermove", drag);
    window.addEventListener("pointerup", stop);
  }

  scale() {
    const box = this.svg.getBoundingClientRect();
    return Math.max(this.box.width / box.width, this.box.height / box.height);
  }

  move(dx, dy) {
    this.look({ ...this.box, x: this.box.x + dx, y: this.box.y + dy });
  }

  /** @param {number} factor @param {number[]} [at]  The part of width and height that stays in its place. */
  zoom(factor, [atX, atY] = [0.5, 0.5]) {
    if (!this.svg) return;
    const width = Math.min(Math.max(this.box.width * factor, 60), this.whole.width * 4);
    const height = this.box.height * (width / this.box.width);
    const x = this.box.x + (this.box.width - width) * atX;
    this.look({ x, y: this.box.y + (this.box.height - height) * atY, width, height });
  }

  look(box) {
    if (!this.svg) return;
    this.isFollowing = false;
    this.box = box;
    this.svg.setAttribute("viewBox", viewBox(box));
  }
}

/** @param {any} group  One that is moved to its place. */
function heightOf(group) {
  return group.transform.baseVal.consolidate()?.matrix.f ?? 0;
}

function viewBox({ x, y, width, height }) {
  return `${x} ${y} ${width} ${height}`;
}

function reachable(node) {
  const label = node.querySelector("title")?.textContent;
  if (!label) return; // the dot at which a state machine begins
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", label);
}

// -- controls -------------------------------------------------------------------------------------------------------

/** Show the buttons of what can be asked of the run now. They are made anew only if others are possible. */
function showButtons(place, frame, send) {
  const possible = Object.keys(ACTIONS).filter((action) => frame.actions.includes(action));
  if (!isNew(place, [frame.run_id, frame.status, possible])) return;
  place.replaceChildren();
  for (const action of possible) {
    const [label, title] = ACTIONS[action];
    const ask = (made) => send({ do: action }, made);
    const made = action === "cancel" ? sureButton(place, label, title, "Cancel for good?", ask) : button(place, label, title, ask);
    made.dataset.action = action;
  }
}

function showMeter(place, frame, now) {
  const { n_done, n_failed, n_known, expected_end_at } = frame.progress;
  const said = [frame.status, `${n_done} of ${n_known} done`];
  if (n_failed) said.push(`${n_failed} failed`);
  if (expected_end_at && !frame.ended_at) {
    const left = expected_end_at / 1000 - now;
    if (left > 0) said.push(`about ${spoken(left)} left`);
  }
  for (const lane of frame.lanes) said.push(`lane ${[lane.lane, lane.key].filter(Boolean).join(" ")}: ${lane.n_waiting} wait`);
  for (const breaker of frame.breakers) said.push(`breaker ${breaker.name} is open`);
  if (!isNew(place, said)) return;
  const bar = make("progress", "", null);
  bar.max = Math.max(n_known, 1);
  bar.value = n_done;
  bar.setAttribute("aria-label", "steps that are done");
  const words = make("span", "", null);
  words.textContent = said.join(" · ");
  place.replaceChildren(bar, words);
}

// -- waits ----------------------------------------------------------------------------------------------------------

/** Show what the run waits for. A form that is being filled in stays as it is while the wait does. */
function showWaits(place, frame, send) {
  if (!isNew(place, frame.waits)) return;
  place.replaceChildren(...frame.waits.map((wait) => waitElement(wait, send)));
}

export { Canvas, button, initialize, isNew, make, render, showTimes, spoken, waitElement }; // for cards of more than a run
export default { initialize, render };
