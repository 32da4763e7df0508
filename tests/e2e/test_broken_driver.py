#!/usr/bin/env python3
"""An OpenCL driver that ends the process that asks it for devices ends neither `kontor devices` nor a program that chose the device."""
import os
import pathlib
import shutil
import subprocess
import tempfile

BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
KONTOR = BUILD / "tools/kontor"
LIBRARY = BUILD / "tests/libbroken_opencl.so"
# How the driver ends the process, and what the error says.
ENDS = [("abort", "it ended by signal 6 (Aborted)"),
        ("segv", "it ended by signal 11 (Segmentation fault)"),
        ("exit", "it ended its process with exit code 3"),
        ("none", "the loader libOpenCL knows no driver")]


def kontor(arguments, folder, how, **more):
  env = os.environ | {"LD_LIBRARY_PATH": str(folder), "BROKEN_OPENCL": how, "KONTOR_CACHE_DIR": str(folder / "cache")} | more
  return subprocess.run([str(KONTOR), *arguments], env=env, capture_output=True, text=True, timeout=120)


def check(what, condition, done):
  if not condition:
    raise RuntimeError(f"{what}: exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


def all_devices(folder, how, says):
  done = kontor(["devices"], folder, how)
  check("devices", done.returncode == 0 and says in done.stdout, done)
  check("the interpreter is there", any(line.startswith("interp ") for line in done.stdout.splitlines()), done)


def chosen_device(folder, how, says):
  train = ["train", "--steps", "1", "--vendors", "2,2,2,2,2", "--batch", "2", "--out", str(folder / "trained")]
  done = kontor(train, folder, how, KONTOR_DEVICE="opencl")
  check("asked for", done.returncode == 1 and says in done.stderr and (how == "none" or "driver: " not in done.stderr), done)


def main():
  if not LIBRARY.exists() or not KONTOR.exists():
    print("SKIPPED: broken driver: the build has no OpenCL or no program")
    return 0
  good = True
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    shutil.copy(LIBRARY, folder / "libOpenCL.so.1")
    for how, says in ENDS:
      for test in (all_devices, chosen_device):
        try:
          test(folder, how, says)
          print(f"PASSED: a driver that ends by {how}: {test.__name__}")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
          print(f"FAILED: a driver that ends by {how}: {test.__name__}: " + str(error).replace("\n", "\n  "))
          good = False
  return 0 if good else 1


if __name__ == "__main__":
  raise SystemExit(main())
