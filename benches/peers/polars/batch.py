"""Polars: the same views as lazy expressions, collected by the streaming engine."""

import sys
from datetime import timedelta

import polars as pl
from tables import Sink

data, url = sys.argv[1:]
c = pl.col
stations = pl.scan_parquet(f"{data}/stations.parquet").select("station_id", "name", area="region")
seen = pl.scan_parquet(f"{data}/part-*.parquet")
empty, full, low = c.bikes == 0, c.docks == 0, c.bikes * 10 < c.bikes + c.docks
condition = pl.when(empty).then(pl.lit("empty")).when(full).then(pl.lit("full")).when(low).then(pl.lit("low"))
counts = "snapshots", "bikes", "docks", "out_of_bikes", "out_of_docks"

# What is needed of history, in one pass.
time = c.observed_at
station_hour = (
    seen.group_by("station_id", hour=time.dt.truncate("1h"))
    .agg(
        c.bikes.cast(pl.Int64).sum(),
        c.docks.cast(pl.Int64).sum(),
        snapshots=pl.len().cast(pl.Int64),
        out_of_bikes=(empty & c.is_renting).sum().cast(pl.Int64),
        out_of_docks=(full & c.is_returning).sum().cast(pl.Int64),
        observed_at=time.max(),
        not_empty=pl.when(~empty).then(time).max(),
        not_full=pl.when(~full | empty).then(time).max(),
        not_low=pl.when(empty | full | ~low).then(time).max(),
    )
    .collect(engine="streaming")
    .lazy()
)

means = {name: pl.col(name) / c.snapshots for name in ("bikes", "docks")}
area_hour = station_hour.join(stations, on="station_id").group_by("area", "hour").agg(pl.col(counts).sum())
area_hour = area_hour.with_columns(**means)

latest = station_hour.group_by("station_id").agg(pl.col("observed_at", "not_empty", "not_full", "not_low").max())
latest = latest.collect().lazy()
earliest, now = latest.select(low=time.min(), high=time.max()).collect().row(0)
station_now = (
    seen.filter(time >= earliest)
    .join(latest, on=["station_id", "observed_at"])
    .join(stations, on="station_id")
    .with_columns(
        rate=pl.when(c.bikes + c.docks != 0).then(c.bikes / (c.bikes + c.docks)),
        condition=condition,
        otherwise=pl.when(empty).then(c.not_empty).when(full).then(c.not_full).otherwise(c.not_low),
    )
    .collect(engine="streaming")
    .lazy()
)

critical_now = station_now.filter(c.condition.is_not_null()).select(
    "station_id", "name", "area", "condition", "bikes", "docks", c.otherwise.fill_null(pl.datetime(1970, 1, 1))
)
first = critical_now.select(c.otherwise.min()).collect().item()
critical = (
    seen.filter(time > first)
    .select("station_id", "observed_at")
    .join(critical_now, on="station_id")
    .filter(time > c.otherwise)
    .group_by("station_id", "name", "area", "condition", "bikes", "docks")
    .agg(since=time.min())
)

hours = time.dt.epoch("us") / 3.6e9
recent = seen.filter(time > now - timedelta(minutes=60))
station_trend = recent.group_by("station_id").agg(slope=pl.cov(hours, c.bikes) / hours.var())

week = {"weekday": c.hour.dt.weekday(), "hour": c.hour.dt.hour()}
station_week = station_hour.group_by("station_id", **week).agg(pl.col("bikes", "docks", "snapshots").sum())
station_week = station_week.with_columns(**means)

views = {
    "area_hour": area_hour,
    "station_now": station_now,
    "critical": critical,
    "station_trend": station_trend,
    "station_week": station_week,
}
sink = Sink(url)
for name, rows in zip(views, pl.collect_all(views.values(), engine="streaming")):
    sink.append(name, rows.to_arrow())
sink.commit()
