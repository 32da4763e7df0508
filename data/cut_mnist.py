#!/usr/bin/env python3
"""Cuts data/mnist-12k from the full MNIST: the first 12,000 training and 2,000 test images, as gzipped IDX files.

Usage: data/cut_mnist.py FULL_MNIST_FOLDER [OUT_FOLDER]. Standard library only; the same input gives the same bytes.
"""
import gzip
import hashlib
import pathlib
import struct
import sys

# file name, images kept, MD5 of the unpacked full file (the originals' sums; the gzip layer may differ)
FILES = [
  ("train-images-idx3-ubyte", 12000, "6bbc9ace898e44ae57da46a324031adb"),
  ("train-labels-idx1-ubyte", 12000, "a25bea736e30d166cdddb491f175f624"),
  ("t10k-images-idx3-ubyte", 2000, "2646ac647ad5339dbf082846283269ea"),
  ("t10k-labels-idx1-ubyte", 2000, "27ae3e4e09519cfbb04c329615203637"),
]


def cut(data, count):
  """The first `count` items of an IDX file of bytes: magic 0 0 8 rank, sizes (big endian), then the items."""
  rank = data[3]
  sizes = struct.unpack(f">{rank}I", data[4:4 + 4 * rank])
  item = 1
  for size in sizes[1:]:
    item *= size
  start = 4 + 4 * rank
  return data[:4] + struct.pack(f">{rank}I", count, *sizes[1:]) + data[start:start + count * item]


def main():
  if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
  source = pathlib.Path(sys.argv[1])
  target = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else pathlib.Path(__file__).parent / "mnist-12k"
  target.mkdir(parents=True, exist_ok=True)
  for name, count, md5 in FILES:
    data = gzip.decompress((source / f"{name}.gz").read_bytes())
    found = hashlib.md5(data).hexdigest()
    if found != md5:
      sys.exit(f"{source / name}.gz: unpacked, its MD5 is {found}, and MNIST's is {md5}")
    part = cut(data, count)
    (target / f"{name}.gz").write_bytes(gzip.compress(part, compresslevel=9, mtime=0))
    print(f"{hashlib.md5(part).hexdigest()}  {name} ({count} items, {len(part)} bytes unpacked)")


if __name__ == "__main__":
  main()
