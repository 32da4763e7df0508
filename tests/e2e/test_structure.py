#!/usr/bin/env python3
"""The rules of the house that a machine can read: folder order, public headers, function length, opening comments."""
import fnmatch
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
# A folder includes only from itself and those before it (docs/design.md, "The house"). nn and marketplace stand side by
# side with what they name in their charters; tests may include everything.
ORDER = ["include/kontor", "base", "graph", "scalify", "codegen", "backends", "runtime", "nn", "marketplace", "swarm", "tools"]
# The same for the parts of codegen, on five floors from below: what all speak of, what is asked, what makes stages and prints
# trees, what works on kernels, and the driver. A part includes those of lower floors, and of its own those before it.
CODEGEN = [["target", "decisions", "tree", "schedule.h"], ["cost", "render"], ["stages", "render_c", "render_llvm"],
           ["moves", "program", "streams"], ["schedule.cpp"]]
# Numbers in passes that no choice hangs on: letters, what keeps a logarithm's argument above 0.
NOT_COSTS = {("codegen/stages/layout.cpp", "26"), ("codegen/streams/choose.cpp", "1.0")}
MAX_PUBLIC_HEADERS = 8
LONGEST, USUAL = 80, 30  # lines of any function, and of 95 in 100
LONGEST_FILE = 500  # lines of a file of the library or the program
# Functions that are one table (a switch or a list with a row a case), which may be as long as their table.
TABLES = set()


def sources():
  """Every C++ file of the folders and the tests, as (path from the root, text)."""
  for folder in ORDER + ["tests", "bench", "docs/examples"]:
    for path in sorted((ROOT / folder).rglob("*")):
      if path.suffix in (".cpp", ".h") and path.is_file():
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def written():
  """Every file that people write, as paths from the root."""
  for folder in ORDER + ["tests", "bench", "data", "packaging", ".ci", "docs/examples"]:
    for path in sorted((ROOT / folder).rglob("*")):
      if path.suffix in (".cpp", ".h", ".py", ".sh", ".build", ".in") or path.name == "run":
        if path.is_file() and "__pycache__" not in path.parts:
          yield path.relative_to(ROOT)
  yield from map(pathlib.Path, ["kontor", "meson.build", "meson_options.txt", ".clang-format", ".clang-tidy"])


def root():
  """What lies in the repository's root is what is listed here: a dump or a log that was committed by accident is seen."""
  known = {folder.split("/")[0] for folder in ORDER} | {
      "tests", "bench", "data", "docs", "packaging", ".ci", "kontor", "meson.build", "meson_options.txt", ".clang-format",
      ".clang-tidy", ".gitattributes", ".gitignore", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", ".git"}
  try:
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True).stdout.split("\0")
  except FileNotFoundError:
    listed = []
  names = {name.split("/")[0] for name in listed if name}
  if not names:  # no git: all but what git would ignore
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    names = {path.name for path in ROOT.iterdir() if not any(fnmatch.fnmatch(path.name, line) for line in ignored)}
  return [f"{name} does not belong in the root" for name in sorted(names - known)]


def folder_of(path):
  return next((folder for folder in ORDER if path.startswith(folder + "/")), None)


def folder_order():
  wrong = []
  for path, text in sources():
    own = folder_of(path)
    if own is None:
      continue
    for target in re.findall(r'^\s*#\s*include\s+"([^"]+)"', text, re.MULTILINE):
      other = folder_of(target)
      if other is None and not (ROOT / path).parent.joinpath(target).exists():
        wrong.append(f"{path}: \"{target}\" is not a path from the root")
      elif other is not None and ORDER.index(other) > ORDER.index(own):
        wrong.append(f"{path} includes {target}: {own} comes before {other}")
    if own == "include/kontor" and re.search(r'#\s*include\s+"', text):
      wrong.append(f"{path}: a public header includes only <kontor/...> and the standard library")
  return wrong


def codegen_part(path):
  """The folder below codegen/, or the file there without its ending; schedule's header and source are apart."""
  rest = path.split("/")[1:]
  return rest[0] if len(rest) > 1 or rest[0].startswith("schedule.") else rest[0].rsplit(".", 1)[0]


def codegen_floors():
  floor = {part: number for number, part in enumerate(part for parts in CODEGEN for part in parts)}
  wrong = []
  for path, text in sources():
    if not path.startswith("codegen/"):
      continue
    own = codegen_part(path)
    for target in re.findall(r'^#include "(codegen/[^"]+)"', text, re.MULTILINE):
      other = codegen_part(target)
      if other != own and floor[other] >= floor[own]:
        wrong.append(f"{path} includes {target}: {other} is not below {own}")
  return wrong


def renderers():
  """A renderer prints trees: of codegen it includes its own folder, trees, the target and what it is declared in."""
  known = ("codegen/tree/", "codegen/target.h", "codegen/render.h")
  return [f"{path} includes {target}" for path, text in sources() if path.startswith("codegen/render_")
          for target in re.findall(r'^#include "(codegen/[^"]+)"', text, re.MULTILINE)
          if not target.startswith((os.path.dirname(path) + "/", *known))]


