#!/usr/bin/env python3
"""Runs what the pages show, so that a page cannot show a command or program that no longer works.

In README.md, CONTRIBUTING.md and docs/**/*.md a code block opens with one of
  ```sh test      run with bash -e; the blocks of a page run in order, in one folder that looks like the repository
  ```sh untested  commands for another machine, or that take longer than a test may
  ```cpp test     compiled against the library and run; a block without main() is the body of one
  ```cpp untested a fragment
A plain ```sh or ```cpp block fails: someone must say which it is. Relative links must lead somewhere. A `# KONTOR_NEEDS: what` line in an sh block names a
program without which the block is skipped.
"""
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
BLOCK = re.compile(r"^( *)```(sh|cpp)(?: +(\w+))? *\n(.*?)^ *``` *$", re.MULTILINE | re.DOTALL)
TIMEOUT = 600
PROGRAM = """#include <kontor/kontor.h>
#include <iostream>
using namespace kontor;
int main() {{
{}
}}
"""


def pages():
  return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page):
  """(line, language, tag, text without the block's indentation) of every sh and cpp block."""
  text = page.read_text()
  for match in BLOCK.finditer(text):
    body = re.sub(rf"^{match.group(1)}", "", match.group(4), flags=re.MULTILINE)
    yield text.count("\n", 0, match.start()) + 1, match.group(2), match.group(3), body


def make_folder(folder):
  """A folder that looks like the repository, in which ./kontor is the program under test, and may be written to."""
  for entry in ROOT.iterdir():
    if entry.name not in ("kontor", ".git", "out") and not entry.name.startswith("build"):
      (folder / entry.name).symlink_to(entry)
  (folder / "build").symlink_to(BUILD)
  launcher = folder / "kontor"
  launcher.write_text('#!/bin/sh\nexec "$KONTOR" "$@"\n')
  launcher.chmod(0o755)


def compile_program(body, folder):
  source = folder / "block.cpp"
  source.write_text(body if "int main" in body else PROGRAM.format(body))
  return [os.environ.get("CXX", "c++"), "-std=c++20", "-O0", f"-I{ROOT}/include", str(source), f"-L{BUILD}", "-lkontor",
          f"-Wl,-rpath,{BUILD}", "-o", str(folder / "block")]


def run(command, folder):
  """None if it went well, else what it said."""
  try:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=TIMEOUT)
  except subprocess.TimeoutExpired:
    return f"no end after {TIMEOUT} s"
  except FileNotFoundError as error:
    return f"no {error.filename} here"
  return None if done.returncode == 0 else f"exit code {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}"


def run_block(language, body, folder):
  if language == "sh":
    return run(["bash", "-euo", "pipefail", "-c", body], folder)
  return run(compile_program(body, folder), folder) or run([str(folder / "block")], folder)


def dead_links(page):
  """Relative links of a page that lead nowhere."""
  targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text())
  return [target for target in targets if not (page.parent / target).exists()]


def check_page(page):
  good, dead = True, dead_links(page)
  if dead:
    print(f"FAILED: {page.relative_to(ROOT)} links: nothing is at {', '.join(dead)}")
    good = False
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    make_folder(folder)
    for line, language, tag, body in blocks(page):
      where = f"{page.relative_to(ROOT)} line {line}"
      missing = [need for need in re.findall(r"KONTOR_NEEDS: (\S+)", body) if not shutil.which(need)]
      if tag not in ("test", "untested"):
        wrong = f"a ```{language} block says neither test nor untested"
      elif tag == "test" and missing:
        print(f"SKIPPED: {where}: no {missing[0]}")
        continue
      else:
        wrong = run_block(language, body, folder) if tag == "test" else None
      if wrong:
        print(f"FAILED: {where}: " + wrong.replace("\n", "\n  "))
        good = False
      elif tag == "test":
        print(f"PASSED: {where}")
  return good


if __name__ == "__main__":
  raise SystemExit(0 if all([check_page(page) for page in pages() if page.exists()]) else 1)
