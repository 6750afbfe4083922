// The strip of a map: one cell for each item, or for several where there are too many; chosen by a click or by keyboard.

/** As many cells have room for a glyph; of more the height tells what is not done. */
const WIDE = 60;

/**
 * Show the states of the items in the details of a node, below their head.
 * @param {HTMLElement} place  @param {{strip?: any}} details  @param {[number, number] | null} chosen  @param {(items: [number, number] | null) => void} choose
 */
function showStrip(place, { strip }, chosen, choose) {
  place.querySelector(":scope > .ironflow-items")?.remove();
  if (!strip?.cells.length) return;
  const { cells, legend } = strip;
  const looks = Object.fromEntries(legend.map((entry) => [entry.status, entry]));
  const part = document.createElement("div");
  part.className = "ironflow-items";
  const counts = part.appendChild(document.createElement("div"));
  counts.className = "ironflow-chips";
  for (const { status, n, glyph, fill, stroke, text } of legend) {
    const chip = counts.appendChild(document.createElement("span"));
    chip.className = "ironflow-chip";
    chip.textContent = `${glyph} ${n} ${status}`;
    Object.assign(chip.style, { background: fill, color: text, borderColor: stroke });
  }
  const strips = part.appendChild(document.createElement("div"));
  strips.className = `ironflow-strip${cells.length > WIDE ? " ironflow-narrow" : ""}`;
  strips.setAttribute("aria-hidden", "true"); // the field below it says the same
  const drawn = cells.map((cell) => {
    const box = strips.appendChild(document.createElement("span"));
    const look = looks[cell.status];
    box.dataset.status = cell.status;
    Object.assign(box.style, cells.length > WIDE ? { background: look.stroke } : { background: look.fill, color: look.text });
    if (cells.length <= WIDE) box.textContent = look.glyph;
    box.title = nameOf(cell);
    box.addEventListener("click", () => pick(cell));
    return box;
  });
  const field = part.appendChild(document.createElement("input"));
  const words = part.appendChild(document.createElement("output"));
  Object.assign(field, { type: "range", min: "0", max: String(cells.length - 1), step: "1", className: "ironflow-range" });
  field.setAttribute("aria-label", "item of the map; change it to list what the item did");
  const at = chosen ? cells.findIndex((cell) => cell.first === chosen[0]) : -1;
  field.value = String(Math.max(at, 0));
  const mark = (index) => {
    drawn.forEach((box, number) => box.classList.toggle("ironflow-chosen-item", number === index));
    words.textContent = index < 0 ? `${cells.length === 1 ? "item" : "items"}: choose one to list it` : nameOf(cells[index]);
    field.setAttribute("aria-valuetext", nameOf(cells[Math.max(index, 0)]));
  };
  const pick = (cell) => choose(chosen && chosen[0] === cell.first ? null : [cell.first, cell.n]);
  field.addEventListener("input", () => mark(Number(field.value)));
  field.addEventListener("change", () => choose([cells[Number(field.value)].first, cells[Number(field.value)].n]));
  field.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has shortcuts of its own
  const hadFocus = place.dataset.stripFocus === "true";
  field.addEventListener("focus", () => (place.dataset.stripFocus = "true"));
  field.addEventListener("blur", () => field.isConnected && delete place.dataset.stripFocus);
  mark(at);
  place.firstElementChild?.after(part);
  if (hadFocus) field.focus({ preventScroll: true });
}

function nameOf({ first, n, words }) {
  return n === 1 ? `item ${first}: ${words}` : `items ${first} to ${first + n - 1}: ${words}`;
}

export { showStrip };
