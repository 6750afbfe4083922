// The web page: which of its pages is shown, and what all of them need.

import { currentKey, get, keepKey, shareKeys, Stream } from "./page_client.js";
import { dashboardPage } from "./page_dashboard.js";
import { button, field, heading, make } from "./page_elements.js";
import { flowsPage, inboxPage, limitsPage, runsPage, schedulesPage } from "./page_lists.js";
import { runPage } from "./page_run.js";

const PAGES = {
  dashboard: ["Dashboard", dashboardPage],
  runs: ["Runs", runsPage],
  inbox: ["Inbox", inboxPage],
  flows: ["Flows", flowsPage],
  schedules: ["Schedules", schedulesPage],
  limits: ["Lanes and breakers", limitsPage],
};
const PAUSE_MS = 1000;
/** What changes without a commit, such as the age of a run, is shown after this time. */
const AT_LEAST_EVERY_MS = 15000;

const main = /** @type {HTMLElement} */ (document.querySelector("main"));
const trouble = /** @type {HTMLElement} */ (document.querySelector(".page-trouble"));
const state = /** @type {HTMLElement} */ (document.querySelector(".page-state"));
const NOTHING = { refresh: async () => {}, hear: (_) => {}, follows: [], close: () => {} };
let shown = NOTHING;
let isRefreshing = false;
let isWanted = false;
let hurry = () => {};

const app = {
  go(address, isCorrection = false) {
    if (location.hash === address) show();
    else if (isCorrection) location.replace(address);
    else location.hash = address;
  },
  say(words) {
    trouble.textContent = words;
    trouble.hidden = !words;
  },
  refresh,
  hurry() {
    refresh();
    hurry();
  },
};

const stream = new Stream(({ name, data }) => {
  if (name === "open") {
    state.textContent = "";
    refresh();
  } else if (name === "lost") {
    state.textContent = "No connection to the server; trying again";
  } else if (name === "refused") {
    if (data.status === 401) refresh(); // which asks for a key, unless there is one by now
    else state.textContent = data.message;
  } else if (name === "journal") {
    refresh();
  } else if (data && shown.follows.includes(data.run_id)) {
    shown.hear(data);
  }
});

/** Show the page again with what is new; at most once a second. */
async function refresh() {
  isWanted = true;
  if (isRefreshing || document.hidden) return;
  isRefreshing = true;
  while (isWanted && !document.hidden) {
    isWanted = false;
    const page = shown;
    try {
      await page.refresh();
      await showInboxCount();
      if (page === shown) app.say("");
    } catch (error) {
      if (page === shown) tellOf(error);
    }
    if (page !== shown) continue; // another one was opened meanwhile
    await new Promise((resolve) => {
      hurry = () => resolve(undefined);
      setTimeout(hurry, PAUSE_MS);
    });
  }
  isRefreshing = false;
}

function tellOf(error) {
  if (error.status === 401) showLogin();
  else if (error.status === 0) state.textContent = "No connection to the server; trying again";
  else app.say(error.message);
}

async function showInboxCount() {
  const { waiting } = await get("waiting");
  const place = document.querySelector('nav a[data-page="inbox"]');
  if (place) place.textContent = waiting.length ? `Inbox (${waiting.length})` : "Inbox";
}

/** Show the page that the address names. */
function show() {
  const [path, filters] = location.hash.replace(/^#\/?/, "").split("?");
  const [given, runId] = path.split("/").map(decoded);
  const name = given in PAGES ? given : "runs";
  const [words, open] = PAGES[name];
  shown.close();
  main.replaceChildren();
  app.say("");
  document.title = `${words} · ironflow`;
  for (const each of document.querySelectorAll("nav a")) {
    if (each.dataset.page === name) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  const isRun = name === "runs" && runId;
  const page = isRun ? runPage({ place: main, runId, app }) : open({ place: main, given: new URLSearchParams(filters), app });
  shown = { ...NOTHING, ...page };
  stream.follow(shown.follows);
  app.hurry();
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showLogin() {
  if (document.querySelector(".page-login")) return;
  shown.close();
  shown = NOTHING;
  main.replaceChildren();
  heading(main, "This server asks for a key");
  const form = make("form", "page-login", main);
  const key = field(form, "Key", make("input", "", null));
  key.type = "password";
  key.autocomplete = "current-password";
  key.required = true;
  button(form, "Enter", "Enter", () => {}).type = "submit";
  make("p", "", main).textContent = currentKey()
    ? "The server did not take the key that this browser has."
    : "It is kept until the last tab of this page is closed.";
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    keepKey(key.value.trim());
    showNavigation();
    show();
  });
  key.focus();
}

function showNavigation() {
  const place = /** @type {HTMLElement} */ (document.querySelector("nav"));
  place.replaceChildren();
  for (const [name, [words]] of Object.entries(PAGES)) {
    const made = make("a", "", place);
    made.href = `#/${name}`;
    made.textContent = words;
    made.dataset.page = name;
  }
  if (!currentKey()) return;
  button(place, "Forget the key", "Forget the key in all tabs", () => {
    keepKey(null);
    showNavigation();
    show();
  });
}

shareKeys(() => {
  showNavigation();
  show();
});
showNavigation();
addEventListener("hashchange", () => {
  const name = /** @type {any} */ (document.activeElement)?.name;
  show();
  const same = name && main.querySelector(`[name="${CSS.escape(name)}"]`); // a filter that was changed keeps the focus
  (/** @type {HTMLElement} */ (same || main)).focus();
});
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, AT_LEAST_EVERY_MS);
show();
