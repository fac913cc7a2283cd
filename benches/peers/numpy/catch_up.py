"""NumPy: each snapshot is taken in by itself, and the tables are brought up to date after each file."""

import sys
from pathlib import Path

import pyarrow.parquet as pq
from tables import Sink, snapshots
from views import Views

data, url = Path(sys.argv[1]), sys.argv[2]
views, sink = Views(pq.read_table(data / "stations.parquet")), Sink(url)
columns = ["station_id", "observed_at", "bikes", "docks", "is_renting", "is_returning"]
for part in sorted(data.glob("part-*.parquet")):
    rows = pq.read_table(part, columns=columns).combine_chunks().to_batches()[0]
    for snapshot in snapshots(rows):
        views.snapshot(snapshot)
    sink.write(views.changes())
