#!/usr/bin/env python3
"""The launcher ./kontor on a tiny project of the same shape: installing, building, starting at once, rebuilding, errors.

A stand-in apt-get (and a pkg-config that misses a library until apt-get has run) keeps the test from installing anything.
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
FOLDERS = ["include", "base", "graph", "codegen", "backends", "runtime", "nn", "marketplace", "tools", "tests"]
MESON = """# A project with the targets that the launcher builds.
project('tiny', 'cpp')
subdir('tools')
alias_target('kontor-program', kontor)
alias_target('kontor-suite', kontor)
"""
MESON_TOOLS = """kontor = executable('kontor', 'main.cpp')
"""
PROGRAM = """#include <cstdio>
int main(int argc, char** argv) {
  std::printf("%s\\n", ANSWER);
  return argc > 1 && argv[1][0] == '3' ? 3 : 0;
}
"""
APT_GET = """#!/bin/sh
echo "$@" >>"$FAKE/calls"
case "$*" in *update*) touch "$FAKE/updated"; exit 0 ;; esac
[ -z "$NEEDS_UPDATE" ] || [ -f "$FAKE/updated" ] || exit 100
touch "$FAKE/installed"
"""
PKG_CONFIG = """#!/bin/sh
case "$*" in *fmt*) [ -f "$FAKE/installed" ] ;; *) exit 0 ;; esac
"""
SUDO = """#!/bin/sh
echo sudo >>"$FAKE/calls"
exec "$@"
"""


class Checkout:
  """A copy of the launcher with a tiny project around it."""

  def __init__(self, folder):
    self.root, self.fake = folder / "checkout", folder / "fake"
    for name in FOLDERS:
      (self.root / name).mkdir(parents=True)
    shutil.copy(ROOT / "kontor", self.root / "kontor")
    (self.root / "meson_options.txt").write_text("# none\n")
    (self.root / "meson.build").write_text(MESON)
    (self.root / "tools/meson.build").write_text(MESON_TOOLS)
    (self.root / "tests/run").write_text("print('1 passed, 0 failed, 0 skipped')\n")
    self.answer("one")
    self.fake.mkdir()
    self.write_tools({"apt-get": APT_GET, "pkg-config": PKG_CONFIG, "sudo": SUDO, "llvm-config-19": "#!/bin/sh\necho \"$FAKE\"\n",
                      "apt-cache": "#!/bin/sh\necho Package\n"})
    (self.fake / "llvm").mkdir()
    self.env = dict(os.environ, PATH=f"{self.fake}:{os.environ['PATH']}", FAKE=str(self.fake))

  def write_tools(self, tools):
    for name, text in tools.items():
      (self.fake / name).write_text(text)
      (self.fake / name).chmod(0o755)

  def answer(self, text):
    (self.root / "tools/main.cpp").write_text(PROGRAM.replace("ANSWER", f'"{text}"'))

  def kontor(self, *arguments, **env):
    return subprocess.run([str(self.root / "kontor"), *arguments], env=self.env | env, capture_output=True, text=True,
                          cwd=self.fake, timeout=300)

  def calls(self):
    path = self.fake / "calls"
    return path.read_text() if path.exists() else ""


def expect(condition, *what):
  if not condition:
    raise AssertionError(" ".join(map(str, what)))


def first_use_installs_and_builds(checkout):
  done = checkout.kontor(NEEDS_UPDATE="1")
  expect(done.returncode == 0 and done.stdout == "one\n", done)
  expect("apt-get install --no-install-recommends" in done.stderr and "libfmt-dev" in done.stderr, "it does not say what:", done.stderr)
  lines = [line for line in checkout.calls().splitlines() if line != "sudo"]
  expect(len(lines) == 3 and "update" in lines[1], "install, update, install expected:", lines)
  expect(("sudo" in checkout.calls()) == (os.getuid() != 0), "sudo only if not root:", checkout.calls())


def warm_start_does_nothing(checkout):
  (checkout.fake / "calls").unlink(missing_ok=True)
  times = []
  for _ in range(9):
    start = time.monotonic()
    done = checkout.kontor()
    times.append(time.monotonic() - start)
    expect(done.stdout == "one\n" and done.stderr == "", done)
  expect(checkout.calls() == "", "it asked apt-get again")
  expect(statistics.median(times) < 0.1, "warm start:", times)  # ~15 ms alone; other tests run beside this one


def exit_codes_pass_through(checkout):
  expect(checkout.kontor("3").returncode == 3, "the program's exit code is lost")


def newer_source_rebuilds(checkout):
  checkout.answer("two")
  expect(checkout.kontor().stdout == "two\n", "a newer source was not built")


def deleted_and_added_files_are_seen(checkout):
  stamp = checkout.root / "build/.built-program"
  (checkout.root / "base/extra.h").write_text("// new\n")
  old = stamp.stat().st_mtime
  checkout.kontor()
  expect(stamp.stat().st_mtime > old, "an added file was not seen")
  (checkout.root / "base/extra.h").unlink()
  old = stamp.stat().st_mtime
  checkout.kontor()
  expect(stamp.stat().st_mtime > old, "a deleted file was not seen")


def errors_are_shown(checkout):
  (checkout.root / "tools/main.cpp").write_text("int main() { return missing_name; }\n")
  done = checkout.kontor()
  expect(done.returncode == 1 and "missing_name" in done.stderr and "main.cpp:1" in done.stderr, done)
  checkout.answer("three")
  expect(checkout.kontor().stdout == "three\n", "no recovery after a failed build")


def a_moved_checkout_builds_anew(checkout):
  moved = checkout.root.parent / "moved"
  checkout.root.rename(moved)
  checkout.root = moved
  done = checkout.kontor()
  expect(done.returncode == 0 and done.stdout == "three\n", done)


def a_link_to_the_launcher_works(checkout):
  link = checkout.fake / "kontor-link"
  link.symlink_to(checkout.root / "kontor")
  done = subprocess.run([str(link)], env=checkout.env, capture_output=True, text=True)
  expect(done.stdout == "three\n", done)


def test_runs_the_suite(checkout):
  done = checkout.kontor("test")
  expect(done.returncode == 0 and done.stdout.splitlines()[-1] == "1 passed, 0 failed, 0 skipped", done)


def main():
  good = True
  with tempfile.TemporaryDirectory() as folder:
    checkout = Checkout(pathlib.Path(folder))
    # In this order: each goes on where the one before it stopped.
    for test in (first_use_installs_and_builds, warm_start_does_nothing, exit_codes_pass_through, newer_source_rebuilds,
                 deleted_and_added_files_are_seen, errors_are_shown, a_moved_checkout_builds_anew, a_link_to_the_launcher_works,
                 test_runs_the_suite):
      try:
        test(checkout)
        print(f"PASSED: {test.__name__}")
      except AssertionError as error:
        print(f"FAILED: {test.__name__}: " + str(error).replace("\n", "\n  "))
        good = False
  return 0 if good else 1


if __name__ == "__main__":
  raise SystemExit(main())
