"""Results, for programs (JSON) and for people (a table and a plot).

The JSON is what is kept: runs of a peer replace those that it had, and table and plot are made of all that is there.
"""

import json
import os
import re
import subprocess
from pathlib import Path
from statistics import median


def output(*command) -> str:
    try:
        return (
            subprocess.run([str(a) for a in command], check=False, capture_output=True, text=True).stdout.strip() or "?"
        )
    except OSError:
        return "?"


COLUMNS = (
    "peer, version, wall s, CPU s, rows per CPU s, peak MB, PostgreSQL CPU s, same tables, rounds, date and commit"
)


def machine() -> str:
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{cpu[1] if cpu else 'unknown processor'} × {os.cpu_count()}, {memory:.0f} GiB"


def write(folder: Path, kind: str, size: str, rows: int, runs: list[dict]):
    folder.mkdir(exist_ok=True)
    path = folder / f"{kind}-{size}"
    kept = json.loads(path.with_suffix(".json").read_text())["runs"] if path.with_suffix(".json").exists() else []
    new = {run["peer"] for run in runs}
    runs = [run for run in kept if run["peer"] not in new] + [run | {"machine": machine()} for run in runs]
    everything = {"kind": kind, "size": size, "rows": rows, "runs": runs}
    path.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n")
    peers = summary(rows, runs)
    path.with_suffix(".md").write_text(table(kind, size, rows, peers))
    plot(path.with_suffix(".svg"), kind, size, peers)


def summary(rows: int, runs: list[dict]) -> list[dict]:
    """A peer with the median of its runs, the fewest CPU seconds first; those that failed at the end."""
    peers = []
    for peer in {run["peer"]: None for run in runs}:
        its = [run for run in runs if run["peer"] == peer]
        wrong = [run["same"] for run in its if run["same"] is not True]
        row = its[-1] | {"rounds": len(its), "same": wrong[0] if wrong else True}
        if all(run.get("wall_s") for run in its):
            row |= {k: median(run[k] for run in its) for k in ("wall_s", "cpu_s", "peak_mb", "postgres_cpu_s")}
            row["rate"] = rows / row["cpu_s"]
        peers.append(row)
    return sorted(peers, key=lambda row: -row.get("rate", 0))


def table(kind: str, size: str, rows: int, peers: list[dict]) -> str:
    lines = [
        f"# {kind}, {size}: {rows:,} observations",
        "",
        f"Medians, of the peer and all that it starts; PostgreSQL's work is beside. [Plot]({kind}-{size}.svg).",
        "",
        f"| {COLUMNS.replace(', ', ' | ')} |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|---|",
    ]
    for p in peers:
        figures = "| | | | |"
        if "rate" in p:
            figures = f"| {p['wall_s']:.1f} | {p['cpu_s']:.2f} | {p['rate']:,.0f} "
            figures += f"| {p['peak_mb']:.0f} | {p['postgres_cpu_s']:.1f}"
        same = "yes" if p["same"] is True else p["same"]
        lines.append(
            f"| {p['peer']} | {p['version']} {figures} | {same} | {p['rounds']} | {p['date']}, {p['commit']} |"
        )
    machines = "; ".join({p["machine"]: None for p in peers})
    return "\n".join([*lines, "", f"Machine: {machines}.", ""])


def plot(path: Path, kind: str, size: str, peers: list[dict]):
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "velib", "font.size": 9, "axes.spines.top": False}
    import matplotlib.pyplot as plt

    peers = [p for p in reversed(peers) if "rate" in p]
    figure, axes = plt.subplots(1, 3, figsize=(10, 0.6 + 0.35 * len(peers)), sharey=True, layout="constrained")
    panels = ("rate", "observations per CPU second"), ("wall_s", "seconds in all"), ("peak_mb", "MB at most")
    for axis, (key, label) in zip(axes, panels):
        values = [p[key] for p in peers]
        colours = ["#0a7d5a" if p["peer"] == "velib" else "#a9b8c3" for p in peers]
        bars = axis.barh([p["peer"] for p in peers], values, color=colours)
        axis.bar_label(bars, [f"{v:,.0f}" if v >= 10 else f"{v:.1f}" for v in values], padding=3)
        axis.set(xscale="log", xlabel=label, xlim=(min(values, default=1) / 2, max(values, default=1) * 8))
        axis.spines["right"].set_visible(False)
    figure.suptitle(f"{kind}, {size}")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
