"""What the peers share: repeating a case, and the command line `PEER.py --threads N [--seconds S] CASE... | -`.

`-` reads names of cases from standard input, one a line. Prints one JSON line a case: {"case", "threads", "value" (median
seconds of one run), "best", "mean", "runs"}; "value" is null for a case that this peer has no form of, and "error" says
what went wrong. A case that is a whole process runs once and is timed by whoever started the process.
"""
import argparse
import dataclasses
import json
import os
import pathlib
import statistics
import sys
import time
import typing

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
from cases import BY_NAME  # noqa: E402


def repeat(run, seconds, least=3):
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
  parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
  parser.add_argument("cases", nargs="+", choices=["-", *BY_NAME])
  return parser.parse_args()


@dataclasses.dataclass
class Measured:
  """A function that returns the figures of its case, instead of being timed."""
  figures: typing.Callable


def figures(case, run, seconds):
  """What the case's line says beside its name."""
  if run is None:
    return {"value": None}
  if isinstance(run, Measured):
    return run.figures()
  if case.kind == "process":
    run()
    return {"value": 0}
  taken = [taken / (64 if case.name == "replay_64" else 1) for taken in repeat(run, seconds)]
  return {"value": statistics.median(taken), "best": min(taken), "mean": statistics.fmean(taken), "runs": len(taken)}


def main(make, options):
  """`make(name)` returns a function that runs the case once and waits for it (or measures it: Measured), or None."""
  serving = options.cases == ["-"]
  for name in (line.strip() for line in sys.stdin) if serving else options.cases:
    try:
      found = figures(BY_NAME[name], make(name), options.seconds)
    except Exception as error:  # the next case may still run
      found = {"error": f"{type(error).__name__}: {error}"[:300]}
    print(json.dumps({"case": name, "threads": options.threads, **found}), flush=True)
  os._exit(0)  # no peer's teardown is timed or waited for
