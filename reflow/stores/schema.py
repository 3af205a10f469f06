"""The manifest's schema: how states are stored, how a manifest is created and brought up to date."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from .. import clock
from ..errors import ManifestError
from ..states import RANK, TaskState
from . import moves

#: ``PRAGMA application_id``: "rflw" as four bytes, by which ``file`` and we know the format.
APPLICATION_ID = 0x72666C77

#: How to get from the version before to the version that is the key: SQL for `_execute_script`. What a release has
#: brought stays as it is; what is new goes to a version that was never released. A migrated manifest and a new one
#: have the same schema (`tests/adapters/test_schema.py`), but for the order of columns.
MIGRATIONS: dict[int, str] = {
    2: """
        ALTER TABLE instances ADD COLUMN output_file BLOB;
        ALTER TABLE waves ADD COLUMN pack INTEGER NOT NULL DEFAULT 1 CHECK (pack >= 1);
        ALTER TABLE waves ADD COLUMN after_waves TEXT;
        UPDATE waves SET after_waves = CAST(after_wave AS TEXT);
        DROP INDEX instances_cache;
        CREATE INDEX instances_cache ON instances (substr(identity, 1, 8)) WHERE identity IS NOT NULL;
        CREATE TABLE bulk (
            turn INTEGER PRIMARY KEY
        );
        DROP TRIGGER instance_added;
        DROP TRIGGER instance_moved;
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
        ALTER TABLE runs ADD COLUMN removal INTEGER NOT NULL DEFAULT 0 CHECK (removal IN (0, 1, 2));
        ALTER TABLE instances ADD COLUMN exception TEXT;
        ALTER TABLE instances ADD COLUMN max_rss INTEGER;
        ALTER TABLE attempts ADD COLUMN exception TEXT;
        ALTER TABLE attempts ADD COLUMN max_rss INTEGER;
        ALTER TABLE attempts ADD COLUMN forgiven INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE tasks ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE tasks ADD COLUMN expansion INTEGER;
        ALTER TABLE runs ADD COLUMN refill_at INTEGER;
        ALTER TABLE waves ADD COLUMN mem TEXT;
        ALTER TABLE waves ADD COLUMN time TEXT;
        ALTER TABLE waves ADD COLUMN exclude TEXT;
        DROP TRIGGER instance_leaves_attempt;
        CREATE TRIGGER instance_leaves_attempt
        BEFORE UPDATE OF attempt ON instances WHEN NEW.attempt > OLD.attempt BEGIN
            INSERT INTO attempts (instance, attempt, state, wave, node, exit_code, signal, started_at, finished_at,
                                  failure, error, exception, max_rss)
            VALUES (OLD.id, OLD.attempt, OLD.state, OLD.wave, OLD.node, OLD.exit_code, OLD.signal, OLD.started_at,
                    OLD.finished_at, OLD.failure, OLD.error, OLD.exception, OLD.max_rss);
        END;
    """,
}

#: The newest schema that this reflow knows.
VERSION = 1 + len(MIGRATIONS)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Return the schema version of the open file, 0 when nothing was ever written to it.

    Raises `ManifestError` when the file is another program's or a newer reflow's.
    """
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        if version == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            return 0
        raise ManifestError(f"'{path}' is a database of another program; name another path for the manifest")
    if version > VERSION:
        raise ManifestError(
            f"the manifest '{path}' was written by a newer reflow (schema {version}, this one knows {VERSION}); "
            "upgrade reflow"
        )
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Create the schema or bring it up to date, inside the caller's transaction."""
    version = version_of(connection, path)
    if version == 0:
        _execute_script(connection, Path(__file__).with_name("schema.sql").read_text(encoding="utf-8"))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _record(connection, VERSION)
    while 0 < version < VERSION:
        version += 1
        _execute_script(connection, MIGRATIONS[version])
        _record(connection, version)
    _write_rules(connection)


def _write_rules(connection: sqlite3.Connection) -> None:
    """Fill in the states and their moves: `reflow.states` has them, and may have changed since."""
    connection.execute("DELETE FROM states")
    connection.executemany(
        "INSERT INTO states (code, name, rank) VALUES (?, ?, ?)",
        [(moves.CODES[state], state.value, RANK[state]) for state in TaskState],
    )
    connection.execute("DELETE FROM moves")
    connection.executemany("INSERT INTO moves (old, new, next) VALUES (?, ?, ?)", moves.rows())


def _record(connection: sqlite3.Connection, version: int) -> None:
    connection.execute("INSERT INTO migrations (version, applied_at) VALUES (?, ?)", (version, clock.now()))
    connection.execute(f"PRAGMA user_version = {version}")


def _execute_script(connection: sqlite3.Connection, script: str) -> None:
    # `executescript` would commit the caller's transaction first.
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
