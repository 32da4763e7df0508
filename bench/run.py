#!/usr/bin/env python3
"""Measures Kontor, its peers and the machine's limits in one run, in alternation, and writes the tables of RESULTS.md.

Each measurement is a process of its own, pinned to as many cores as it has threads; in each round every engine has its
turn at every case, in an order that rotates, so that a slow minute of the machine meets them all. Figures are medians
over the rounds of the medians that the processes print. Peers need `bench/peers/setup`, once.
"""
import argparse
import collections
import datetime
import json
import os
import pathlib
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

from cases import BY_NAME, CASES

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-bench/bin/python"
RESULTS = ROOT / "bench/RESULTS.md"
BEGIN, END = "<!-- bench/run.py: begin -->", "<!-- bench/run.py: end -->"
TIMEOUT = 900  # seconds for one process
NO_FORM = 77  # exit code of an engine that has no form of the case
CORES = sorted(os.sched_getaffinity(0))


def commands(build):
  """The command of each engine, to which threads, seconds and a case are added."""
  peer = lambda name, *more: [str(PYTHON), str(ROOT / f"bench/peers/{name}_cases.py"), *more]  # noqa: E731
  return {
      "kontor": [str(build / "tools/kontor"), "bench", "--json"],
      "torch": peer("torch"),
      "torch-compile": peer("torch", "--compile"),
      "tinygrad": peer("tinygrad"),
      "numpy": peer("numpy"),
  }


def environment(caches, threads):
  """The caller's, with every engine's caches in one folder and its threads limited."""
  env = dict(os.environ, KONTOR_CACHE_DIR=f"{caches}/kontor", TORCHINDUCTOR_CACHE_DIR=f"{caches}/torch",
             CACHEDB=f"{caches}/tinygrad.db", XDG_CACHE_HOME=caches, TMPDIR=caches)
  for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    env[variable] = str(threads)
  return env


def start(command, threads, caches):
  """Runs a process on the first `threads` cores: (seconds, stdout); seconds is None if it has no form of the case."""
  begin = time.perf_counter()
  done = subprocess.run(command, env=environment(caches, threads), capture_output=True, text=True, timeout=TIMEOUT,
                        preexec_fn=lambda: os.sched_setaffinity(0, CORES[:threads]), check=False)
  seconds = time.perf_counter() - begin
  if done.returncode == NO_FORM:
    return None, ""
  if done.returncode != 0:
    raise RuntimeError(f"exit code {done.returncode}: {(done.stderr.strip().splitlines() or [''])[-1]}")
  return seconds, done.stdout


def measure(command, case, threads, seconds, caches):
  """One measurement: seconds of one run, or None if the engine has no form of the case."""
  command = [*command, "--threads", str(threads), "--seconds", str(seconds), case.name]
  if case.process:
    with tempfile.TemporaryDirectory() as empty:
      if case.name == "start_warm":
        start(command, threads, empty)
      return start(command, threads, empty)[0]
  lines = [json.loads(line) for line in start(command, threads, caches)[1].splitlines() if line.startswith("{")]
  return next((line["seconds"] for line in lines if line["case"] == case.name), None)


class Run:
  """All measurements of one call of this program."""

  def __init__(self, options):
    self.options = options
    self.commands = {name: command for name, command in commands(options.build).items() if name in options.engines}
    self.samples = collections.defaultdict(list)  # (case, threads, engine) -> seconds
    self.limits = collections.defaultdict(list)  # (limit, threads) -> value
    self.errors = {}

  def limit(self, threads):
    out = subprocess.run([self.options.build / "bench/machine-limits", str(threads)], capture_output=True, text=True,
                         check=True).stdout
    for line in map(json.loads, out.splitlines()):
      self.limits[line["limit"], threads].append(line["value"])

  def turn(self, engine, case, threads, caches):
    key = case.name, threads, engine
    if key in self.errors:
      return
    try:
      seconds = measure(self.commands[engine], case, threads, self.options.seconds, caches)
      if seconds is not None:
        self.samples[key].append(seconds)
        print(f"  {engine:14} {case.name:12} {threads} threads  {seconds:.6g} s", file=sys.stderr)
    except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
      self.errors[key] = str(error)
      print(f"  {engine:14} {case.name:12} {threads} threads  failed: {error}", file=sys.stderr)

  def all(self):
    engines = list(self.commands)
    with tempfile.TemporaryDirectory() as caches:
      for number in range(self.options.rounds):
        print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr)
        for threads in self.options.threads:
          self.limit(threads)
          for case in self.options.cases:
            turns = number % len(engines)
            for engine in engines[turns:] + engines[:turns]:
              self.turn(engine, case, threads, caches)

  def median(self, case, threads, engine):
    seconds = self.samples.get((case.name, threads, engine))
    return statistics.median(seconds) if seconds else None

  def limit_of(self, limit, threads):
    return statistics.median(self.limits[limit, threads])


def seconds_text(seconds):
  if seconds is None:
    return "–"
  for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
    if seconds * scale >= 1:
      return f"{seconds * scale:.3g} {unit}"
  return f"{seconds * 1e9:.3g} ns"


