#!/usr/bin/env python3
"""The benchmark without its measurements: its cases, targets and gpu.sh name what is there, and writing keeps what people wrote."""
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
BUILD = pathlib.Path(os.environ["KONTOR_BUILD"])
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "bench"))
import cases  # noqa: E402
import engines  # noqa: E402
import report  # noqa: E402
import run  # noqa: E402
import targets  # noqa: E402


def cases_are_those_of_the_program():
  """start_* are of the embed example; what cases.py lacks nobody would measure."""
  listed = subprocess.run([BUILD / "tools/kontor", "bench"], capture_output=True, text=True, check=True).stdout
  own = set(listed.split(":", 1)[1].split())
  wanted = {case.name for case in cases.CASES if not case.name.startswith("start_")}
  return [f"kontor bench lacks {name}" for name in sorted(wanted - own)] + \
         [f"bench/cases.py lacks {name}" for name in sorted(own - wanted)]


def a_case_runs():
  """And one that can't is told in its place."""
  out = subprocess.run([BUILD / "tools/kontor", "bench", "--json", "--threads", "1", "--seconds", "0", "-"], check=True,
                       input="replay_64\nno_such_case\nconv4\n", capture_output=True, text=True).stdout
  lines = [engines.json.loads(line) for line in out.splitlines()]
  good = [line["case"] for line in lines] == ["replay_64", "no_such_case", "conv4"] and lines[1]["value"] is None and \
      all(0 < line["best"] <= line["value"] < 1 and line["runs"] >= 3 for line in lines[::2])
  return [] if good else [out]


def models_are_scheduled():
  names = [name for name in cases.BY_NAME if name.startswith("schedule_")]
  done = subprocess.run([BUILD / "tools/kontor", "bench", "--json", "--threads", "1", "--seconds", "0", *names],
                        capture_output=True, text=True)
  return [] if done.returncode == 0 and done.stdout.count('"value"') == len(names) >= 3 else [done.stdout + done.stderr]


def targets_name_what_is_there():
  wrong = []
  peers = set(engines.engines(BUILD))
  for target in targets.TARGETS:
    kind, _, other = target.of.partition(":")
    names = [*target.cases, *([other] if other and other not in peers else [])]
    wrong += [f"no case {name}" for name in names if name not in cases.BY_NAME]
    if kind == "limit":
      wrong += [f"{name} has no limit" for name in target.cases if not cases.BY_NAME[name].limit]
  for row in targets.ASSERTED:
    wrong += [f"{path} has nothing of '{text}'" for path, text in row.tests
              if not (ROOT / path).exists() or text not in (ROOT / path).read_text()]
  return wrong


def a_missed_target_is_told():
  figures = report.Figures()
  for name, seconds in (("matmul_1024", 0.010), ("conv1", 0.002)):
    figures.samples[name, 1, "kontor"].append(report.Sample(seconds, 4e11))
  verdicts = {(row[1], row[3]): row[5] for row in report.target_rows(figures)}
  expected = {("matmul_1024", "≥ 50 % of fma_f32"): "yes", ("matmul_1024", "≥ 85 % of fma_f32"): "**no**",
              ("conv1", "≥ 30 % of fma_f32"): "**no**", ("conv2", "≥ 30 % of fma_f32"): "not measured"}
  return [f"{key}: {verdicts.get(key)}, not {value}" for key, value in expected.items() if verdicts.get(key) != value]


def writing_keeps_what_people_wrote():
  run.RESULTS = pathlib.Path("RESULTS.md")
  run.RESULTS.write_text(f"above\n\n{run.BEGIN}\nold\n{run.END}\n\nbelow\n")
  run.write("new")
  found = run.RESULTS.read_text()
  return [] if found == f"above\n\n{run.BEGIN}\nnew\n{run.END}\n\nbelow\n" else [found]


def gpu_script_names_what_is_there():
  done = subprocess.run([ROOT / "bench/gpu.sh", "check", BUILD], capture_output=True, text=True)
  return [] if done.returncode == 0 and done.stdout.count("ok: ") >= 6 else [done.stdout + done.stderr]


def main():
  failures = 0
  for check in (cases_are_those_of_the_program, a_case_runs, models_are_scheduled, targets_name_what_is_there, a_missed_target_is_told,
                writing_keeps_what_people_wrote, gpu_script_names_what_is_there):
    wrong = check()
    failures += bool(wrong)
    print(f"FAILED: {check.__name__}: " + "\n  ".join(wrong) if wrong else f"PASSED: {check.__name__}")
  return failures > 0


if __name__ == "__main__":
  raise SystemExit(main())
