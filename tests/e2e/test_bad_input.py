#!/usr/bin/env python3
"""Bad input to the program: one row a mistake. Each must end with exit code 1 or 2 and one message that says what was wrong and
with which value, and leave nothing half-written behind."""
import gzip
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import tempfile

KONTOR = os.environ["KONTOR"]
SOURCE = pathlib.Path(os.environ["KONTOR_SOURCE"])
TRAIN = ["train", "--steps", "2", "--batch", "4"]
SMALL = TRAIN + ["--plan", "star", "--vendors", "1,1,1,1,1"]
BACKPROP = TRAIN + ["--method", "backprop"]


def idx(folder, name, kind, shape, values):
  header = struct.pack(">HBB", 0, 8, len(shape)) + b"".join(struct.pack(">I", n) for n in shape)
  (folder / name).write_bytes(header + bytes(values))


def digits(folder, size=28, labels=8, label=3, images=8):
  """A folder that looks like MNIST."""
  folder.mkdir()
  for part in ("train", "t10k"):
    idx(folder, f"{part}-images-idx3-ubyte", 3, (images, size, size), bytes(images * size * size))
    idx(folder, f"{part}-labels-idx1-ubyte", 1, (labels,), [label] * labels)
  return folder


def safetensors(path, metadata, tensors):
  """Of f32 zeros."""
  header, at = {"__metadata__": metadata}, 0
  for name, shape in tensors.items():
    size = 4
    for n in shape:
      size *= n
    header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
    at += size
  text = json.dumps(header).encode()
  path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(at))
  return path


def metadata_of(path):
  data = path.read_bytes()
  return json.loads(data[8:8 + struct.unpack("<Q", data[:8])[0]])["__metadata__"]


def with_metadata(source, target, **changes):
  """A copy of a checkpoint with other metadata."""
  data = source.read_bytes()
  length = struct.unpack("<Q", data[:8])[0]
  header = json.loads(data[8:8 + length])
  for key, value in changes.items():
    header["__metadata__"].pop(key, None)
    if value is not None:
      header["__metadata__"][key] = value
  text = json.dumps(header).encode()
  target.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])
  return target


def numbers(star, adam):
  """Of a checkpoint: none of them may be an option either."""
  yield from ((checkpoint, key, value) for checkpoint in (star, adam) for key, value in (
      ("steps", "9223372036854775807"), ("steps", "-1"), ("steps", " 2"), ("steps", "1099511627777"), ("lr", "nan"), ("lr", "-0.1"),
      ("lr", "inf"), ("lr", "0x1p-3"), ("lr_decay", "1"), ("lr_decay", "-1"), ("tflop", "nan"), ("tflop", "-1"),
      ("context_seed", "18446744073709551616"), ("context_counter", "-1"), ("settings", "{}"), ("settings", "[1]"),
      ("settings", '["--batch=0"]'), ("settings", '["--lr=nan"]'), ("settings", "[")))
  yield star, "meta_lr_range", "7"
  yield adam, "optimizer_steps", "9223372036854775807"


def damaged_metrics(checkpoint, folder, step):
  """A run whose metrics.csv has such a step."""
  shutil.copytree(checkpoint.parent, folder)
  lines = (folder / "metrics.csv").read_text().splitlines()
  (folder / "metrics.csv").write_text("\n".join([lines[0], step + "," + lines[1].split(",", 1)[1]]) + "\n")
  return folder / "checkpoint.safetensors"


