#!/usr/bin/env python3
"""Measures Kontor, its peers and the machine's limits in one run, in alternation, and writes the tables of RESULTS.md.

In each round every engine has its turn at every case, in an order that rotates, each pinned to as many cores as it has
threads; the limit that a case is held against is measured right before. Figures are medians over the rounds of what the
engines print (medians of their runs). Peers need `bench/peers/setup`, once. The whole run wants an otherwise idle machine.
"""
import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time

from cases import BY_NAME, CASES, GROUP_NAMES, USUAL
from engines import CORES, LIMITS, PYTHON, ROOT, Runner, engines, limits_engine
from report import Figures, Sample, sections, summary, value_text

RESULTS = ROOT / "bench/RESULTS.md"
BEGIN, END = "<!-- bench/run.py: begin -->", "<!-- bench/run.py: end -->"
SLOW = 15  # seconds: a turn that took longer is not repeated in later rounds
BUSY = 0.15  # of a core: more than that by others is a loaded machine


class Load:
  """What the machine did since this was made, and how much of it was ours."""

  def __init__(self):
    self.begin, self.busy_before, self.own_before = time.monotonic(), *self.now()

  @staticmethod
  def now():
    """CPU seconds of all cores that were not idle, and of this process and its ended children."""
    fields = [int(n) for n in pathlib.Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = fields[3] + fields[4]
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), sum(u.ru_utime + u.ru_stime for u in usage)

  def others(self):
    """Cores that others kept busy, on average."""
    busy, own = self.now()
    return max(0.0, busy - self.busy_before - (own - self.own_before)) / max(time.monotonic() - self.begin, 1e-9)


def load_now(seconds=1.0):
  load = Load()
  time.sleep(seconds)
  return load.others()


class Run:
  """All measurements of one call of this program."""

  def __init__(self, options):
    self.options = options
    self.engines = [engine for name, engine in engines(options.build).items() if name in options.engines]
    self.figures = Figures()
    self.slow = set()

  def limit(self, runner, case, threads):
    if not case.limit:
      return None
    found = runner.served(limits_engine(self.options.build), case.limit, threads)["value"]
    self.figures.limits[case.limit, threads].append(found)
    return found

  def turn(self, runner, engine, case, threads, limit):
    key = case.name, threads, engine.name
    if key in self.figures.errors or key in self.slow:
      return
    begin = time.monotonic()
    try:
      found = runner.measure(engine, case, threads)
    except (RuntimeError, OSError, ValueError) as error:
      self.figures.errors[key] = str(error)
      print(f"  {engine.name:14} {case.name:14} {threads} threads  failed: {error}", file=sys.stderr)
      return
    if time.monotonic() - begin > SLOW:
      self.slow.add(key)
    value = found.get(case.statistic, found["value"])
    if value is not None:
      self.figures.samples[key].append(Sample(value, limit if engine.name == "kontor" else None))
      print(f"  {engine.name:14} {case.name:14} {threads} threads  {value_text(value, case.unit)}", file=sys.stderr)

  def all(self):
    with tempfile.TemporaryDirectory() as caches:
      runner = Runner(self.options.build, self.options.seconds, caches)
      try:
        for number in range(self.options.rounds):
          self.round(runner, number)
      finally:
        runner.close()

  def round(self, runner, number):
    print(f"round {number + 1} of {self.options.rounds}", file=sys.stderr)
    if self.engines[0].name == "kontor":
      for threads in self.options.threads:  # a limit that no case is held against
        found = runner.served(limits_engine(self.options.build), "copy_stream", threads)["value"]
        if found:
          self.figures.limits["copy_stream", threads].append(found)
    turns = number % len(self.engines)
    for case in self.options.cases:
      for threads in case.threads or self.options.threads:
        limit = self.limit(runner, case, threads)
        for engine in self.engines[turns:] + self.engines[:turns]:
          self.turn(runner, engine, case, threads, limit)


# --- What is written beside the figures -------------------------------------------------------------------------------


def machine():
  """Processor, cores, memory, system."""
  facts = {}
  for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
    name, _, value = line.partition(":")
    facts.setdefault(name.strip(), value.strip())
  memory = next(int(line.split()[1]) for line in pathlib.Path("/proc/meminfo").read_text().splitlines()
                if line.startswith("MemTotal"))
  model = facts.get("model name", platform.machine())
  family = f" (family {facts['cpu family']}, model {facts['model']})" if "cpu family" in facts else ""
  return f"{model}{family}, {len(CORES)} cores, {memory / 2**20:.0f} GiB, {platform.system()} {platform.release()}"


def output_of(*command):
  if not shutil.which(command[0]):
    return ""
  done = subprocess.run(command, capture_output=True, text=True, check=False)
  return done.stdout.strip() if done.returncode == 0 else ""


