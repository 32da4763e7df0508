"""What the peers share: repeating a case, and the command line `PEER.py --threads N [--seconds S] CASE...`.

Prints one JSON line a case: {"case", "threads", "seconds" (median of one run), "best", "runs", "engine", "version"}.
A case this peer has no form of is left out. A case of a whole process (first_step, start_*) runs once and is timed by
whoever started the process.
"""
import argparse
import json
import os
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import BY_NAME  # noqa: E402


NO_FORM = 77  # exit code of a peer that has no form of a case that is a whole process


def repeat(run, seconds, least=5):
  """Seconds of each of at least `least` runs, until `seconds` have passed; two runs before them are not counted."""
  run()
  run()
  taken = []
  end = time.perf_counter() + seconds
  while len(taken) < least or time.perf_counter() < end:
    begin = time.perf_counter()
    run()
    taken.append(time.perf_counter() - begin)
  return taken


def arguments():
  parser = argparse.ArgumentParser()
  parser.add_argument("--threads", type=int, default=1)
  parser.add_argument("--seconds", type=float, default=1.0)
  parser.add_argument("--compile", action="store_true")
  parser.add_argument("cases", nargs="+", choices=list(BY_NAME))
  return parser.parse_args()


def main(engine, version, make, options):
  """`make(name)` returns a function that runs the case once and waits for it, or None."""
  for name in options.cases:
    case, run = BY_NAME[name], make(name)
    if run is None and case.process:
      os._exit(NO_FORM)
    if run is None:
      continue
    if case.process:
      run()
      continue
    taken = [seconds / case.parts for seconds in repeat(run, options.seconds)]
    print(json.dumps({"case": name, "threads": options.threads, "seconds": statistics.median(taken), "best": min(taken),
                      "runs": len(taken), "engine": engine, "version": version}), flush=True)
