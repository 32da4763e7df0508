#!/usr/bin/env python3
"""kontor train gpt, generate and eval of texts: what a run leaves, that it goes on to the same bits, that its losses are
PyTorch's, and what it says of mistakes."""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from program import ROOT, kontor, png, refuses, report, rows  # noqa: E402

TINY = ["--layers", 1, "--width", 16, "--heads", 2, "--context", 16, "--batch", 4, "--sample", 0]
TEXT = None


def train(out, *arguments, text=None, **more):
  return kontor("train", "gpt", text or TEXT, *TINY, "--out", out, *arguments, **more)


def weights(out):
  return (out / "model.safetensors").read_bytes()


def learns_and_leaves_its_files(out):
  printed = train(out, "--steps", 150, "--warmup", 20, "--lr", "1e-2", "--test-every", 50, "--sample", 40)
  assert "validation loss" in printed and "tokens/s" in printed and "peak memory" in printed, printed
  table = rows(out / "metrics.csv")
  assert [r["step"] for r in table] == [str(i) for i in range(1, 151)], table
  assert [r["step"] for r in table if r["validation_loss"]] == ["50", "100", "150"], table
  assert float(table[-1]["tokens"]) == 150 * 4 * 16, table[-1]
  assert float(table[-1]["validation_loss"]) < float(table[0]["loss"]) - 0.5, (table[0], table[-1])
  width, height, _ = png(out / "curve.png")
  assert (width, height) == (1520, 640), (width, height)
  shown = json.loads(kontor("eval", out / "model.safetensors", "--data", TEXT, "--json"))
  assert abs(shown["validation_loss"] - float(table[-1]["validation_loss"])) < 1e-5, shown
  assert abs(shown["bits_per_byte"] - shown["validation_loss"] / math.log(2)) < 1e-9, shown
  assert "bits a byte" in kontor("eval", out / "model.safetensors", "--data", TEXT)


def goes_on_to_the_same_bits(out):
  more = ["--dropout", "0.2", "--steps", 6, "--warmup", 2]  # dropout: random numbers go on too
  train(out / "whole", *more)
  train(out / "one", *more, "--threads", 1)
  assert weights(out / "whole") == weights(out / "one"), "one thread and two"
  half = out / "half"
  train(half, *more, "--checkpoint-every", 2)
  (half / "checkpoint-before.safetensors").rename(half / "checkpoint.safetensors")  # as a run killed after step 4 left it
  kontor("train", "gpt", TEXT, "--out", half, "--resume", half / "checkpoint.safetensors")
  assert weights(out / "whole") == weights(half), "resumed"
  whole, resumed = rows(out / "whole/metrics.csv"), rows(half / "metrics.csv")
  for row in whole + resumed:
    del row["seconds"]
  assert whole == resumed, (whole, resumed)


def goes_on_to_the_same_bits_with_forward_passes_only(out):
  more = ["--method", "marketplace", "--steps", 6, "--warmup", 2]
  train(out / "whole", *more)
  train(out / "one", *more, "--threads", 1)
  assert weights(out / "whole") == weights(out / "one"), "one thread and two"
  train(out / "half", *more, "--checkpoint-every", 3)
  kontor("train", "gpt", TEXT, "--out", out / "later", "--resume", out / "half/checkpoint-before.safetensors")
  assert weights(out / "whole") == weights(out / "later"), "resumed"


def goes_on_to_the_same_bits_with_feedback(out):
  more = ["--preset", "feedback", "--steps", 36, "--warmup", 2]  # all groups have noise in the first 30
  train(out / "whole", *more)
  train(out / "one", *more, "--threads", 1)
  assert weights(out / "whole") == weights(out / "one"), "one thread and two"
  train(out / "half", *more, "--checkpoint-every", 18)
  kontor("train", "gpt", TEXT, "--out", out / "later", "--resume", out / "half/checkpoint-before.safetensors")
  assert weights(out / "whole") == weights(out / "later"), "resumed"
  table = rows(out / "whole/metrics.csv")
  assert float(table[-1]["validation_loss"]) < float(table[0]["loss"]) - 0.2, (table[0], table[-1])
  printed = train(out / "nan", *more, "--lr", "1e38", "--least-lr", "1e38", code=1)
  assert "loss of step" in printed and not (out / "nan/model.safetensors").exists(), printed


