// What is done with a step by hand: a result is injected, or a fork begins; the plan of both is shown first.
import { button, make } from "./elements.js";

const FORMS = {
  inject: {
    label: "Inject",
    title: "Give this step a result by hand",
    value: "result: JSON or a Python literal",
    sent: "Inject this result",
  },
  fork: {
    label: "Fork",
    title: "Begin a new run that goes on from here",
    value: "another result: JSON or a Python literal; empty to do the step again",
    sent: "Begin the fork",
  },
};

/**
 * Add the buttons of what can be done with a step, each of which opens its form.
 * @param {import("./elements.js").Send} send
 */
export function editControls(parent, step, actions, send) {
  const possible = Object.keys(FORMS).filter((edit) => actions.includes(edit) && (edit !== "inject" || step.can_edit));
  if (!possible.length) return;
  const row = make("div", "ironflow-buttons", parent);
  const place = make("div", "ironflow-edit", parent);
  place.dataset.step = step.step;
  for (const edit of possible)
    button(row, FORMS[edit].label, FORMS[edit].title, () => {
      if (place.dataset.edit === edit) closeForm(place);
      else openForm(place, edit, step.step, send);
    });
}

function closeForm(place) {
  delete place.dataset.edit;
  place.replaceChildren();
}

function openForm(place, edit, step, send) {
  const words = FORMS[edit];
  const value = fieldOf(make("textarea"), words.value);
  const reason = fieldOf(make("input"), "reason, for those who read the history");
  const sent = { edit, step };
  const content = () => ({ ...sent, line: value.value, reason: reason.value });
  const form = make("form", "ironflow-form");
  const row = make("div", "ironflow-buttons");
  button(row, "Plan", "Say what would be done again; nothing is recorded", () => send({ do: "plan", ...content() }));
  const submit = button(row, words.sent, words.title, () => {});
  submit.type = "submit";
  holdBack(submit);
  value.addEventListener("input", () => holdBack(submit));
  form.append(value, ...(edit === "inject" ? [reason] : []), row, make("div", "ironflow-planned"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send({ do: edit, ...content() }, submit);
  });
  place.dataset.edit = edit;
  place.replaceChildren(form);
  value.focus();
}

/** Keep a button from being clicked until the plan of what it does was seen. */
function holdBack(made) {
  made.disabled = true;
  made.dataset.kept = "true";
}

/** Close all forms that are open in the card. */
export function closeForms(card) {
  card.querySelectorAll(".ironflow-edit").forEach(closeForm);
}

function fieldOf(field, about) {
  field.placeholder = about;
  field.setAttribute("aria-label", about);
  field.addEventListener("keydown", (event) => event.stopPropagation()); // the notebook has shortcuts of its own
  return field;
}

/** Show the plan that was asked for, and let the form be sent. */
export function showPlan(card, step, planned) {
  const place = [...card.querySelectorAll(".ironflow-edit")].find((each) => each.dataset.step === step);
  const shown = place?.querySelector(".ironflow-planned");
  if (!shown) return;
  shown.replaceChildren();
  make("p", "", shown).textContent = planned.summary || "nothing is recorded that it changes";
  const list = make("ul", "", planned.again.length ? shown : null);
  for (const line of planned.again) make("li", "", list).textContent = line;
  if (planned.n_more) make("p", "", shown).textContent = `and ${planned.n_more} more`;
  const submit = place.querySelector("button[type=submit]");
  submit.disabled = false;
  delete submit.dataset.kept;
}
