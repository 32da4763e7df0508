#!/usr/bin/env python3
"""The launcher ./kontor on a tiny project of the same shape: installing, building, starting at once, rebuilding, errors.

A stand-in apt-get (and a pkg-config that misses libraries until apt-get has "installed" them) keeps the test from
installing anything. tests/bare-machine is the same with a real project on a real system.
"""
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
FOLDERS = ["include", "base", "graph", "codegen", "backends", "runtime", "nn", "marketplace", "tools", "tests"]
MESON = """# A project with the targets and options that the launcher knows.
project('tiny', 'cpp')
subdir('tools')
suite = [kontor]
subdir('tests')
alias_target('kontor-program', kontor)
alias_target('kontor-suite', suite)
"""
MESON_OPTIONS = """option('program', type: 'feature')
option('tests', type: 'feature')
"""
MESON_TESTS = """if dependency('catch2', required: get_option('tests')).found()
  suite += executable('unit', '../tools/main.cpp')
endif
"""
MESON_TOOLS = """dependency('CLI11', required: get_option('program'))
kontor = executable('kontor', 'main.cpp')
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
[ -z "$NO_NETWORK" ] || { echo "E: Failed to fetch"; exit 100; }
for name; do touch "$FAKE/has-$name"; done
"""
# Knows of each library whether its package is there.
PKG_CONFIG = """#!/bin/sh
for last; do :; done
case $last in
  fmt|catch2) [ -f "$FAKE/has-$last" ] || [ -f "$FAKE/has-lib$last-dev" ] || exit 1 ;;
  catch2-*) exit 1 ;;
esac
case "$*" in *version*) echo 1.9 ;; esac
"""
# What tests/run would be lost without.
RUN = """import pathlib, sys
assert (pathlib.Path(sys.argv[2]) / "tests/unit").exists()
print('1 passed, 0 failed, 0 skipped')
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
    (self.root / "meson_options.txt").write_text(MESON_OPTIONS)
    (self.root / "meson.build").write_text(MESON)
    (self.root / "tools/meson.build").write_text(MESON_TOOLS)
    (self.root / "tests/meson.build").write_text(MESON_TESTS)
    (self.root / "tests/run").write_text(RUN)
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

  def uninstall(self, name):
    (self.fake / f"has-{name}").unlink()

  def touch(self):
    """A source is newer than the build."""
    self.answer((self.root / "tools/main.cpp").read_text().split('"')[3])

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
  expect(min(times) < 0.05, "warm start:", times)  # ~10 ms; other tests run beside this one, so the least counts


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


def suite_after_program(checkout):
  """Catch2 was not there when the program was configured, and is installed by the suite."""
  expect(not (checkout.fake / "has-catch2").exists(), "the program alone installed Catch2")
  runs_the_suite(checkout)
  expect((checkout.fake / "has-catch2").exists(), "Catch2 was not installed")


def runs_the_suite(checkout):
  done = checkout.kontor("test")
  expect(done.returncode == 0 and done.stdout.splitlines()[-1:] == ["1 passed, 0 failed, 0 skipped"], done)


def runs_the_program(checkout):
  done = checkout.kontor()
  expect(done.returncode == 0 and done.stdout == "three\n", done)


def program_after_suite(checkout):
  shutil.rmtree(checkout.root / "build")
  checkout.uninstall("catch2")
  runs_the_suite(checkout)
  runs_the_program(checkout)
  runs_the_suite(checkout)


def a_lost_test_program_is_built_again(checkout):
  (checkout.root / "build/tests/unit").unlink()
  runs_the_suite(checkout)


def what_was_uninstalled_is_not_asked_for(checkout):
  """The program does not need Catch2, also where the last build was of the suite; the suite installs it again."""
  checkout.uninstall("catch2")
  checkout.touch()
  runs_the_program(checkout)
  expect(not (checkout.fake / "has-catch2").exists(), "the program installed Catch2")
  runs_the_suite(checkout)


def what_comes_later_is_used(checkout):
  """As if there had been no LLVM at the last build: what is optional may be installed by hand, and no source is newer then."""
  runs_the_program(checkout)
  stamp = checkout.root / "build/.built-program"
  whole = stamp.read_text()
  kept = stamp.stat()
  stamp.write_text(whole + "llvm-19-dev\n")
  os.utime(stamp, ns=(kept.st_atime_ns, kept.st_mtime_ns))
  runs_the_program(checkout)
  expect(stamp.read_text() == whole, "what was installed is not seen:", stamp.read_text())


def what_cannot_be_installed_is_named(checkout):
  for verb, name in (("test", "catch2"), ("--version", "libfmt-dev")):
    checkout.uninstall(name)
    checkout.touch()
    done = checkout.kontor(verb, NO_NETWORK="1")
    last = done.stderr.splitlines()[-1]
    expect(done.returncode == 1 and name in last and "network" in last and "Traceback" not in done.stderr, done)
    expect(checkout.kontor(verb).returncode == 0, "no recovery when the network is back")


def a_meson_error_is_shown(checkout):
  """Of the first configuration and of one that ninja starts since a meson.build has changed."""
  for prepare in (lambda: None, lambda: shutil.rmtree(checkout.root / "build")):
    prepare()
    (checkout.root / "tools/meson.build").write_text(MESON_TOOLS + "dependency('no-such-thing', method: 'cmake')\n")
    done = checkout.kontor()
    (checkout.root / "tools/meson.build").write_text(MESON_TOOLS)
    expect(done.returncode == 1 and "no-such-thing" in done.stderr, done)
    runs_the_program(checkout)


def a_compiler_that_is_not_there_is_named(checkout):
  checkout.touch()
  done = checkout.kontor(CXX="no-such-compiler -m64")
  expect(done.returncode == 1 and "CXX='no-such-compiler -m64'" in done.stderr, done)
  runs_the_program(checkout)


def another_compiler_starts_anew(checkout):
  if not shutil.which("clang++"):
    return
  checkout.touch()
  done = checkout.kontor(CXX="clang++")
  expect(done.returncode == 0 and "configuring" in done.stderr, done)
  runs_the_suite(checkout)


def a_folder_that_cannot_be_written_is_named(checkout):
  build, kept = checkout.root / "build", checkout.root / "kept"
  build.rename(kept)
  build.write_text("in the way\n")
  done = checkout.kontor()
  expect(done.returncode == 1 and f"cannot write to {build}" in done.stderr, done)
  build.unlink()
  kept.rename(build)


TESTS = (first_use_installs_and_builds, warm_start_does_nothing, exit_codes_pass_through, newer_source_rebuilds,
         deleted_and_added_files_are_seen, errors_are_shown, a_moved_checkout_builds_anew, a_link_to_the_launcher_works,
         suite_after_program, program_after_suite, a_lost_test_program_is_built_again, what_was_uninstalled_is_not_asked_for,
         what_cannot_be_installed_is_named, a_meson_error_is_shown, a_compiler_that_is_not_there_is_named,
         another_compiler_starts_anew, a_folder_that_cannot_be_written_is_named, what_comes_later_is_used)


def main():
  good = True
  with tempfile.TemporaryDirectory() as folder:
    checkout = Checkout(pathlib.Path(folder))
    for test in TESTS:  # in this order: each goes on where the one before it stopped
      try:
        test(checkout)
        print(f"PASSED: {test.__name__}")
      except (AssertionError, OSError) as error:
        print(f"FAILED: {test.__name__}: " + str(error).replace("\n", "\n  "))
        good = False
  return 0 if good else 1


if __name__ == "__main__":
  raise SystemExit(main())
