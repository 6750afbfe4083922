// The models of the pages: the modules of the notebook take them for the models of their widgets.

/** What a card takes for the model of a widget. */
export class PageModel {
  constructor() {
    this.values = {};
    this.listeners = new Set();
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
  }

  on(_, act) {
    this.listeners.add(act);
  }

  off(_, act) {
    this.listeners.delete(act);
  }

  tell(content) {
    for (const act of this.listeners) act(content);
  }
}
