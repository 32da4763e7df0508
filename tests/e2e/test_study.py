#!/usr/bin/env python3
"""kontor study: every study's short form passes, what is done is kept, a curve that is wrong turns it red."""
import fcntl
import os
import pathlib
import re
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from program import cut, kontor, png, refuses, report, rows  # noqa: E402

DATA = None


def names():
  return re.findall(r"^  ([\w-]+) ", kontor("study", "--help").split("Studies:")[1], re.MULTILINE)


def short_form(name):
  def check(out):
    printed = kontor("study", name, "--short", "--out", out)
    assert "passed" in printed and "failed" not in printed and "not judged" not in printed, printed
    assert (out / f"{name}.md").read_text() in printed
    assert png(out / f"{name}.png")[0] == 1520 and len(rows(out / f"{name}.csv")) > 1
  check.__name__ = f"short_form_of_{name}"
  return check


def keeps_what_is_done_and_judges_it(out):
  kontor("study", "backprop", "--short", "--out", out)
  metrics = out / "adam-64/metrics.csv"
  before = metrics.stat().st_mtime_ns
  kontor("study", "backprop", "--short", "--out", out)
  assert metrics.stat().st_mtime_ns == before, "it was trained again"
  lines = metrics.read_text().splitlines()
  cells = lines[-1].split(",")
  cells[lines[0].split(",").index("test_accuracy")] = "0.5"
  metrics.write_text("\n".join([*lines[:-1], ",".join(cells)]) + "\n")
  printed = kontor("study", "backprop", "--short", "--out", out, code=1)
  assert re.search(r"\| adam 64 .* 50.00 \| \*\*failed\*\*", printed), printed


def goes_on_where_it_stopped(out):
  settings = ["study", "backprop", "--short", "--set", "steps=6", "--set", "test-every=3", "--data", DATA]
  kontor(*settings, "--out", out / "whole")
  kontor(*settings, "--out", out / "half")
  # As if it had been killed after step 5 of the first run: its note says unfinished, and the other run is not there.
  first, note = out / "half/adam-64", out / "half/adam-64/run.json"
  note.write_text(note.read_text().replace('"finished": true', '"finished": false'))
  (first / "checkpoint-before.safetensors").rename(first / "checkpoint.safetensors")
  (out / "half/sgd-1e-2/run.json").unlink()
  kontor(*settings, "--out", out / "half")
  for run in ("adam-64", "sgd-1e-2"):
    for name in ("model.safetensors", "checkpoint.safetensors"):
      assert (out / "whole" / run / name).read_bytes() == (out / "half" / run / name).read_bytes(), (run, name)


def other_settings_and_data_are_not_judged(out):
  printed = kontor("study", "backprop", "--short", "--data", DATA, "--set", "steps=2", "--out", out)
  assert "not judged" in printed and "not reached" in printed and "12000 training images" in printed, printed


def spans_a_grid(out):
  printed = kontor("study", "backprop", "--short", "--data", DATA, "--set", "steps=2", "--grid", "lr=1e-3/1e-2",
                   "--grid", "batch=4/8", "--out", out)
  assert len(re.findall(r"^\| adam 64 lr=1e-[23] batch=[48] ", printed, re.MULTILINE)) == 4, printed


def a_folder_has_one_study(out):
  """Also where a run alone writes to the folder of one of its runs."""
  settings = ["study", "backprop", "--short", "--data", DATA, "--set", "steps=1", "--out", out]
  for folder in (out, out / "adam-64"):
    folder.mkdir()
    held = os.open(folder, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    printed = kontor(*settings, code=1)
    assert f"another run writes to {folder};" in printed, printed
    os.close(held)
  kontor(*settings)


def says_what_is_wrong(out):
  refuses(lambda *a, code: kontor("study", *a, "--out", out / "wrong", code=code), [
      (2, [], "name is required"),
      (1, ["v9"], "no study 'v9'; there are"),
      (1, ["backprop", "--short", "--set", "plan=full"], "--plan is not of --method backprop"),
      (1, ["backprop", "--short", "--grid", "lr"], "--grid lr is not NAME=VALUE/VALUE"),
      (2, ["backprop", "--short", "--set", "steps=x"], "Value x not in range"),
      (2, ["backprop", "--short", "--seeds", "1,18446744073709551616"], "18446744073709551616"),
      (2, ["backprop", "--short", "--out", ""], "--out: it is empty"),
      (1, ["backprop", "--short", "--data", str(out)], "no MNIST in"),
  ])


def main():
  global DATA
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    DATA = cut(folder / "data")
    return report([*map(short_form, names()), keeps_what_is_done_and_judges_it, goes_on_where_it_stopped,
                   other_settings_and_data_are_not_judged, spans_a_grid, a_folder_has_one_study, says_what_is_wrong], folder)


if __name__ == "__main__":
  raise SystemExit(main())