def versions(build):
  """Compiler and LLVM of this build, and the peers installed."""
  own = output_of(build / "tools/kontor", "--version")
  names = [line.split("==")[0] for line in (ROOT / "bench/peers/requirements.txt").read_text().splitlines() if "==" in line]
  peers = []
  if PYTHON.exists():
    folder = next((ROOT / ".venv-bench/lib").glob("python3*/site-packages"))
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions(path=[str(folder)])}
    peers = [f"{name} {found[name]}" for name in names if name in found]
  return f"{own or 'no kontor'}. Peers: {', '.join(peers) or 'none installed'}."


def report(run, load, seconds):
  options = run.options
  revision = output_of("git", "-C", ROOT, "describe", "--always", "--dirty") or "unknown"
  head = [
      f"Made by `{shlex.join(['bench/run.py', *sys.argv[1:]])}` on {datetime.date.today()}, revision {revision}, "
      f"{options.rounds} rounds in {seconds / 60:.0f} min.",
      f"Machine: {machine()}; other processes and the host kept {load:.2f} of its cores busy meanwhile. "
      f"{versions(options.build)}",
  ]
  names = [engine.name for engine in run.engines]
  return "\n\n".join([*head, *sections(run.figures, options.cases, options.threads, names)])


def write(text):
  """Puts the text between the marks of RESULTS.md; what stands around them is kept."""
  old = RESULTS.read_text() if RESULTS.exists() else f"# Results\n\n{BEGIN}\n{END}\n"
  head, rest = old.split(BEGIN, 1)
  RESULTS.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END, 1)[1]}")


# --- The command line -------------------------------------------------------------------------------------------------


def chosen_cases(text, parser):
  names = text.split(",")
  for name in names:
    if name not in BY_NAME and name not in GROUP_NAMES:
      parser.error(f"no case or group {name}; groups: {', '.join(GROUP_NAMES)}; cases: {', '.join(BY_NAME)}")
  return [case for case in CASES if case.name in names or case.group in names]


def options():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  names = list(engines(pathlib.Path()))
  parser.add_argument("--cases", help=f"names, or groups ({', '.join(GROUP_NAMES)}); default all but large")
  parser.add_argument("--engines", default=",".join(names), help=f"of {','.join(names)}; default all that are here")
  parser.add_argument("--threads", type=lambda text: sorted({int(n) for n in text.split(",")}),
                      default=sorted({1, min(2, len(CORES))}))
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--seconds", type=float, default=0.3, help="that a case is repeated for, each time")
  parser.add_argument("--build", type=lambda text: pathlib.Path(text).resolve(), default=ROOT / "build")
  parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md")
  parser.add_argument("--json", type=pathlib.Path, help="write all samples to this file")
  parser.add_argument("--loaded", action="store_true", help="measure although the machine is busy")
  found = parser.parse_args()
  found.engines = found.engines.split(",")
  for engine in found.engines:
    if engine not in names:
      parser.error(f"no engine {engine}; there are {', '.join(names)}")
  if found.threads[0] < 1 or found.threads[-1] > len(CORES):
    parser.error(f"--threads {found.threads} on {len(CORES)} cores")
  found.cases = chosen_cases(found.cases, parser) if found.cases else USUAL
  return found


def prepare(chosen):
  """Builds what only the benchmark wants; leaves out engines that are not here."""
  if not (chosen.build / "build.ninja").exists():
    sys.exit(f"{chosen.build} is no build; run ./kontor --version, or name one by --build DIR")
  if not shutil.which("ninja"):
    sys.exit("bench: no ninja here (Debian: ninja-build)")
  done = subprocess.run(["ninja", "-C", chosen.build, "tools/kontor", "bench/machine-limits", "bench/embed"], capture_output=True,
                        text=True)
  if done.returncode != 0:
    sys.exit(f"bench: {chosen.build} does not build:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
  present = engines(chosen.build)
  for name in list(chosen.engines):
    if not present[name].needs.exists():
      print(f"bench: no {name}: {present[name].needs} is missing", file=sys.stderr)
      chosen.engines.remove(name)
  if not chosen.engines:
    sys.exit("bench: none of these engines is here; peers come with bench/peers/setup")
  busy = load_now()
  if busy > BUSY:
    print(f"bench: others keep {busy:.2f} cores busy", file=sys.stderr)
    if not chosen.loaded:
      sys.exit("bench: figures of a loaded machine mean nothing; wait, or say --loaded to measure all the same")


def main():
  chosen = options()
  prepare(chosen)
  run, load, begin = Run(chosen), Load(), time.monotonic()
  run.all()
  text = report(run, load.others(), time.monotonic() - begin)
  print(text)
  if chosen.json:
    chosen.json.write_text(json.dumps({"machine": machine(), "versions": versions(chosen.build), **run.figures.as_json()},
                                      indent=1))
  if chosen.write:
    write(text)
  print(f"bench: {summary(run.figures)}", file=sys.stderr)


if __name__ == "__main__":
  main()
