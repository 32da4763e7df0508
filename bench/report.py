"""Figures of a run of bench/run.py: kept, compared with targets, and written as tables."""
import collections
import dataclasses
import statistics

from cases import BY_NAME, LIMITS
from targets import ASSERTED, STUDIED, TARGETS


@dataclasses.dataclass
class Sample:
  """One turn of an engine at a case, with the limit that was measured right before."""
  value: float
  limit: float | None = None


class Figures:
  """All samples of a run; a figure is the median over the rounds."""

  def __init__(self):
    self.samples = collections.defaultdict(list)  # (case, threads, engine) -> [Sample]
    self.limits = collections.defaultdict(list)  # (limit, threads) -> [value]
    self.errors = {}  # (case, threads, engine) -> text

  def value(self, case, threads, engine="kontor"):
    """Seconds or bytes, or None."""
    samples = [s.value for s in self.samples.get((case, threads, engine), [])]
    return statistics.median(samples) if samples else None

  def share(self, case, threads):
    """Kontor's part of the limit, each round by the limit of its own minute."""
    samples = [s for s in self.samples.get((case, threads, "kontor"), []) if s.limit]
    return statistics.median(BY_NAME[case].share(s.value, s.limit) for s in samples) if samples else None

  def limit(self, name, threads):
    """The best that was seen: a limit is one."""
    return max(self.limits.get((name, threads), [None]))

  def ratio(self, case, threads, other, inverse=False):
    """Kontor's figure of a case by a peer's of the same, or by its own of another case."""
    own = self.value(case, threads)
    its = self.value(other, threads) if other in BY_NAME else self.value(case, threads, other)
    if not own or not its:
      return None
    return its / own if inverse else own / its

  def target(self, target, case, threads):
    """The figure that a target is about, or None if it was not measured."""
    kind, _, other = target.of.partition(":")
    if kind == "limit":
      return self.share(case, threads)
    if kind == "seconds":
      return self.value(case, threads)
    if kind == "scaling":
      one, own = self.value(case, 1), self.value(case, threads)
      return one / own if one and own else None
    return self.ratio(case, threads, other, inverse=kind == "speed")

  def as_json(self):
    return {"samples": [{"case": case, "threads": threads, "engine": engine, "unit": BY_NAME[case].unit,
                         "values": [s.value for s in all], "limits": [s.limit for s in all]}
                        for (case, threads, engine), all in self.samples.items()],
            "limits": [{"limit": name, "threads": threads, "values": all} for (name, threads), all in self.limits.items()],
            "errors": [{"case": case, "threads": threads, "engine": engine, "error": text}
                       for (case, threads, engine), text in self.errors.items()],
            "targets": [{"case": case, "threads": threads, "of": target.of, "bound": target.bound, "most": target.most,
                         "issue": target.issue, "figure": figure, "met": met(target, figure)}
                        for target, case, threads, figure in target_figures(self)]}


def met(target, figure):
  if figure is None:
    return None
  return figure <= target.bound if target.most else figure >= target.bound


def target_figures(figures):
  for target in TARGETS:
    for case in target.cases:
      for threads in target.threads:
        yield target, case, threads, figures.target(target, case, threads)


# --- Text -------------------------------------------------------------------------------------------------------------


def seconds_text(seconds):
  for unit, scale in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
    if seconds * scale >= 1:
      return f"{seconds * scale:.3g} {unit}"
  return f"{seconds * 1e9:.3g} ns"


def value_text(value, unit="s"):
  if value is None:
    return "–"
  return seconds_text(value) if unit == "s" else f"{value / 1e6:.4g} MB"


def percent(share):
  return "–" if share is None else f"{100 * share:.0f} %"


def times(ratio):
  return "–" if ratio is None else f"{ratio:.2f} ×"


def figure_text(target, case, figure, brief=False):
  """'93 % of fma_f32'; the number alone if brief."""
  kind, _, other = target.of.partition(":")
  number, what = {"limit": (percent, f" of {BY_NAME[case].limit}"), "seconds": (value_text, ""),
                  "scaling": (times, " one thread's speed"), "speed": (times, f" the speed of {other}"),
                  "time": (times, f" the time of {other}"), "bytes": (times, f" the bytes of {other}")}[kind]
  return number(figure) + ("" if brief else what)


def table(lines):
  lines = list(lines)
  return "\n".join(["| " + " | ".join(lines[0]) + " |", "|" + "---|" * len(lines[0])] +
                   ["| " + " | ".join(line) + " |" for line in lines[1:]])


def target_rows(figures):
  yield ["of", "case", "threads", "target", "measured", "met"]
  for target, case, threads, figure in target_figures(figures):
    bound = ("≤ " if target.most else "≥ ") + figure_text(target, case, target.bound)
    verdict = {None: "not measured", True: "yes", False: "**no**"}[met(target, figure)]
    yield [target.issue, case, str(threads), bound, figure_text(target, case, figure, brief=True), verdict]


def figure_rows(figures, cases, threads_list, engines):
  """Kontor's figure, its part of the limit, and each peer's with how many times as fast Kontor is."""
  peers = [engine for engine in engines if engine != "kontor"]
  yield ["case", "threads", *engines[:len(engines) - len(peers)], "of limit", *peers]
  for case in cases:
    for threads in threads_list:
      values = {engine: figures.value(case.name, threads, engine) for engine in engines}
      if all(value is None for value in values.values()):
        continue
      share = figures.share(case.name, threads)
      cells = [value_text(values["kontor"], case.unit)] if "kontor" in values else []
      cells.append(f"{percent(share)} of {case.limit}" if share else "–")
      for peer in peers:
        ratio = figures.ratio(case.name, threads, peer, inverse=True)
        cells.append(value_text(values[peer], case.unit) + (f" ({times(ratio)})" if ratio else ""))
      yield [case.name, str(threads), *cells]


def limit_rows(figures, threads_list):
  yield ["limit", *(f"{threads} thread{'s' if threads > 1 else ''}" for threads in threads_list)]
  for name, (unit, scale) in LIMITS.items():
    found = [figures.limit(name, threads) for threads in threads_list]
    if any(found):
      yield [f"{name} [{unit}]", *("–" if value is None else f"{value / scale:.1f}" for value in found)]


def summary(figures):
  verdicts = [met(target, figure) for target, _, _, figure in target_figures(figures)]
  return f"{verdicts.count(True)} targets met, {verdicts.count(False)} missed, {verdicts.count(None)} not measured."


def sections(figures, cases, threads_list, engines):
  """The parts of the report that are made of figures."""
  failed = [f"- {engine}, {case}, {threads} threads: {text}" for (case, threads, engine), text in figures.errors.items()]
  asserted = [["of", "what", "held by"], *([row.issue, row.what, "; ".join(f"{path}: \"{text}\"" for path, text in row.tests)]
                                           for row in ASSERTED)]
  studied = [["of", "what", "made by"], *([row.issue, row.what, f"`{row.command}`"] for row in STUDIED)]
  return [
      table(limit_rows(figures, threads_list)),
      f"### Targets\n\n{summary(figures)}",
      table(target_rows(figures)),
      "Targets that tests hold:", table(asserted),
      "Targets that runs of their own answer (below, where they were made):", table(studied),
      "### All figures\n\n`of limit`: Kontor's FLOPs or bytes a second by the limit's, measured right before. (n ×): how many "
      "times as fast Kontor is.",
      table(figure_rows(figures, cases, threads_list, engines)),
      *(["Failed:\n\n" + "\n".join(failed)] if failed else []),
      table([["case", "what is timed"], *([case.name, case.what] for case in cases)]),
  ]
