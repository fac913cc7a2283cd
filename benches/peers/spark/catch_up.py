"""Spark Structured Streaming: a micro-batch a file.

Two views are streaming aggregations. The others need the order of a station's observations, which takes state of its
own: applyInPandasWithState. (A micro-batch a snapshot would take it half a second each, whatever is in it.)
"""

import sys
import tempfile

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from pyspark.sql import functions as f
from session import session
from tables import Sink

data, url = sys.argv[1:]
HOUR = np.timedelta64(1, "h")
STATE = "condition string, since timestamp_ntz, times binary, bikes binary"
STATION = (
    "station_id string, observed_at timestamp_ntz, bikes int, docks int, condition string, since timestamp_ntz, "
    "slope double"
)


def station(key, frames, state):
    """Where a station stands after a file, and since when it has been empty, full or low."""
    rows = pd.concat(list(frames)).sort_values("observed_at")
    time, bikes, docks = (rows[c].to_numpy() for c in ("observed_at", "bikes", "docks"))
    conditions = np.select([bikes == 0, docks == 0, bikes * 10 < bikes + docks], ["empty", "full", "low"], "fine")
    condition = str(conditions[-1])
    others = np.flatnonzero(conditions != condition)
    times, counts = time.astype("datetime64[us]").astype(int), bikes
    since = time[others[-1] + 1 if len(others) else 0]
    if state.exists:
        before, began, *recent = state.get
        times = np.append(np.frombuffer(recent[0], times.dtype), times)
        counts = np.append(np.frombuffer(recent[1], counts.dtype), counts)
        if not len(others) and before == condition:
            since = began
    hours = (times - times[-1]) / 3.6e9
    last = hours > -1
    state.update((condition, pd.Timestamp(since), times[last].tobytes(), counts[last].tobytes()))
    x, y = hours[last] - hours[last].mean(), counts[last]
    slope = (x * y).sum() / (x * x).sum() if last.sum() > 1 else None
    yield pd.DataFrame([[*key, time[-1], bikes[-1], docks[-1], condition, since, slope]], columns=COLUMNS)


COLUMNS = [column.split()[0] for column in STATION.split(", ")]

spark = session()
parts = f"{data}/part-*.parquet"
schema = spark.read.parquet(f"{data}/part-0000.parquet").schema
stations = spark.read.parquet(f"{data}/stations.parquet").select("station_id", "name", f.col("region").alias("area"))
seen = spark.readStream.schema(schema).option("maxFilesPerTrigger", 1).parquet(parts)

area_hour = (
    seen.join(f.broadcast(stations), "station_id")
    .groupBy("area", f.date_trunc("hour", "observed_at").cast("timestamp_ntz").alias("hour"))
    .agg(
        f.count("*").alias("snapshots"),
        f.avg("bikes").alias("bikes"),
        f.avg("docks").alias("docks"),
        f.count_if((f.col("bikes") == 0) & f.col("is_renting")).alias("out_of_bikes"),
        f.count_if((f.col("docks") == 0) & f.col("is_returning")).alias("out_of_docks"),
    )
)
station_week = seen.groupBy(
    "station_id",
    f.expr("CAST(extract(DAYOFWEEK_ISO FROM observed_at) AS int)").alias("weekday"),
    f.hour("observed_at").alias("hour"),
).agg(f.avg("bikes").alias("bikes"), f.count("*").alias("snapshots"))
station_now = (
    seen.select("station_id", "observed_at", "bikes", "docks")
    .groupBy("station_id")
    .applyInPandasWithState(station, STATION, STATE, "update", "NoTimeout")
)


def merge(name):
    sink = Sink(url)

    def write(batch, _):
        sink.merge(name, batch.toArrow())
        sink.commit()

    return write


def stations_into(sink):
    def write(batch, _):
        named = batch.join(f.broadcast(stations), "station_id")
        rows = named.withColumn("rate", f.expr("bikes / nullif(bikes + docks, 0)")).toArrow()
        # A file lists all stations, so that it says which are critical.
        critical = rows.filter(pc.field("condition") != "fine")
        sink.write({"station_now": rows, "station_trend": rows, "critical": critical})

    return write


writers = (
    (area_hour, merge("area_hour")),
    (station_week, merge("station_week")),
    (station_now, stations_into(Sink(url))),
)
with tempfile.TemporaryDirectory() as checkpoints:
    queries = [
        view.writeStream.outputMode("update")
        .option("checkpointLocation", f"{checkpoints}/{i}")
        .trigger(availableNow=True)
        .foreachBatch(write)
        .start()
        for i, (view, write) in enumerate(writers)
    ]
    for query in queries:
        query.awaitTermination()
spark.stop()
