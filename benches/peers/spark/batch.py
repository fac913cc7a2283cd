"""Spark SQL: views.sql in its dialect. What comes out is small, so that it leaves through the driver, as Arrow."""

import sys
from pathlib import Path

from session import session
from tables import TABLES, Sink

DIALECT = {
    "CREATE TABLE": "CACHE TABLE",
    "CREATE VIEW": "CREATE TEMPORARY VIEW",
    "double precision": "double",
    "isodow": "DAYOFWEEK_ISO",
    "CAST(extract(epoch FROM observed_at) AS double)": "CAST(CAST(observed_at AS timestamp) AS double)",
}

data, url = sys.argv[1:]
spark = session()
spark.read.parquet(f"{data}/part-*.parquet").createTempView("observations")
spark.read.parquet(f"{data}/stations.parquet").createTempView("stations")
text = (Path(__file__).parents[1] / "views.sql").read_text()
for theirs, own in DIALECT.items():
    text = text.replace(theirs, own)
for statement in text.rstrip(";\n").split(";\n"):
    spark.sql(statement)
sink = Sink(url)
for table in TABLES:
    sink.append(table, spark.table(table).toArrow())
sink.commit()
spark.stop()
