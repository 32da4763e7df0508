#!/usr/bin/env python3
"""kontor swarm and kontor ledger as a user meets them: a simulation, processes that are killed, and errors that say what is wrong."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

KONTOR = os.environ["KONTOR"]
SMALL = ["--workers", "6", "--slots", "16", "--samples", "8"]


def kontor(*words):
  done = subprocess.run([KONTOR, *map(str, words)], capture_output=True, text=True, timeout=300)
  return done.returncode, done.stdout, done.stderr


def value(text, name):
  return re.search(rf"^ +{name} +(\S+)", text, re.MULTILINE).group(1)


def report(name, wrong):
  print(f"PASSED: {name}" if not wrong else f"FAILED: {name}: " + str(wrong).replace("\n", "\n  "), flush=True)


def simulation(folder):
  out = folder / "sim"
  code, text, error = kontor("swarm", "sim", *SMALL, "--steps", "20", "--lag", "2", "--out", out)
  if code or not all((out / f).stat().st_size for f in ("ledger.kontor", "metrics.csv", "curve.svg", "curve.png")):
    return error or "a file is missing"
  for verb in ("verify", "replay"):
    code, again, error = kontor("ledger", verb, out / "ledger.kontor")
    if code or value(again, "state") != value(text, "state") or value(again, "head") != value(text, "head"):
      return f"{verb}: {again}{error}"
  code, forked, error = kontor("ledger", "fork", out / "ledger.kontor", out / "fork", "--step", "5", "--without", "1,2")
  code, again, error = kontor("ledger", "replay", out / "fork")
  return None if value(again, "state") == value(forked, "state") != value(text, "state") else f"fork: {again}{error}"


def mistakes(folder):
  ledger = folder / "sim/ledger.kontor"
  rows = [
      (("ledger", "verify", folder / "none"), "cannot open the ledger: No such file"),
      (("ledger", "verify", __file__), "cannot read the ledger"),
      (("ledger", "verify", ledger, "--head", "00"), "its head is"),
      (("ledger", "show", ledger, "--step", "20"), "step 20: there is no record"),
      (("ledger", "fork", ledger, ledger, "--step", "1"), "File exists"),
      (("swarm", "sim", "--model", "none", "--out", folder / "x"), "no model 'none'; there are: mnist-small"),
      (("swarm", "sim", "--attack", "none", "--out", folder / "x"), "no attack 'none'; there are: mirror"),
      (("swarm", "sim", "--plan", "none", "--out", folder / "x"), "plan is \"none\", not low-rank or full"),
      (("swarm", "join", folder / "none", "--workers", "0"), "manifest.json"),
      *((("swarm", "init", "--out", folder / "unmade", *words), expected) for words, expected in (
          (("--width", "2"), "width is 2, not 1, 8 or 24"),
          (("--sigma", "1e-10"), "sigma is 1e-10, not a number from"),
          (("--lr", "1e7"), "lr is 10000000.0, not a number from"),
          (("--plan", "none"), "plan is \"none\", not low-rank or full"),
          (("--flip", "0.1", "--width", "8"), "flip is 0.1, which is for width 1, not 8"),
          (("--slots", "64", "--quorum", "63"), "quorum is 63, less than the 64 slots"),
          (("--workers", "100000", "--slots", "200"), "100000 workers of 200 slots are too many"),
      )),
  ]
  wrong = []
  for words, expected in rows:
    code, text, error = kontor(*words)
    if code == 0 or expected not in error:
      wrong.append(f"{words}: {code} {error.strip()}")
  if (folder / "unmade").exists():
    wrong.append("keys of a run that nobody could join")
  return "\n  ".join(wrong)


def interrupted(folder):
  """A signal before the first step: the program leaves with the signal's code, and writes no curve of nothing."""
  out = folder / "early"
  words = [KONTOR, "swarm", "sim", "--workers", "60000", "--samples", "1", "--steps", "3", "--out", str(out)]
  process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
  end = time.monotonic() + 60
  while not out.exists() and time.monotonic() < end:
    time.sleep(0.01)
  process.send_signal(signal.SIGINT)  # while keys are made
  error = process.communicate(timeout=240)[1]
  if process.returncode != 130 or (out / "metrics.csv").exists():
    return f"{process.returncode} {error} {sorted(f.name for f in out.iterdir())}"
  return None