class Files:
  """What the rows read: data sets, models and checkpoints, whole and damaged ones."""

  def __init__(self, root):
    self.root = root
    self.out = root / "out"
    whole = digits(root / "whole")
    self.small_images, self.labels_wrong = digits(root / "small", size=10), digits(root / "labels", label=12)
    self.counts_differ, self.empty = digits(root / "counts", labels=7), root / "empty"
    self.empty.mkdir()
    self.truncated = shutil.copytree(whole, root / "truncated")
    images = self.truncated / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    self.magic = shutil.copytree(whole, root / "magic")
    (self.magic / "train-images-idx3-ubyte").write_bytes(b"not an IDX file at all")
    self.gzipped = shutil.copytree(whole, root / "gzipped")
    (self.gzipped / "train-images-idx3-ubyte").unlink()
    packed = gzip.compress((whole / "train-images-idx3-ubyte").read_bytes())
    (self.gzipped / "train-images-idx3-ubyte.gz").write_bytes(packed[:-20])
    self.whole = whole
    run(SMALL + ["--out", str(root / "star"), "--data", str(whole)], expect=0)
    run(BACKPROP + ["--out", str(root / "adam"), "--data", str(whole)], expect=0)
    self.star, self.adam = root / "star/checkpoint.safetensors", root / "adam/checkpoint.safetensors"
    self.model = root / "star/model.safetensors"
    self.torn = root / "torn.safetensors"
    self.torn.write_bytes(self.star.read_bytes()[:5000])
    self.garbage = root / "garbage.safetensors"
    self.garbage.write_bytes(b"\xff" * 200)
    self.no_steps = with_metadata(self.star, root / "no_steps.safetensors", steps=None)
    self.bad_steps = with_metadata(self.star, root / "bad_steps.safetensors", steps="many")
    self.no_lr = with_metadata(self.adam, root / "no_lr.safetensors", lr=None)
    self.bad_lr = with_metadata(self.adam, root / "bad_lr.safetensors", lr="fast")
    self.numbers = [(key, value, with_metadata(checkpoint, root / f"{checkpoint.parent.name}{i}.safetensors", **{key: value}))
                    for i, (checkpoint, key, value) in enumerate(numbers(self.star, self.adam))]
    self.metrics = {name: damaged_metrics(self.star, root / f"metrics {name}", name) for name in ("nan", "-1", "1e300", "0.5")}
    self.metrics["pipe"] = shutil.copytree(self.star.parent, root / "pipe") / "checkpoint.safetensors"
    (root / "pipe/metrics.csv").unlink()
    os.mkfifo(root / "pipe/metrics.csv")
    self.test_images = shutil.copytree(whole, root / "test images")
    shutil.copy(self.small_images / "t10k-images-idx3-ubyte", self.test_images)
    self.other_model = safetensors(root / "other.safetensors", {"model": "gpt"}, {"x": [2]})
    self.other_shapes = safetensors(root / "shapes.safetensors", {"model": "mnist-cnn"}, {"conv1.weight": [2, 2]})
    self.graph = root / "bad.graph"
    self.graph.write_text("graph\n  %0 = buffer f32[2, 3]\n  %1 = permute f32[3, 2] {0, 2} %0\n  return %1\n")
    self.file = root / "a file"
    self.file.write_text("in the way\n")
    self.no_icd = root / "no icd"
    self.no_icd.mkdir()


