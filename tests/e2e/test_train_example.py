#!/usr/bin/env python3
"""Builds docs/examples/train against an installed tree; its model must learn by backprop and by Marketplace."""
import pathlib
import re
import shutil
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from test_embed import ROOT, environment, install, report, run  # noqa: E402


def learns(here, env):
  run(["meson", "setup", "out"], here, env)
  run(["ninja", "-C", "out"], here, env)
  printed = run([str(here / "out/train")], here, env)
  accuracy = {name: float(value) for name, value in re.findall(r"(\w+): .* accuracy ([0-9.]+)", printed)}
  if sorted(accuracy) != ["backprop", "marketplace"] or min(accuracy.values()) < 0.9:
    raise RuntimeError(f"it printed {printed!r}")
  if not (here / "model.safetensors").exists():
    raise RuntimeError("it wrote no model")


def main():
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    env = environment(install(folder))
    shutil.copytree(ROOT / "docs/examples/train", folder / "train")
    return 0 if report("train example", learns, folder / "train", env) else 1


if __name__ == "__main__":
  raise SystemExit(main())