def learns_with_forward_passes_only(out):
  train(out, "--method", "marketplace", "--steps", 150, "--warmup", 5, "--lr", "1e-2", "--batch", 16)
  table = rows(out / "metrics.csv")
  assert float(table[-1]["validation_loss"]) < float(table[0]["loss"]) - 0.2, (table[0], table[-1])


def takes_about_the_seconds_that_it_is_given(out):
  train(out, "--seconds", "0.5")
  table = rows(out / "metrics.csv")
  assert len(table) >= 20, len(table)
  saved = (out / "checkpoint.safetensors").read_bytes()
  assert f"--steps={len(table)}".encode() in saved, "the steps that it came to are not in the checkpoint"


def loss_is_pytorchs(out):
  """Twenty steps of two layers, with decay and clipping, from the same weights."""
  python = ROOT / ".venv-bench/bin/python"
  if not python.exists() or subprocess.run([python, "-c", "import torch"], capture_output=True).returncode:
    print("SKIPPED: loss_is_pytorchs: no PyTorch in .venv-bench")
    return
  common = ["--layers", 2, "--width", 32, "--heads", 4, "--context", 32, "--warmup", 100, "--lr", "1e-2", "--seed", 3]
  # The weights before any step: what a step of such a rate leaves of them.
  train(out / "start", *common, "--steps", 1, "--lr", "1e-30", "--least-lr", "1e-30", "--decay", 0)
  train(out / "run", *common, "--steps", 200, "--checkpoint-every", 0, "--test-every", 200, "--clip", "0.7", "--decay", "0.3")
  ours = [float(r["loss"]) for r in rows(out / "run/metrics.csv")][:20]
  done = subprocess.run([python, ROOT / "tests/gpt_in_torch.py", out / "start/model.safetensors", TEXT, "20", "4", "3", "1e-2", "100",
                         "0.3", "0.99", "0.7"], capture_output=True, text=True)
  assert done.returncode == 0, done.stderr
  theirs = [float(line) for line in done.stdout.split()]
  worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
  assert worst < 1e-5, (worst, ours, theirs)


def writes_text(out):
  train(out, "--steps", 30)
  model = out / "model.safetensors"
  one = kontor("generate", model, "--prompt", "to be", "--tokens", 50, "--seed", 4)
  assert one.startswith("to be") and len(one) == 5 + 50 + 1, one
  assert one == kontor("generate", model, "--prompt", "to be", "--tokens", 50, "--seed", 4, "--threads", 1)
  assert one != kontor("generate", model, "--prompt", "to be", "--tokens", 50, "--seed", 5)
  greedy = kontor("generate", model, "--tokens", 40, "--temperature", 0)
  assert greedy == kontor("generate", model, "--tokens", 40, "--top-k", 1)
  for dtype in ("f32", "bf16", "f16"):
    narrow = kontor("generate", model, "--prompt", "to be", "--tokens", 20, "--dtype", dtype, "--seed", 4)
    assert narrow.startswith("to be") and len(narrow) == 5 + 20 + 1, narrow
    assert dtype != "f32" or one.startswith(narrow[:-1]), (one, narrow)
  long = "to be or not to be " * 5  # longer than the context
  assert kontor("generate", model, "--prompt", long, "--tokens", 3).startswith(long)


def learns_in_narrow_dtypes(out):
  last = {}
  for dtype in ("f32", "bf16", "f16"):
    train(out / dtype, "--steps", 120, "--warmup", 20, "--lr", "1e-2", "--dtype", dtype)
    last[dtype] = float(rows(out / dtype / "metrics.csv")[-1]["validation_loss"])
    assert kontor("generate", out / dtype / "model.safetensors", "--prompt", "to be", "--tokens", 5).startswith("to be")
  for dtype in ("bf16", "f16"):
    assert 0 < abs(last[dtype] / last["f32"] - 1) < 0.01, last
  resume = out / "bf16/checkpoint.safetensors"
  printed = kontor("train", "gpt", TEXT, "--out", out / "other", "--resume", resume, "--dtype", "f16", code=1)
  assert "--dtype=bf16" in printed and "--dtype=f16" in printed, printed


