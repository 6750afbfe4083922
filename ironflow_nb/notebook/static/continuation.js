// What a run at rest needs: what failed, what was edited since, and what would be done again.
import { button, diffElement, isNew, make } from "./elements.js";

/**
 * Show a continuation that is possible; nothing for null.
 * @param {import("./elements.js").Send} send
 */
export function showContinuation(place, found, send) {
  if (!isNew(place, found)) return;
  place.replaceChildren();
  if (!found) return;
  const { failed, edits, missing, stops, summary } = found;
  for (const each of failed) {
    const line = make("p", "", place);
    make("strong", "", line).textContent = each.step ? `${each.step} failed: ` : `${each.name} failed in the flow itself: `;
    line.append(each.error);
  }
  if (missing.length) {
    make("p", "", place).textContent = `Not defined here: ${missing.join(", ")}. Run the cells that define them; then Resume.`;
  } else if (failed.length && !edits.length) {
    const names = [...new Set(failed.map((each) => each.name))].join(", ");
    make("p", "", place).textContent = `Edit the cell that defines ${names} and run it: what changed is shown here. Or Resume to try it again as it is.`;
  }
  for (const edit of edits) {
    const item = make("details", "", place);
    item.open = edits.length === 1;
    make("summary", "", item).textContent = edit.name === edit.reason ? edit.name : `${edit.name}, ${edit.reason}`;
    diffElement(item, edit.diff);
  }
  if (missing.length || !summary) return;
  make("p", "", place).textContent = `Resume: ${summary}.`;
  const row = make("div", "ironflow-buttons", place);
  if (stops.length) {
    const names = stops.join(", ");
    button(row, "Keep their results", `Keep what ${names} returned`, (made) => send({ do: "resume", keep: stops }, made));
    button(row, "Do them again", `Do ${names} again`, (made) => send({ do: "resume", rerun: stops }, made));
  } else if (edits.length) {
    button(row, "Resume with the edit", "Go on from what is recorded", (made) => send({ do: "resume" }, made));
  }
}
