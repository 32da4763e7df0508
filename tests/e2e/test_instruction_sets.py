#!/usr/bin/env python3
"""50 training steps leave the same weights whatever the instruction set of the kernels: KONTOR_CPU=avx2 and avx512."""
import os
import pathlib
import subprocess
import sys

NAME = "training on AVX2 and AVX-512 leaves equal weights"
SMALL = ["--batch", "8"]
RUNS = {
    "star": ["--plan", "star", "--vendors", "2,2,2,2,4", *SMALL],
    "block-star": ["--plan", "block-star", "--vendors", "2,1,1,1,2", *SMALL],
    "full": ["--plan", "full", "--vendors", "3,3,3", *SMALL],
    "v1": ["--plan", "v1", "--vendors", "3,3,3", *SMALL],
    "low-rank": ["--plan", "low-rank", *SMALL],
    "activity": ["--plan", "activity", "--vendors", "1,1,2,2,1", *SMALL],
    "per-sample": ["--plan", "per-sample", "--vendors", "3,3,3", *SMALL],
    "backprop": ["--method", "backprop", "--batch", "16"],
}


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
