"""The tables of a journal file.

Instants are integer microseconds UTC; digests and ids of values are 20-byte blobs; the views show both readably.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Final

APPLICATION_ID: Final = 0x49524F4E  # "IRON"
SCHEMA_VERSION: Final = 8

RUNS: Final = """
-- The events, append-only: the truth. data is JSON with sorted keys and holds no value of the user.
-- position needs no AUTOINCREMENT, which costs a page a commit, because the newest event is never deleted.
CREATE TABLE events (
    position INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    at INTEGER NOT NULL,
    type TEXT NOT NULL,
    step TEXT,
    attempt INTEGER,
    data TEXT NOT NULL,
    UNIQUE (run_id, version)
);

CREATE TRIGGER events_refuse_update BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

CREATE TRIGGER events_refuse_delete BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- One row for each run, folded from its events, with its inputs and output where they are small.
CREATE TABLE runs (
    run_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    durability TEXT NOT NULL,
    inputs_digest BLOB NOT NULL,
    definition_id BLOB NOT NULL,
    key TEXT,
    inputs_id BLOB,
    output_id BLOB,
    error_id BLOB,
    ended_at INTEGER,
    execution TEXT,
    ordinal INTEGER NOT NULL,
    notebook TEXT,
    parent_run_id TEXT,
    parent_step TEXT,
    origin_run_id TEXT,
    origin_position INTEGER,
    owner TEXT,
    n_sessions INTEGER NOT NULL,
    session_version INTEGER NOT NULL,
    n_reused INTEGER NOT NULL,
    inputs BLOB,
    output BLOB
);

CREATE UNIQUE INDEX runs_by_key ON runs (kind, name, key) WHERE key IS NOT NULL;
CREATE INDEX runs_by_call ON runs (name, inputs_digest, ordinal);
CREATE INDEX runs_by_start ON runs (started_at);

"""

STEPS: Final = """
-- One row for each attempt of a step, folded from the events of its run, with its inputs and output where they are
-- small. A table without rowids would put rows of more than 1 kB on pages of their own.
CREATE TABLE "steps" (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    step TEXT GENERATED ALWAYS AS (name || '[' || "index" || ']') VIRTUAL,
    version INTEGER NOT NULL,
    status TEXT NOT NULL,
    identity BLOB NOT NULL,
    code BLOB NOT NULL,
    started_at INTEGER NOT NULL,
    branch TEXT NOT NULL,
    nth INTEGER NOT NULL,
    reason TEXT NOT NULL,
    inputs_id BLOB,
    output_id BLOB,
    error_id BLOB,
    finished_at INTEGER,
    duration_s REAL,
    due_at INTEGER,
    lived_with INTEGER NOT NULL,
    child_run_id TEXT,
    origin_run_id TEXT,
    inputs BLOB,
    output BLOB,
    PRIMARY KEY (run_id, name, "index", attempt)
);
"""

TABLES: Final = """
-- Each value once that does not lie in a row of its own run. Large content lies in a file beside the journal, and data
-- is null.
CREATE TABLE "values" (
    value_id BLOB PRIMARY KEY,
    codec TEXT NOT NULL,
    data BLOB,
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    preview TEXT,
    digest BLOB,
    mac BLOB
);

-- The definitions of runs.
CREATE TABLE definitions (
    definition_id BLOB PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT NOT NULL,
    diagram TEXT NOT NULL
);

-- The owners of runs, with their last signs of life.
CREATE TABLE leases (
    owner TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    process_started_at TEXT NOT NULL,
    heartbeat_at INTEGER NOT NULL,
    lease_s REAL NOT NULL
);

-- The queue of work that is still to do: timers, effects, retries. Not history.
CREATE TABLE work (
    work_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    key TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    payload_id BLOB,
    owner TEXT,
    leased_until INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    dead_at INTEGER,
    error_id BLOB,
    created_at INTEGER NOT NULL,
    UNIQUE (run_id, kind, key)
);

CREATE INDEX work_by_due ON work (due_at) WHERE dead_at IS NULL;

-- Requests to the owner of a run, who turns them into events. Not history.
CREATE TABLE signals (
    signal_id INTEGER PRIMARY KEY AUTOINCREMENT,
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    payload_id BLOB,
    sent_at INTEGER NOT NULL,
    sent_by TEXT,
    taken_version INTEGER
);

CREATE INDEX signals_by_run ON signals (run_id) WHERE taken_version IS NULL;

