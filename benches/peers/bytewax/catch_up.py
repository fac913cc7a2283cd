"""Bytewax: it brings sources, keys, state and sinks, and no aggregates for tables; so a snapshot is an item, and what
is held of all stations is the state of one key, on arrays (`numpy/views.py`)."""

import sys
from pathlib import Path

import bytewax.operators as op
import pyarrow.parquet as pq
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main
from tables import Sink, snapshots

sys.path.append(str(Path(__file__).parents[1] / "numpy"))
from views import Views

data, url = Path(sys.argv[1]), sys.argv[2]
COLUMNS = ["station_id", "observed_at", "bikes", "docks", "is_renting", "is_returning"]


class Recording(StatefulSourcePartition):
    """A file at a time: its snapshots, the last of them marked."""

    def __init__(self, done):
        self.done = done or 0
        self.parts = sorted(data.glob("part-*.parquet"))

    def next_batch(self):
        if self.done == len(self.parts):
            raise StopIteration
        rows = pq.read_table(self.parts[self.done], columns=COLUMNS).combine_chunks().to_batches()[0]
        self.done += 1
        *others, last = snapshots(rows)
        return [("city", (snapshot, False)) for snapshot in others] + [("city", (last, True))]

    def snapshot(self):
        return self.done


class Recordings(FixedPartitionedSource):
    def list_parts(self):
        return ["city"]

    def build_part(self, step_id, for_part, resume_state):
        return Recording(resume_state)


def take_in(views, item):
    views = views or Views(pq.read_table(data / "stations.parquet"))
    snapshot, last = item
    views.snapshot(snapshot)
    return views, views.changes() if last else None


class Tables(StatelessSinkPartition):
    def __init__(self):
        self.sink = Sink(url)

    def write_batch(self, items):
        for _, changes in items:
            self.sink.write(changes)


class Database(DynamicSink):
    def build(self, step_id, worker_index, worker_count):
        return Tables()


flow = Dataflow("views")
seen = op.input("recording", flow, Recordings())
changes = op.stateful_map("views", seen, take_in)
op.output("tables", op.filter("at the end of a file", changes, lambda item: item[1] is not None), Database())
run_main(flow)
