// The card of a decider: its state diagram, an instance to choose, its commands as forms, effects, timers and dead letters.
import { button, enableButtons, followFrames, isNew, make, spoken } from "./elements.js";
import { inputOf, typed } from "./question_form.js";
import { Canvas } from "./run_card.js";

const ALIVE_MS = 20000;
const AGAIN_MS = 1000;

function initialize({ model }) {
  followFrames(model);
}

/** @param {{model: any, el: HTMLElement}} context */
function render({ model, el }) {
  const card = make("section", "ironflow-card ironflow-decider", el);
  const frame = () => model.get("frame");
  card.setAttribute("aria-label", `decider ${frame().view.name}`);
  const bar = make("div", "ironflow-bar", card);
  const picker = instancePicker(bar, (instance) => model.send({ do: "choose", instance }));
  const told = make("p", "ironflow-told", card);
  told.setAttribute("role", "status");
  const body = make("div", "ironflow-body", card);
  const canvas = new Canvas(bar, body, () => {});
  const side = make("div", "ironflow-side", body);
  const state = make("dl", "ironflow-differences", side);
  const commands = make("div", "ironflow-commands", side);
  const work = make("div", "ironflow-work", side);
  const send = (content, made) => {
    told.textContent = "";
    if (made) made.disabled = true;
    model.send(content);
  };
  const paint = () => {
    const { view } = frame();
    picker.show(view);
    showState(state, view);
    showCommands(commands, view, send);
    showWork(work, view, send);
    showTimes(card);
  };
  const hear = (content) => {
    if (content.told || content.error) {
      told.textContent = content.told ?? content.error;
      told.toggleAttribute("data-fine", !content.error);
      enableButtons(card);
    }
    if (content.frame) canvas.draw(content.frame.svg, content.frame.elements ?? {});
    else if (content.change?.svg) canvas.draw(content.change.svg, {});
    if (content.frame || content.change) paint();
  };
  model.on("msg:custom", hear);
  canvas.draw(frame().svg, frame().elements ?? {});
  paint();
  const alive = () => document.visibilityState === "visible" && model.send({ do: "alive" });
  const timers = [setInterval(alive, ALIVE_MS), setInterval(() => showTimes(card), AGAIN_MS)];
  document.addEventListener("visibilitychange", alive);
  model.send({ do: "show" });
  return () => {
    model.send({ do: "hide" });
    timers.forEach(clearInterval);
    document.removeEventListener("visibilitychange", alive);
    model.off("msg:custom", hear);
  };
}

function instancePicker(place, choose) {
  const label = make("label", "ironflow-form", place);
  make("span", "", label).textContent = "Instance";
  const select = make("select", "", label);
  select.addEventListener("keydown", (event) => event.stopPropagation());
  select.addEventListener("change", () => choose(select.value || null));
  const show = (view) => {
    if (isNew(select, [view.instances, view.n_more])) {
      select.replaceChildren();
      make("option", "", select).textContent = "all, or a new one";
      select.options[0].value = "";
      for (const each of view.instances) {
        const option = make("option", "", select);
        option.value = each.instance;
        option.textContent = each.is_completed ? `${each.instance} (completed)` : each.instance;
      }
      if (view.n_more) make("option", "", select).textContent = `and ${view.n_more} more`;
    }
    select.value = view.chosen ?? "";
  };
  return { show };
}

function showState(place, view) {
  if (!isNew(place, [view.chosen, view.status, view.state])) return;
  place.replaceChildren();
  if (view.chosen == null) return;
  for (const [name, text] of [["status", view.status], ...view.state.filter(([name]) => name !== "status")]) {
    make("dt", "", place).textContent = name;
    make("dd", "", place).textContent = text;
  }
}

/** Show the commands; those that are known to be accepted come first. What was typed stays while the forms are the same. */
function showCommands(place, view, send) {
  if (!isNew(place, [view.chosen, view.commands])) return;
  place.replaceChildren();
  make("strong", "", place).textContent = view.chosen == null ? "Begin a new instance" : "Commands";
  for (const each of view.commands) place.append(commandForm(each, send));
}

function commandForm(command, send) {
  const made = make("form", "ironflow-form ironflow-command");
  made.dataset.command = command.name;
  made.dataset.expected = String(command.targets.length > 0);
  const inputs = command.fields.map((field) => {
    const label = make("label", "", made);
    make("span", "", label).textContent = field.name;
    const input = inputOf(field);
    label.append(input);
    input.addEventListener("keydown", (event) => event.stopPropagation());
    input.title = field.fits;
    if (field.default) input.value = field.default;
    return [field, input];
  });
  const leads = command.targets.length ? `leads to ${command.targets.join(" or ")}` : "no transition from here is known";
  const sent = button(made, command.name, leads, () => {});
  sent.type = "submit";
  made.addEventListener("submit", (event) => {
    event.preventDefault();
    const fields = Object.fromEntries(inputs.map(([field, input]) => [field.name, typed(input, field.form)]));
    send({ do: "send", command: command.name, fields }, sent);
  });
  return made;
}

/** Show effects and timers with their times, and dead letters with a way to try them again. */
function showWork(place, view, send) {
  if (!isNew(place, [view.chosen, view.work])) return;
  place.replaceChildren();
  const dead = view.work.filter((each) => each.dead_at != null);
  const open = view.work.filter((each) => each.dead_at == null);
  if (open.length) {
    const head = make("div", "ironflow-wait-head", place);
    make("strong", "", head).textContent = "Effects and timers";
    button(head, "Perform what is due", "Perform the effects and fire the timers that are due now", (made) => send({ do: "perform" }, made));
    const list = make("ul", "", place);
    for (const each of open) {
      const item = make("li", "", list);
      make("span", "", item).textContent = `${each.kind} ${named(each, view)} `;
      make("span", "ironflow-due", item).dataset.due = String(each.due_at);
      if (each.attempts) make("span", "", item).textContent = ` (attempt ${each.attempts + 1}) ${each.error}`;
    }
  }
  if (!dead.length) return;
  make("strong", "ironflow-failed", place).textContent = "Dead letters";
  const list = make("ul", "", place);
  for (const each of dead) {
    const item = make("li", "", list);
    make("span", "", item).textContent = `${each.kind} ${named(each, view)}: ${each.error} `;
    const again = () => send({ do: "requeue", instance: each.instance, key: each.key });
    button(item, "Try again", "Put it back on the queue with all its attempts", again);
  }
}

/** Say of effects and timers how long it is until they are due. */
function showTimes(card) {
  for (const place of card.querySelectorAll("[data-due]")) {
    const left = Number(place.dataset.due) / 1000 - Date.now();
    place.textContent = left > AGAIN_MS ? `due in ${spoken(left)}` : "due";
    place.title = new Date(Number(place.dataset.due) / 1000).toLocaleString();
  }
}

function named(each, view) {
  return `${view.chosen == null ? `${each.instance}: ` : ""}${each.name} ${each.data}`;
}

export { initialize, render };
export default { initialize, render };
