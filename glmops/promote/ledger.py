"""The ledger: one append-only table, a row for every decision, in SQLite or PostgreSQL.

The database itself refuses UPDATE and DELETE, but nothing yet proves that a row is genuine: the
columns ``signature``, ``previous_hash`` and ``row_hash`` stay NULL until signatures and the hash
chain come with a later change. Whoever may write the database file may still replace it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

from sqlalchemy import (
    JSON,
    URL,
    Column,
    Connection,
    Engine,
    Index,
    Integer,
    MetaData,
    NullPool,
    String,
    Table,
    Text,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
)
from sqlalchemy.exc import ArgumentError, OperationalError

from glmops.errors import MachineError, RecipeError, lookup

Kind = Literal["gate", "register", "approve", "reject", "promote", "rollback"]

METADATA = MetaData()
LEDGER = Table(
    "ledger",
    METADATA,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    Column("time", String(40), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("recipe", String(200), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("actor", String(200), nullable=False),
    Column("decision", String(40), nullable=False),
    Column("champion", String(64)),
    Column("rules_hash", String(64)),
    Column("reason", Text, nullable=False),
    Column("expires", String(40)),
    Column("payload", JSON, nullable=False),
    Column("signature", Text),
    Column("previous_hash", String(64)),
    Column("row_hash", String(64)),
    Index("ledger_recipe", "recipe", "sequence"),
    sqlite_autoincrement=True,
)

GUARDS = {
    "sqlite": (
        "CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
        "CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
        # INSERT OR REPLACE removes a row without firing the trigger above.
        "CREATE TRIGGER ledger_no_replace BEFORE INSERT ON ledger "
        "WHEN EXISTS (SELECT 1 FROM ledger WHERE sequence = NEW.sequence) "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$",
        "CREATE TRIGGER ledger_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_refuse()",
    ),
}


@event.listens_for(LEDGER, "after_create")
def _guard(_table: Table, connection: Connection, **_: Any) -> None:
    for statement in GUARDS[connection.dialect.name]:
        connection.exec_driver_sql(statement)


ADVISORY_LOCK = 0x676C6D6F
"""PostgreSQL's name for "someone is writing the ledger" ("glmo" in ASCII)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision. ``champion`` is the digest it replaces or was compared with, if any."""

    kind: Kind
    recipe: str
    digest: str
    actor: str
    decision: str
    champion: str | None = None
    rules_hash: str | None = None
    reason: str = ""
    payload: dict[str, Any] | None = None
    expires: str | None = None
    signature: str | None = None
    time: str = ""
    sequence: int = 0
    """Time and sequence are the ledger's own; they are set when the entry is read back."""


def url(root: Path) -> URL:
    """GLMOPS_LEDGER_URL, or ledger.db in the project."""
    if given := os.environ.get("GLMOPS_LEDGER_URL"):
        where = _parse(given)
        lookup(GUARDS, where.get_backend_name(), "GLMOPS_LEDGER_URL")
        bare = where.drivername == "postgresql"
        return where.set(drivername="postgresql+psycopg") if bare else where
    return URL.create("sqlite", database=str(root.resolve() / "ledger.db"))


def read(root: Path, recipe: str | None = None) -> list[Entry]:
    """All entries, or one recipe's, oldest first. A ledger that does not exist yet has none."""
    where = url(root)
    if where.get_backend_name() == "sqlite" and not Path(where.database or "").is_file():
        return []
    with _transaction(where, writes=False) as connection:
        if not inspect(connection).has_table(LEDGER.name):
            return []
        return _entries(connection, recipe)


def append(
    root: Path, entry: Entry, *, unless: Callable[[Sequence[Entry]], bool] | None = None
) -> bool:
    """Add one entry and say whether it was added.

    ``unless`` sees the recipe's entries inside the same exclusive transaction, so that two writers
    cannot both find that something is still to be written.
    """
    values = asdict(entry) | {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "payload": entry.payload or {},
    }
    del values["sequence"]
    with _transaction(url(root), writes=True) as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        METADATA.create_all(connection)
        if unless is not None and unless(_entries(connection, entry.recipe)):
            return False
        connection.execute(insert(LEDGER).values(**values))
    return True


def _parse(given: str) -> URL:
    try:
        return make_url(given)
    except ArgumentError:
        # The value may hold a password, so it is not shown.
        do = "Write it like postgresql://USER:PASSWORD@HOST/DATABASE."
        raise RecipeError("GLMOPS_LEDGER_URL", "not a database URL", do=do) from None


@contextmanager
def _transaction(where: URL, *, writes: bool) -> Iterator[Connection]:
    shown = where.render_as_string(hide_password=True)
    try:
        with _engine(where, writes=writes).begin() as connection:
            yield connection
    except OperationalError as error:
        reason = str(error.orig).splitlines()[0]
        do = "Start the database or correct GLMOPS_LEDGER_URL, then try again."
        raise MachineError(shown, f"the ledger cannot be used ({reason})", do=do) from error


def _entries(connection: Connection, recipe: str | None) -> list[Entry]:
    names = [name for name in Entry.__slots__ if name in LEDGER.c]
    query = select(*(LEDGER.c[name] for name in names)).order_by(LEDGER.c.sequence)
    if recipe is not None:
        query = query.where(LEDGER.c.recipe == recipe)
    return [Entry(**cast(dict[str, Any], row._mapping)) for row in connection.execute(query)]


def _engine(where: URL, *, writes: bool) -> Engine:
    engine = create_engine(
        where,
        poolclass=NullPool,
        json_serializer=partial(json.dumps, ensure_ascii=False, sort_keys=True, allow_nan=False),
    )
    if where.get_backend_name() == "sqlite":
        # sqlite3 opens transactions late, after the first read; a writer must hold the lock first.
        begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
        event.listen(engine, "connect", _leave_transactions_to_us)
        event.listen(engine, "begin", lambda connection: connection.exec_driver_sql(begin))
    return engine


def _leave_transactions_to_us(connection: Any, _record: Any) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA busy_timeout = 30000")
