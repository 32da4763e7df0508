"""The engines that bench/run.py measures: how each is started, served cases, and timed as a whole process."""
import dataclasses
import json
import os
import pathlib
import select
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PYTHON = ROOT / ".venv-bench/bin/python"
YARDSTICK = ROOT / "../shared/bench/marketplace_ref.cpp"
CORES = sorted(os.sched_getaffinity(0))
TIMEOUT = 300  # seconds for one case
LIMITS = "limits"  # the machine, as an engine


@dataclasses.dataclass(frozen=True)
class Engine:
  """A program that takes `--threads N --seconds S` and names of cases, or `-` to be served them."""
  name: str
  command: list
  threads: tuple = ()  # it has only these
  needs: pathlib.Path = PYTHON  # is absent where this file is


def engines(build):
  peer = lambda name, file, *more, **about: Engine(  # noqa: E731
      name, [str(PYTHON), str(ROOT / "bench/peers" / file), *more], **about)
  program = build / "tools/kontor"
  return {engine.name: engine for engine in (
      Engine("kontor", [str(program), "bench", "--json"], needs=program),
      peer("torch", "torch_cases.py"),
      peer("torch-compile", "torch_cases.py", "--compile"),
      peer("jax", "jax_cases.py"),
      peer("numpy", "numpy_cases.py"),
      peer("tinygrad", "tinygrad_cases.py", threads=(1,)),  # its CPU device has one thread
      Engine("yardstick", ["python3", str(ROOT / "bench/peers/yardstick.py")], needs=YARDSTICK),
  )}


def limits_engine(build):
  return Engine(LIMITS, [str(build / "bench/machine-limits")])


def environment(build, caches, threads):
  """The caller's, with every engine's caches in one folder, its threads limited, and without settings of this machine
  that slow a peer (OPENBLAS_CORETYPE)."""
  env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS_", "KONTOR_"))}
  for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KONTOR_THREADS"):
    env[variable] = str(threads)
  module = next(build.glob("backends/llvm/libkontor-llvm.*"), None)
  if module:
    env["KONTOR_LLVM"] = str(module)  # the embed example is no part of the build tree that would find it
  return env | {"KONTOR_CACHE_DIR": f"{caches}/kontor", "TORCHINDUCTOR_CACHE_DIR": f"{caches}/torch",
                "CACHEDB": f"{caches}/tinygrad.db", "JAX_ENABLE_COMPILATION_CACHE": "false", "XDG_CACHE_HOME": caches,
                "TMPDIR": caches}


class Process:
  """A process on the first `threads` cores whose lines are waited for."""

  def __init__(self, command, env, threads):
    self.errors = tempfile.TemporaryFile()
    self.buffer = b""
    self.process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                    preexec_fn=lambda: os.sched_setaffinity(0, CORES[:threads]))

  def line(self, timeout=TIMEOUT):
    """The next line; RuntimeError if the process ends or takes too long."""
    end = time.monotonic() + timeout
    while b"\n" not in self.buffer:
      left = end - time.monotonic()
      if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
        self.close(kill=True)
        raise RuntimeError(f"no result after {timeout} s")
      read = os.read(self.process.stdout.fileno(), 1 << 16)
      if not read:
        raise RuntimeError(self.ending())
      self.buffer += read
    line, self.buffer = self.buffer.split(b"\n", 1)
    return line.decode(errors="replace")

  def ending(self):
    code = self.process.wait()
    self.errors.seek(0)
    last = self.errors.read().decode(errors="replace").strip().splitlines() or [""]
    return f"exit code {code}: {last[-1][:300]}"

  def say(self, text):
    try:
      self.process.stdin.write(text.encode() + b"\n")
      self.process.stdin.flush()
    except BrokenPipeError:
      raise RuntimeError(self.ending()) from None

  def close(self, kill=False):
    if kill:
      self.process.kill()
    if not self.process.stdin.closed:
      try:
        self.process.stdin.close()
      except BrokenPipeError:
        pass
    self.process.wait()


def parsed(line):
  found = json.loads(line)
  if "error" in found:
    raise RuntimeError(found["error"])
  return found


class Runner:
  """Measures cases on engines; keeps one serving process for each engine and number of threads."""

  def __init__(self, build, seconds, caches):
    self.build, self.seconds, self.caches = build, seconds, caches
    self.serving = {}

  def command(self, engine, threads, seconds, case):
    return [*engine.command, "--threads", str(threads), "--seconds", str(seconds), case]

  def served(self, engine, name, threads):
    """What an engine's serving process says of a case."""
    key = engine.name, threads
    if key not in self.serving:
      seconds = self.seconds / 2 if engine.name == LIMITS else self.seconds
      self.serving[key] = Process(self.command(engine, threads, seconds, "-"),
                                  environment(self.build, self.caches, threads), threads)
    try:
      self.serving[key].say(name)
      return parsed(self.serving[key].line())
    except RuntimeError:
      if self.serving[key].process.poll() is not None:
        self.serving.pop(key).close()
      raise

  def alone(self, command, threads, caches):
    """A process of its own: seconds until its first line, and that line."""
    begin = time.perf_counter()
    process = Process(command, environment(self.build, caches, threads), threads)
    try:
      line = process.line()
      return time.perf_counter() - begin, line
    finally:
      process.close()

  def whole(self, engine, case, threads):
    """A case of kind `process` or `own`: seconds until the first line, or what that line says."""
    command = self.command(engine, threads, self.seconds, case.name)
    if engine.name == "kontor" and case.name.startswith("start_"):
      command = [str(self.build / "bench/embed")]
    with tempfile.TemporaryDirectory(dir=self.caches) as empty:
      if case.kind == "own":
        return parsed(self.alone(command, threads, empty if case.empty else self.caches)[1])
      if not case.empty:
        self.alone(command, threads, empty)
      seconds, line = self.alone(command, threads, empty)
    return {"value": seconds} if not line.startswith("{") or parsed(line)["value"] is not None else {"value": None}

  def measure(self, engine, case, threads):
    """{"value": .., ..}; the value is None where the engine has no form of the case."""
    if engine.threads and threads not in engine.threads:
      return {"value": None}
    if case.kind == "repeat":
      return self.served(engine, case.name, threads)
    return self.whole(engine, case, threads)

  def close(self):
    for process in self.serving.values():
      process.close()
    self.serving = {}
