"""A private PostgreSQL, with the settings that it comes with, for as long as the runner runs."""

import os
import shutil
import socket
import subprocess
from pathlib import Path


def as_postgres(command: list[str]) -> list[str]:
    """PostgreSQL refuses to be root."""
    return ["runuser", "-u", "postgres", "--", *command] if os.getuid() == 0 else command


class Server:
    def __init__(self, folder: Path):
        self.folder, self.data = folder, folder / "data"

    def __enter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self._run("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "--no-instructions")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")
        self.pid = int((self.data / "postmaster.pid").read_text().split()[0])
        return self

    def __exit__(self, *_):
        self._run("pg_ctl", "-D", self.data, "-m", "immediate", "stop")
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments):
        command = as_postgres([str(a) for a in (self.program(program), *arguments)])
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    @staticmethod
    def program(name: str) -> Path:
        return max(Path("/usr/lib/postgresql").glob("*/bin")) / name

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def fresh(self, name: str) -> str:
        """An empty database's address."""
        self.sql(
            "postgres",
            "SET client_min_messages = warning",
            f"DROP DATABASE IF EXISTS {name} WITH (FORCE)",
            f"CREATE DATABASE {name}",
            "CHECKPOINT",
        )
        return self.url(name)

    def sql(self, database: str, *statements: str):
        flags = [flag for statement in statements for flag in ("-c", statement)]
        subprocess.run([self.program("psql"), "-qX", "-v", "ON_ERROR_STOP=1", self.url(database), *flags], check=True)

    def cpu_seconds(self) -> float:
        """Of the server and all that it has started so far."""

        def ticks(pid, first, last):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            return sum(int(field) for field in fields[first:last])

        while True:
            backends = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
            try:
                total = ticks(self.pid, 11, 15) + sum(ticks(pid, 11, 13) for pid in backends)
            except OSError:
                continue  # One has just ended, and is counted with the server from now on.
            return total / os.sysconf("SC_CLK_TCK")