def run(arguments, expect=None, env={}, limit=None):
  def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

  done = subprocess.run([KONTOR, *map(str, arguments)], env=dict(os.environ, **env), capture_output=True, text=True, timeout=300,
                        errors="replace", preexec_fn=limited if limit else None)
  if expect is not None and done.returncode != expect:
    raise RuntimeError(f"kontor {arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
  return done


def rows(f):
  """(name, arguments, exit code, what the message must hold, environment)."""
  data = ["--data", f.whole, "--out", f.out]
  train, back = SMALL + data, BACKPROP + data

  def on(folder):
    return SMALL + ["--data", folder, "--out", f.out]

  yield "no verb", [], 2, ["subcommand"], {}
  yield "verb", ["fly"], 2, ["fly"], {}
  yield "option", train + ["--speed", "3"], 2, ["--speed"], {}
  yield "data set", ["train", "cifar", "--out", f.out], 1, ["cifar", "mnist"], {}
  yield "method", train + ["--method", "magic"], 2, ["magic", "backprop"], {}
  yield "plan", train + ["--plan", "comet"], 2, ["comet", "star"], {}
  yield "batch of none", train + ["--batch", "0"], 2, ["--batch", "0"], {}
  yield "steps", train + ["--steps", "many"], 2, ["--steps", "many"], {}
  yield "learning rate", train + ["--lr", "-1"], 2, ["--lr", "-1"], {}
  yield "learning rate of nan", train + ["--lr", "nan"], (1, 2), ["nan"], {}
  yield "learning rate of inf", back + ["--lr", "inf"], (1, 2), ["inf"], {}
  yield "vendors and groups", TRAIN + data + ["--vendors", "1,2"], 1, ["2", "5"], {}
  yield "no vendors", TRAIN + data + ["--vendors", "0,1,1,1,1"], (1, 2), ["0"], {}
  yield "negative vendors", TRAIN + data + ["--vendors=-3,1,1,1,1"], (1, 2), ["-3"], {}
  yield "vendors that are no numbers", TRAIN + data + ["--vendors", "a,b"], 2, ["a"], {}
  yield "unknown group", TRAIN + data + ["--groups", "conv1|conv9", "--vendors", "1,1"], 1, ["conv9"], {}
  yield "group twice", TRAIN + data + ["--groups", "conv1|conv1", "--vendors", "1,1"], 1, ["conv1"], {}
  yield "groups without vendors", TRAIN + data + ["--groups", "conv1|conv2"], 1, ["--vendors"], {}
  yield "vendors of backprop", back + ["--vendors", "1,1,1,1,1"], 1, ["--vendors", "backprop"], {}

  yield "no data folder", on(f.root / "nowhere"), 1, ["nowhere"], {}
  yield "empty data folder", on(f.empty), 1, [str(f.empty)], {}
  yield "truncated IDX", on(f.truncated), 1, ["train-images-idx3-ubyte"], {}
  yield "no IDX", on(f.magic), 1, ["train-images-idx3-ubyte"], {}
  yield "torn gzip", on(f.gzipped), 1, ["train-images-idx3-ubyte.gz"], {}
  yield "images and labels", on(f.counts_differ), 1, ["8", "7"], {}
  yield "images of another size", on(f.small_images), 1, ["10", "28"], {}
  yield "label out of range", on(f.labels_wrong), 1, ["12"], {}

  yield "no checkpoint", train + ["--resume", f.root / "none.safetensors"], 1, ["none.safetensors"], {}
  yield "torn checkpoint", train + ["--resume", f.torn], 1, ["torn.safetensors"], {}
  yield "garbage as checkpoint", train + ["--resume", f.garbage], 1, ["garbage.safetensors"], {}
  yield "model as checkpoint", train + ["--resume", f.model], 1, ["model.safetensors", "checkpoint"], {}
  yield "checkpoint of another method", train + ["--resume", f.adam], 1, ["backprop", "marketplace"], {}
  yield "checkpoint of other vendors", TRAIN + data + ["--plan", "star", "--vendors", "1,1,1,1,2", "--resume", f.star], 1, ["1,1,1,1,2"], {}
  yield "checkpoint without steps", train + ["--resume", f.no_steps], 1, ["no_steps.safetensors", "steps"], {}
  yield "checkpoint of many steps", train + ["--resume", f.bad_steps], 1, ["bad_steps.safetensors", "many"], {}
  yield "checkpoint without lr", back + ["--resume", f.no_lr], 1, ["no_lr.safetensors", "lr"], {}
  yield "checkpoint of a fast lr", back + ["--resume", f.bad_lr], 1, ["bad_lr.safetensors", "fast"], {}

  for key, value, path in f.numbers:
    way = train if path.name.startswith("star") else back
    yield f"checkpoint {path.stem} with {key} {value}", way + ["--resume", path], 1, [path.name, key], {}
  for name, path in f.metrics.items():
    words = ["metrics.csv: not a regular file"] if name == "pipe" else ["metrics.csv line 2", name]
    yield f"metrics of {name}", train + ["--resume", path], 1, words, {}
  yield "training and test images", on(f.test_images), 1, ["28 x 28", "10 x 10"], {}

  yield "output folder", SMALL + ["--data", f.whole, "--out", f.file / "run"], 1, [str(f.file)], {}
  yield "no model", ["eval", f.root / "none.safetensors"], 1, ["none.safetensors"], {}
  yield "torn model", ["eval", f.torn, "--data", f.whole], 1, ["torn.safetensors"], {}
  yield "other model", ["eval", f.other_model, "--data", f.whole], 1, ["gpt"], {}
  yield "other shapes", ["eval", f.other_shapes, "--data", f.whole], 1, ["conv1.weight", "missing"], {}

  yield "device", train + ["--device", "abacus"], 1, ["abacus", "llvm", "interp"], {}
  yield "CUDA that is not here", train + ["--device", "cuda"], 1, ["cuda"], {"LD_LIBRARY_PATH": str(f.empty), "KONTOR_CUDA_TEST": ""}
  yield "OpenCL without a driver", train + ["--device", "opencl"], 1, ["opencl"], {"OCL_ICD_VENDORS": f"{f.no_icd}/"}
  yield "LLVM that is not there", train + ["--device", "llvm"], 1, ["nowhere.so"], {"KONTOR_LLVM": str(f.root / "nowhere.so"), "KONTOR_NO_CACHE": "1"}
  yield "LLVM that is no library", train + ["--device", "llvm"], 1, [str(f.file)], {"KONTOR_LLVM": str(f.file), "KONTOR_NO_CACHE": "1"}
  yield "instruction set", train + ["--device", "llvm"], 1, ["sse9", "avx2"], {"KONTOR_CPU": "sse9"}
  yield "threads", train, 1, ["KONTOR_THREADS", "many"], {"KONTOR_THREADS": "many"}
  yield "dump stages", train, 1, ["KONTOR_DUMP", "soup"], {"KONTOR_DUMP": "soup"}

  yield "expression", ["dump", "softmax(f32[2]"], 1, ["')'"], {}
  yield "function", ["dump", "sofmax(f32[2])"], 1, ["sofmax", "softmax"], {}
  yield "shapes", ["dump", "matmul(f32[2, 3], f32[4, 5])"], 1, ["f32[2, 3] x f32[4, 5]", "3 and 4"], {}
  yield "graph text", ["dump", f.graph], 1, ["line 3", "permute"], {}
  yield "graph of binary", ["dump", f.garbage], 1, ["line 1", "\\xff"], {}
  yield "stage", ["dump", "f32[2] + 1", "--stage", "soup"], (1, 2), ["soup", "kernel"], {}
  yield "dumped device", ["dump", "f32[2] + 1", "--device", "abacus"], 1, ["abacus"], {}
  yield "assembly of OpenCL", ["dump", "f32[2] + 1", "--stage", "asm", "--device", "opencl"], 1, ["asm"], {}
  yield "bench case", ["bench", "speed"], (1, 2, 77), ["speed", "matmul_1024"], {}


def mistake(f, arguments, code, words, env):
  done = run(arguments, env=env)
  codes = code if isinstance(code, tuple) else (code,)
  said = done.stderr + (done.stdout if arguments[:1] == [] else "")
  if done.returncode not in codes:
    return f"exit code {done.returncode}, not {codes}: {said or done.stdout}"
  lost = [word for word in words if word not in said]
  if lost:
    return f"the message lacks {lost}: {said}"
  if any(bad in said for bad in ("defect of Kontor", "terminate called", "std::", "stod", "map::at")):
    return f"not a message for users: {said}"
  left = [p for p in f.out.rglob("*") if p.is_file()] if f.out.exists() else []
  return f"it left {left}" if left else ""


def full_disk(f, folder, limit):
  """Whatever is left is whole: a file by its right name, or none."""
  done = run(SMALL + ["--data", f.whole, "--out", folder], limit=limit)
  left = sorted(p.name for p in folder.iterdir()) if folder.exists() else []
  if done.returncode != 1 or "checkpoint.safetensors" not in done.stderr:
    return f"exit code {done.returncode}: {done.stderr}"
  if any(name != "metrics.csv" for name in left):  # written as a whole before the files that did not fit
    return f"it left {left}"
  return "" if not left or (folder / "metrics.csv").read_text().endswith("\n") else "metrics.csv is torn"


def disk_that_is_full(f):
  """A file system of 64 KiB, where this may be mounted; True, a reason or None (skipped)."""
  folder = f.root / "full"
  folder.mkdir()
  if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)], capture_output=True).returncode != 0:
    return None
  try:
    return full_disk(f, folder, None)
  finally:
    subprocess.run(["umount", str(folder)], check=True)


