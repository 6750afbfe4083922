// The card of a run: its picture, drawn once and patched by what changes, with controls, forms and details.
// A plain module for anywidget: nothing is bundled, and nothing is fetched.

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
const SURE_MS = 4000;
const AGAIN_MS = 1000;
const MAX_HEIGHT = 560;

/** Keep the latest frame in the model, for all of its views, and say that somebody shows it. */
function initialize({ model }) {
  const keep = (frame) => model.set("frame", { ...frame, skew: frame.now / 1000 - Date.now() });
  keep(model.get("frame"));
  model.on("msg:custom", (content) => {
    if (content.frame) {
      keep(content.frame);
    } else if (content.change) {
      const frame = model.get("frame");
      const elements = content.change.svg ? content.elements : { ...frame.elements, ...content.elements };
      keep({ ...frame, ...content.change, elements });
    }
  });
  model.send({ do: "hello" });
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
  const canvas = new Canvas(bar, body, (element) => {
    model.set("chosen", element); // for a view that takes the place of this one
    if (element) model.send({ do: "details", element });
  });
  const details = make("div", "ironflow-details", body);
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
    showTimes(card, now());
  };
  const hear = (content) => {
    if (content.details && canvas.chosen) showDetails(details, content.details, frame(), () => canvas.choose(null));
    if (content.error) {
      told.textContent = content.error;
      for (const button of card.querySelectorAll("button:disabled")) button.disabled = false;
    }
    if (content.frame) canvas.draw(content.frame.svg, content.frame.elements);
    else if (content.change?.svg) canvas.draw(content.change.svg, content.elements);
    else if (content.change) canvas.patch(content.elements);
    if (content.frame || content.change) paint();
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
    model.off("msg:custom", hear);
  };
}

/** The picture: it can be moved, made larger and smaller, and its nodes can be chosen. */
class Canvas {
  constructor(bar, body, choose) {
    this.tell = choose;
    this.chosen = null;
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
    this.svg = /** @type {SVGSVGElement} */ (this.place.querySelector("svg"));
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
  node.setAttribute("tabindex", "0");
  node.setAttribute("role", "button");
  node.setAttribute("aria-label", node.querySelector("title")?.textContent ?? "");
}

// -- controls -------------------------------------------------------------------------------------------------------

/** Show the buttons of what can be asked of the run now. They are made anew only if others are possible. */
function showButtons(place, frame, send) {
  const possible = Object.keys(ACTIONS).filter((action) => frame.actions.includes(action));
  if (!isNew(place, [frame.run_id, frame.status, possible])) return;
  place.replaceChildren();
  for (const action of possible) {
    const [label, title] = ACTIONS[action];
    const made = button(place, label, title, () => {
      if (action !== "cancel" || made.dataset.sure) return send({ do: action }, made);
      made.dataset.sure = "true";
      made.textContent = "Cancel for good?";
      setTimeout(() => {
        delete made.dataset.sure;
        made.textContent = label;
      }, SURE_MS);
    });
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

function waitElement(wait, send) {
  const item = make("div", "ironflow-wait", null);
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
    yes.forEach((line, n) => button(row, words[n], wait.question, (event) => answer(line, event.currentTarget)));
  } else if (wait.form) {
    const field = inputOf(wait);
    form(item, field, "Answer", wait.question, (made) => answer(typed(field, wait.form), made));
    if (!wait.choices.length) field.title = wait.fits;
  } else {
    make("code", "", item).textContent = wait.expression;
  }
}

function signalForm(item, name, send) {
  const field = make("input", "", null);
  field.placeholder = "payload: JSON, text, or nothing";
  form(item, field, `Send ${name}`, `payload of ${name}`, (made) => send({ do: "signal", name, line: field.value }, made));
}

function form(item, field, label, about, submit) {
  const made = make("form", "ironflow-form", item);
  field.setAttribute("aria-label", about);
  field.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has shortcuts of its own
  made.append(field);
  const sent = button(made, label, about, () => {});
  sent.type = "submit";
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(sent);
  });
}

function inputOf(wait) {
  if (wait.form === "choice") {
    const select = make("select", "", null);
    for (const choice of wait.choices) make("option", "", select).textContent = choice;
    return select;
  }
  if (wait.form === "json") {
    const area = make("textarea", "", null);
    area.placeholder = wait.fits;
    return area;
  }
  const field = make("input", "", null);
  field.type = { number: "number", date: "date", datetime: "datetime-local" }[wait.form] ?? "text";
  if (wait.form === "number") field.step = "any";
  field.placeholder = wait.fits;
  return field;
}

function typed(field, kind) {
  return kind === "datetime" && field.value ? new Date(field.value).toISOString() : field.value;
}

/** Show how long each wait still has. */
function showTimes(card, now) {
  for (const place of card.querySelectorAll("[data-due]")) {
    const left = Number(place.dataset.due) / 1000 - now;
    const at = new Date(Number(place.dataset.due) / 1000).toLocaleString();
    place.textContent = left > 0 ? `until ${at} (${spoken(left)} left)` : `until ${at}`;
  }
}

// -- details --------------------------------------------------------------------------------------------------------

function showDetails(place, found, frame, forget) {
  const opened = Object.fromEntries([...place.querySelectorAll("details")].map((each) => [each.dataset.name, each.open]));
  place.replaceChildren();
  const head = make("div", "ironflow-wait-head", place);
  make("strong", "", head).textContent = found.label || "several nodes";
  if (found.n_steps > 1) make("span", "", head).textContent = `${found.n_steps} steps`;
  button(head, "Close", "Close the details", () => {
    place.replaceChildren();
    forget();
  });
  if (!found.steps.length) make("p", "", place).textContent = found.title || "nothing of it is recorded";
  for (const step of found.steps) stepElement(place, step, opened[step.step] ?? (found.steps.length === 1 || !!step.error));
  if (found.n_steps > found.steps.length)
    make("p", "", place).textContent = `and ${found.n_steps - found.steps.length} more: iron.get_run("${frame.run_id}").steps()`;
  if (found.source) {
    const source = make("details", "", place);
    source.dataset.name = "source";
    source.open = Boolean(opened.source);
    make("summary", "", source).textContent = "source";
    make("pre", "", source).textContent = found.source;
  }
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
}

// -- elements -------------------------------------------------------------------------------------------------------

function make(tag, name, parent) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  parent?.append(made);
  return made;
}

function button(parent, label, title, act) {
  const made = make("button", "ironflow-button", parent);
  made.type = "button";
  made.textContent = label;
  made.title = title;
  made.addEventListener("click", act);
  return made;
}

/** Return whether a place shows something else by now, and note what it is to show. */
function isNew(place, shown) {
  const text = JSON.stringify(shown);
  if (place.dataset.shown === text) return false;
  place.dataset.shown = text;
  return true;
}

function spoken(ms) {
  const s = Math.round(ms / 1000);
  if (ms < 950) return `${Math.round(ms)} ms`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.round(s / 86400)} days`;
}

export default { initialize, render };
