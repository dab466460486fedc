from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from glmops.errors import MachineError, RecipeError
from glmops.promote import ledger
from glmops.promote.ledger import Entry

BINARIES = Path("/usr/lib/postgresql/15/bin")
FIRST = Entry(
    "gate", "demo", "a" * 64, "carol", "passed", rules_hash="c" * 64, payload={"值": [1.5]}
)
COLUMNS = [
    "sequence", "time", "kind", "recipe", "digest", "actor", "decision", "champion", "rules_hash",
    "reason", "expires", "payload", "signature", "previous_hash", "row_hash",
]  # fmt: skip


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a real server of this session, or a loud skip."""
    if not (BINARIES / "initdb").is_file():
        pytest.skip(f"NOT RUN: no PostgreSQL in {BINARIES}")
    folder = Path(tempfile.mkdtemp(prefix="glmops-postgresql-"))
    # PostgreSQL refuses to run as root.
    owner = pwd.getpwnam("nobody") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, log = str(folder / "data"), str(folder / "log")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -F"

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [BINARIES / program, *arguments], user=owner.pw_uid, group=owner.pw_gid, check=True,
            cwd=folder, capture_output=True,
        )  # fmt: skip

    run("initdb", "-D", data, "-U", "glmops", "-A", "trust", "-N")
    run("pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "start")
    yield f"postgresql://glmops@127.0.0.1:{port}/postgres"
    run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project root whose ledger is empty, in each database."""
    monkeypatch.delenv("GLMOPS_LEDGER_URL", raising=False)
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")
        monkeypatch.setenv("GLMOPS_LEDGER_URL", url)
        with database(tmp_path).begin() as connection:
            connection.execute(sa.text("DROP TABLE IF EXISTS ledger"))
            connection.execute(sa.text("DROP FUNCTION IF EXISTS ledger_refuse"))
    return tmp_path


def database(root: Path) -> sa.Engine:
    return sa.create_engine(ledger.url(root), poolclass=sa.NullPool)


def test_what_is_appended_is_read_in_order(place: Path) -> None:
    second = Entry("approve", "demo", "b" * 64, "alice", "approve", champion="a" * 64, reason="好")
    other = Entry("gate", "other", "d" * 64, "carol", "refused")
    assert [ledger.append(place, entry) for entry in (FIRST, other, second)] == [True] * 3
    mine = ledger.read(place, "demo")
    assert [entry.sequence for entry in mine] == [1, 3]
    assert [(e.kind, e.digest, e.reason, e.payload) for e in mine] == [
        ("gate", "a" * 64, "", {"值": [1.5]}),
        ("approve", "b" * 64, "好", {}),
    ]
    assert mine[0].time.endswith("+00:00")
    assert len(ledger.read(place)) == 3


def test_the_table_has_its_final_columns_and_pretends_no_chain(place: Path) -> None:
    ledger.append(place, FIRST)
    with database(place).begin() as connection:
        row = connection.execute(sa.text("SELECT * FROM ledger")).mappings().one()
    assert list(row) == COLUMNS
    assert (row["signature"], row["previous_hash"], row["row_hash"]) == (None, None, None)


@pytest.mark.parametrize("verb", ["UPDATE ledger SET actor = 'eve'", "DELETE FROM ledger"])
def test_the_database_refuses_to_rewrite_history(place: Path, verb: str) -> None:
    ledger.append(place, FIRST)
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        database(place).begin() as connection,
    ):
        connection.execute(sa.text(verb))
    assert ledger.read(place)[0].actor == "carol"


def test_sqlite_refuses_to_replace_a_row(tmp_path: Path) -> None:
    ledger.append(tmp_path, FIRST)
    replace = (
        "INSERT OR REPLACE INTO ledger (sequence, time, kind, recipe, digest, actor, decision, "
        "reason, payload) VALUES (1, '', 'gate', 'demo', '', 'eve', '', '', '{}')"
    )
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        database(tmp_path).begin() as connection,
    ):
        connection.execute(sa.text(replace))


def test_postgresql_refuses_to_truncate(tmp_path: Path, postgresql: str, monkeypatch) -> None:
    monkeypatch.setenv("GLMOPS_LEDGER_URL", postgresql)
    ledger.append(tmp_path, FIRST)
    with (
        pytest.raises(sa.exc.DBAPIError, match="append-only"),
        database(tmp_path).begin() as connection,
    ):
        connection.execute(sa.text("TRUNCATE ledger"))


def test_of_many_writers_at_once_one_finds_something_to_write(place: Path) -> None:
    """Also the first use of a new ledger: all of them want to make the table."""
    wrote: list[bool] = []

    def write() -> None:
        wrote.append(ledger.append(place, FIRST, unless=lambda entries: len(entries) > 0))

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(wrote) == [False] * 7 + [True]
    assert len(ledger.read(place)) == 1


def test_reading_makes_no_ledger(tmp_path: Path) -> None:
    assert ledger.read(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_without_its_table_is_empty(place: Path) -> None:
    """As after a kill between the file and the table."""
    with database(place).begin() as connection:
        connection.execute(sa.text("SELECT 1"))
    assert ledger.read(place) == []


def test_a_number_that_json_lacks_is_not_stored(place: Path) -> None:
    bad = Entry("gate", "demo", "a" * 64, "carol", "refused", payload={"value": float("nan")})
    with pytest.raises((sa.exc.StatementError, ValueError), match="JSON compliant"):
        ledger.append(place, bad)
    assert ledger.read(place) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://u:secret@h/d", "Known: postgresql, sqlite"),
        ("no url, secret", "not a database URL"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_showing_it(
    tmp_path: Path, monkeypatch, url: str, message: str
) -> None:
    monkeypatch.setenv("GLMOPS_LEDGER_URL", url)
    with pytest.raises(RecipeError, match=message) as refused:
        ledger.read(tmp_path)
    assert "secret" not in str(refused.value)


def test_a_database_that_is_down_is_one_clear_error(tmp_path: Path, monkeypatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("GLMOPS_LEDGER_URL", f"postgresql://glmops:secret@127.0.0.1:{port}/x")
    with pytest.raises(MachineError, match="the ledger cannot be used") as refused:
        ledger.append(tmp_path, FIRST)
    assert "secret" not in str(refused.value)
