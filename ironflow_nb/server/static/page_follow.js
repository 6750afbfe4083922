// What the server tells of runs and of the journal, as it happens: one stream of server-sent events.
// It is read by `fetch`, for an EventSource can send no key.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 5000;
/** The server says something every 15 s; a connection that says nothing for longer is dead. */
const SILENCE_MS = 40000;

/**
 * Follows what is wanted, and begins again when the connection is lost. Each stream begins with whole frames.
 * @typedef {{name: string, data: any}} Told  `name` is an event of the server, or `open`, `lost`, `refused`.
 */
export class Follower {
  /** @param {string} address  @param {(told: Told) => void} hear */
  constructor(address, hear) {
    this.address = address;
    this.hear = hear;
    this.wanted = "";
    this.pauseMs = FIRST_PAUSE_MS;
  }

  /** Follow these runs, and the journal, from now on; nothing without either. */
  want(runs, withJournal, key) {
    this.key = key;
    const query = new URLSearchParams({ runs: runs.join(","), journal: withJournal });
    this.wanted = runs.length || withJournal ? `${this.address}?${query}` : "";
    this.pauseMs = FIRST_PAUSE_MS;
    this.begin();
  }

  begin() {
    clearTimeout(this.timer);
    this.stream?.abort();
    this.stream = null;
    if (this.wanted) this.read(this.wanted, new AbortController());
  }

  async read(address, stream) {
    this.stream = stream;
    let trouble = "the connection was lost";
    try {
      const headers = { Accept: "text/event-stream", ...(this.key ? { Authorization: `Bearer ${this.key}` } : {}) };
      const answer = await fetch(address, { headers, cache: "no-store", signal: stream.signal });
      if (!answer.ok) {
        const told = await answer.json().catch(() => null);
        trouble = told?.error?.message ?? `the server answered ${answer.status}`;
        if (answer.status === 401 || answer.status === 403) {
          this.hear({ name: "refused", data: { status: answer.status, message: trouble } });
          return; // until another key is wanted
        }
      } else {
        this.hear({ name: "open", data: null });
        await this.hearAll(answer.body, stream);
      }
    } catch {
      // told below
    }
    if (this.stream !== stream) return; // another one was begun
    this.hear({ name: "lost", data: { message: trouble } });
    this.timer = setTimeout(() => this.begin(), this.pauseMs);
    this.pauseMs = Math.min(this.pauseMs * 2, LONGEST_PAUSE_MS);
  }

  async hearAll(body, stream) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const silence = setTimeout(() => stream.abort(), SILENCE_MS);
      const { value, done } = await reader.read().finally(() => clearTimeout(silence));
      if (done || this.stream !== stream) return;
      this.pauseMs = FIRST_PAUSE_MS;
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) this.hearEvent(event);
    }
  }

  hearEvent(text) {
    let name = "message";
    let data = null;
    for (const line of text.split("\n")) {
      if (line.startsWith("event: ")) name = line.slice(7);
      if (line.startsWith("data: ")) data = JSON.parse(line.slice(6));
    }
    if (data !== null) this.hear({ name, data });
  }
}
