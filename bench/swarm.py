#!/usr/bin/env python3
"""Decentralised training: the scenarios of docs/decentralised.md at their full size, each beside the bound that it must keep.

    bench/swarm.py                 # all, about half an hour on two idle cores; prints the table of bench/RESULTS.md
    bench/swarm.py D4 D5 --quick   # some, with hosts of 16 slots: fewer signatures

Losses are compared at equal numbers of steps with the clean run (D1) of the same seed. Each run's ledger is checked by
`kontor ledger verify` and computed again by `replay`, which must come to the same head and state.
"""
import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
ATTACKS = ("mirror", "random", "zero", "huge", "nan", "collude", "replay", "bad-signature")
NUMBERS = ("random", "zero", "huge", "nan")  # attacks by the number that is sent: as ranks zero and huge differ, as bits they do not
NOBODY = {"churn": 0, "slow": 0, "liars": 0, "spot-rate": 0}


def said_of(width):
  return "" if width == 1 else f", values of {width} bits"


class Bench:

  def __init__(self, build, quick):
    self.program, self.unit = build / "tools/kontor", build / "tests/unit"
    self.base = {"workers": 60, "slots": 16} if quick else {"workers": 1000}
    self.base |= {"steps": 300, "samples": 16, "lr": 1, "test-every": 0}
    self.rows, self.failed, self.clean = [], 0, {}
    self.folder = tempfile.TemporaryDirectory()

  def kontor(self, *words, env=None):
    done = subprocess.run([str(self.program), *map(str, words)], capture_output=True, text=True, env=os.environ | (env or {}))
    return done.returncode, done.stdout, done.stderr

  def run(self, settings, name="run"):
    """Runs a simulation; what it printed as {name: text}, with the path of its ledger."""
    out = pathlib.Path(self.folder.name, name)
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    code, text, error = self.kontor("swarm", "sim", "--out", out, *words)
    if code:
      sys.exit(f"kontor swarm sim {words}: {error}")
    found = {m.group(1).strip(): m.group(2) for m in re.finditer(r"^ {2,4}(\S[^\n]{0,16}?) {2,}(\S.*)$", text, re.MULTILINE)}
    found["refused"] = {m.group(2): int(m.group(1)) for m in re.finditer(r"^ +refused +(\d+) (.*)$", text, re.MULTILINE)}
    found["ledger"] = str(out / "ledger.kontor")
    return found

  def same_by_replay(self, found, device=""):
    code, text, error = self.kontor("ledger", "replay", found["ledger"], *(["--device", device] if device else []))
    return code == 0 and found["state"] in text and found["head"] in text, error.strip()

  def add(self, test, scenario, measured, bound, kept):
    self.rows.append((test, scenario, measured, bound, "yes" if kept else "NO"))
    self.failed += not kept
    print(f"| {' | '.join(self.rows[-1])} |", flush=True)

  def d1(self, width=1):
    if width not in self.clean:
      found = self.run(self.base | NOBODY | {"width": width}, "clean")
      self.clean[width] = float(found["test loss"])
      same, error = self.same_by_replay(found)
      self.add("D1", "all there, no liars" + said_of(width), f"loss {self.clean[width]:.4f}, {found['test accuracy']}; replayed: {'one root' if same else error}",
               "one root", same)
    return self.clean[width]

  def compared(self, test, scenario, settings, factor, banned=None):
    width = settings.get("width", 1)
    clean = self.d1(width)
    found = self.run(self.base | NOBODY | settings)
    loss = float(found["test loss"])
    kept = loss <= factor * clean and ", 0 without" in found["steps"] and found["banned"].endswith(" 0 honest")
    caught, liars = map(int, re.match(r"(\d+) of (\d+)", found["banned"]).groups())
    forged = liars * self.base["steps"] if settings.get("attack") == "bad-signature" else 0
    kept = kept and found["refused"].get("bad signature", 0) == forged
    said = f"loss {loss:.4f} ({loss / clean:.3f} x D1), {found['test accuracy']}; {found['banned']}"
    if banned is not None:
      kept = kept and caught > banned * liars
    self.add(test, scenario + said_of(width), said, f"<= {factor:.2f} x D1" + (f", > {banned:.0%} banned" if banned else "") + ", 0 false bans", kept)
    return found

  def d2(self):
    self.compared("D2", "30 % away in each step", {"churn": 0.3, "slow": 0.02}, 1.10)

  def d4(self):
    for attack in ATTACKS:
      for width in (1, 24) if attack in NUMBERS else (1,):
        self.compared("D4", f"20 % {attack}, 2 % checked", {"liars": 0.2, "attack": attack, "spot-rate": 0.02, "width": width}, 1.10)

  def d5(self):
    self.compared("D5", "40 % mirror, 2 % checked", {"liars": 0.4, "attack": "mirror", "spot-rate": 0.02}, 1.15, 0.9)

  def d12(self):
    for width in (1, 8, 24):
      found = self.run(self.base | {"workers": 100, "steps": 40, "width": width, "lag": 2, "churn": 0.3, "liars": 0.2}, f"w{width}")
      for device in ("llvm", "interp", "opencl"):
        for extra in ({}, {"KONTOR_THREADS": "1"}, {"KONTOR_CPU": "avx2"}):
          if extra.get("KONTOR_CPU") and device != "llvm":
            continue
          code, text, error = self.kontor("ledger", "replay", found["ledger"], "--device", device, env=extra)
          kept = code == 0 and found["state"] in text
          self.add("D12", f"width {width} on {device} {' '.join(f'{k}={v}' for k, v in extra.items())}".strip(),
                   "one root" if kept else error.strip(), "one root", kept)

  def d15(self):
    for workers, steps in ((10_000, 10), (100_000, 3)):
      found = self.run({"workers": workers, "steps": steps, "replicas": 0, "test-every": 0, "lr": 1}, "many")
      total, forward = (float(x) for x in re.match(r"([\d.]+) s, ([\d.]+) of", found["time"]).groups())
      memory = int(found["peak memory"].split()[0])
      step = (total - forward) / steps
      kept = step <= 2 if workers == 10_000 else memory < 8000
      self.add("D15", f"{workers} virtual workers, {steps} steps", f"{step:.2f} s a step beyond forward passes, {memory} MB",
               "<= 2 s a step" if workers == 10_000 else "< 8 GB", kept)

  def speed(self):
    done = subprocess.run([str(self.unit), "[swarm-speed]"], capture_output=True, text=True, env=os.environ | {"KONTOR_SOURCE": str(ROOT)})
    for what, rate in re.findall(r"SPEED: (.*): ([\d.]+) steps/s", done.stdout):
      least = 5 if "10M" in what else 500
      self.add("D10", f"replay, {what}", f"{rate} steps/s", f">= {least} steps/s", float(rate) >= least)

  def network(self):
    """The MNIST network of the Marketplace articles, with churn and liars, beside the clean run at equal steps."""
    base = {"model": "mnist-cnn", "workers": 1000, "samples": 1, "steps": 60, "lr": 2, "sigma": 0.02, "test-every": 0}
    clean = self.run(base | NOBODY, "cnn")
    found = self.run(base | {"churn": 0.3, "liars": 0.2, "spot-rate": 0.02}, "cnn-liars")
    a, b = (float(f["test accuracy"].split()[0]) for f in (clean, found))
    same, error = self.same_by_replay(found)
    self.add("network", "MNIST network, 30 % away, 20 % liars", f"{b:.2f} %, clean {a:.2f} %; {'one root' if same else error}",
             "within 1 point, one root", b >= a - 1 and same)

  def d17(self):
    for flip in (0.2, 0.3, 0.4):
      found = self.run(self.base | NOBODY | {"flip": flip})
      self.add("D17", f"bits flipped with {flip}", f"loss {found['test loss']}, {found['test accuracy']}; {found['privacy']}", "-", True)


def main():
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("names", nargs="*", help="D1 D2 D4 D5 D12 D15 D17 speed network (default: all)")
  parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build")
  parser.add_argument("--quick", action="store_true", help="hosts of 16 slots")
  o = parser.parse_args()
  bench = Bench(o.build, o.quick)
  print("| test | scenario | measured | bound | kept |\n|---|---|---|---|---|")
  for name in o.names or ["D1", "D2", "D4", "D5", "D12", "D15", "D17", "speed", "network"]:
    getattr(bench, name.lower())()
  sys.exit(bench.failed > 0)


if __name__ == "__main__":
  main()
