#!/usr/bin/env python3
"""The cache of one user is not used by another: run as root, who becomes `nobody` where the system has setpriv."""
import os
import pathlib
import shutil
import subprocess
import tempfile

BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
NOBODY = 65534
AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


def run(command, folder, **more):
  env = os.environ | {"TMPDIR": str(folder), "HOME": str(folder)} | more
  return subprocess.run([str(word) for word in command], env=env, cwd=folder, capture_output=True, text=True, timeout=600)


def check(what, condition, done):
  if not condition:
    raise RuntimeError(f"{what}: exit code {done.returncode}\n{done.stdout[-1500:]}{done.stderr[-1500:]}")


def own_folder(root, name, owner, mode):
  folder = root / name
  folder.mkdir()
  os.chown(folder, owner, owner)
  folder.chmod(mode)
  return folder


def tests_as_nobody(root, programs):
  home = own_folder(root, "home", NOBODY, 0o700)
  done = run([*AS_NOBODY, programs / "unit", "\\[private\\]*"], home)
  check("the tests of private files", done.returncode == 0 and "All tests passed" in done.stdout, done)


def cache_of_another(root, programs):
  """Each of the two looks at the other's folder, which both can read; and at one that the other is not let into."""
  home = own_folder(root, "look", NOBODY, 0o755)
  for who, command, owner in (("nobody", AS_NOBODY, 0), ("root", [], NOBODY)):
    cache = own_folder(root, f"cache-for-{who}", owner, 0o755)
    (cache / ("0" * 32 + ".kernel")).write_bytes(b"planted")
    for verb in (["cache"], ["cache", "--list"], ["cache", "--clear"]):
      done = run([*command, programs / "kontor", *verb], home, KONTOR_CACHE_DIR=str(cache))
      says = f"kontor: kernel cache: {cache} belongs to user {owner}"
      check(f"{who}: {verb}", done.returncode == 0 and done.stderr.count(says) == 1, done)
    check(f"{who}: what the other owns stays", len(list(cache.iterdir())) == 1, done)
  closed = own_folder(root, "closed", 0, 0o700)
  done = run([*AS_NOBODY, programs / "kontor", "cache"], home, KONTOR_CACHE_DIR=str(closed / "cache"))
  check("a closed folder", done.returncode == 0 and "Permission denied" in done.stderr, done)


def cannot(programs):
  if not all((BUILD / name).exists() for name in ("tests/unit", "tools/kontor")):
    return "the build has no tests or no program"
  if os.geteuid() != 0 or not shutil.which("setpriv"):
    return "needs root and setpriv, to become another user"
  for name in ("tests/unit", "tools/kontor"):
    shutil.copy(BUILD / name, programs)
  done = subprocess.run([*AS_NOBODY, str(programs / "kontor"), "--help"], capture_output=True, text=True)
  return "" if done.returncode == 0 else f"another user cannot run a program here: {done.stderr[-300:]}"


def main():
  good = True
  with tempfile.TemporaryDirectory() as name:
    root = pathlib.Path(name)
    root.chmod(0o755)
    programs = own_folder(root, "programs", os.geteuid(), 0o755)
    if reason := cannot(programs):
      print(f"SKIPPED: another user: {reason}")
      return 0
    for test in (tests_as_nobody, cache_of_another):
      try:
        test(root, programs)
        print(f"PASSED: {test.__name__}")
      except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"FAILED: {test.__name__}: " + str(error).replace("\n", "\n  "))
        good = False
  return 0 if good else 1


if __name__ == "__main__":
  raise SystemExit(main())
