"""The engine itself, with one worker, as fast as it goes. Its tables are in a schema of the job's name."""

import sys

from velib import run

run(*sys.argv[1:])
