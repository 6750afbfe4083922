// One stream for all tabs of a browser, which opens no more than six connections to a server at once.

import { Follower } from "./page_follow.js";

/** A tab that was killed says no goodbye; hidden ones are heard of once a minute. */
const GONE_MS = 180000;
const tabs = new Map();

const follower = new Follower("../follow", (told) => {
  const runId = told.data?.run_id;
  for (const [port, tab] of tabs) if (runId === undefined || tab.runs.includes(runId)) port.postMessage(told);
});

function follow() {
  const wanted = [...tabs.values()];
  const key = wanted.findLast((tab) => tab.key)?.key; // a tab that was just opened may not have it yet
  follower.want([...new Set(wanted.flatMap((tab) => tab.runs))].sort(), wanted.length > 0, key);
}

self.onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data.bye || data.runs) tabs.delete(port);
    if (data.bye) return follow();
    if (data.runs) tabs.set(port, { ...data, heardAt: Date.now() }); // as the latest one
    else if (tabs.has(port)) return void (tabs.get(port).heardAt = Date.now());
    else return port.postMessage({ name: "forgotten", data: null });
    follow();
  };
};

setInterval(() => {
  const gone = [...tabs].filter(([, tab]) => Date.now() - tab.heardAt > GONE_MS);
  for (const [port] of gone) tabs.delete(port);
  if (gone.length) follow();
}, GONE_MS / 3);
