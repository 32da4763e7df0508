#!/usr/bin/env python3
"""kontor train: its files, checkpoints that resume to the same bits, comparisons, and what it says of mistakes."""
import json
import os
import pathlib
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from program import PROGRAM, cut, kontor, png, refuses, report, rows  # noqa: E402

# Each way to train, as small as it gets.
WAYS = {
  "star": ["--plan", "star", "--vendors", "2,2,2,2,4"],
  "full": ["--plan", "full", "--vendors", "2,2,2"],
  "v1": ["--plan", "v1", "--vendors", "2,2,2"],
  "low-rank": ["--plan", "low-rank"],
  "activity": ["--plan", "activity", "--vendors", "1,1,2,2,1", "--one-in", "4,2,1,1,1"],
  "per-sample": ["--plan", "per-sample", "--vendors", "2,2,2"],
  "adam": ["--method", "backprop"],
  "sgd": ["--method", "backprop", "--optimizer", "sgd"],
}
SMALL = ["--vendors", "1,1,1,1,1"]
DATA = None


def train(out, *arguments, **more):
  return kontor("train", "--data", DATA, "--batch", 8, "--out", out, *arguments, **more)


def files(out):
  return {name: (out / name).read_bytes() for name in ("model.safetensors", "checkpoint.safetensors")}


def leaves_metrics_and_curves(out):
  printed = train(out, "--steps", 7, "--test-every", 3, *WAYS["star"])
  assert "test accuracy" in printed, printed
  table = rows(out / "metrics.csv")
  assert [row["step"] for row in table] == [str(i) for i in range(1, 8)], table
  assert [bool(row["test_accuracy"]) for row in table] == [False, False, True, False, False, True, True], table
  assert all(float(a["tflop"]) < float(b["tflop"]) for a, b in zip(table, table[1:])), table
  width, height, lines = png(out / "curve.png")
  assert (width, height) == (1520, 1280), (width, height)
  assert any(bytes([0xD5, 0x5E, 0x00]) in line for line in lines[640:]), "no curve of test accuracy"
  assert "<svg" in (out / "curve.svg").read_text()


def tests_a_tenth_of_the_steps_by_default(out):
  train(out, "--steps", 20, *WAYS["adam"])
  assert [row["step"] for row in rows(out / "metrics.csv") if row["test_accuracy"]] == [str(i) for i in range(2, 21, 2)]


def resumes_to_the_same_bits(out):
  for name, way in WAYS.items():
    train(out / name / "whole", "--steps", 6, *way)
    train(out / name / "half", "--steps", 6, "--checkpoint-every", 2, *way)
    # As a run that was killed after step 4 left it: the checkpoint before the last is that of step 4.
    half = out / name / "half"
    (half / "checkpoint-before.safetensors").rename(half / "checkpoint.safetensors")
    train(half, "--steps", 6, "--resume", half / "checkpoint.safetensors", *way)
    assert files(out / name / "whole") == files(half), name
    whole, resumed = rows(out / name / "whole/metrics.csv"), rows(half / "metrics.csv")
    for row in whole + resumed:
      del row["seconds"]
    assert whole == resumed, name


def keeps_the_newest_checkpoint_and_the_one_before(out):
  train(out, "--steps", 5, "--checkpoint-every", 2, *WAYS["adam"])
  for name, steps in (("checkpoint", 5), ("checkpoint-before", 4)):
    assert f'"steps":"{steps}"'.encode() in (out / f"{name}.safetensors").read_bytes(), name
  assert sorted(p.name for p in out.iterdir()) == ["checkpoint-before.safetensors", "checkpoint.safetensors", "curve.png",
                                                   "curve.svg", "metrics.csv", "model.safetensors"]


def stops_before_the_work_is_exceeded(out):
  train(out, "--steps", 3, *WAYS["star"])
  step = float(rows(out / "metrics.csv")[0]["tflop"])
  train(out, "--steps", 100, "--tflop", 4.5 * step, *WAYS["star"])
  assert len(rows(out / "metrics.csv")) == 4


def compares_from_the_same_weights(out):
  printed = train(out, "--steps", 4, "--compare", "marketplace,star,backprop", "--seed", 5)
  lines = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")] for line in printed.splitlines() if line.startswith("| ")}
  for name in ("marketplace", "star", "backprop"):
    work, seconds, accuracy = (float(lines[name][i]) for i in (4, 5, 6))
    last = rows(out / name / "metrics.csv")[-1]
    assert abs(accuracy - 100 * float(last["test_accuracy"])) < 0.01, printed
    assert float(last["seconds"]) > 0 and abs(seconds - float(last["seconds"])) < 0.06, printed  # printed in tenths
    assert work > 0 and abs(work - float(last["tflop"])) < 0.01 * work, printed
  assert float(lines["star"][4]) > float(lines["backprop"][4]), printed
  first = {name: rows(out / name / "metrics.csv")[0]["loss"] for name in ("marketplace", "star", "backprop")}
  assert first["star"] == first["backprop"], first  # the loss before the first update
  assert abs(float(first["marketplace"]) - float(first["star"])) < 1e-5, first  # the mean of losses, sample by sample
  width, _, lines = png(out / "compare.png")
  assert width == 1520 and "<svg" in (out / "compare.svg").read_text()
  for colour in ("0072b2", "d55e00"):
    assert any(bytes.fromhex(colour) in line for line in lines), f"no curve of colour {colour}"


