-- The manifest at its newest version, as a new file gets it. Manifests that exist get there by the migrations in
-- schema.py: whatever changes here is added there too, for the version that is not released yet.
--
-- Rows are small, because a million instances is a normal day: names are interned, times are microseconds since
-- 1970 UTC, hashes are 32-byte BLOBs (other text is kept as it came), states are the codes of the table `states`:
--     0 PENDING  1 RETRYING  2 SUBMITTED  3 RUNNING  4 SUCCESS  5 FAILED  6 CANCELLED
-- Only what SQLite 3.24 knows is used: clusters live long.

CREATE TABLE migrations (
    version INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
);

CREATE TABLE states (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    rank INTEGER NOT NULL
);

-- The legal moves of an instance, filled from reflow/states.py. `next` is 1 for moves that begin a later attempt.
CREATE TABLE moves (
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (old, new, next)
) WITHOUT ROWID;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    run_id TEXT NOT NULL UNIQUE,
    graph_name TEXT NOT NULL,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('RUNNING', 'SUCCESS', 'FAILED', 'CANCELLED')),
    -- Somebody wants the run to be looked at.
    dispatch_requested INTEGER NOT NULL DEFAULT 0 CHECK (dispatch_requested IN (0, 1)),
    parameters TEXT NOT NULL,
    settings TEXT NOT NULL,
    -- 1 when the run's files are gone and its rows stay for the cache, 2 when all of it is being removed.
    removal INTEGER NOT NULL DEFAULT 0 CHECK (removal IN (0, 1, 2)),
    -- Instances wait because of a cap on queued jobs, until no more than so many are in flight; NULL: nothing does.
    refill_at INTEGER
);

CREATE INDEX runs_to_dispatch ON runs (id) WHERE dispatch_requested = 1;

CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs (id),
    name TEXT NOT NULL,
    is_array INTEGER NOT NULL CHECK (is_array IN (0, 1)),
    -- Number of instances; NULL until the task is expanded.
    width INTEGER CHECK (width >= 0),
    -- Why the task as a whole cannot go on.
    error TEXT,
    -- JSON of the task's plan; NULL when instances came without a specification.
    config TEXT,
    -- How often a failed instance is tried again without a person.
    retries INTEGER NOT NULL DEFAULT 0,
    -- The expansion that is under way, NULL when none is: until its last turn its rows count for nothing.
    expansion INTEGER,
    UNIQUE (run, name)
);

CREATE TABLE dependencies (
    task INTEGER NOT NULL REFERENCES tasks (id),
    name TEXT NOT NULL,
    -- 1 when the task follows that array element by element.
    chain INTEGER NOT NULL CHECK (chain IN (0, 1)),
    PRIMARY KEY (task, name)
) WITHOUT ROWID;

CREATE TABLE waves (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks (id),
    job_name TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL CHECK (state IN ('INTENT', 'SUBMITTED', 'REFUSED')),
    job_id TEXT,
    sentinel_job_id TEXT,
    -- Element indices and array slots as ranges (0-3,7), matched by rank; slots NULL for a plain job.
    indices TEXT NOT NULL,
    slots TEXT,
    slot_offset INTEGER,
    after_wave INTEGER REFERENCES waves (id),
    created_at INTEGER NOT NULL,
    -- What the wave asks for in place of what its task says, NULL for the task's own; nodes to avoid as n1,n2.
    mem TEXT,
    time TEXT,
    exclude TEXT,
    -- How many neighbouring indices share a slot.
    pack INTEGER NOT NULL DEFAULT 1 CHECK (pack >= 1),
    -- The waves that this one follows, as ranges of ids; `after_wave` is version 1's and not used any more.
    after_waves TEXT
);

CREATE INDEX waves_of_task ON waves (task);

CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);

CREATE TABLE instances (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks (id),
    -- -1 for a singleton.
    idx INTEGER NOT NULL CHECK (idx >= -1),
    state INTEGER NOT NULL CHECK (state BETWEEN 0 AND 6),
    attempt INTEGER NOT NULL DEFAULT 1 CHECK (attempt >= 1),
    wave INTEGER REFERENCES waves (id),
    node INTEGER REFERENCES nodes (id),
    cached_from INTEGER REFERENCES instances (id),
    exit_code INTEGER,
    signal INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    failure TEXT,
    identity BLOB,
    input_hash BLOB,
    output_hash BLOB,
    input TEXT,
    output TEXT,
    error TEXT,
    -- SHA-256 of an output too big for a row: its text is the file of that name in `<manifest>.outputs`.
    output_file BLOB,
    -- Names of the classes of what was raised, and the most memory that was used, in KiB; of failures only.
    exception TEXT,
    max_rss INTEGER,
    UNIQUE (task, idx)
);

