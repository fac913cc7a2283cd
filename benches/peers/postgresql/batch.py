"""PostgreSQL itself, views.sql as it is: right by definition, and so a check of the check. Its work is its own."""

import sys
from pathlib import Path

import adbc_driver_postgresql.dbapi
import pyarrow.parquet as pq
from tables import TABLES

data, url = Path(sys.argv[1]), sys.argv[2]
with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
    cursor.adbc_ingest("stations", pq.read_table(data / "stations.parquet"))
    for part in sorted(data.glob("part-*.parquet")):
        cursor.adbc_ingest("observations", pq.read_table(part), mode="create_append")
    cursor.execute("CREATE INDEX ON observations (observed_at)")
    cursor.execute("CREATE SCHEMA work")
    cursor.execute("SET search_path = work, public")
    for statement in (Path(__file__).parents[1] / "views.sql").read_text().rstrip(";\n").split(";\n"):
        cursor.execute(statement)
    cursor.execute("ANALYZE")
    for name, table in TABLES.items():
        columns = ", ".join(table.schema.names)
        cursor.execute(f"INSERT INTO public.{name} ({columns}) SELECT {columns} FROM work.{name}")
    connection.commit()