def learns_by_recipes(out):
  last = {}
  for recipe in ("none", "fp8-current", "nvfp4"):
    train(out / recipe, "--steps", 120, "--warmup", 20, "--lr", "1e-2", "--recipe", recipe)
    last[recipe] = float(rows(out / recipe / "metrics.csv")[-1]["validation_loss"])
  assert 0 < abs(last["fp8-current"] / last["none"] - 1) < 0.02 and 0 < abs(last["nvfp4"] / last["none"] - 1) < 0.05, last
  for layout in ("tensor", "blocks"):
    exported = out / f"{layout}.safetensors"
    kontor("scalify", "export", out / "none/model.safetensors", exported, "--layout", layout)
    assert exported.stat().st_size < (out / "none/model.safetensors").stat().st_size
    loss = json.loads(kontor("eval", exported, "--data", TEXT, "--json"))["validation_loss"]
    assert 0 < abs(loss / last["none"] - 1) < 0.01, (layout, loss, last)
  # A recipe of one's own, whose draws and rounded moments go on too; weights in f16 that are written stochastically.
  mine = out / "mine.txt"
  mine.write_text(kontor("scalify", "recipes", "nvfp4").replace("state f32", "state f8e4m3 scale=f32 block=128"))
  for recipe in (mine, "fp8"):
    more = ["--steps", 6, "--warmup", 2, "--recipe", recipe]
    whole, half = out / f"whole-{pathlib.Path(recipe).stem}", out / f"half-{pathlib.Path(recipe).stem}"
    train(whole, *more)
    train(half, *more, "--checkpoint-every", 2)
    (half / "checkpoint-before.safetensors").rename(half / "checkpoint.safetensors")
    kontor("train", "gpt", TEXT, "--out", half, "--resume", half / "checkpoint.safetensors")
    assert weights(whole) == weights(half), f"{recipe}: resumed"
  train(out / "forward", "--steps", 3, "--warmup", 2, "--method", "marketplace", "--recipe", "mxfp8")
  mine.write_text("recipe mine\nweight f9\n")
  (out / "placed.txt").write_text("recipe placed\ngradient f8e5m2 scale=propagated rescale=each\n")
  (out / "layers.txt").write_text("recipe mine\nlayer blocks.7.* all f16\n")
  refuses(lambda *a, code: kontor("train", "gpt", TEXT, *TINY, *a, "--out", out / "wrong", code=code), [
      (1, ["--recipe", "fp9"], "there is no recipe 'fp9'; there are: f32-pass fp16 fp8 fp8-placed fp8-unscaled"),
      (1, ["--recipe", out / "placed.txt"], "scales are fitted anew elsewhere than at norms, or placed, which the pass over the graph does not do"),
      (1, ["--recipe", mine], "mine.txt, line 2: format: unknown format 'f9'; known: f4e2m1"),
      (1, ["--recipe", out / "layers.txt"], "no layer is called 'blocks.7.*'; there are: blocks.0.attention.joint"),
      (1, ["--recipe", out / "none.txt"], "none.txt"),
  ])


