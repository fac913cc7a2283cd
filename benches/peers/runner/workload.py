"""A city from a seed: the same observations for everyone, as Parquet and, for those who need it, NDJSON.

    data/SIZE/stations.parquet
    data/SIZE/part-0000.parquet …    observations, in the order of observed_at, then station_id
    data/SIZE/*.ndjson               the same, where a size has it

A station drifts along the rhythm of its quarter (offices fill by day, homes by night) and is moved by one bike or
two about every fourth minute. Written a snapshot after the other, so memory does not grow with history.
"""

import argparse
import datetime
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

START = datetime.datetime(2026, 3, 2)  # a Monday
MINUTE = 60_000_000  # in microseconds
ROW_GROUP = 131_072


@dataclass
class Size:
    stations: int
    snapshots: int
    part: int  # snapshots in a file
    ndjson: bool = False

    @property
    def rows(self):
        return self.stations * self.snapshots


SIZES = {
    "tiny": Size(100, 60, 10, ndjson=True),
    "small": Size(1_500, 24 * 60, 60, ndjson=True),
    "medium": Size(1_500, 14 * 24 * 60, 24 * 60),
    "large": Size(1_500, 60 * 24 * 60, 24 * 60),
    "world": Size(100_000, 60, 1),
}

TIMESTAMP = pa.timestamp("us")
OBSERVATIONS = pa.schema(
    [
        ("station_id", pa.string()),
        ("observed_at", TIMESTAMP),
        ("bikes", pa.int32()),
        ("mechanical", pa.int32()),
        ("ebikes", pa.int32()),
        ("docks", pa.int32()),
        ("is_installed", pa.bool_()),
        ("is_renting", pa.bool_()),
        ("is_returning", pa.bool_()),
        ("last_reported", TIMESTAMP),
    ]
)


class City:
    """Stations and how they stand; `step` is a minute."""

    def __init__(self, stations: int, seed: int):
        self.random = np.random.default_rng(seed)
        self.now = np.datetime64(START, "us")
        self.ids = pa.array([str(10_000 + i) for i in range(stations)])
        # About twenty stations share an area.
        self.areas = self.random.integers(0, max(4, stations // 20), stations)
        self.capacity = self.random.integers(12, 60, stations).astype(np.int32)
        self.work = self.random.normal(0, 1, stations)  # offices above zero, homes below
        self.bikes = (self.capacity * self.random.uniform(0, 1, stations)).astype(np.int32)
        self.mechanical = (self.bikes * 0.6).astype(np.int32)
        self.renting = self.random.random(stations) > 0.01
        self.reported = np.full(stations, self.now)

    def stations(self) -> pa.Table:
        n = len(self.ids)
        return pa.table(
            {
                "station_id": self.ids,
                "code": self.ids,
                "name": [f"Station {i}" for i in range(n)],
                "lat": 48.86 + self.random.normal(0, 0.03, n),
                "lon": 2.34 + self.random.normal(0, 0.05, n),
                "capacity": pa.array(self.capacity),
                "region": [f"Quartier {a:04}" for a in self.areas],
            }
        )

    def step(self) -> pa.RecordBatch:
        n = len(self.ids)
        hour = (self.now - np.datetime64(START, "us")) / np.timedelta64(1, "h") % 24
        wish = self.capacity * (0.45 + 0.4 * self.work * np.cos((hour - 13) / 24 * 2 * np.pi))
        pull = np.sign(wish - self.bikes)
        moved = self.random.random(n) < 0.32  # of which some are at an end and do not move
        change = np.where(self.random.random(n) < 0.6, pull, self.random.integers(-2, 3, n)) * moved
        bikes = np.clip(self.bikes + change, 0, self.capacity).astype(np.int32)
        self.reported = np.where(bikes != self.bikes, self.now, self.reported)
        self.bikes = bikes
        self.mechanical = np.minimum(bikes, self.mechanical + (change > 0)).astype(np.int32)
        # A few stations close, and open again after an hour or so.
        self.renting ^= self.random.random(n) < np.where(self.renting, 0.0002, 0.016)
        columns = [
            self.ids,
            np.full(n, self.now),
            bikes,
            self.mechanical,
            bikes - self.mechanical,
            self.capacity - bikes,
            np.ones(n, dtype=bool),
            self.renting,
            self.renting,
            self.reported,
        ]
        self.now = self.now + np.timedelta64(MINUTE, "us")
        return pa.record_batch([pa.array(c) for c in columns], schema=OBSERVATIONS)


def write_ndjson(path: Path, table: pa.Table):
    for place, field in enumerate(table.schema):
        if field.type == TIMESTAMP:
            text = pc.strftime(table[place].cast(pa.timestamp("s")), format="%Y-%m-%dT%H:%M:%S")
            table = table.set_column(place, field.name, text)
    with path.open("w") as file:
        for row in table.to_pylist():
            file.write(json.dumps(row, separators=(",", ":")) + "\n")


def generate(folder: Path, size: Size, seed: int = 1):
    """Writes the workload, unless it is there."""
    if (folder / "stations.parquet").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    city = City(size.stations, seed)
    stations = city.stations()
    for part, first in enumerate(range(0, size.snapshots, size.part)):
        batches = [city.step() for _ in range(min(size.part, size.snapshots - first))]
        path = folder / f"part-{part:04}.parquet"
        pq.write_table(pa.Table.from_batches(batches), path, row_group_size=ROW_GROUP, compression="zstd")
        if size.ndjson:
            write_ndjson(path.with_suffix(".ndjson"), pa.Table.from_batches(batches))
    if size.ndjson:
        write_ndjson(folder / "stations.ndjson", stations)
    # Last: who finds it, finds all.
    pq.write_table(stations, folder / "stations.parquet")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where data/SIZE goes")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    generate(args.folder / args.size, SIZES[args.size], args.seed)
