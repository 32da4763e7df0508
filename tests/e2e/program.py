"""What the tests of the program share: a folder with a few images of MNIST, the call, and reports in the runner's form."""
import csv
import gzip
import os
import pathlib
import struct
import subprocess
import traceback
import zlib

ROOT = pathlib.Path(os.environ["KONTOR_SOURCE"])
PROGRAM = os.environ["KONTOR"]


def cut(folder, training=600, test=100):
  """The first images of data/mnist-12k as plain IDX files: a test on 2,000 images would take longer than the training."""
  folder.mkdir(parents=True)
  for name, count in (("train", training), ("t10k", test)):
    for kind, header in (("images-idx3", 16), ("labels-idx1", 8)):
      with gzip.open(ROOT / f"data/mnist-12k/{name}-{kind}-ubyte.gz") as packed:
        data = packed.read()
      size = 784 if header == 16 else 1
      (folder / f"{name}-{kind}-ubyte").write_bytes(data[:4] + struct.pack(">I", count) + data[8:header + count * size])
  return folder


def kontor(*arguments, code=0, env=None, cwd=None):
  """Runs the program; fails if the exit code is another one; returns stdout and stderr together."""
  done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=300, cwd=cwd,
                        env={**os.environ, **(env or {})})
  if done.returncode != code:
    raise AssertionError(f"kontor {' '.join(map(str, arguments))}: exit code {done.returncode}, not {code}\n"
                         f"{done.stdout[-1500:]}{done.stderr[-1500:]}")
  return done.stdout + done.stderr


def refuses(call, cases):
  """Each of (exit code, arguments, words): the call with the arguments ends so, and says the words."""
  for code, arguments, text in cases:
    printed = call(*arguments, code=code)
    assert text in printed, (arguments, printed)


def rows(path):
  with open(path) as file:
    return list(csv.DictReader(file))


def unfiltered(raw, stride, height, step=3):
  """Rows of a PNG without what each says of its difference from its neighbours (PNG specification, section 9)."""
  above, lines = bytes(stride), []
  for y in range(height):
    kind, line = raw[y * (stride + 1)], bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
    for x in range(stride if kind else 0):
      left, up, corner = line[x - step] if x >= step else 0, above[x], above[x - step] if x >= step else 0
      guess = left + up - corner
      nearest = min((left, up, corner), key=lambda value: abs(guess - value))
      line[x] = (line[x] + (left, up, (left + up) // 2, nearest)[kind - 1]) & 255
    above = bytes(line)
    lines.append(above)
  return lines


def png(path):
  """Width, height and the rows of pixels of a PNG that is eight bits, RGB, not interlaced."""
  data = path.read_bytes()
  assert data[:8] == b"\x89PNG\r\n\x1a\n", path
  at, chunks = 8, {}
  while at < len(data):
    size, kind = struct.unpack(">I4s", data[at:at + 8])
    body = data[at + 8:at + 8 + size]
    assert struct.unpack(">I", data[at + 8 + size:at + 12 + size])[0] == zlib.crc32(kind + body), (path, kind)
    chunks[kind] = chunks.get(kind, b"") + body
    at += 12 + size
  width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
  assert (bits, colour, interlaced) == (8, 2, 0) and b"IEND" in chunks, path
  raw, stride = zlib.decompress(chunks[b"IDAT"]), 3 * width
  assert len(raw) == (stride + 1) * height, path
  return width, height, unfiltered(raw, stride, height)


def report(tests, folder):
  """Runs functions of a folder of their own, prints a line each; returns the exit code."""
  good = True
  for test in tests:
    try:
      test(folder / test.__name__)
      print(f"PASSED: {test.__name__}", flush=True)
    except Exception:  # noqa: BLE001
      print(f"FAILED: {test.__name__}: " + traceback.format_exc().strip().replace("\n", "\n  "), flush=True)
      good = False
  return 0 if good else 1