def numbers_of_passes():
  """Passes ask the cost model: a number above 4, or a fraction, is none of theirs. In cost.h each constant has its unit."""
  chosen = ("codegen/stages/select", "codegen/stages/fuse", "codegen/stages/layout", "codegen/streams/", "codegen/moves/",
            "codegen/program/blocks")
  wrong = []
  for path, text in sources():
    if not path.startswith(chosen):
      continue
    for number, line in enumerate(text.split("\n"), 1):
      code = re.sub(r"//.*|\"(\\.|[^\"\\])*\"|'(\\.|[^'\\])+'", "", line)
      for literal in re.findall(r"(?<![\w.])\d[\w.]*", code):
        plain = literal.isdigit() and int(literal) <= 4
        if not plain and (path, literal) not in NOT_COSTS:
          wrong.append(f"{path}:{number}: {literal} belongs into codegen/cost.h, with its unit and its reason")
  for comment, name in re.findall(r"((?:^///.*\n)*)^inline constexpr [\w:]+ (\w+)", (ROOT / "codegen/cost.h").read_text(), re.MULTILINE):
    if not re.search(r"\[[\w ]+\]", comment):
      wrong.append(f"codegen/cost.h: {name} has no [unit]")
  return wrong


def long_files():
  return [f"{path}: {lines} lines, {LONGEST_FILE} at most" for path, text in sources()
          if folder_of(path) and (lines := text.count("\n")) > LONGEST_FILE]


def public_headers():
  headers = sorted((ROOT / "include/kontor").glob("*.h"))
  wrong = [] if len(headers) <= MAX_PUBLIC_HEADERS else [f"{len(headers)} public headers, {MAX_PUBLIC_HEADERS} at most"]
  for path in headers:
    text = path.read_text()
    for target in re.findall(r"#\s*include\s+<([^>]+)>", text):
      if re.match(r"(llvm|CL|cuda|nvrtc|fmt|nlohmann|zlib)", target):
        wrong.append(f"{path.name} includes <{target}>")
    wrong += [f"{path.name} defines the macro {name}" for name in re.findall(r"#\s*define\s+(\w+)", text) if name != "KONTOR_API"]
  return wrong


def opening_comments():
  """Line 1 (2 after #!) is a comment; an empty file is wrong too."""
  wrong = []
  for path in written():
    lines = [line for line in (ROOT / path).read_text().splitlines()[:3] if not line.startswith("#!")]
    if not lines or not lines[0].lstrip().startswith(("//", "#", '"""', "/*")):
      wrong.append(f"{path}: no opening comment that says its job")
    elif lines[0].startswith(("#include", "#pragma")):
      wrong.append(f"{path}: opens with code, not with a comment")
  return wrong


def unfinished():
  words = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3, "HA" + "CK"]) + r")\b")
  wrong = []
  for path in written():
    for number, line in enumerate((ROOT / path).read_text().splitlines(), 1):
      if words.search(line):
        wrong.append(f"{path}:{number}: {line.strip()}")
  return wrong


def charters():
  return [f"{folder}: its meson.build does not open with its charter" for folder in ORDER
          if not re.match(rf"# {re.escape(folder)}: ", (ROOT / folder / "meson.build").read_text())]


def function_lengths():
  """(lines, path, name) of every function of the library and the program, by universal-ctags."""
  files = {path: text for path, text in sources() if folder_of(path)}
  with tempfile.TemporaryDirectory() as copy:
    for path, text in files.items():
      target = pathlib.Path(copy, path)
      target.parent.mkdir(parents=True, exist_ok=True)
      # ctags loses every function in a `namespace a::inline b`, which only nn and marketplace are: their users' names are there.
      target.write_text(re.sub(r"namespace kontor::inline v0\b", "namespace kontor", text))
    done = subprocess.run(["ctags", "-L", "-", "--fields=+ne", "--kinds-C++=f", "--output-format=json", "-f", "-"], cwd=copy,
                          input="\n".join(files), capture_output=True, text=True, check=True)
  tags = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
  return sorted((tag["end"] - tag["line"] + 1, tag["path"], tag["name"]) for tag in tags if "end" in tag)


def long_functions():
  lengths = function_lengths()
  if len(lengths) < 10:
    return [f"ctags found only {len(lengths)} functions"]
  wrong = [f"{path}: {name} has {lines} lines, {LONGEST} at most" for lines, path, name in lengths
           if lines > LONGEST and f"{path}:{name}" not in TABLES]
  usual = lengths[int(0.95 * len(lengths))]
  print(f"{len(lengths)} functions; 95th percentile {usual[0]} lines; the longest: {lengths[-1][0]} ({lengths[-1][2]})")
  if usual[0] > USUAL:
    wrong.append(f"the 95th percentile is {usual[0]} lines, {USUAL} at most")
    wrong += [f"  {lines} {path}: {name}" for lines, path, name in lengths if lines > USUAL]
  return wrong


def report(name, wrong):
  if wrong:
    print(f"FAILED: {name}: {len(wrong)} places\n" + "\n".join(f"  {line}" for line in wrong[:40]))
  else:
    print(f"PASSED: {name}")
  return not wrong


def main():
  good = [report(check.__name__, check()) for check in
          (root, folder_order, codegen_floors, renderers, numbers_of_passes, long_files, public_headers, opening_comments, unfinished, charters)]
  ctags = shutil.which("ctags")
  if ctags and "Universal" in subprocess.run([ctags, "--version"], capture_output=True, text=True).stdout:
    good.append(report("long_functions", long_functions()))
  else:
    print("SKIPPED: long_functions: no universal-ctags")
  return 0 if all(good) else 1


if __name__ == "__main__":
  raise SystemExit(main())