def share_of_limit(run, case, threads, seconds):
  """'63 % of copy', or '–'."""
  if not case.limit or not seconds:
    return "–"
  work = case.flops if case.limit == "fma_f32" else case.bytes
  return f"{100 * work / seconds / run.limit_of(case.limit, threads):.0f} % of {case.limit}"


def rows(run):
  engines = list(run.commands)
  peers = [engine for engine in engines if engine != "kontor"]
  yield ["case", "threads", *engines, "of limit", *(f"vs {peer}" for peer in peers)]
  for case in run.options.cases:
    for threads in run.options.threads:
      seconds = {engine: run.median(case, threads, engine) for engine in engines}
      own = seconds.get("kontor")
      first = own or next((s for s in seconds.values() if s), None)
      if first is None:
        continue
      of_limit = share_of_limit(run, case, threads, first) if own else "–"
      ratios = [f"{seconds[peer] / own:.2f} ×" if own and seconds[peer] else "–" for peer in peers]
      yield [case.name, str(threads), *(seconds_text(seconds[engine]) for engine in engines), of_limit, *ratios]


def table(lines):
  lines = list(lines)
  return "\n".join(["| " + " | ".join(lines[0]) + " |", "|" + "---|" * len(lines[0])] +
                   ["| " + " | ".join(line) + " |" for line in lines[1:]])


def machine():
  """One line of facts: processor, cores, memory, system, what else was running."""
  info = pathlib.Path("/proc/cpuinfo").read_text()
  models = [line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")]
  memory = next(int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
                if line.startswith("MemTotal"))
  return (f"{(models or [platform.machine()])[0]}, {len(CORES)} cores, {memory / 2**20:.0f} GiB, "
          f"{platform.system()} {platform.release()}, load {os.getloadavg()[0]:.1f} at the end")


def versions():
  if not PYTHON.exists():
    return "no peers installed"
  text = ("import importlib.metadata as m; "
          "print(', '.join(n + ' ' + m.version(n) for n in ('numpy', 'torch', 'tinygrad')))")
  return subprocess.run([PYTHON, "-c", text], capture_output=True, text=True, check=True).stdout.strip()


def report(run):
  revision = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True,
                            check=False).stdout.strip()
  limits = [["limit", *(f"{threads} thread{'s' if threads > 1 else ''}" for threads in run.options.threads)]]
  for limit, unit, scale in (("fma_f32", "GFLOP/s", 1e9), ("read", "GB/s", 1e9), ("copy", "GB/s", 1e9)):
    limits.append([f"{limit} [{unit}]", *(f"{run.limit_of(limit, t) / scale:.1f}" for t in run.options.threads)])
  missing = [f"- {engine}, {case}, {threads} threads: {error}" for (case, threads, engine), error in run.errors.items()]
  what = [["case", "what is timed"], *([case.name, case.what] for case in run.options.cases)]
  return "\n\n".join([
      f"Made by `{shlex.join(['bench/run.py', *sys.argv[1:]])}` on {datetime.date.today()}, revision {revision}.",
      f"Machine: {machine()}. Peers: {versions()}. {run.options.rounds} rounds.",
      table(limits),
      "`vs X`: how many times as fast as X Kontor is. `of limit`: Kontor's FLOPs or bytes a second by the limit's.",
      table(rows(run)),
      *(["Failed:\n" + "\n".join(missing)] if missing else []),
      table(what),
  ])


def write(text):
  """Puts the text between the marks of RESULTS.md; what stands around them is kept."""
  old = RESULTS.read_text() if RESULTS.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
  head, rest = old.split(BEGIN, 1)
  RESULTS.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


def options():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  names = list(commands(pathlib.Path()))
  parser.add_argument("--engines", type=lambda text: text.split(","), default=names, help=f"of {','.join(names)}")
  parser.add_argument("--threads", type=lambda text: [int(n) for n in text.split(",")], default=[1, min(2, len(CORES))])
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--seconds", type=float, default=1.0, help="that a process repeats a case for")
  parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), default=ROOT / "build")
  parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md")
  parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {' '.join(BY_NAME)}; default all")
  chosen = parser.parse_args()
  for name in chosen.cases:
    if name not in BY_NAME:
      parser.error(f"unknown case {name}; known: {' '.join(BY_NAME)}")
  for engine in chosen.engines:
    if engine not in names:
      parser.error(f"unknown engine {engine}; known: {' '.join(names)}")
  chosen.threads = sorted(set(chosen.threads))
  if max(chosen.threads) > len(CORES):
    parser.error(f"{max(chosen.threads)} threads on {len(CORES)} cores")
  chosen.cases = [BY_NAME[name] for name in chosen.cases] or CASES
  return chosen


def main():
  chosen = options()
  if any(engine != "kontor" for engine in chosen.engines) and not PYTHON.exists():
    sys.exit(f"{PYTHON} is missing; run bench/peers/setup, or choose --engines kontor")
  if "kontor" in chosen.engines and not (chosen.build / "tools/kontor").exists():
    sys.exit(f"{chosen.build}/tools/kontor is missing; build it (./kontor --version), or name it by --build DIR")
  subprocess.run(["ninja", "-C", chosen.build, "bench/machine-limits"], check=True, stdout=subprocess.DEVNULL)
  run = Run(chosen)
  run.all()
  text = report(run)
  print(text)
  if chosen.write:
    write(text)


if __name__ == "__main__":
  main()