def cache_folder(f):
  """A cache that cannot be written costs a warning, no more."""
  done = run(["dump", "sum(f32[100])", "--stage", "kernel"], expect=0)
  done = run(SMALL + ["--data", f.whole, "--out", f.root / "uncached"], env={"KONTOR_CACHE_DIR": str(f.file / "cache")})
  if done.returncode != 0:
    return f"exit code {done.returncode}: {done.stderr}"
  if done.stderr.count(str(f.file)) != 1:
    return f"one warning with the folder expected: {done.stderr!r}"
  return "" if (f.root / "uncached/model.safetensors").exists() else "no model"


def report(name, why):
  if why is None:
    print(f"SKIPPED: {name}: this may not mount a file system")
  elif why:
    print(f"FAILED: {name}: " + why.replace("\n", "\n  "))
  else:
    print(f"PASSED: {name}")
  return not why


def main():
  with tempfile.TemporaryDirectory() as name:
    f = Files(pathlib.Path(name))
    good = [report(row[0], mistake(f, *row[1:])) for row in rows(f)]
    good.append(report("disk quota", full_disk(f, f.root / "quota", 100_000)))
    good.append(report("full disk", disk_that_is_full(f)))
    good.append(report("cache folder", cache_folder(f)))
  return 0 if all(good) else 1


if __name__ == "__main__":
  raise SystemExit(main())
