// What all cards are made of: elements, forms and texts.

/**
 * @typedef {{[name: string]: any}} Content  What a card sends, and what it is sent.
 * @typedef {(content: Content, button?: HTMLButtonElement) => void} Send
 */

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [name]
 * @param {Element | null} [parent]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, name, parent) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  parent?.append(made);
  return made;
}

/**
 * @param {Element | null} parent
 * @param {string} label
 * @param {string} title
 * @param {(made: HTMLButtonElement) => void} act
 */
export function button(parent, label, title, act) {
  const made = make("button", "ironflow-button", parent);
  made.type = "button";
  made.textContent = label;
  made.title = title;
  made.addEventListener("click", () => act(made));
  return made;
}

/** Let buttons be clicked again, except those that are held back for a reason of their own. */
export function enableButtons(place) {
  const held = /** @type {NodeListOf<HTMLButtonElement>} */ (place.querySelectorAll("button:disabled:not([data-kept])"));
  for (const made of held) made.disabled = false;
}

/**
 * The child that is about something.
 * @param {HTMLElement} place
 * @param {(data: DOMStringMap) => boolean} isIt
 */
export function childOf(place, isIt) {
  return /** @type {HTMLElement[]} */ ([...place.children]).find((each) => isIt(each.dataset));
}

const SURE_MS = 4000;

/** A button whose first click only asks. */
export function sureButton(parent, label, title, question, act) {
  const made = button(parent, label, title, () => {
    if (made.dataset.sure) return act(made);
    made.dataset.sure = "true";
    made.textContent = question;
    setTimeout(() => {
      delete made.dataset.sure;
      made.textContent = label;
    }, SURE_MS);
  });
  return made;
}

/** A form of one field, which the shortcuts of the notebook leave alone. */
export function form(place, field, label, about, submit) {
  const made = make("form", "ironflow-form", place);
  field.setAttribute("aria-label", about);
  field.addEventListener("keydown", (event) => event.stopPropagation());
  made.append(field);
  const sent = button(made, label, about, () => {});
  sent.type = "submit";
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    submit(sent);
  });
  return made;
}

/** Return whether a place shows something else by now, and note what it is to show. */
export function isNew(place, shown) {
  const text = JSON.stringify(shown);
  if (place.dataset.shown === text) return false;
  place.dataset.shown = text;
  return true;
}

/** @param {number} ms */
export function spoken(ms) {
  const s = Math.round(ms / 1000);
  if (ms < 950) return `${Math.round(ms)} ms`;
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return s < 172800 ? `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min` : `${Math.round(s / 86400)} days`;
}

/** Keep the latest frame in the model, for all of its views, and say that somebody shows it. */
export function followFrames(model) {
  const keep = (frame) => model.set("frame", { ...frame, skew: frame.now / 1000 - Date.now() });
  keep(model.get("frame"));
  model.on("msg:custom", (content) => {
    if (content.frame) {
      keep(content.frame);
    } else if (content.change) {
      const frame = model.get("frame");
      const elements = content.change.svg ? content.elements : { ...frame.elements, ...content.elements };
      keep({ now: frame.now, ...frame, ...content.change, elements });
    }
  });
  model.send({ do: "hello" });
}

/** A picture that is not changed any more. */
export function pictureElement(svg) {
  const parsed = new DOMParser().parseFromString(svg, "image/svg+xml").documentElement;
  return document.importNode(parsed, true);
}

/** Lines of a unified diff, added and removed ones marked. */
export function diffElement(parent, text) {
  const place = make("pre", "ironflow-diff", parent);
  place.tabIndex = 0; // it may be wider than its place
  for (const line of text.split("\n")) {
    const kind = line.startsWith("+") ? "ins" : line.startsWith("-") ? "del" : "span";
    make(kind, "", place).textContent = `${line}\n`;
  }
  return place;
}
