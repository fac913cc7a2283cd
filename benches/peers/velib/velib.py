"""Becomes the binary: that of a release build, or what VELIB names."""

import os
import sys
from pathlib import Path


def run(data: str, url: str, *more: str):
    here = Path(__file__).parent
    velib = os.environ.get("VELIB", here.parents[2] / "target" / "release" / "velib")
    if not Path(velib).exists():
        sys.exit(f"there is no {velib}; build it (cargo build --release), or say where it is: VELIB=…")
    options = ["--output", "json", "--once", "--workers", "1", "--database-url", url, "-p", f"feed={data}/*.parquet"]
    os.execv(velib, [str(velib), "run", str(here / "views.sql"), *options, *more])
