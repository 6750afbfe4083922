// Views in a front end: the deltas that `views/deltas.py` makes, and instants.

/**
 * @typedef {{[name: string]: any}} View  Plain fields; of each part the `items` by key, and the `keys` in their order.
 * @typedef {{fields?: {[name: string]: any}, parts?: {[name: string]: {items?: {[key: string]: any}, keys?: string[] | null}}}} Delta
 */

/** Return the view after the change. The delta since an empty view is the whole one. @param {View} view  @param {Delta} change */
function merged(view, change) {
  const next = { ...view, ...change.fields };
  for (const [name, part] of Object.entries(change.parts ?? {})) {
    const before = view[name] ?? { items: {}, keys: [] };
    const keys = part.keys ?? before.keys;
    const all = { ...before.items, ...part.items };
    next[name] = { items: Object.fromEntries(keys.map((key) => [key, all[key]])), keys };
  }
  return next;
}

/** Return the items of a part in their order. @param {View} view  @param {string} name  @returns {any[]} */
function itemsOf(view, name) {
  const part = view[name];
  return part ? part.keys.map((key) => part.items[key]) : [];
}

/** @param {number} at  Microseconds UTC. */
function clockTime(at) {
  return new Date(at / 1000).toLocaleString();
}

export { clockTime, itemsOf, merged };
