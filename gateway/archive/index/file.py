"""The query index's file: patients, studies and series by the values that queries name most. SQLite.

It is a cache, made anew at each start of the gateway, and so has neither migrations nor flushes. Nothing is ever taken
out of it: what Orthanc has no more is not in Orthanc's answers.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from gateway.archive.index.changes import Change
from gateway.archive.index.narrowing import Narrowing, is_unicode
from gateway.archive.interface import Level
from gateway.archive.orthanc_resources import Resource
from gateway.matching import times
from gateway.matching.text import normal_name

FILE_NAME: Final = "query-index.sqlite"
# A query that would wait longer for another process that writes goes to Orthanc.
BUSY_TIMEOUT_S: Final = 0.5
# How far back an entry of Orthanc's log is recognised.
SEEN_CHANGES: Final = 500

# `odd`: a value has a form that cannot be looked up; the entity is a candidate of every query.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS patient (number INTEGER PRIMARY KEY, id TEXT UNIQUE, patient_id TEXT, odd INTEGER);
CREATE TABLE IF NOT EXISTS name (value TEXT, patient INTEGER, PRIMARY KEY (value, patient)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS study (
    number INTEGER PRIMARY KEY, id TEXT UNIQUE, patient INTEGER, uid TEXT, accession TEXT, date TEXT, odd INTEGER
);
CREATE TABLE IF NOT EXISTS series (number INTEGER PRIMARY KEY, id TEXT UNIQUE, study INTEGER, uid TEXT, modality TEXT);
CREATE TABLE IF NOT EXISTS seen (number INTEGER PRIMARY KEY, kind TEXT, resource TEXT, date TEXT);
CREATE TABLE IF NOT EXISTS filled (at REAL, seconds REAL, is_certain INTEGER);
CREATE INDEX IF NOT EXISTS patient_patient_id ON patient (patient_id);
CREATE INDEX IF NOT EXISTS patient_odd ON patient (odd) WHERE odd;
CREATE INDEX IF NOT EXISTS name_patient ON name (patient);
CREATE INDEX IF NOT EXISTS study_patient ON study (patient);
CREATE INDEX IF NOT EXISTS study_uid ON study (uid);
CREATE INDEX IF NOT EXISTS study_accession ON study (accession);
CREATE INDEX IF NOT EXISTS study_date ON study (date);
CREATE INDEX IF NOT EXISTS study_odd ON study (odd) WHERE odd;
CREATE INDEX IF NOT EXISTS series_study ON series (study);
CREATE INDEX IF NOT EXISTS series_uid ON series (uid);
"""
_TABLES: Final = ("patient", "name", "study", "series", "seen", "filled")

_PATIENTS: Final = "patient p"
_STUDIES: Final = "study s JOIN patient p ON p.number = s.patient"
_SERIES: Final = "series x JOIN study s ON s.number = x.study JOIN patient p ON p.number = s.patient"
# What is selected from where, and the column that says whether an entity is odd.
_SELECTIONS: Final = {
    Level.PATIENT: ("p.id", _PATIENTS, "p.odd"),
    Level.STUDY: ("s.id", _STUDIES, "s.odd"),
    Level.SERIES: ("x.id", _SERIES, "s.odd"),
    Level.IMAGE: ("x.id, x.uid, s.uid, p.patient_id", _SERIES, "s.odd"),
}


class Filled(NamedTuple):
    """When the index was filled last, in seconds since the epoch; how long that took; whether it is not in doubt."""

    at: float
    seconds: float
    is_certain: bool


