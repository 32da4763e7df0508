#!/usr/bin/env python3
"""KONTOR_TRACE: a file in Chrome's trace event format with what was scheduled, compiled and launched."""
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from program import cut, kontor, report  # noqa: E402

DATA = None


def traced(out, **more):
  path = out / "trace.json"
  kontor("train", "--data", DATA, "--method", "backprop", "--batch", 4, "--steps", 2, "--out", out / "run",
         env={"KONTOR_TRACE": str(path), "KONTOR_CACHE_DIR": str(out / "cache"), **more})
  return json.loads(path.read_text())["traceEvents"]


def holds_kernels_schedules_and_compiles(out):
  events = traced(out)
  kinds = {event["cat"] for event in events if event["ph"] == "X"}
  assert kinds == {"kernel", "schedule", "compile", "render"}, kinds
  for event in events:
    assert event["ph"] in "XM" and {"name", "pid", "tid"} <= event.keys(), event
    assert event["ph"] == "M" or (event["ts"] >= 0 and event["dur"] >= 0), event
  kernels = [event for event in events if event.get("cat") == "kernel"]
  assert [event["args"]["launch"] for event in kernels] == list(range(len(kernels)))
  # One thread launches kernels one after another, so they do not overlap.
  for a, b in zip(kernels, kernels[1:]):
    assert a["ts"] + a["dur"] <= b["ts"] + 0.002, (a, b)
  compiled = [event["args"]["kernels"] for event in events if event.get("cat") == "compile"]
  assert sum(compiled) == sum(event.get("cat") == "render" for event in events), compiled
  assert "load" in {event.get("cat") for event in traced(out)}  # now from the cache


def a_second_start_schedules_and_compiles_nothing(out):
  def kinds(*arguments, **env):
    path, cache = out / "second.json", out / "kept"
    printed = kontor("train", *arguments, "--out", out / "again", env={"KONTOR_TRACE": str(path), "KONTOR_CACHE_DIR": str(cache), **env})
    return {event["cat"] for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"}, printed

  for arguments in (["gpt", "--preset", "tiny", "--steps", 4, "--sample", 0], ["--data", DATA, "--batch", 4, "--steps", 2]):
    assert "schedule" in kinds(*arguments)[0]
    for _ in range(2):
      assert kinds(*arguments)[0] == {"load", "kernel"}
  # A torn file is said where that is asked for, and made anew.
  for path in (out / "kept").glob("*.schedule"):
    path.write_bytes(path.read_bytes()[:-1])
  found, printed = kinds(*arguments, KONTOR_DEBUG="1")
  assert "schedule" in found and "compile" not in found, found
  assert "in the cache is damaged or of another version; it is made anew" in printed, printed
  assert kinds(*arguments)[0] == {"load", "kernel"}


def a_file_that_cannot_be_written_is_said(out):
  printed = kontor("train", "--data", DATA, "--method", "backprop", "--batch", 4, "--steps", 1, "--out", out / "run",
                   env={"KONTOR_TRACE": str(out / "none/trace.json")})
  assert "KONTOR_TRACE" in printed and "none/trace.json" in printed, printed


def is_off_by_default(out):
  kontor("train", "--data", DATA, "--method", "backprop", "--batch", 4, "--steps", 1, "--out", out, env={"KONTOR_TRACE": "0"})
  assert not list(out.glob("**/*trace*"))


def main():
  global DATA
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    DATA = cut(folder / "data")
    return report([holds_kernels_schedules_and_compiles, a_second_start_schedules_and_compiles_nothing, a_file_that_cannot_be_written_is_said, is_off_by_default], folder)


if __name__ == "__main__":
  raise SystemExit(main())
