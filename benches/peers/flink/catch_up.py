"""Flink SQL, on the jars that come with its Python package: a program in Java, as the table API for Python would take
each row of a result through Python. PostgreSQL's driver is Debian's `libpostgresql-jdbc-java`."""

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pyflink

data, url = sys.argv[1:]
here = Path(__file__).parent
classes = Path(sys.prefix) / "classes"
jars = f"{Path(pyflink.__file__).parent}/lib/*:/usr/share/java/postgresql.jar:{classes}"
source, made = here / "Views.java", classes / "Views.class"
if not made.exists() or made.stat().st_mtime < source.stat().st_mtime:
    subprocess.run(["javac", "-cp", jars, "-d", classes, source], check=True)
to = urlsplit(url)
jdbc = f"jdbc:postgresql://{to.hostname}:{to.port}{to.path}?user={to.username}&reWriteBatchedInserts=true"
opens = [f"--add-opens=java.base/java.{package}=ALL-UNNAMED" for package in ("lang", "util", "time")]
logging = f"-Dlog4j.configurationFile={here}/log4j.properties"
command = ["java", "-Xmx1g", *opens, logging, "-cp", jars, "Views", data, jdbc, here / "views.sql"]
os.execvp("java", [str(word) for word in command])
