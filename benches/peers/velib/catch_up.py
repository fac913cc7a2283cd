"""The engine itself, with a worker. Its tables are in a schema of the job's name."""

import os
import sys
from pathlib import Path

here, (data, url) = Path(__file__).parent, sys.argv[1:]
velib = os.environ.get("VELIB", here.parents[2] / "target" / "release" / "velib")
options = ["--output", "json", "--once", "--workers", "1", "--database-url", url, "-p", f"feed={data}/*.parquet"]
os.execv(velib, [str(velib), "run", str(here / "views.sql"), *options])
