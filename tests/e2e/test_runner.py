#!/usr/bin/env python3
"""tests/run counts right: a stand-in for a Catch2 program passes, fails, skips, crashes and exits without a word."""
import os
import pathlib
import re
import subprocess
import tempfile

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
UNIT = r'''#!/usr/bin/env python3
import os, sys
names = ["[a] passes", "[a] fails, with 1 < 2", "[a] skips", "[b] crashes", "[b] exits", "[b] comes after"]
if "--list-test-names-only" in sys.argv:
  print("\n".join(names))
  sys.exit(len(names))
chosen = open(sys.argv[sys.argv.index("--input-file") + 1]).read().replace("\\", "")
out = open(sys.argv[sys.argv.index("--out") + 1], "w", buffering=1)
out.write("<Catch><Group>")
for name in names:
  if '"' + name + '"' not in chosen: continue
  if name == "[b] exits": os._exit(7)
  out.write('<TestCase name="%s">' % name.replace("<", "&lt;"))
  if "fails" in name:
    out.write('<Expression success="false" filename="t.cpp" line="3"><Original>a == b</Original><Expanded>1 == 2</Expanded></Expression>')
  if name == "[b] crashes": os.kill(os.getpid(), 11)
  if name == "[a] skips": print("SKIPPED: [a] skips: no device", flush=True)
  out.write('<OverallResult success="%s" durationInSeconds="0.1"/></TestCase>' % ("false" if "fails" in name else "true"))
out.write("</Group></Catch>")
'''


def suite(build, *names):
  done = subprocess.run([str(ROOT / "tests/run"), "--unit-only", "--build", str(build), *names], capture_output=True, text=True)
  return done.returncode, done.stdout, done.stderr


def main():
  good = True
  with tempfile.TemporaryDirectory() as folder:
    build = pathlib.Path(folder)
    (build / "tests").mkdir()
    (build / "tests/unit").write_text(UNIT)
    (build / "tests/unit").chmod(0o755)
    code, text, _ = suite(build)
    passing, none = suite(build, "comes after"), suite(build, "no such test")
    (build / "tests/unit").unlink()
    lost, no_build = suite(build), suite(build / "nowhere")
  for name, right in [
      ("counts", text.splitlines()[-1] == "2 passed, 3 failed, 1 skipped"),
      ("a failure is the exit code", code == 1 and passing[0] == 0),
      ("a failure shows place and values", "t.cpp:3: a == b" in text and "1 == 2" in text),
      ("a skip says why", "SKIPPED: [a] skips: no device" in text),
      ("a crash fails its own test only", "FAILED: [b] crashes" in text and "FAILED: [b] comes after" not in text),
      ("a silent exit is a failure", re.search(r"FAILED: \[b\] exits\n  exit code 7", text)),
      ("names choose tests", passing[1].endswith("1 passed, 0 failed, 0 skipped\n")),
      ("no test is no success", none[0] == 1),
      ("a build without tests is named", lost[0] == 1 and "tests/unit" in lost[2] and "catch2" in lost[2] and "Traceback" not in lost[2]),
      ("no build is named", no_build[0] == 1 and "nowhere is no build" in no_build[2] and "Traceback" not in no_build[2])]:
    print(f"PASSED: {name}" if right else f"FAILED: {name}: the suite said\n  " + text.replace("\n", "\n  "))
    good = good and bool(right)
  return 0 if good else 1


if __name__ == "__main__":
  raise SystemExit(main())
