// Cards within a card: runs that are opened there. Each is rendered as any card, with a model that speaks through the outer one.

import { button } from "./elements.js";

/** The model of a card within another one. */
class InnerModel {
  constructor(outer, runId, frame) {
    this.outer = outer;
    this.runId = runId;
    this.values = { frame };
    this.listeners = new Set();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
  }

  on(_, listener) {
    this.listeners.add(listener);
  }

  off(_, listener) {
    this.listeners.delete(listener);
  }

  send(content) {
    this.outer.send({ do: "run", run: this.runId, content });
  }

  hear(content) {
    for (const listener of [...this.listeners]) listener(content);
  }
}

/** The runs that are opened in a card; `face` renders one. Elements stay the same while a run is open. */
class InnerCards {
  constructor(model, face) {
    this.model = model;
    this.face = face;
    this.opened = new Map();
    /** Told when a run was opened or closed. @type {(runId: string) => void} */
    this.changed = () => this.attach(this.place);
  }

  /** Put a button into each place of a run, and the card of those that are open. @param {Element} [place] */
  attach(place) {
    this.place = place;
    for (const each of /** @type {NodeListOf<HTMLElement>} */ (place?.querySelectorAll(":scope > * > [data-run]") ?? [])) {
      const runId = each.dataset.run;
      const isOpen = this.isOpen(runId);
      const label = isOpen ? "Close the child run" : "Open the child run";
      const opener = button(null, label, `run ${runId}`, () => (isOpen ? this.close(runId) : this.open(runId)));
      opener.setAttribute("aria-expanded", String(isOpen));
      const hadFocus = each.firstElementChild === document.activeElement;
      each.replaceChildren(opener);
      if (isOpen) each.append(this.element(runId));
      if (hadFocus) opener.focus();
    }
  }

  isOpen(runId) {
    return this.opened.has(runId);
  }

  open(runId) {
    this.model.send({ do: "open", run: runId });
  }

  close(runId) {
    this.opened.get(runId)?.leave?.();
    this.opened.delete(runId);
    this.model.send({ do: "close", run: runId });
    this.changed(runId);
  }

  closeAll() {
    for (const runId of [...this.opened.keys()]) this.close(runId);
  }

  /** The element of a run that is open. @returns {HTMLElement} */
  element(runId) {
    return this.opened.get(runId).element;
  }

  hear(content) {
    if (content.opened) this.show(content.opened, content.run_frame);
    if (content.of_run) this.opened.get(content.of_run)?.model.hear(content.content);
  }

  show(runId, frame) {
    this.opened.get(runId)?.leave?.();
    const model = new InnerModel(this.model, runId, frame);
    const element = document.createElement("div");
    element.className = "ironflow-inner";
    this.opened.set(runId, { model, element });
    this.face.initialize({ model });
    this.opened.get(runId).leave = this.face.render({ model, el: element });
    this.changed(runId);
  }
}

export { InnerCards, InnerModel };
