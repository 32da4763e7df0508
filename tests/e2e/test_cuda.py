#!/usr/bin/env python3
"""The device cuda on a machine without a GPU: the tests of test_cuda.cpp that want one, on tests/emulated_cuda.cpp."""
import os
import pathlib
import subprocess
import sys

build = pathlib.Path(os.environ["KONTOR_BUILD"])
emulated = build / "tests" / "libemulated_cuda.so"
unit = build / "tests" / "unit"
name = "the device cuda, emulated"
if not emulated.exists():
  print(f"SKIPPED: {name}: this build has no {emulated}")
  sys.exit(0)
folder = pathlib.Path.cwd()
(folder / "libcuda.so.1").symlink_to(emulated)
env = os.environ | {"LD_LIBRARY_PATH": str(folder), "KONTOR_NVRTC": str(emulated), "TMPDIR": str(folder)}
failures = 0
for case in ("[cuda] on a GPU the kernels have the interpreter's bits", "[cuda] memory and launches of the device",
             "[cuda] a kernel that writes nothing is no success", "[ops] the op table on cuda",
             "[groups] on a GPU tiles have the interpreter's bits",
             "[groups] on a GPU a matrix instruction multiplies what the loops say",
             "[groups] on a GPU products in tiles have the interpreter's bits",
             "[groups] on a GPU fast products of bf16 go by matrix instructions",
             "[groups] on a GPU a row is read once and kept in a warp's registers",
             "[groups] a barrier that is left out is found by simulated threads"):
  # Catch2 takes [x] for a tag: the name is matched by its end.
  done = subprocess.run([unit, "*" + case.split("] ", 1)[1]], env=env, capture_output=True, text=True, timeout=1000)
  ran = "SKIPPED" not in done.stdout and "No test" not in done.stdout and done.returncode == 0
  failures += not ran
  print(f"PASSED: {name}: {case}" if ran else f"FAILED: {name}: {case}: {done.stdout[-3000:]}{done.stderr[-1000:]}".replace("\n", "\n  "))
left = sorted(p.name for p in folder.iterdir() if p.name != "libcuda.so.1")
if left:
  failures += 1
  print(f"FAILED: {name}: files left behind: {left}")
sys.exit(failures > 0)