def shows_what_recipes_round(out):
  printed = kontor("train", "gpt", TEXT, *TINY, "--steps", 17, "--recipe", "fp8", "--telemetry-every", 8, "--out", out / "fp8")
  assert 5 < float(printed.split("training state")[1].split()[0]) < 6, printed  # 16 of f32
  seen = json.loads((out / "fp8/telemetry.json").read_text())
  assert [batch["step"] for batch in seen] == [0, 8, 16], seen
  values = seen[-1]["values"]
  assert {value["format"] for value in values} == {"f8e4m3", "f8e5m2", "f16"}, values
  assert len(rows(out / "fp8/telemetry.csv")) == 3 * len(values)
  assert png(out / "fp8/telemetry.png")[0] == 1520
  # It changes nothing.
  train(out / "quiet", "--steps", 17, "--recipe", "fp8")
  assert weights(out / "quiet") == weights(out / "fp8")
  dropped = ["--steps", 9, "--recipe", "fp8-placed", "--dropout", "0.2"]
  train(out / "dropped", *dropped)
  train(out / "seen", *dropped, "--telemetry-every", 3)
  assert weights(out / "dropped") == weights(out / "seen")
  # Where scales are corrected they are in what is seen, with what is dropped.
  placed = out / "placed.txt"
  placed.write_text(kontor("scalify", "recipes", "fp8-placed").replace("recipe fp8-placed", "recipe mine").replace("gradient f8e5m2", "gradient f8e4m3"))
  train(out / "placed", "--steps", 1, "--recipe", placed, "--telemetry-every", 1, "--batch", 16, "--dropout", "0.9", "--init", "wide")
  values = json.loads((out / "placed/telemetry.json").read_text())[0]["values"]
  assert any(value["exponent"].startswith("measured") for value in values), values
  # A run that goes on keeps what was seen before.
  half = out / "half"
  train(half, *dropped, "--telemetry-every", 3, "--checkpoint-every", 4)
  kontor("train", "gpt", TEXT, "--out", half, "--resume", half / "checkpoint-before.safetensors")
  for name in ("telemetry.json", "telemetry.csv"):
    assert (half / name).read_text() == (out / "seen" / name).read_text(), name
  report = kontor("scalify", "report", out / "fp8/model.safetensors", TEXT, "--recipe", "fp8,fp16", "--batch", 2, "--out", out)
  assert report.count("values are rounded") == 2 and (out / "fp16.json").exists() and "f8e4m3" in report, report
  whole = kontor("scalify", "compare", "short", TEXT, "--recipes", "f32-pass,fp8", "--steps", 3, "--out", out / "compare")
  assert "| f32-pass | 3 steps | validation loss % above that of f32 | 0 ± 0 | 0.00 | not judged |" in whole, whole
  refuses(lambda *a, code: kontor(*a, code=code), [
      (1, ["scalify", "compare", "all"], "no comparison 'all'; there are parity paper short"),
      (1, ["train", "gpt", TEXT, "--telemetry-every", 8, "--recipe", "mxfp8", "--out", out / "no"], "scales are propagated, not of mxfp8"),
      (1, ["scalify", "report", out / "fp8/model.safetensors", TEXT, "--recipe", "mxfp8"], "scales are measured"),
  ])


def learns_bytes_of_any_kind(out):
  out.mkdir(parents=True)
  (out / "binary").write_bytes(bytes(range(256)) * 20)
  train(out / "run", "--steps", 2, text=out / "binary")
  # Read as UTF-8, which it is whatever is written; and no byte of it steers a terminal.
  printed = kontor("generate", out / "run/model.safetensors", "--tokens", 2000, "--temperature", 9)
  assert "\\x1b" in printed and all(c == "\n" or c == "\t" or c.isprintable() or ord(c) > 0x9F for c in printed), printed


def learns_from_a_text_larger_than_memory(out):
  out.mkdir(parents=True)
  with open(out / "large", "wb") as file:
    file.truncate(10 << 30)  # zeros that take no room; more than 64 MiB are not searched for the bytes that occur
  printed = train(out / "run", "--steps", 2, "--context", 64, text=out / "large")
  assert "9663676416 bytes of 256 kinds to learn from, 1073741824 to check by" in printed, printed
  megabytes = float(printed.split("peak memory")[1].split()[0])
  assert megabytes < 1000, printed


