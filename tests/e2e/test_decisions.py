#!/usr/bin/env python3
"""Decisions of models, printed and read back, make the same kernels; lines behind another graph's key are left alone."""
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from program import kontor, report  # noqa: E402


def dump(model, stage, decisions=""):
  return kontor("dump", model, "--stage", stage, env={"KONTOR_DECISIONS": str(decisions)})


def models_by_their_own_lists(out):
  out.mkdir()
  for model in ("mnist-cnn:step", "mnist-cnn:block-star", "gpt:2x128"):
    listed = dump(model, "decisions")
    assert listed.startswith("graph "), listed[:80]
    (out / "list").write_text("graph 0123456789abcdef\nstore no_such_stage\n" + listed)
    assert dump(model, "kernel", out / "list") == dump(model, "kernel"), model


def a_list_is_followed_by_what_runs(out):
  out.mkdir()
  (out / "list").write_text("store no_such_stage\n")
  printed = kontor("bench", "replay_64", "--seconds", 0.01, code=1, env={"KONTOR_DECISIONS": str(out / "list")})
  assert "the decision 'store no_such_stage' can't be followed: no stage has that name" in printed, printed


def without_fusion_there_are_more_kernels(_):
  fused, apart = (dump("mnist-cnn:step", stage).count("kernel k") for stage in ("kernel", "stages"))
  assert apart > 1.5 * fused, (apart, fused)


def main():
  with tempfile.TemporaryDirectory() as name:
    return report([models_by_their_own_lists, a_list_is_followed_by_what_runs, without_fusion_there_are_more_kernels],
                  pathlib.Path(name))


if __name__ == "__main__":
  raise SystemExit(main())
