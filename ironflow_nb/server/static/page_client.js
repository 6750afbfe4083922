// Requests to the server, with the key of this browser, and what it tells as it happens.

import { Follower } from "./page_follow.js";

const KEY = "ironflow-key";
const ALIVE_MS = 30000;
const others = new BroadcastChannel("ironflow-key"); // a key that was given in one tab is known in all, until the last is closed

/** Why a request failed: the status, 0 without an answer, and what the server says. */
export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @returns {string | null} */
export function currentKey() {
  return sessionStorage.getItem(KEY);
}

export function keepKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  others.postMessage({ key });
}

/** Have the key that another tab was given, and hear of later ones. */
export function shareKeys(changed) {
  others.onmessage = ({ data }) => {
    if (data.wanted) {
      if (currentKey()) others.postMessage({ key: currentKey() });
    } else if ((data.key ?? null) !== currentKey()) {
      if (data.key) sessionStorage.setItem(KEY, data.key);
      else sessionStorage.removeItem(KEY);
      changed();
    }
  };
  if (!currentKey()) others.postMessage({ wanted: true });
}

/** Send a request; return the data of the answer. @returns {Promise<any>} */
export async function ask(method, path, body) {
  const headers = { Accept: "application/json" };
  if (currentKey()) headers.Authorization = `Bearer ${currentKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, { method, headers, body: JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Refusal(0, "the server does not answer");
  }
  const data = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, data?.error?.message ?? `the server answered ${answer.status}`);
  return data;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);

/** @param {Record<string, string | number | undefined | null>} values */
export function query(values) {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given.map(([name, value]) => [name, String(value)]))}` : "";
}

/** The stream of this tab: through a worker that all tabs share, or its own where there is no such worker. */
export class Stream {
  /** @param {(told: {name: string, data: any}) => void} hear */
  constructor(hear) {
    this.hear = hear;
    this.runs = [];
    this.shared = this.sharedPort();
    this.own = this.shared ? null : this.ownFollower();
    addEventListener("pagehide", () => this.shared?.postMessage({ bye: true }));
    addEventListener("pageshow", (event) => event.persisted && this.follow(this.runs));
    setInterval(() => this.shared?.postMessage({ alive: true }), ALIVE_MS);
  }

  sharedPort() {
    try {
      const worker = new SharedWorker(new URL("page_follow_worker.js", import.meta.url), { type: "module", name: "ironflow" });
      worker.onerror = () => {
        this.shared = null;
        this.own = this.ownFollower();
        this.follow(this.runs);
      };
      worker.port.onmessage = ({ data }) => (data.name === "forgotten" ? this.follow(this.runs) : this.hear(data));
      return worker.port;
    } catch {
      return null;
    }
  }

  ownFollower() {
    return new Follower(new URL("../follow", import.meta.url).href, this.hear);
  }

  /** Follow these runs, and the journal. */
  follow(runs) {
    this.runs = runs;
    if (this.shared) this.shared.postMessage({ runs, key: currentKey() });
    else this.own.want(runs, true, currentKey());
  }
}
