"""Runs the engine and its peers in turn on the same files, checks that all give the same tables, and writes it down.

Of each peer there is a folder beside this one, with `requirements.txt` (the first line is what it is) and a program
for each kind of run that it knows: `batch.py` or `catch_up.py`, called with the folder of the data and the address of
a database in which the tables of `tables.py` are there and empty.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import report
from server import Server
from tables import TABLES, ddl
from workload import SIZES, generate

RUNNER = Path(__file__).parent
HERE = RUNNER.parent
ROOT = HERE.parents[1]
TARGET = ROOT / "target" / "benches"
KINDS = "batch", "catch_up"


def main():
    peers = sorted({f.parent.name for kind in KINDS for f in HERE.glob(f"*/{kind}.py")})
    parser = argparse.ArgumentParser(prog="benches/run", description="The engine and its peers, side by side.")
    parser.add_argument("--peers", default=",".join(peers), help="which, separated by commas (default: all)")
    parser.add_argument("--kind", choices=[k.replace("_", "-") for k in KINDS], default="batch")
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    if unknown := set(args.peers.split(",")) - set(peers):
        parser.error(f"there is no peer {', '.join(unknown)}; there are {', '.join(peers)}")
    program = args.kind.replace("-", "_") + ".py"
    chosen = [peer for peer in args.peers.split(",") if (HERE / peer / program).exists()]
    for size in {"tiny", args.size}:
        generate(TARGET / "data" / size, SIZES[size])
    results = []
    with Server(TARGET / f"postgres-{os.getpid()}") as server:
        # Each on something small first: it may have to compile, and what does not work fails early.
        for peer in list(chosen):
            warm = run(server, peer, program, "tiny")
            if warm["same"] is not True:
                chosen.remove(peer)
                results.append({**warm, "wall_s": None})
                print(f"{peer} is left out: {warm['same']}", flush=True)
        for _ in range(args.rounds if args.size != "tiny" else 1):
            for peer in chosen:
                result = run(server, peer, program, args.size)
                results.append(result)
                print(peer, *(f"{k}={v:.2f}" for k, v in result.items() if isinstance(v, float)), result["same"])
                sys.stdout.flush()
            if args.size != "tiny":  # which is for checks alone
                report.write(ROOT / "benches" / "results", args.kind, args.size, SIZES[args.size].rows, results)
    sys.exit(any(result["same"] is not True for result in results))


def run(server: Server, peer: str, program: str, size: str) -> dict:
    """One run of one peer in a fresh database."""
    url, data = server.fresh("bench"), TARGET / "data" / size
    server.sql("bench", ddl())
    figures, log = server.folder.with_suffix(".json"), TARGET / f"{peer}.log"
    figures.unlink(missing_ok=True)
    command = [python(peer), HERE / peer / program, data, url]
    before = server.cpu_seconds()
    environment = os.environ | {"PYTHONPATH": str(RUNNER)}
    measured = [sys.executable, RUNNER / "measure.py", figures, log, *command]
    ended = subprocess.run([str(a) for a in measured], check=False, env=environment).returncode == 0
    result = {
        "peer": peer,
        "version": version(peer),
        "date": datetime.date.today().isoformat(),
        "commit": report.output("git", "-C", HERE, "describe", "--always", "--dirty"),
        **(json.loads(figures.read_text()) if figures.exists() else {}),
        "postgres_cpu_s": server.cpu_seconds() - before,
    }
    figures.unlink(missing_ok=True)
    if peer == "postgresql":
        result["cpu_s"] = result.get("cpu_s", 0) + result["postgres_cpu_s"]
    result["same"] = check(url, size) if ended else f"it failed: {last_line(log)}"
    return result


def check(url: str, size: str) -> bool | str:
    """Whether all tables are those that DuckDB makes of views.sql; if not, which is not and where."""
    import adbc_driver_postgresql.dbapi
    import numpy as np

    with adbc_driver_postgresql.dbapi.connect(url) as connection, connection.cursor() as cursor:
        # An engine with schemas of its own has its tables there.
        cursor.execute("SET search_path = views, public")
        cursor.execute("SET TIME ZONE 'UTC'")
        for name, wanted in reference(size).items():
            columns = ", ".join(f"CAST({c} AS {t})" for c, t in TABLES[name].types)
            cursor.execute(f"SELECT {columns} FROM {name}")
            given = cursor.fetch_arrow_table().rename_columns(wanted.schema.names).cast(wanted.schema)
            given = given.sort_by([(key, "ascending") for key in TABLES[name].keys])
            if given.num_rows != wanted.num_rows:
                return f"{name} has {given.num_rows} rows, not {wanted.num_rows}"
            for column in wanted.schema.names:
                a, b = given[column], wanted[column]
                if str(b.type) == "double":
                    a, b = (c.to_numpy(zero_copy_only=False) for c in (a, b))
                    same = np.isclose(a, b, rtol=1e-9, atol=1e-6, equal_nan=True).all()
                else:
                    same = a.equals(b)
                if not same:
                    return f"{name}.{column} differs"
    return True


def reference(size: str) -> dict:
    """The tables as they should be, kept beside the data."""
    import duckdb
    import pyarrow.parquet as pq

    data = TARGET / "data" / size
    folder = data / "reference"
    if not folder.exists():
        connection = duckdb.connect()
        for table, files in (("observations", "part-*"), ("stations", "stations")):
            connection.execute(f"CREATE VIEW {table} AS FROM '{data}/{files}.parquet'")
        connection.execute((HERE / "views.sql").read_text())
        made = {name: connection.sql(f"FROM {name} ORDER BY {t.key}").to_arrow_table() for name, t in TABLES.items()}
        folder.mkdir()
        for name, table in made.items():
            pq.write_table(table.cast(TABLES[name].schema), folder / f"{name}.parquet")
    return {name: pq.read_table(folder / f"{name}.parquet") for name in TABLES}


def python(peer: str) -> Path:
    """The interpreter of the peer's own environment, which is made when it is first asked for."""
    requirements = HERE / peer / "requirements.txt"
    if not requirements.exists():
        return Path(sys.executable)
    venv = TARGET / "venvs" / peer
    made = venv / "requirements.txt"
    if not made.exists() or made.read_text() != requirements.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "-q", "-r", requirements], check=True)
        made.write_text(requirements.read_text())
    return venv / "bin" / "python"


def version(peer: str) -> str:
    requirements = HERE / peer / "requirements.txt"
    if requirements.exists():
        return requirements.read_text().splitlines()[0].split("==")[1]
    programs = {"postgresql": Server.program("psql"), "velib": os.environ.get("VELIB", ROOT / "target/release/velib")}
    return re.search(r"\d+(\.\d+)+|$", report.output(programs[peer], "--version"))[0]


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1][:200] if lines else "it said nothing"


main()
