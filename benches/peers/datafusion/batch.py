"""DataFusion: views.sql as it is."""

import sys
from pathlib import Path

from datafusion import SessionConfig, SessionContext
from tables import TABLES, Sink

data, url = sys.argv[1:]
context = SessionContext(SessionConfig().with_target_partitions(2))
context.sql(f"CREATE EXTERNAL TABLE observations STORED AS PARQUET LOCATION '{data}/part-*.parquet'")
context.sql(f"CREATE EXTERNAL TABLE stations STORED AS PARQUET LOCATION '{data}/stations.parquet'")
text = "\n".join(line.split("--")[0] for line in (Path(__file__).parents[1] / "views.sql").read_text().splitlines())
for statement in filter(str.strip, text.split(";")):
    context.sql(statement)
sink = Sink(url)
for table in TABLES:
    sink.append(table, context.table(table).to_arrow_table())
sink.commit()
