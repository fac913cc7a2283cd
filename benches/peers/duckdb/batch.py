"""DuckDB: views.sql as it is. Its own extension for PostgreSQL is no package, so that tables leave as Arrow."""

import sys
from pathlib import Path

import duckdb
from tables import TABLES, Sink

data, url = sys.argv[1:]
connection = duckdb.connect()
connection.execute(f"CREATE VIEW observations AS FROM '{data}/part-*.parquet'")
connection.execute(f"CREATE VIEW stations AS FROM '{data}/stations.parquet'")
connection.execute((Path(__file__).parents[1] / "views.sql").read_text())
sink = Sink(url)
for table in TABLES:
    sink.append(table, connection.sql(f"FROM {table}").to_arrow_table())
sink.commit()