def full_disk(folder):
  """D9: where a file cannot grow any more the error names it, and what was written holds."""
  out = folder / "full"
  words = [KONTOR, "swarm", "sim", *SMALL, "--steps", "5000", "--test-every", "0", "--out", str(out)]
  done = subprocess.run(["bash", "-c", 'ulimit -f 128; exec "$@"', "bash", *words], capture_output=True, text=True, timeout=300)
  if done.returncode != 1 or "ledger.kontor: cannot" not in done.stderr:
    return f"{done.returncode} {done.stderr}"
  code, text, error = kontor("ledger", "replay", out / "ledger.kontor")
  return None if code == 0 and int(value(text, "steps")) > 10 else text + error


class Node:
  """A process of a run, whose output goes to a file."""

  def __init__(self, folder, *words):
    self.log = folder / f"{words[0]}-{time.monotonic_ns()}.log"
    self.process = subprocess.Popen([KONTOR, "swarm", *map(str, words)], stdout=self.log.open("w"), stderr=subprocess.STDOUT)

  def kill(self):
    self.process.send_signal(signal.SIGKILL)
    self.process.wait()

  def end(self):
    try:
      self.process.wait(timeout=240)
    except subprocess.TimeoutExpired:
      self.kill()
    return self.process.returncode, self.log.read_text()


def records(run):
  code, text, _ = kontor("ledger", "show", run / "ledger.kontor")
  return int(value(text, "records")) if code == 0 else -1


def wait_for(run, count):
  end = time.monotonic() + 200
  while records(run) < count and time.monotonic() < end:
    time.sleep(0.05)


def killed(folder):
  """D8 and D9 for processes of one machine: a host and the sequencer are killed; nothing that was written is lost, all come to one head."""
  run = folder / "run"
  code, _, error = kontor("swarm", "init", "--out", run, *SMALL, "--steps", "60", "--deadline", "300")
  if code:
    return error
  mode = (run / "keys/sequencer").stat().st_mode & 0o777
  if mode != 0o600:
    return f"a key with mode {mode:o}"
  sequencer = Node(folder, "run", run)
  hosts = [Node(folder, "join", run, "--workers", w) for w in ("0,1", "2,3", "4,5")]
  wait_for(run, 10)
  hosts[0].kill()  # its workers are absent from now on
  wait_for(run, 15)
  sequencer.kill()
  kept = records(run)
  sequencer = Node(folder, "run", run)
  hosts[0] = Node(folder, "join", run, "--workers", "0,1")  # joins by replay
  ends = [node.end() for node in (sequencer, *hosts)]
  if any(code for code, _ in ends):
    return "\n".join(text for _, text in ends)
  heads = {value(text, "head") for _, text in ends}
  code, text, error = kontor("ledger", "replay", run / "ledger.kontor")
  heads.add(value(text, "head"))
  if len(heads) != 1 or records(run) != 60 or kept < 15:
    return f"heads {heads}, {kept} records kept, {records(run)} at the end"
  return None


def main():
  if "not built" in kontor("--help")[1]:
    print("SKIPPED: swarm: this program was built without OpenSSL or SQLite")
    return
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    report("swarm: a simulation, its ledger and a fork", simulation(folder))
    report("swarm: mistakes are named", mistakes(folder))
    report("swarm: a signal before the first step", interrupted(folder))
    report("swarm: a disk that is full", full_disk(folder))
    report("swarm: a host and the sequencer are killed", killed(folder))


if __name__ == "__main__":
  main()