def withholds_a_label_and_learns_it(out):
  train(out / "base", "--steps", 20, "--withhold", 9, *WAYS["adam"])
  base = rows(out / "base/metrics.csv")[-1]
  assert float(base["test_new"]) == 0 < float(base["test_old"]), base
  train(out / "more", "--steps", 12, "--pool", 256, "--new-label", 9, "--init", out / "base/model.safetensors", *WAYS["adam"])
  last = rows(out / "more/metrics.csv")[-1]
  assert last["test_new"] and last["test_old"], last
  shown = json.loads(kontor("eval", out / "more/model.safetensors", "--data", DATA, "--withhold", 9, "--json"))
  for column, name in (("test_old", "accuracy_old"), ("test_new", "accuracy_new"), ("test_accuracy", "accuracy")):
    assert abs(float(last[column]) - shown[name]) < 1e-4, (last, shown)


def begin(out, *arguments):
  """A run in the background, after its first checkpoint."""
  process = subprocess.Popen([PROGRAM, "train", "--data", DATA, "--out", out, *map(str, arguments)], stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True)
  end = time.monotonic() + 120
  while not (out / "checkpoint.safetensors").exists():
    assert process.poll() is None and time.monotonic() < end, process.communicate()[0]
    time.sleep(0.02)
  return process


def goes_on_by_the_command_that_a_signal_prints(out):
  """Also of a preset whose settings the command does not repeat, in a folder with a space, and for SIGTERM."""
  for number, way in ((signal.SIGINT, ["--preset", "adam", "--lr", "2e-3"]), (signal.SIGTERM, ["--preset", "block-star-3", *SMALL])):
    folder = out / f"a b {number}"
    begun = begin(folder, *way, "--steps", 400, "--batch", 8, "--seed", 7, "--checkpoint-every", 1)
    begun.send_signal(number)
    printed = begun.communicate(timeout=120)[0]
    assert begun.returncode == 128 + number, (begun.returncode, printed)
    words = shlex.split(printed.splitlines()[-1].split("go on with: ")[1])
    done = int(rows(folder / "metrics.csv")[-1]["step"])
    assert words[:2] == ["kontor", "train"] and 0 < done < 400, printed
    kontor(*words[1:], "--steps", done + 2)
    kontor("train", "--data", DATA, "--out", folder / "whole", *way, "--batch", 8, "--seed", 7, "--steps", done + 2)
    assert files(folder) == files(folder / "whole"), printed


def a_checkpoint_says_what_differs(out):
  train(out / "star", "--steps", 2, "--seed", 3, *WAYS["star"])
  train(out / "adam", "--steps", 2, "--seed", 3, *WAYS["adam"])
  for name, arguments, words in [
      ("star", ["--seed", "4"], "was trained with --seed=3, not with --seed=4"),
      ("adam", ["--seed", "4", "--batch", "16"], "was trained with --batch=8 --seed=3, not with --batch=16 --seed=4"),
      ("adam", ["--lr", "0.5", "--batch", "8"], "--lr=0.001, not with --lr=0.5"),
      ("adam", ["--optimizer", "sgd", "--batch", "8"], "--optimizer=adam, not with --optimizer=sgd"),
      ("adam", ["--pool", "100", "--batch", "8"], "--pool=0, not with --pool=100"),
      ("star", ["--preset", "adam", "--batch", "8"], "--method=marketplace, not with --method=backprop"),
      ("star", ["--preset", "v2", "--batch", "8", "--seed", "3"], "--plan=star"),
      ("star", ["--plan", "full", "--batch", "8"], "--plan=star, not with --plan=full")]:
    printed = kontor("train", "--data", DATA, "--out", out / "wrong", "--resume", out / name / "checkpoint.safetensors", *arguments,
                     code=1)
    assert words in printed, (arguments, printed)
  # Nothing needs to be said again; what may differ may.
  kontor("train", "--data", DATA, "--out", out / "star", "--resume", out / "star/checkpoint.safetensors", "--steps", 3, "--test-every", 1)
  assert len(rows(out / "star/metrics.csv")) == 3


def a_folder_has_one_run(out):
  first = begin(out / "run", "--steps", 100000, "--batch", 8, "--checkpoint-every", 1, *WAYS["adam"])
  try:
    printed = train(out / "run", "--steps", 2, *WAYS["adam"], code=1)
    assert "another run writes to" in printed and str(out / "run") in printed, printed
    assert first.poll() is None, "the first run ended"
  finally:
    first.kill()
    first.wait()
  # As a run leaves them that is killed while it writes; a file of somebody else's stays.
  for name in ("checkpoint.safetensors.tmp-12-0", "metrics.csv.tmp-99999-3", "checkpoint-before.safetensors.new", "notes.tmp-1-2"):
    (out / "run" / name).write_text("half")
  # And as one that was killed between keeping the old checkpoint and writing the new one.
  (out / "run/checkpoint-before.safetensors").unlink(missing_ok=True)
  (out / "run/checkpoint-before.safetensors").hardlink_to(out / "run/checkpoint.safetensors")
  train(out / "run", "--steps", 2, *WAYS["adam"])
  left = [p.name for p in (out / "run").iterdir() if "tmp" in p.name or p.name.endswith(".new")]
  assert left == ["notes.tmp-1-2"], left


