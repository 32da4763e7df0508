#!/usr/bin/env python3
"""Installs Kontor into a prefix, moves the prefix, and builds and runs docs/examples/embed with Meson, CMake and pkg-config."""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
EXAMPLE = ROOT / "docs/examples/embed"
# How the example is built with each tool: (tool, commands, program)
BUILDS = [
  ("meson", [["meson", "setup", "out"], ["ninja", "-C", "out"]], "out/embed"),
  ("cmake", [["cmake", "-S", ".", "-B", "out", "-DCMAKE_BUILD_TYPE=Release"], ["cmake", "--build", "out"]], "out/embed"),
  ("pkg-config", [["make"]], "embed"),
]


def run(command, folder, env):
  done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
  if done.returncode != 0:
    raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
  return done.stdout


def install(folder):
  """The installed tree, moved after the installation: nothing in it may know where it was."""
  run(["meson", "install", "-C", str(BUILD), "--no-rebuild", "--destdir", str(folder / "staged")], folder, os.environ)
  found = next((folder / "staged").rglob("include/kontor"))
  shutil.move(found.parent.parent, folder / "moved")
  return folder / "moved"


def environment(prefix):
  library = next(prefix.rglob("libkontor.so")).parent
  env = dict(os.environ, PKG_CONFIG_PATH=str(library / "pkgconfig"), CMAKE_PREFIX_PATH=str(prefix))
  # With an empty cache and the device named, the module that holds LLVM must be found in the moved tree.
  device = {"KONTOR_DEVICE": "llvm"} if list(prefix.rglob("libkontor-llvm.*")) else {}
  return env | device | {"LD_LIBRARY_PATH": str(library), "KONTOR_CACHE_DIR": str(prefix / "cache")}


def expected():
  """What the example's README says it prints."""
  return re.search(r"It prints\s+```text\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL).group(1)


def build_and_run(commands, program, folder, env):
  for command in commands:
    run(command, folder, env)
  printed = run([str(folder / program)], folder, env)
  if printed != expected():
    raise RuntimeError(f"it printed {printed!r}, and its README says {expected()!r}")


def installed_names(prefix):
  """An installed program needs headers, library and modules only; and the library exports nothing but kontor's."""
  library = next(prefix.rglob("libkontor.so")).resolve()
  symbols = run(["nm", "-DC", "--defined-only", str(library)], prefix, os.environ).splitlines()
  foreign = [line.split(" ", 2)[2] for line in symbols if " T " in line and "kontor" not in line]
  if foreign:
    raise RuntimeError(f"{library.name} exports {foreign[:5]}")


def installed_program(prefix, env):
  """The program of the moved tree finds its LLVM module and its data."""
  run([str(prefix / "bin/kontor"), "train", "--steps", "1", "--vendors", "2,2,2,2,2", "--batch", "2", "--out", "trained"], prefix, env)
  if not (prefix / "trained/model.safetensors").exists():
    raise RuntimeError("no model was written")


def report(name, function, *arguments):
  try:
    function(*arguments)
  except (RuntimeError, StopIteration, subprocess.TimeoutExpired) as error:
    print(f"FAILED: {name}: " + str(error).replace("\n", "\n  "))
    return False
  print(f"PASSED: {name}")
  return True


def main():
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    prefix = install(folder)
    env, good = environment(prefix), [report("installed library", installed_names, prefix)]
    good.append(report("installed program", installed_program, prefix, env))
    for tool, commands, program in BUILDS:
      if not shutil.which(commands[0][0]) or not shutil.which(tool):
        print(f"SKIPPED: {tool}: no {tool}")
        continue
      here = folder / tool
      shutil.copytree(EXAMPLE, here)
      good.append(report(tool, build_and_run, commands, program, here, env))
  return 0 if all(good) else 1


if __name__ == "__main__":
  raise SystemExit(main())
