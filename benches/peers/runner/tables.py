"""The five tables that every peer fills, and how those that hold Arrow read and write them."""

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

TYPES = {
    "text": pa.string(),
    "int": pa.int32(),
    "bigint": pa.int64(),
    "timestamp": pa.timestamp("us"),
    "double precision": pa.float64(),
}


@dataclass
class Table:
    columns: str
    key: str

    @cached_property
    def schema(self) -> pa.Schema:
        return pa.schema([(name, TYPES[type]) for name, type in self.types])

    @property
    def types(self) -> list[list[str]]:
        """The columns, each with its type in PostgreSQL."""
        return [column.strip().split(" ", 1) for column in self.columns.split(",")]

    @property
    def keys(self) -> list[str]:
        return self.key.split(", ")


TABLES = {
    "area_hour": Table(
        "area text, hour timestamp, snapshots bigint, bikes double precision, docks double precision,"
        "out_of_bikes bigint, out_of_docks bigint",
        "area, hour",
    ),
    "station_now": Table(
        "station_id text, name text, area text, observed_at timestamp, bikes int, docks int, rate double precision",
        "station_id",
    ),
    "critical": Table(
        "station_id text, name text, area text, condition text, since timestamp, bikes int, docks int", "station_id"
    ),
    "station_trend": Table("station_id text, slope double precision", "station_id"),
    "station_week": Table(
        "station_id text, weekday int, hour int, bikes double precision, snapshots bigint", "station_id, weekday, hour"
    ),
}


def ddl() -> str:
    return "".join(f"CREATE TABLE {name} ({t.columns}, PRIMARY KEY ({t.key}));\n" for name, t in TABLES.items())


class Sink:
    """A connection on which tables are written: by binary COPY, and where they change by a merge."""

    def __init__(self, url: str):
        import adbc_driver_postgresql.dbapi

        self.connection = adbc_driver_postgresql.dbapi.connect(url)
        self.cursor = self.connection.cursor()
        self.staged = set()

    def append(self, name: str, rows):
        """Writes a whole table; `rows` is an Arrow table or what can become one."""
        self._copy(name, name, rows)

    def merge(self, name: str, rows):
        """Writes the rows that are new or have changed."""
        new, table = f"new_{name}", TABLES[name]
        if name not in self.staged:
            self.cursor.execute(f"CREATE TEMPORARY TABLE {new} (LIKE {name})")
            self.staged.add(name)
        self._copy(name, new, rows)
        changes = ", ".join(f"{c} = excluded.{c}" for c in table.schema.names if c not in table.keys)
        self.cursor.execute(f"INSERT INTO {name} SELECT * FROM {new} ON CONFLICT ({table.key}) DO UPDATE SET {changes}")
        self.cursor.execute(f"TRUNCATE {new}")

    def replace(self, name: str, rows):
        """Writes a small table anew."""
        self.cursor.execute(f"DELETE FROM {name}")
        self._copy(name, name, rows)

    def write(self, changes: dict):
        """Commits what has changed; `critical`, which rows leave, is given whole."""
        for name, rows in changes.items():
            (self.replace if name == "critical" else self.merge)(name, rows)
        self.commit()

    def commit(self):
        self.connection.commit()

    def _copy(self, name: str, into: str, rows):
        schema = TABLES[name].schema
        rows = pa.table(rows).select(schema.names).cast(schema)
        self.cursor.adbc_ingest(into, rows, mode="append", temporary=into != name)


def snapshots(rows):
    """Slices a batch of observations, which are in the order of time, into those of one time each."""
    times = rows["observed_at"]
    starts = [0, *(i + 1 for i in pc.indices_nonzero(pc.not_equal(times[1:], times[:-1])).to_pylist()), len(times)]
    return [rows.slice(a, b - a) for a, b in pairwise(starts)]
