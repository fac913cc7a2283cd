"""Pathway: NDJSON, which it reads itself, a minibatch a file; its own reducers, and a stateful one for what needs the
order of a station's observations."""

import sys
from datetime import timedelta
from urllib.parse import urlsplit

import pathway as pw

data, url = sys.argv[1:]
HOUR = timedelta(hours=1)


class Observation(pw.Schema):
    station_id: str
    observed_at: pw.DateTimeNaive
    bikes: int
    docks: int
    is_renting: bool
    is_returning: bool


class Station(pw.Schema):
    station_id: str = pw.column_definition(primary_key=True)
    name: str
    region: str


def condition(bikes, docks):
    return "empty" if bikes == 0 else "full" if docks == 0 else "low" if bikes * 10 < bikes + docks else "fine"


@pw.reducers.stateful_many
def station(state: tuple | None, rows: list) -> tuple:
    """How a station stands: time, bikes, docks, condition, since when, and its last 60 minutes."""
    now, since, recent = state[3:] if state else (None, None, ())
    recent = list(recent)
    for time, bikes, docks in sorted(row for row, _ in rows):
        before, now = now, condition(bikes, docks)
        if now != before:
            since = time
        recent.append((time, bikes))
    recent = tuple(pair for pair in recent if pair[0] > time - HOUR)
    return time, bikes, docks, now, since, recent


@pw.udf
def slope(recent: tuple) -> float | None:
    x, y = zip(*(((time - recent[-1][0]) / HOUR, bikes) for time, bikes in recent))
    mean = sum(x) / len(x)
    spread = sum((a - mean) ** 2 for a in x)
    return sum((a - mean) * b for a, b in zip(x, y)) / spread if spread else None


def read(files, schema):
    return pw.io.fs.read(f"{data}/{files}.ndjson", format="json", schema=schema, mode="static")


def write(table, name, *key):
    to = urlsplit(url)
    settings = {"host": to.hostname, "port": to.port, "dbname": to.path[1:], "user": to.username}
    keys = [table[column] for column in key]
    pw.io.postgres.write(table, settings, name, output_table_type="snapshot", primary_key=keys)


seen, stations = read("part-*", Observation), read("stations", Station)

hours = seen.select(
    pw.this.station_id,
    pw.this.bikes,
    pw.this.docks,
    hour=pw.this.observed_at.dt.floor(HOUR),
    weekday=pw.this.observed_at.dt.weekday() + 1,
    hour_of_day=pw.this.observed_at.dt.hour(),
    out_of_bikes=pw.cast(int, (pw.this.bikes == 0) & pw.this.is_renting),
    out_of_docks=pw.cast(int, (pw.this.docks == 0) & pw.this.is_returning),
)
# By station first: a join keeps all that it is given.
station_hour = hours.groupby(pw.this.station_id, pw.this.hour).reduce(
    pw.this.station_id,
    pw.this.hour,
    snapshots=pw.reducers.count(),
    bikes=pw.reducers.sum(pw.this.bikes),
    docks=pw.reducers.sum(pw.this.docks),
    out_of_bikes=pw.reducers.sum(pw.this.out_of_bikes),
    out_of_docks=pw.reducers.sum(pw.this.out_of_docks),
)
placed = station_hour.join(stations, pw.left.station_id == pw.right.station_id)
snapshots = pw.reducers.sum(pw.this.snapshots)
area_hour = (
    placed.select(*pw.left, area=pw.right.region)
    .groupby(pw.this.area, pw.this.hour)
    .reduce(
        pw.this.area,
        pw.this.hour,
        snapshots=snapshots,
        bikes=pw.reducers.sum(pw.this.bikes) / snapshots,
        docks=pw.reducers.sum(pw.this.docks) / snapshots,
        out_of_bikes=pw.reducers.sum(pw.this.out_of_bikes),
        out_of_docks=pw.reducers.sum(pw.this.out_of_docks),
    )
)
write(area_hour, "area_hour", "area", "hour")

station_week = hours.groupby(pw.this.station_id, pw.this.weekday, pw.this.hour_of_day).reduce(
    pw.this.station_id,
    pw.this.weekday,
    hour=pw.this.hour_of_day,
    bikes=pw.reducers.avg(pw.this.bikes),
    snapshots=pw.reducers.count(),
)
write(station_week, "station_week", "station_id", "weekday", "hour")

State = tuple[pw.DateTimeNaive, int, int, str, pw.DateTimeNaive, tuple[tuple[pw.DateTimeNaive, int], ...]]
states = seen.groupby(pw.this.station_id).reduce(
    pw.this.station_id,
    state=pw.declare_type(State, station(pw.this.observed_at, pw.this.bikes, pw.this.docks)),
)
now = states.join(stations, pw.left.station_id == pw.right.station_id).select(
    pw.left.station_id,
    pw.right.name,
    area=pw.right.region,
    observed_at=pw.left.state[0],
    bikes=pw.left.state[1],
    docks=pw.left.state[2],
    condition=pw.left.state[3],
    since=pw.left.state[4],
)
total = pw.this.bikes + pw.this.docks
station_now = now.without(pw.this.condition, pw.this.since)
station_now += now.select(rate=pw.if_else(total == 0, None, pw.this.bikes / pw.if_else(total == 0, 1, total)))
write(station_now, "station_now", "station_id")
write(now.filter(pw.this.condition != "fine").without(pw.this.observed_at), "critical", "station_id")
write(states.select(pw.this.station_id, slope=slope(pw.this.state[5])), "station_trend", "station_id")

pw.run(monitoring_level=pw.MonitoringLevel.NONE)
