"""The yardstick for steps of Marketplace: ../shared/bench/marketplace_ref.cpp, hand-written for this one network.

It is no part of this project: where the file is absent, there is no such engine. Built once, with the options that its
header names, and run on the MNIST files beside it; it times its steps itself, loading and tests not counted.
"""
import pathlib
import re
import subprocess

from measure import Measured, arguments, main

ROOT = pathlib.Path(__file__).resolve().parents[2]
SOURCE = ROOT / "../shared/bench/marketplace_ref.cpp"
DATA = ROOT / "../shared/data/mnist"
PROGRAM = ROOT / "build/bench/yardstick"
BUILD = "g++ -O3 -march=native -ffast-math -std=c++20 -pthread -x c++ - -x none -lz -o".split()
LINE = re.compile(r"^step (\d+) .* min ([\d.]+) mean ([\d.]+) s/step", re.MULTILINE)
# Steps to run, and the case's settings.
CASES = {
    "v2_n8": (4, "--mode v2 --n 8 --batch 512"),
    "v2_n4": (6, "--mode v2 --n 4 --batch 512"),
    "star": (40, "--mode star --ns 4,4,8,16,128 --batch 32"),
    "block_star": (8, "--mode bstar --ns 4,2,8,8,64 --batch 64 --lr .3 --probe 0.00333"),
}
options = arguments()


def built():
  if not PROGRAM.exists() or PROGRAM.stat().st_mtime < SOURCE.stat().st_mtime:
    PROGRAM.parent.mkdir(parents=True, exist_ok=True)
    # It prints milliseconds; a step of star takes only tens of them.
    source = SOURCE.read_text().replace("min %.3f mean %.3f s/step", "min %.6f mean %.6f s/step")
    subprocess.run([*BUILD, PROGRAM], input=source, text=True, check=True)
  return PROGRAM


def measure(name):
  """Fastest and mean step; the first, which touches the memory, does not count in the mean."""
  steps, settings = CASES[name]
  command = [built(), "--data", DATA, *settings.split(), "--steps", str(steps), "--every", str(steps), "--threads",
             str(options.threads)]
  out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
  first, last = LINE.findall(out)
  mean = (float(last[2]) * steps - float(first[2])) / (steps - 1)
  return {"value": mean, "mean": mean, "best": float(last[1]), "runs": steps - 1}


main(lambda name: Measured(lambda: measure(name)) if name in CASES else None, options)