-- Read models of users, with the position they have reached.
CREATE TABLE projections (
    name TEXT PRIMARY KEY,
    position INTEGER NOT NULL,
    state_id BLOB,
    code BLOB,
    updated_at INTEGER NOT NULL,
    error TEXT
);
"""

CACHED: Final = """
-- The newest result of each step with cache=, for all runs; one with an owner is being computed. Not history.
CREATE TABLE cached (
    identity BLOB NOT NULL,
    code BLOB NOT NULL,
    run_id TEXT NOT NULL,
    step TEXT NOT NULL,
    output_id BLOB,
    finished_at INTEGER,
    duration_s REAL,
    owner TEXT,
    PRIMARY KEY (identity, code)
) WITHOUT ROWID;
"""

OBSERVATIONS: Final = """
-- Every command that was sent to a decider, with its outcome.
CREATE TABLE observations (
    observation_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    instance TEXT NOT NULL,
    run_id TEXT,
    at INTEGER NOT NULL,
    command TEXT NOT NULL,
    data TEXT NOT NULL,
    digest BLOB NOT NULL,
    command_key TEXT,
    source TEXT NOT NULL,
    execution TEXT,
    outcome TEXT NOT NULL,
    reason TEXT,
    n_events INTEGER NOT NULL,
    version INTEGER NOT NULL,
    status_before TEXT,
    status_after TEXT,
    effects TEXT NOT NULL,
    timers TEXT NOT NULL
);

CREATE UNIQUE INDEX observations_by_key ON observations (name, instance, command_key) WHERE command_key IS NOT NULL;
CREATE INDEX observations_by_instance ON observations (name, instance);

-- States of deciders at a version, which save reading all events again.
CREATE TABLE snapshots (
    run_id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    code BLOB NOT NULL,
    data TEXT NOT NULL
);
"""

PROJECTIONS: Final = """
-- The states of projections, replaced in place. generation counts their beginnings.
CREATE TABLE projection_states (
    name TEXT PRIMARY KEY,
    generation INTEGER NOT NULL,
    codec TEXT NOT NULL,
    data BLOB,
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    preview TEXT,
    digest BLOB,
    mac BLOB
);

-- Events that a projection could not fold and skipped.
CREATE TABLE projection_skips (
    name TEXT NOT NULL,
    position INTEGER NOT NULL,
    decider TEXT NOT NULL,
    instance TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    event TEXT NOT NULL,
    error TEXT NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (name, position)
) WITHOUT ROWID;
"""

TRIGGERS: Final = """
-- Schedules of flows and graphs. rule is JSON; the next instant lies in the queue of work, too.
CREATE TABLE schedules (
    schedule_id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    flow TEXT NOT NULL,
    name TEXT NOT NULL,
    rule TEXT NOT NULL,
    inputs_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    next_at INTEGER,
    last_at INTEGER,
    is_paused INTEGER NOT NULL,
    n_fired INTEGER NOT NULL,
    n_missed INTEGER NOT NULL,
    UNIQUE (kind, flow, name)
);

-- Events that were emitted, append-only. Of one key there is one for ever.
CREATE TABLE emitted_events (
    event_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    key TEXT,
    at INTEGER NOT NULL,
    data_id BLOB NOT NULL,
    UNIQUE (name, key)
);

CREATE INDEX emitted_events_by_name ON emitted_events (name, at);

-- The events that flows are started or cancelled by.
CREATE TABLE subscriptions (
    event TEXT NOT NULL,
    kind TEXT NOT NULL,
    flow TEXT NOT NULL,
    PRIMARY KEY (event, kind, flow)
) WITHOUT ROWID;
"""

TELEMETRY: Final = """
-- What attempts have written, in pieces. Without a name it is the flow's, whose attempts are its continuations.
CREATE TABLE logs (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    number INTEGER NOT NULL,
    at INTEGER NOT NULL,
    stream TEXT NOT NULL,
    level TEXT,
    text TEXT NOT NULL,
    PRIMARY KEY (run_id, name, "index", attempt, number)
);

-- Measured values. A value that is no number is null. Of the flow the branch and the nth of its name recognise a value.
CREATE TABLE metrics (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    branch TEXT NOT NULL,
    metric TEXT NOT NULL,
    nth INTEGER NOT NULL,
    at INTEGER NOT NULL,
    value REAL,
    PRIMARY KEY (run_id, name, "index", attempt, branch, metric, nth)
) WITHOUT ROWID;

-- How far each attempt is, or was when it ended.
CREATE TABLE progress (
    run_id TEXT NOT NULL,
    name TEXT NOT NULL,
    "index" INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    n_done INTEGER NOT NULL,
    n_total INTEGER,
    is_open INTEGER NOT NULL,
    PRIMARY KEY (run_id, name, "index", attempt)
) WITHOUT ROWID;