def learns_byte_pairs(out):
  """A vocabulary of pairs is a part of the run: other threads, a resume, generate and eval have the same."""
  more = ["--vocabulary", "bpe:400", "--steps", 6, "--warmup", 2]
  printed = train(out / "whole", *more)
  assert "400 tokens of 1." in printed, printed
  train(out / "one", *more, "--threads", 1)
  assert weights(out / "whole") == weights(out / "one"), "one thread and two"
  train(out / "half", *more, "--checkpoint-every", 3)
  kontor("train", "gpt", TEXT, "--out", out / "later", "--resume", out / "half/checkpoint-before.safetensors")
  assert weights(out / "whole") == weights(out / "later"), "resumed"
  model, last = out / "whole/model.safetensors", rows(out / "whole/metrics.csv")[-1]
  shown = json.loads(kontor("eval", model, "--data", TEXT, "--json"))
  assert abs(shown["validation_loss"] - float(last["validation_loss"])) < 1e-5, (shown, last)
  assert abs(shown["bits_per_byte"] - float(last["bits_per_byte"])) < 1e-5, (shown, last)
  assert 1.5 < shown["validation_loss"] / math.log(2) / shown["bits_per_byte"] < 3, shown  # bytes a token
  assert kontor("generate", model, "--prompt", "to be \u00e9~", "--tokens", 9).startswith("to be \u00e9~")
  (out / "binary").write_bytes(bytes(range(256)) * 20)
  train(out / "run", "--steps", 2, "--vocabulary", "bpe:300", text=out / "binary")
  with open(out / "large", "wb") as file:
    file.truncate(10 << 30)
  printed = train(out / "zeros", "--steps", 2, "--vocabulary", "bpe:300", text=out / "large")
  assert float(printed.split("peak memory")[1].split()[0]) < 1000, printed
  refuses(lambda *a, code: train(out / "wrong", *a, code=code), [
      (2, ["--vocabulary", "bpe:256"], "256"), (2, ["--vocabulary", "bpe:"], "'bpe:' is neither chars nor bpe:N"),
      (2, ["--vocabulary", "words"], "'words' is neither chars nor bpe:N"),
      (1, ["--vocabulary", "bpe:2000", "--context", 1000], "a context of 1000 tokens is longer than what there is to check by"),
      (1, ["--resume", out / "half/checkpoint.safetensors", "--vocabulary", "chars"], "was trained with --vocabulary=bpe:400"),
  ])


def compares_ways_to_train(out):
  """The same model and windows by backprop and with forward passes only: one table, curves over steps, work and time."""
  arguments = ["--compare", "backprop,low-rank", "--tflop", "4e-5", "--seed", 5]
  printed = train(out, *arguments)
  table = (out / "compare.md").read_text()
  assert table in printed and "| validation loss | bits a byte |" in table, printed
  curves = rows(out / "compare.csv")
  for run in ("backprop", "low-rank"):
    last = rows(out / run / "metrics.csv")[-1]
    assert 3e-5 < float(last["tflop"]) <= 4e-5, last
    assert [r["validation_loss"] for r in curves if r["run"] == run][-1] == f'{float(last["validation_loss"]):.4f}', curves
  assert png(out / "compare.png")[1] == 4 * 640, "validation loss over steps, work and time, and bits over steps"
  metrics = out / "low-rank/metrics.csv"
  before = metrics.stat().st_mtime_ns
  train(out, *arguments)
  assert metrics.stat().st_mtime_ns == before, "it was trained again"
  # Settings of an entry's own, and several seeds.
  train(out / "own", "--compare", "tiny,tiny:dtype=bf16:lr=1e-3", "--steps", 4, "--seed", 5, "--seeds", 2)
  for seed in (5, 6):
    losses = {run: rows(out / "own" / run / f"seed-{seed}/metrics.csv")[-1]["loss"] for run in ("tiny", "tiny-dtype-bf16-lr-1e-3")}
    assert len(set(losses.values())) == 2, losses
  refuses(lambda *a, code: train(out / "wrong", *a, code=code), [
      (1, ["--compare", "tiny:fast"], "--compare tiny:fast: 'fast' is no setting"), (2, ["--compare", "tiny:dtype=f64"], "f64 not in")])
  # With the settings of one of them alone: the same run.
  kontor("train", "gpt", TEXT, "--preset", "low-rank", *TINY, "--tflop", "4e-5", "--seed", 5, "--test-every", 0, "--out", out / "alone")
  assert weights(out / "alone") == weights(out / "low-rank")


