-- The manifest of a small run, as reflow wrote it at schema version 1: its `.dump`.
PRAGMA application_id = 1919315063;
PRAGMA user_version = 1;
BEGIN TRANSACTION;
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
    PRIMARY KEY (instance, attempt)
) WITHOUT ROWID;
INSERT INTO "attempts" VALUES(4,1,5,2,1,1,NULL,1763900000017000,1763900000025000,'EXCEPTION','ValueError: no');
CREATE TABLE counts (
    task INTEGER NOT NULL,
    state INTEGER NOT NULL,
    instances INTEGER NOT NULL DEFAULT 0,
    cached INTEGER NOT NULL DEFAULT 0,
    started_at INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (task, state)
) WITHOUT ROWID;
INSERT INTO "counts" VALUES(1,0,0,0,NULL,NULL);
INSERT INTO "counts" VALUES(1,1,0,0,NULL,NULL);
INSERT INTO "counts" VALUES(1,2,0,0,NULL,NULL);
INSERT INTO "counts" VALUES(1,3,0,0,1763900000006000,NULL);
INSERT INTO "counts" VALUES(1,4,1,0,1763900000006000,1763900000008000);
INSERT INTO "counts" VALUES(1,5,0,0,NULL,NULL);
INSERT INTO "counts" VALUES(1,6,0,0,NULL,NULL);
INSERT INTO "counts" VALUES(2,0,1,0,NULL,NULL);
INSERT INTO "counts" VALUES(2,1,1,0,NULL,NULL);
INSERT INTO "counts" VALUES(2,2,1,0,NULL,NULL);
INSERT INTO "counts" VALUES(2,3,0,0,1763900000013000,NULL);
INSERT INTO "counts" VALUES(2,4,1,0,1763900000013000,1763900000021000);
INSERT INTO "counts" VALUES(2,5,1,0,1763900000015000,1763900000025000);
INSERT INTO "counts" VALUES(2,6,1,0,1763900000019000,1763900000030000);
CREATE TABLE dependencies (
    task INTEGER NOT NULL REFERENCES tasks (id),
    name TEXT NOT NULL,
    -- 1 when the task follows that array element by element.
    chain INTEGER NOT NULL CHECK (chain IN (0, 1)),
    PRIMARY KEY (task, name)
) WITHOUT ROWID;
INSERT INTO "dependencies" VALUES(2,'split',0);
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
    UNIQUE (task, idx)
);
INSERT INTO "instances" VALUES(1,1,-1,4,1,1,1,NULL,NULL,NULL,1763900000003000,1763900000009000,1763900000006000,1763900000008000,NULL,X'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',X'17EC0C346922DF8A32B8FEE47A41171E9D6FDDD3B46B04F9C3A70D9EB7B14AF7',NULL,'[1,2,3,4,5,6]',NULL);
INSERT INTO "instances" VALUES(2,2,0,4,1,2,1,NULL,NULL,NULL,1763900000010000,1763900000022000,1763900000013000,1763900000021000,NULL,X'0000000000000000000000000000000000000000000000000000000000000000',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',X'6B86B273FF34FCE19D6B804EFF5A3F5747ADA4EAA22F1D49C01E52DDB7875B4B','{"number":1}','1',NULL);
INSERT INTO "instances" VALUES(3,2,1,5,1,2,1,NULL,1,NULL,1763900000010000,1763900000024000,1763900000015000,1763900000023000,'EXCEPTION',X'0000000000000000000000000000000000000000000000000000000000000001',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',NULL,'{"number":2}',NULL,'ValueError: no');
INSERT INTO "instances" VALUES(4,2,2,1,2,NULL,NULL,NULL,NULL,NULL,1763900000010000,1763900000027000,NULL,NULL,NULL,X'0000000000000000000000000000000000000000000000000000000000000002',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',NULL,'{"number":3}',NULL,NULL);
INSERT INTO "instances" VALUES(5,2,3,6,1,2,1,NULL,NULL,NULL,1763900000010000,1763900000031000,1763900000019000,1763900000030000,NULL,X'0000000000000000000000000000000000000000000000000000000000000003',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',NULL,'{"number":4}',NULL,NULL);
INSERT INTO "instances" VALUES(6,2,4,2,1,2,NULL,NULL,NULL,NULL,1763900000010000,1763900000012000,NULL,NULL,NULL,X'0000000000000000000000000000000000000000000000000000000000000004',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',NULL,'{"number":5}',NULL,NULL);
INSERT INTO "instances" VALUES(7,2,5,0,1,NULL,NULL,NULL,NULL,NULL,1763900000010000,1763900000010000,NULL,NULL,NULL,X'0000000000000000000000000000000000000000000000000000000000000005',X'BBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBBB',NULL,'{"number":6}',NULL,NULL);
CREATE TABLE migrations (
    version INTEGER PRIMARY KEY,
    applied_at INTEGER NOT NULL
);
INSERT INTO "migrations" VALUES(1,1763900000001000);
CREATE TABLE moves (
    old INTEGER NOT NULL,
    new INTEGER NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (old, new, next)
) WITHOUT ROWID;
INSERT INTO "moves" VALUES(0,0,1);
INSERT INTO "moves" VALUES(0,2,0);
INSERT INTO "moves" VALUES(0,2,1);
INSERT INTO "moves" VALUES(0,3,0);
INSERT INTO "moves" VALUES(0,3,1);
INSERT INTO "moves" VALUES(0,4,0);
INSERT INTO "moves" VALUES(0,4,1);
INSERT INTO "moves" VALUES(0,5,0);
INSERT INTO "moves" VALUES(0,5,1);
INSERT INTO "moves" VALUES(0,6,0);
INSERT INTO "moves" VALUES(0,6,1);
INSERT INTO "moves" VALUES(1,0,1);
INSERT INTO "moves" VALUES(1,2,0);
INSERT INTO "moves" VALUES(1,2,1);
INSERT INTO "moves" VALUES(1,3,0);
INSERT INTO "moves" VALUES(1,3,1);
INSERT INTO "moves" VALUES(1,4,0);
INSERT INTO "moves" VALUES(1,4,1);
INSERT INTO "moves" VALUES(1,5,0);
INSERT INTO "moves" VALUES(1,5,1);
INSERT INTO "moves" VALUES(1,6,0);
INSERT INTO "moves" VALUES(1,6,1);
INSERT INTO "moves" VALUES(2,0,1);
INSERT INTO "moves" VALUES(2,2,1);
INSERT INTO "moves" VALUES(2,3,0);
INSERT INTO "moves" VALUES(2,3,1);
INSERT INTO "moves" VALUES(2,4,0);
INSERT INTO "moves" VALUES(2,4,1);
INSERT INTO "moves" VALUES(2,5,0);
INSERT INTO "moves" VALUES(2,5,1);
INSERT INTO "moves" VALUES(2,6,0);
INSERT INTO "moves" VALUES(2,6,1);
INSERT INTO "moves" VALUES(3,0,1);
INSERT INTO "moves" VALUES(3,2,1);
INSERT INTO "moves" VALUES(3,3,1);
INSERT INTO "moves" VALUES(3,4,0);
INSERT INTO "moves" VALUES(3,4,1);
INSERT INTO "moves" VALUES(3,5,0);
INSERT INTO "moves" VALUES(3,5,1);
INSERT INTO "moves" VALUES(3,6,0);
INSERT INTO "moves" VALUES(3,6,1);
INSERT INTO "moves" VALUES(5,1,1);
INSERT INTO "moves" VALUES(6,1,1);
CREATE TABLE nodes (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
);
INSERT INTO "nodes" VALUES(1,'n1');
INSERT INTO "nodes" VALUES(2,'n2');
CREATE TABLE remarks (
    instance INTEGER NOT NULL REFERENCES instances (id),
    report TEXT NOT NULL,
    PRIMARY KEY (instance, report)
) WITHOUT ROWID;
INSERT INTO "remarks" VALUES(3,'[{"instance":3,"attempt":1,"state":"SUCCESS","at":1763900000028000,"node":"n2","output":"2","output_hash":"d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35"}]');
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
    settings TEXT NOT NULL
);
INSERT INTO "runs" VALUES(1,'survey-20251123-0a1b','survey','ann',1763900000002000,'RUNNING',1,'{"depth":3}','{}');
CREATE TABLE states (
    code INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    rank INTEGER NOT NULL
);
INSERT INTO "states" VALUES(0,'PENDING',0);
INSERT INTO "states" VALUES(1,'RETRYING',0);
INSERT INTO "states" VALUES(2,'SUBMITTED',1);
INSERT INTO "states" VALUES(3,'RUNNING',2);
INSERT INTO "states" VALUES(4,'SUCCESS',3);
INSERT INTO "states" VALUES(5,'FAILED',3);
INSERT INTO "states" VALUES(6,'CANCELLED',3);
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
    UNIQUE (run, name)
);
INSERT INTO "tasks" VALUES(1,1,'split',0,1,NULL,'{}');
INSERT INTO "tasks" VALUES(2,1,'count',1,6,NULL,'{}');
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
    created_at INTEGER NOT NULL
);
INSERT INTO "waves" VALUES(1,1,'split-1db684e67718ba49','SUBMITTED','101','201','0',NULL,NULL,NULL,1763900000004000);
INSERT INTO "waves" VALUES(2,2,'count-ac10794e85fac2cf','SUBMITTED','102','202','0-4','0-4',0,NULL,1763900000011000);
CREATE INDEX runs_to_dispatch ON runs (id) WHERE dispatch_requested = 1;
CREATE INDEX waves_of_task ON waves (task);
CREATE INDEX instances_cache ON instances (identity) WHERE state = 4 AND identity IS NOT NULL;
CREATE INDEX instances_failed ON instances (task, idx) WHERE state = 5;
CREATE INDEX attempts_of_wave ON attempts (wave);
CREATE TRIGGER task_added AFTER INSERT ON tasks BEGIN
    INSERT INTO counts (task, state) SELECT NEW.id, code FROM states;
END;
CREATE TRIGGER instance_added AFTER INSERT ON instances BEGIN
    UPDATE counts
       SET instances = instances + 1, cached = cached + (NEW.cached_from IS NOT NULL)
     WHERE task = NEW.task AND state = NEW.state;
END;
CREATE TRIGGER instance_moves BEFORE UPDATE OF state, attempt ON instances
WHEN NEW.attempt < OLD.attempt OR NOT EXISTS (
    SELECT 1 FROM moves WHERE old = OLD.state AND new = NEW.state AND next = (NEW.attempt > OLD.attempt)
)
BEGIN
    SELECT RAISE(ABORT, 'the table of moves forbids this');
END;
CREATE TRIGGER instance_leaves_attempt BEFORE UPDATE OF attempt ON instances WHEN NEW.attempt > OLD.attempt BEGIN
    INSERT INTO attempts (instance, attempt, state, wave, node, exit_code, signal, started_at, finished_at, failure, error)
    VALUES (OLD.id, OLD.attempt, OLD.state, OLD.wave, OLD.node, OLD.exit_code, OLD.signal, OLD.started_at,
            OLD.finished_at, OLD.failure, OLD.error);
END;
CREATE TRIGGER instance_moved AFTER UPDATE OF state ON instances BEGIN
    UPDATE counts SET instances = instances - 1 WHERE task = OLD.task AND state = OLD.state;
    -- min() and max() of several values are NULL as soon as one of them is.
    UPDATE counts
       SET instances = instances + 1,
           started_at = min(ifnull(started_at, NEW.started_at), ifnull(NEW.started_at, started_at)),
           finished_at = max(ifnull(finished_at, NEW.finished_at), ifnull(NEW.finished_at, finished_at))
     WHERE task = NEW.task AND state = NEW.state;
END;
COMMIT;
