// A card of a journal: runs that somebody has to look after, and the questions of all runs.
import { button, childOf, enableButtons, followFrames, isNew, make, pictureElement, spoken, sureButton } from "./elements.js";
import { showTable, showTimes, waitElement } from "./question_form.js";
import { showContinuation } from "./continuation.js";

const TOLD_MS = 8000;

function initialize({ model }) {
  followFrames(model);
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const card = make("section", "ironflow-card", el);
  card.setAttribute("aria-label", "ironflow: what waits for you");
  const title = make("strong", "", card);
  const told = make("p", "ironflow-told", card);
  told.setAttribute("role", "status");
  const runs = make("div", "ironflow-runs", card);
  const questions = make("div", "ironflow-waits", card);
  const notes = make("div", "", card);
  const frame = () => model.get("frame");
  const now = () => Date.now() + frame().skew;
  const send = (content, made) => {
    told.textContent = "";
    if (made) made.disabled = true;
    model.send(content);
  };
  const paint = () => {
    const { runs: found = [], n_more = 0, questions: asked = [], n_more_questions = 0, notes: lines = [] } = frame();
    title.textContent = titleOf(found, n_more, asked);
    for (const run of found) showRun(runs, run, now(), send);
    showQuestions(questions, asked, send);
    const more = n_more_questions ? [`${n_more_questions} older questions: iron.waiting()`] : [];
    const said = [...more, ...lines];
    if (isNew(notes, said)) notes.replaceChildren(...said.map((line) => Object.assign(make("p"), { textContent: line })));
    showTimes(card, now());
  };
  const hear = (content) => {
    if (content.frame) paint();
    if (content.error) tell(told, content.error);
    if (content.error || content.done) enableButtons(card);
    const run = childOf(runs, (data) => data.run === content.of);
    if (content.inspected && run) showInspected(run, content.inspected, (more, made) => send({ ...more, run_id: content.of }, made));
    const question = childOf(questions, (data) => data.run === content.of && data.step === content.step);
    if (content.table && question) showTable(question, content.table, (more, made) => send({ ...more, run_id: content.of }, made));
  };
  model.on("msg:custom", hear);
  paint();
  const clock = setInterval(() => showTimes(card, now()), 1000);
  return () => {
    clearInterval(clock);
    model.off("msg:custom", hear);
  };
}

function tell(place, text) {
  place.textContent = text;
  setTimeout(() => place.textContent === text && (place.textContent = ""), TOLD_MS);
}

function titleOf(runs, nMore, questions) {
  const parts = [];
  const nRuns = runs.filter((run) => !["completed", "cancelled"].includes(run.status)).length + nMore;
  if (nRuns) parts.push(`${nRuns} unfinished ${nRuns === 1 ? "run" : "runs"}`);
  if (questions.length) parts.push(`${questions.length} open ${questions.length === 1 ? "question" : "questions"}`);
  return `ironflow: ${parts.join(", ") || "nothing waits for you"}`;
}

// -- runs -----------------------------------------------------------------------------------------------------------

function showRun(place, run, now, send) {
  let item = childOf(place, (data) => data.run === run.run_id);
  if (!item) {
    item = make("div", "ironflow-run", place);
    item.dataset.run = run.run_id;
    make("div", "ironflow-run-head", item);
    make("div", "ironflow-inspected", item);
  }
  if (!isNew(item, run)) return;
  const [head, shown] = /** @type {HTMLElement[]} */ ([...item.children]);
  head.replaceChildren();
  make("strong", "", head).textContent = run.name;
  make("code", "", head).textContent = run.run_id;
  make("span", "", head).textContent = wordsOf(run, now);
  const row = make("div", "ironflow-buttons", head);
  const ask = (action) => (made) => send({ do: action, run_id: run.run_id }, made);
  if (run.actions.includes("resume")) {
    const title = run.is_defined ? "Go on from what is recorded" : `Run the cell that defines ${run.name} first`;
    const resume = button(row, "Resume", title, ask("resume"));
    if (!run.is_defined) Object.assign(resume, { disabled: true }).dataset.kept = "true";
  }
  const inspect = button(row, "Inspect", "Show its picture, and what would be done again", () => {
    if (shown.firstChild) shown.replaceChildren();
    else send({ do: "inspect", run_id: run.run_id }, inspect);
  });
  if (run.actions.includes("cancel"))
    sureButton(row, "Discard", "Cancel it for good; its history stays", "Discard for good?", ask("cancel"));
  if (run.is_own && !run.is_defined)
    make("span", "", head).textContent = `${run.name} is not defined here yet: run its cell.`;
  if (!run.is_own) make("span", "", head).textContent = "another user began it, so nothing of it is executed";
  if (run.error) make("p", "ironflow-error", head).textContent = run.error;
  if (shown.firstChild) send({ do: "inspect", run_id: run.run_id });
}

function wordsOf(run, now) {
  const status = `${run.status} ${spoken(Math.max(now - run.active_at / 1000, 0))} ago`;
  if (run.kind === "cell") return `a cell, ${status}; run it again`;
  const steps = run.n_safe === 1 ? "1 finished step is safe" : `${run.n_safe} finished steps are safe`;
  return `${status}, ${steps}${run.n_safe ? ` (${spoken(run.safe_s * 1000)} of work)` : ""}`;
}

function showInspected(item, found, send) {
  const place = item.querySelector(".ironflow-inspected");
  place.replaceChildren();
  if (found.svg) place.append(pictureElement(found.svg));
  else make("pre", "", place).textContent = found.text;
  showContinuation(make("div", "ironflow-continuation", place), found.continuation, send);
  const line = make("p", "", place);
  line.append("In a cell: ");
  make("code", "", line).textContent = `iron.get_run("${item.dataset.run}")`;
}

// -- questions ------------------------------------------------------------------------------------------------------

/** Show the questions. A form that is being filled in stays as it is while its question is open. */
function showQuestions(place, questions, send) {
  const before = Object.fromEntries([...place.children].map((each) => [each.dataset.key, each]));
  const items = questions.map(({ run_id, flow, wait }) => {
    const key = JSON.stringify([run_id, wait]);
    if (before[key]) return before[key];
    const item = waitElement(wait, (content, made) => send({ ...content, run_id }, made));
    Object.assign(item.dataset, { key, run: run_id });
    const whose = make("span", "", null);
    whose.textContent = `${flow} `;
    make("code", "", whose).textContent = run_id;
    item.firstElementChild?.prepend(whose);
    return item;
  });
  if (items.length !== place.children.length || items.some((item, n) => place.children[n] !== item)) place.replaceChildren(...items);
}

export default { initialize, render };
