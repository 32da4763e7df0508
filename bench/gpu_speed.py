#!/usr/bin/env python3
"""Speed on a GPU: the machine's own limits first, then each case in PyTorch and Kontor by turns; called by bench/gpu.sh.

Copy bandwidth and PyTorch's product of 8192 are measured with device events, and a case by its median run, the device waited
for at the end of each (some microseconds: cases are long enough). Each result is a line of JSON in --out, written when it is
made; the table comes last. A case that takes an engine more than CASE_SECONDS is told as such, and the next goes on.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

from cases import BY_NAME
from engines import Process, ROOT, parsed

CASE_SECONDS = 25
GROUPS = ("products", "large", "memory-bound", "training", "marketplace", "engine")
PEER_LESS = ("schedule_", "first_", "start_", "compile_")  # of the CPU alone, or of a process


def chosen():
  return [case.name for case in BY_NAME.values()
          if case.group in GROUPS and case.kind == "repeat" and not case.name.startswith(PEER_LESS)]


class Server:
  """An engine's process that is served cases; started anew after a case that took too long or ended it."""

  def __init__(self, name, command, env):
    self.name, self.command, self.env, self.process = name, command, env, None

  def measure(self, case, seconds):
    try:
      if self.process is None:
        self.process = Process(self.command, self.env, len(os.sched_getaffinity(0)))
      self.process.say(case)
      return parsed(self.process.line(seconds))
    except RuntimeError as error:
      if self.process.process.poll() is None:
        return {"value": None, "error": str(error)}
      self.process = None
      return {"value": None, "error": str(error)}


def servers(program, seconds):
  env = {name: value for name, value in os.environ.items() if name != "KONTOR_DEVICE"}
  common = ["--seconds", str(seconds), "-"]
  torch = [sys.executable, str(ROOT / "bench/peers/torch_cases.py"), "--device", "cuda"]
  return [Server("torch", [*torch, *common], env),
          Server("torch-compile", [*torch, "--compile", *common], env),
          Server("kontor", [program, "bench", "--json", *common], env | {"KONTOR_DEVICE": "cuda"})]


def machine_limits():
  """{"copy": bytes a second read and written, "f32", "tf32", "bf16": FLOP/s of PyTorch's product of 8192}."""
  code = r"""
import json, torch
def seconds(run):
  for _ in range(3): run()
  times = []
  for _ in range(10):
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record(); run(); end.record(); end.synchronize()
    times.append(begin.elapsed_time(end) / 1e3)
  return sorted(times)[5]
x = torch.randn(1 << 28, device="cuda"); y = torch.empty_like(x)
found = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "copy": 2 * 4 * x.numel() / seconds(lambda: y.copy_(x))}
del x, y
n = 8192
for name, dtype, tf32 in (("f32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
  torch.backends.cuda.matmul.allow_tf32 = tf32
  a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
  found[name] = 2 * n**3 / seconds(lambda: a @ b)
print(json.dumps(found))
"""
  done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90)
  if done.returncode:
    raise SystemExit(f"gpu_speed: PyTorch has no GPU here: {done.stderr.strip().splitlines()[-1:]}")
  return json.loads(done.stdout)


def rate(case, seconds, limits):
  """What the case moves or computes a second, as a share of the card's."""
  if case.bytes and not case.flops:
    return f"{case.bytes / seconds / 1e9:.0f} GB/s = {case.bytes / seconds / limits['copy']:.1%} of copy"
  return f"{case.flops / seconds / 1e12:.2f} TFLOP/s" if case.flops else ""


def median(values):
  return sorted(values)[len(values) // 2] if values else None


def table(found, limits, names):
  copy, f32, tf32, bf16 = (limits[name] / 1e12 for name in ("copy", "f32", "tf32", "bf16"))
  rows = [f"| {limits['card']}, PyTorch {limits['torch']} | copy {copy:.2f} TB/s | product f32 {f32:.1f}, tf32 {tf32:.0f}, "
          f"bf16 {bf16:.0f} TFLOP/s | | | |", "| case | PyTorch ms | compiled ms | Kontor ms | PyTorch : Kontor | Kontor's rate |",
          "|---|---|---|---|---|---|"]
  for name in names:
    seconds = {engine: median(found.get((name, engine), [])) for engine in ("torch", "torch-compile", "kontor")}
    cell = {engine: "-" if value is None else f"{value * 1e3:.3f}" for engine, value in seconds.items()}
    best = min((value for engine, value in seconds.items() if engine != "kontor" and value), default=None)
    ratio = f"{best / seconds['kontor']:.3f}" if best and seconds["kontor"] else "-"
    own = rate(BY_NAME[name], seconds["kontor"], limits) if seconds["kontor"] else "not measured"
    rows.append(f"| {name} | {cell['torch']} | {cell['torch-compile']} | {cell['kontor']} | {ratio} | {own} |")
  return "\n".join(rows)


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument("program", help="build/tools/kontor")
  parser.add_argument("--limit", type=float, default=240, help="seconds for everything")
  parser.add_argument("--seconds", type=float, default=0.2, help="that a case is repeated for, each time")
  parser.add_argument("--cases", help="names, by commas; default: all that a GPU can run")
  parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("speed.jsonl"))
  options = parser.parse_args()
  end = time.monotonic() + options.limit
  names = options.cases.split(",") if options.cases else chosen()
  limits, found, dead = machine_limits(), {}, set()
  with options.out.open("a") as out, tempfile.TemporaryDirectory() as folder:
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
    print(json.dumps(limits), file=out, flush=True)
    torch, compiled, kontor = servers(options.program, options.seconds)
    for turn in ([torch, kontor], [kontor, torch], [compiled]):  # compiling takes long: last, in the time that is left
      for name in names:
        for server in turn:
          left = end - time.monotonic()
          if left < 3 or (name, server.name) in dead:
            continue
          measured = server.measure(name, min(CASE_SECONDS, left))
          print(json.dumps({"engine": server.name, "case": name, **measured}), file=out, flush=True)
          if measured.get("value"):
            found.setdefault((name, server.name), []).append(measured["value"])
          else:
            dead.add((name, server.name))
            if measured.get("error"):
              print(f"{server.name} {name}: {measured['error']}", flush=True)
  print(table(found, limits, names))


if __name__ == "__main__":
  main()
