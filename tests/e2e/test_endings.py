#!/usr/bin/env python3
"""Programs end well however they end (tests/endings.cpp), and no object of the library is destroyed before the program is."""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
ENDINGS = BUILD / "tests/endings"
ROUNDS = {"leave_threads_computing": 120, "leave_threads_recording": 10}
AT_ONCE = 4  # a machine that is busy ends programs where an idle one does not
PRINTS = {"use_in_static_destructor": "late\n"}


def run(name, env):
  done = subprocess.run([str(ENDINGS), name], env=env, capture_output=True, text=True, timeout=200)
  if done.returncode != 0 or done.stdout != PRINTS.get(name, ""):
    raise RuntimeError(f"exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


def ends_well(name, folder):
  def once(i):
    cache = {"KONTOR_CACHE_DIR": str(folder / name)} if i % 2 == 0 else {"KONTOR_NO_CACHE": "1"}
    run(name, os.environ | cache | {"KONTOR_THREADS": "4"})

  with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
    list(pool.map(once, range(ROUNDS.get(name, 1))))


def no_destructors_at_exit():
  """What registers a destructor of a static object calls __cxa_atexit."""
  archive = BUILD / "libkontor-core.a"
  found = subprocess.run(["nm", "-uC", str(archive)], capture_output=True, text=True, check=True).stdout
  names = [block.split(":", 1)[0].strip() for block in re.split(r"\n\n", found) if re.search(r" U __cxa_atexit$", block, re.MULTILINE)]
  if names:
    raise RuntimeError(f"objects with static storage are destroyed at exit in {', '.join(names)}: see base/lasting.h")


def report(name, function, *arguments):
  try:
    function(*arguments)
  except (RuntimeError, subprocess.SubprocessError) as error:
    print(f"FAILED: {name}: " + str(error).replace("\n", "\n  "))
    return False
  print(f"PASSED: {name}")
  return True


def main():
  if not ENDINGS.exists():
    print("SKIPPED: endings: the build has no tests")
    return 0
  sanitized = "-fsanitize=" in (BUILD / "build.ninja").read_text()
  names = subprocess.run([str(ENDINGS)], capture_output=True, text=True, check=True).stdout.split()
  with tempfile.TemporaryDirectory() as folder:
    good = [report(name, ends_well, name, pathlib.Path(folder)) for name in names]
  if sanitized or not shutil.which("nm"):
    print("SKIPPED: static objects: sanitizers register some of their own, or no nm")
  else:
    good.append(report("no static object is destroyed", no_destructors_at_exit))
  return 0 if all(good) else 1


if __name__ == "__main__":
  raise SystemExit(main())
