"""Polars: the same views as lazy expressions, collected together by the streaming engine."""

import sys

import polars as pl
from tables import Sink

data, url = sys.argv[1:]
c = pl.col
stations = pl.scan_parquet(f"{data}/stations.parquet").select("station_id", "name", area="region")
seen = pl.scan_parquet(f"{data}/part-*.parquet")
condition = (
    pl.when(c.bikes == 0)
    .then(pl.lit("empty"))
    .when(c.docks == 0)
    .then(pl.lit("full"))
    .when(c.bikes * 10 < c.bikes + c.docks)
    .then(pl.lit("low"))
    .otherwise(pl.lit("fine"))
)

area_hour = (
    seen.join(stations, on="station_id")
    .group_by("area", hour=c.observed_at.dt.truncate("1h"))
    .agg(
        pl.len().alias("snapshots"),
        c.bikes.mean(),
        c.docks.mean(),
        ((c.bikes == 0) & c.is_renting).sum().alias("out_of_bikes"),
        ((c.docks == 0) & c.is_returning).sum().alias("out_of_docks"),
    )
)
# Files are in the order of time, which the aggregates say: the engine is free to read in any.
by_station = seen.group_by("station_id").agg(
    c.observed_at.max(),
    c.bikes.get(c.observed_at.arg_max()),
    c.docks.get(c.observed_at.arg_max()),
)
station_now = by_station.join(stations, on="station_id").with_columns(
    rate=pl.when(c.bikes + c.docks != 0).then(c.bikes / (c.bikes + c.docks))
)
critical_now = (
    by_station.with_columns(condition=condition)
    .filter(c.condition != "fine")
    .select("station_id", "condition", "bikes", "docks")
)
judged = seen.select("station_id", "observed_at", now=condition).join(critical_now, on="station_id")
other = judged.filter(c.now != c.condition).group_by("station_id").agg(until=c.observed_at.max())
critical = (
    judged.join(other, on="station_id", how="left")
    .filter(c.until.is_null() | (c.observed_at > c.until))
    .group_by("station_id", "condition", "bikes", "docks")
    .agg(since=c.observed_at.min())
    .join(stations, on="station_id")
)

hours = c.observed_at.dt.epoch("us") / 3.6e9
recent = seen.with_columns(last=c.observed_at.max()).filter(c.observed_at > c.last - pl.duration(minutes=60))
station_trend = recent.group_by("station_id").agg(slope=pl.cov(hours, c.bikes) / hours.var())

station_week = seen.group_by(
    "station_id",
    weekday=c.observed_at.dt.weekday(),
    hour=c.observed_at.dt.hour(),
).agg(c.bikes.mean(), snapshots=pl.len())

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