CREATE INDEX progress_by_run ON progress (run_id) WHERE is_open;
"""

ISO_INSTANT: Final = "strftime('%Y-%m-%dT%H:%M:%S', {0} / 1000000, 'unixepoch') || printf('.%06dZ', {0} % 1000000)"

_VIEWS: Final = """
CREATE VIEW run_history AS
SELECT run_id, kind, name, status, {started_at} AS started_at, {ended_at} AS ended_at,
       (ended_at - started_at) / 1e6 AS duration_s, n_sessions, n_reused, key, notebook, parent_run_id
FROM runs ORDER BY started_at DESC;

CREATE VIEW step_history AS
SELECT run_id, step, attempt, status, {started_at} AS started_at, duration_s, reason,
       lower(hex(output_id)) AS output_id, lower(hex(error_id)) AS error_id, branch
FROM steps ORDER BY run_id, version;

CREATE VIEW event_history AS
SELECT position, run_id, version, {at} AS at, type, step, attempt, data
FROM events ORDER BY position;
"""

VIEWS: Final = _VIEWS.format(**{column: ISO_INSTANT.format(column) for column in ("started_at", "ended_at", "at")})

INDEXES: Final = """
-- The time of a listing by name, or of open runs, depends on its rows only, not on the length of the history.
CREATE INDEX runs_by_name ON runs (name);
CREATE INDEX runs_by_status ON runs (status);
-- The search for work passes over the waits of a million runs.
CREATE INDEX work_by_kind ON work (kind, key);
CREATE INDEX work_dead ON work (dead_at) WHERE dead_at IS NOT NULL;
"""

LANES: Final = """
-- The places in lanes that are held (since held_since) or waited for, by all processes. Not history.
CREATE TABLE lane_places (
    ask_id INTEGER NOT NULL,
    lane TEXT NOT NULL,
    key TEXT NOT NULL,
    kind TEXT NOT NULL,
    "limit" INTEGER,
    rate TEXT,
    burst INTEGER NOT NULL,
    run_id TEXT NOT NULL,
    step TEXT,
    owner TEXT NOT NULL,
    priority INTEGER NOT NULL,
    asked_at INTEGER NOT NULL,
    held_since INTEGER,
    PRIMARY KEY (ask_id, lane)
);

CREATE INDEX lane_places_by_lane ON lane_places (lane, key, held_since, priority DESC, ask_id);

-- When the bucket of a lane with a rate is full again. Not history.
CREATE TABLE lane_rates (
    lane TEXT NOT NULL,
    key TEXT NOT NULL,
    full_at INTEGER NOT NULL,
    PRIMARY KEY (lane, key)
) WITHOUT ROWID;
"""

BREAKERS: Final = """
-- Circuit breakers: open since opened_at, and the attempt that decides. Not history.
CREATE TABLE breakers (
    name TEXT PRIMARY KEY,
    failures INTEGER NOT NULL,
    open_s REAL NOT NULL,
    owner TEXT NOT NULL,
    n_failed INTEGER NOT NULL,
    opened_at INTEGER,
    probe TEXT,
    probe_owner TEXT,
    changed_at INTEGER NOT NULL
);
"""

SIGNAL_IDS: Final = """
-- The ids that senders gave their signals: a run has one signal of an id, and this is what it was.
CREATE TABLE signal_ids (
    run_id TEXT NOT NULL,
    caller_id TEXT NOT NULL,
    name TEXT NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (run_id, caller_id)
) WITHOUT ROWID;
"""

ACCESS: Final = """
-- The keys of the server. A key is shown once: here is only the SHA-256 of its secret.
CREATE TABLE access_keys (
    key_id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    project TEXT NOT NULL,
    env TEXT NOT NULL,
    digest BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    revoked_at INTEGER
);

-- What a key, or all keys of a role, may do besides their role, or may not; the first column is the order of making.
CREATE TABLE access_policies (
    policy_id INTEGER PRIMARY KEY,
    effect TEXT NOT NULL,
    subject TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    created_at INTEGER NOT NULL
);

-- Who was allowed what, and to whom it was refused, append-only.
CREATE TABLE access_audit (
    entry_id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    key_id TEXT NOT NULL,
    action TEXT NOT NULL,
    resource TEXT NOT NULL,
    is_allowed INTEGER NOT NULL,
    reason TEXT NOT NULL
);
"""

SETTINGS: Final = """
-- What all processes on the journal have to agree on: `values` is the place of large values, if it is not beside it.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
"""

_RECORDS: Final = RUNS + STEPS + TABLES + CACHED + OBSERVATIONS + PROJECTIONS
_MAILBOXES: Final = TRIGGERS + TELEMETRY + BREAKERS + LANES + SIGNAL_IDS
DDL: Final = _RECORDS + _MAILBOXES + ACCESS + SETTINGS + INDEXES + VIEWS


def statements(script: str) -> Iterator[str]:
    """Split a script into statements; `executescript` would commit the transaction that it runs in."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