def says_what_is_wrong(out):
  out.mkdir(parents=True)
  for name, text in (("empty", b""), ("one", b"a"), ("short", b"to be or not to be, that is the question")):
    (out / name).write_bytes(text)
  train(out / "run", "--steps", 4, "--checkpoint-every", 2)
  model, checkpoint = out / "run/model.safetensors", out / "run/checkpoint.safetensors"
  before = weights(out / "run")
  go_on = ["--resume", checkpoint]
  refuses(lambda *a, code: kontor("train", "gpt", *a, "--out", out / "wrong", code=code), [
      (1, [out / "empty"], "empty: a text of 0 bytes; needs 20"),
      (1, [out / "one"], "one: a text of 1 bytes; needs 20"),
      (1, [out / "short"], "a context of 64 is longer than what there is to check by, 4 of 40 bytes"),
      (1, [out / "none"], "none"),
      (1, [out], "it is a folder"),
      (1, [TEXT, "--heads", 3], "3 heads do not divide a width of 128"),
      (1, [TEXT, "--kv-heads", 3], "3 heads of keys do not divide 4 of queries"),
      (1, [TEXT, "--preset", "huge"], "no preset 'huge'; there are marketplace, backprop, minute, tiny, nano, low-rank, feedback"),
      (1, [TEXT, "--steps", 5, "--seconds", 5], "either --steps or --seconds"),
      (1, [TEXT, "--compare", "backprop,v9"], "no preset 'v9'; there are marketplace, backprop, minute"),
      (1, [TEXT, "--compare", "backprop", "--resume", checkpoint], "--compare starts backprop anew; it takes no --resume"),
      (1, [TEXT, "--plan", "low-rank"], "--plan is not of --method backprop"),
      (1, [TEXT, "--method", "marketplace", "--clip", 2], "--clip is not of --method marketplace"),
      (1, [TEXT, "--method", "marketplace", "--dropout", 0.1], "--dropout 0.1: a vendor and its opposite"),
      (2, [TEXT, "--method", "marketplace", "--plan", "star"], "star"),
      (1, [TEXT, "--preset", "feedback", "--probe-scale", 1], "--probe-scale is of --plan low-rank, not of feedback"),
      (1, [TEXT, "--preset", "feedback", "--dtype", "bf16"], "--plan feedback has products of f32, not of bf16"),
      (2, [TEXT, "--context", 0], "0"),
      (2, [TEXT, "--dtype", "f8"], "f8"),
      (2, [TEXT, "--lr", "nan"], "nan"),
      (1, [TEXT, *go_on, "--width", 32], "was trained with --width=16, not with --width=32"),
      (1, [TEXT, *go_on, "--steps", 9], "was trained with --steps=4, not with --steps=9"),
      (1, [TEXT, "--resume", model], "says nothing of 'settings'"),
      (1, [ROOT / "README.md", *go_on], "was trained on a text of 20000 bytes"),
  ])
  refuses(lambda *a, code: kontor("generate", *a, code=code), [
      (1, [model, "--prompt", "to be ~"], "--prompt: '~' at offset 6 is not among the"),
      (2, [model, "--temperature", -1], "-1"),
      (2, [model, "--prompt", ""], "it is empty"),
      (1, [TEXT], "text"),
      (1, [out / "none"], "none"),
  ])
  refuses(lambda *a, code: kontor(*a, code=code), [
      (1, ["train", "--steps", 3, "gpt"], "--steps stands before gpt"),
      (1, ["eval", model, "--data", out / "empty"], "a text of 0 bytes"),
  ])
  assert weights(out / "run") == before
  printed = train(out / "nan", "--steps", 3, "--lr", "1e38", "--least-lr", "1e38", "--warmup", 1, "--clip", 0, "--decay", 0, code=1)
  assert "loss of step" in printed, printed
  assert not (out / "nan/model.safetensors").exists()


def main():
  global TEXT
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    TEXT = folder / "text"
    TEXT.write_bytes((ROOT / "data/tinyshakespeare.txt").read_bytes()[:20000])
    return report([learns_and_leaves_its_files, goes_on_to_the_same_bits, goes_on_to_the_same_bits_with_forward_passes_only,
                   goes_on_to_the_same_bits_with_feedback, learns_with_forward_passes_only, takes_about_the_seconds_that_it_is_given, loss_is_pytorchs, writes_text,
                   learns_in_narrow_dtypes, learns_by_recipes, shows_what_recipes_round, learns_bytes_of_any_kind, learns_from_a_text_larger_than_memory, learns_byte_pairs, compares_ways_to_train,
                   says_what_is_wrong], folder)


if __name__ == "__main__":
  raise SystemExit(main())