def losses_that_are_not_finite_are_shown(out):
  """Deltas of 1e35 are too large for convolutions of pixels, not for the last layer."""
  printed = train(out, "--steps", 1, "--plan", "star", "--vendors", "2,2,2,2,2", "--probe-scale", "1e35", "--lr", "1")
  assert "losses not finite" in printed.split("step     1/1")[1].splitlines()[0], printed
  assert printed.count("marketplace: step 1:") == 1, printed


def work_does_not_drift_over_resumes(out):
  """Many short parts come to the same work as one run, to the last bit, also where metrics.csv was lost."""
  train(out / "whole", "--steps", 12, *WAYS["adam"])
  for step in range(1, 13):
    resume = ["--resume", out / "parts/checkpoint.safetensors"] if step > 1 else []
    train(out / "parts", "--steps", step, *resume, *WAYS["adam"])
    if step == 6:
      (out / "parts/metrics.csv").unlink()
  assert metadata(out / "parts")["tflop"] == metadata(out / "whole")["tflop"], (metadata(out / "parts"), metadata(out / "whole"))
  assert rows(out / "parts/metrics.csv")[-1]["tflop"] == rows(out / "whole/metrics.csv")[-1]["tflop"]


def metadata(out):
  data = (out / "checkpoint.safetensors").read_bytes()
  return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]


def says_what_is_wrong(out):
  train(out / "run", "--steps", 2, *WAYS["star"])
  checkpoint = out / "run/checkpoint.safetensors"
  refuses(lambda *a, code: train(out / "wrong", *a, code=code), [
      (2, ["--plan", "stars"], "stars"),
      (2, ["--steps", "0"], "0"),
      (2, ["--vendors", "4,x"], "'x' in '4,x'"),
      (2, ["--no-such-option"], "--no-such-option"),
      (1, ["--preset", "v9"], "no preset 'v9'; there are marketplace, backprop,"),
      (1, ["--preset", "v2", "--method", "backprop"], "preset v2 is of method marketplace, not of backprop"),
      (1, ["--method", "backprop", "--vendors", "4,4"], "--vendors is not of --method backprop"),
      (1, ["--optimizer", "sgd"], "--optimizer is not of --method marketplace"),
      (1, ["--groups", "conv1|linear"], "conv1|linear needs --vendors"),
      (1, ["--vendors", "4,4"], "2 vendor counts for"),
      (1, ["--plan", "activity", "--one-in", "4,4"], "--one-in 4,4 has 2 counts for 5 groups"),
      (1, ["--plan", "star", "--one-in", "2,1,1,1,1"], "the star plan has no vendors for one in 2 samples"),
      (1, ["--plan", "activity", "--lr-decay", "0.1"], "--lr-decay 0.1 is of --lr-schedule decay, not of linear"),
      (1, ["--pool", "601"], "601 of the 600"),
      (1, ["--withhold", "3", "--new-label", "3"], "label 3 is withheld and new"),
      (1, ["--compare", "marketplace,v9"], "no preset 'v9'"),
      (1, ["--resume", checkpoint, *WAYS["full"]], "was trained with"),
      (1, ["--init", checkpoint.parent / "none"], "none"),
      (2, ["--out", ""], "--out: it is empty"),
      (2, ["--resume", ""], "--resume: it is empty"),
      (2, ["--vendors", ""], "no number is given"),
      (2, ["--vendors", "2,2,"], "ends in a comma"),
      (2, ["--steps", "010"], "010"),
      (2, ["--steps", "0x10"], "0x10"),
      (2, ["--tflop", "nan"], "nan"),
      (2, ["--tflop", "inf"], "inf"),
      (2, ["--probe-scale", "nan"], "nan"),
      (2, ["--lr-decay", "nan", *WAYS["adam"]], "nan"),
      (2, ["--seed", "18446744073709551616"], "18446744073709551616"),
      (2, ["--seed", "-1"], "-1"),
  ])


def main():
  global DATA
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    DATA = cut(folder / "data")
    return report([leaves_metrics_and_curves, tests_a_tenth_of_the_steps_by_default, resumes_to_the_same_bits,
                   keeps_the_newest_checkpoint_and_the_one_before, stops_before_the_work_is_exceeded,
                   goes_on_by_the_command_that_a_signal_prints, a_checkpoint_says_what_differs, a_folder_has_one_run,
                   losses_that_are_not_finite_are_shown, work_does_not_drift_over_resumes, compares_from_the_same_weights, withholds_a_label_and_learns_it, says_what_is_wrong], folder)


if __name__ == "__main__":
  raise SystemExit(main())