-- Of all instances and not of successes only: then an instance enters it when its task is expanded, in one turn with
-- its neighbours, and no merge of results writes to pages all over it. Eight bytes tell apart what there is.
CREATE INDEX instances_cache ON instances (substr(identity, 1, 8)) WHERE identity IS NOT NULL;
CREATE INDEX instances_failed ON instances (task, idx) WHERE state = 5;

-- Attempts that a retry or a release has put behind an instance.
CREATE TABLE attempts (
    instance INTEGER NOT NULL REFERENCES instances (id),
    attempt INTEGER NOT NULL,
    state INTEGER NOT NULL,
    wave INTEGER,
    node INTEGER,
    exit_code INTEGER,
    signal INTEGER,
    started_at INTEGER,
    finished_at INTEGER,
    failure TEXT,
    error TEXT,
    exception TEXT,
    max_rss INTEGER,
    -- A person has asked for another attempt since, so this one does not count against the task's retries.
    forgiven INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance, attempt)
) WITHOUT ROWID;

CREATE INDEX attempts_of_wave ON attempts (wave);

-- Final reports that came after the attempt had ended otherwise: the second copy of an element, a success that
-- was cancelled meanwhile. Never merged, never lost.
CREATE TABLE remarks (
    instance INTEGER NOT NULL REFERENCES instances (id),
    report TEXT NOT NULL,
    PRIMARY KEY (instance, report)
) WITHOUT ROWID;

-- What a summary shows, so that no summary scans a million rows. A trigger keeps it at every move of an instance.
-- Turns that move very many count by themselves (stores/counting.py), and so do those that insert.
CREATE TABLE counts (
    task INTEGER NOT NULL,
    state INTEGER NOT NULL,
    instances INTEGER NOT NULL DEFAULT 0,
    cached INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (task, state)
) WITHOUT ROWID;

-- Holds a row while the turn that put it there counts by itself; empty outside of turns.
CREATE TABLE bulk (
    turn INTEGER PRIMARY KEY
);

CREATE TRIGGER task_added AFTER INSERT ON tasks BEGIN
    INSERT INTO counts (task, state) SELECT NEW.id, code FROM states;
END;

CREATE TRIGGER instance_moves BEFORE UPDATE OF state, attempt ON instances
WHEN NEW.attempt < OLD.attempt OR NOT EXISTS (
    SELECT 1 FROM moves WHERE old = OLD.state AND new = NEW.state AND next = (NEW.attempt > OLD.attempt)
)
BEGIN
    SELECT RAISE(ABORT, 'the table of moves forbids this');
END;

CREATE TRIGGER instance_leaves_attempt BEFORE UPDATE OF attempt ON instances WHEN NEW.attempt > OLD.attempt BEGIN
    INSERT INTO attempts (instance, attempt, state, wave, node, exit_code, signal, started_at, finished_at,
                          failure, error, exception, max_rss)
    VALUES (OLD.id, OLD.attempt, OLD.state, OLD.wave, OLD.node, OLD.exit_code, OLD.signal, OLD.started_at,
            OLD.finished_at, OLD.failure, OLD.error, OLD.exception, OLD.max_rss);
END;

CREATE TRIGGER instance_moved AFTER UPDATE OF state ON instances WHEN NOT EXISTS (SELECT 1 FROM bulk) BEGIN
    UPDATE counts
       SET instances = instances - 1, cached = cached - (OLD.cached_from IS NOT NULL)
     WHERE task = OLD.task AND state = OLD.state;
    -- min() and max() of several values are NULL as soon as one of them is.
    UPDATE counts
       SET instances = instances + 1, cached = cached + (NEW.cached_from IS NOT NULL),
           started_at = min(ifnull(started_at, NEW.started_at), ifnull(NEW.started_at, started_at)),
           finished_at = max(ifnull(finished_at, NEW.finished_at), ifnull(NEW.finished_at, finished_at))
     WHERE task = NEW.task AND state = NEW.state;
END;
