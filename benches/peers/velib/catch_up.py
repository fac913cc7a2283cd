"""The engine itself, with one worker, each snapshot at a timestamp of its own: so it is where a speed is given."""

import sys

from velib import run

run(*sys.argv[1:], "-p", "speed=1000000000")
