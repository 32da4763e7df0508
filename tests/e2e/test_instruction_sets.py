#!/usr/bin/env python3
"""50 training steps leave the same weights whatever the instruction set of the kernels: KONTOR_CPU=avx2 and avx512."""
import os
import pathlib
import subprocess
import sys

NAME = "training on AVX2 and AVX-512 leaves equal weights"
FULL = ["--plan", "full", "--vendors", "3,3,3"]
STAR = ["--plan", "star", "--vendors", "2,2,2,2,4"]
BLOCKS = ["--plan", "block-star", "--vendors", "2,1,1,1,2"]
RUNS = {"star": [*STAR, "--batch", "8"], "block-star": [*BLOCKS, "--batch", "8"], "full": [*FULL, "--batch", "8"], "backprop": ["--method", "backprop", "--batch", "16"]}


def weights(folder, cpu, arguments):
  out = pathlib.Path(folder) / cpu
  subprocess.run([os.environ["KONTOR"], "train", "--data", os.environ["KONTOR_SOURCE"] + "/data/mnist-12k", "--steps", "50",
                  *arguments, "--out", str(out)], env=os.environ | {"KONTOR_CPU": cpu, "KONTOR_DEVICE": "llvm"}, check=True,
                 stdout=subprocess.DEVNULL)
  return (out / "model.safetensors").read_bytes()


def main():
  if "avx512f" not in pathlib.Path("/proc/cpuinfo").read_text():
    print(f"SKIPPED: {NAME}: this processor has no AVX-512")
    return 0
  different = [run for run, arguments in RUNS.items() if weights(run, "avx2", arguments) != weights(run, "avx512", arguments)]
  print(f"FAILED: {NAME}: not for {', '.join(different)}" if different else f"PASSED: {NAME}")
  return len(different)


if __name__ == "__main__":
  sys.exit(main())