class IndexFile:
    """One connection; used by one thread at a time. All methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)

    @contextlib.contextmanager
    def transaction(self, *, writes: bool) -> Iterator[None]:
        """What is read within is of one moment; who writes keeps other processes from writing."""
        self._connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def filled(self) -> Filled | None:
        """When it was filled; None if that is not so yet."""
        row = self._connection.execute("SELECT at, seconds, is_certain FROM filled").fetchone()
        return Filled(row[0], row[1], bool(row[2])) if row else None

    def clear(self) -> None:
        """Forget everything."""
        for table in _TABLES:
            self._connection.execute(f"DELETE FROM {table}")

    def complete(self, at: float, seconds: float) -> None:
        """All of Orthanc is in it."""
        self._connection.execute("INSERT INTO filled VALUES (?, ?, 1)", (at, seconds))

    def doubt(self) -> None:
        """It may lack something."""
        self._connection.execute("UPDATE filled SET is_certain = 0")

    def newest_seen(self) -> Change | None:
        """The newest of Orthanc's changes that are in it."""
        return self._seen("ORDER BY number DESC")

    def oldest_seen(self) -> Change | None:
        """The oldest change that is still recognised."""
        return self._seen("ORDER BY number")

    def has_seen(self, change: Change) -> bool:
        """Whether this very change is in it, and still recognised."""
        return self._seen("WHERE number = ?", change.number) == change

    def see(self, changes: Iterable[Change]) -> None:
        """Everything up to these is in it."""
        self._connection.executemany("INSERT INTO seen VALUES (?, ?, ?, ?)", changes)
        self._connection.execute(
            "DELETE FROM seen WHERE number <= (SELECT number FROM seen ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (SEEN_CHANGES,),
        )

    def _seen(self, which: str, *parameters: int) -> Change | None:
        statement = f"SELECT number, kind, resource, date FROM seen {which} LIMIT 1"
        row = self._connection.execute(statement, parameters).fetchone()
        return Change(*row) if row else None

    def put(self, studies: Iterable[Resource], series: Iterable[Resource]) -> None:
        """Write down studies, their patients and series, as Orthanc describes them now."""
        for study in studies:
            self._put_study(study)
        for one in series:
            self._put_series(one)

    def find(self, narrowing: Narrowing) -> list[Any]:
        """Orthanc's identifiers of the entities; at level IMAGE rows of the series: its identifier, Series and Study
        Instance UID and Patient ID."""
        columns, tables, odd = _SELECTIONS[narrowing.level]
        where = "".join(f" AND {sql}" for sql, _parameters in narrowing.conditions)
        parameters = [parameter for _sql, values in narrowing.conditions for parameter in values]
        select = f"SELECT {columns} FROM {tables} WHERE"
        statement = f"{select} NOT {odd}{where} UNION ALL {select} {odd}"
        rows = self._connection.execute(statement, parameters).fetchall()
        return rows if narrowing.level is Level.IMAGE else [row[0] for row in rows]

    def counts(self) -> dict[str, int]:
        """How many patients, studies and series are in it, those included that Orthanc has no more."""
        tables = {"patients": "patient", "studies": "study", "series": "series"}
        return {
            name: int(self._connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])
            for name, table in tables.items()
        }

    def close(self) -> None:
        """Close."""
        self._connection.close()

    def _put_study(self, study: Resource) -> None:
        main, patient = study["MainDicomTags"], study["PatientMainDicomTags"]
        patient_id, name = patient.get("0010,0020", ""), patient.get("0010,0010", "")
        patient_odd = not (_is_single(patient_id) and _is_single(name))
        number = self._upsert("patient", study["ParentPatient"], patient_id=_value(patient_id), odd=patient_odd)
        self._connection.execute("DELETE FROM name WHERE patient = ?", (number,))
        if not patient_odd:
            groups = {group for part in name.split("=") if (group := normal_name(part, case_sensitive=False))}
            self._connection.executemany("INSERT INTO name VALUES (?, ?)", [(group, number) for group in groups])
        values = [main.get(tag, "") for tag in ("0020,000d", "0008,0050", "0008,0020")]
        day = _day(values[2])
        odd = patient_odd or day is None or not all(map(_is_single, values))
        self._upsert(
            "study",
            study["ID"],
            patient=number,
            uid=_value(values[0]),
            accession=_value(values[1]),
            date=day or "",
            odd=odd,
        )

    def _put_series(self, series: Resource) -> None:
        row = self._connection.execute("SELECT number FROM study WHERE id = ?", (series["ParentStudy"],)).fetchone()
        if row is None:
            return  # deleted a moment ago; if it comes again, so does this series
        values = [series["MainDicomTags"].get(tag, "") for tag in ("0020,000e", "0008,0060")]
        if not all(map(_is_single, values)):
            self._connection.execute("UPDATE study SET odd = 1 WHERE number = ?", row)
        self._upsert("series", series["ID"], study=row[0], uid=_value(values[0]), modality=_value(values[1]))

    def _upsert(self, table: str, identifier: str, **values: Any) -> int:
        names = ", ".join(values)
        places = ", ".join("?" * len(values))
        changes = ", ".join(f"{name} = excluded.{name}" for name in values)
        statement = (
            f"INSERT INTO {table} (id, {names}) VALUES (?, {places})"
            f" ON CONFLICT (id) DO UPDATE SET {changes} RETURNING number"
        )
        return int(self._connection.execute(statement, (identifier, *values.values())).fetchone()[0])


def discard(state_directory: Path) -> None:
    """Remove the file: nobody knows what happened to Orthanc since it was written."""
    for suffix in ("", "-wal", "-shm"):
        (state_directory / (FILE_NAME + suffix)).unlink(missing_ok=True)


def _is_single(value: str) -> bool:
    return "\\" not in value and is_unicode(value)


def _value(value: str) -> str:
    return value.strip(" \0") if is_unicode(value) else ""


def _day(value: str) -> str | None:
    """A date as YYYYMMDD, "" for what no key matches; None for a period of several days."""
    period = times.period("DA", value)
    if period is None:
        return ""
    first, last = times.days(times.Range(period, period))
    return first if first == last else None
