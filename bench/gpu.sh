#!/usr/bin/env bash
# Kontor on an NVIDIA GPU, in one call under 9 minutes: builds, runs the tests that want a GPU and the op table on the
# device cuda, trains MNIST on it. Results: $OUT (default out/gpu): log.txt, summary.txt, train/.
#
#   bench/gpu.sh        on the machine with the GPU; it needs no network. Without a pack, it needs g++, meson, ninja,
#                       pkg-config and the headers of fmt, zlib, nlohmann_json, CLI11 and Catch2; LLVM may be missing
#   bench/gpu.sh pack   on a machine that has those: builds into .gpu/ programs that need only glibc; take that folder along
#
# NVRTC is found in CUDA toolkits and Python packages; KONTOR_NVRTC names it elsewhere. KONTOR_GPU_STEPS=n trains n steps.
set -uo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
pack=$root/.gpu
out=${OUT:-$root/out/gpu}
limit=530 # seconds for everything
begun=$SECONDS

say() { printf 'gpu.sh: %s\n' "$*"; }
die() { say "$@"; exit 1; }
left() { echo $((limit - (SECONDS - begun))); }

meson_command() {
  if command -v meson >/dev/null; then echo meson
  elif python3 -c 'import mesonbuild.mesonmain' 2>/dev/null; then echo python3 -m mesonbuild.mesonmain
  fi
}

# Builds the programs into the folder $1.
build() {
  local meson
  meson=$(meson_command)
  [ -n "$meson" ] || die "meson is missing (pip install meson ninja, or take along .gpu/ made by 'bench/gpu.sh pack')"
  command -v ninja >/dev/null || die "ninja is missing (pip install ninja)"
  local found=()
  for library in fmt zlib nlohmann_json; do
    pkg-config --exists "$library" 2>/dev/null || found+=("$library")
  done
  [ ${#found[@]} -eq 0 ] ||
    die "headers of ${found[*]} are missing: install them, or take along .gpu/ made by 'bench/gpu.sh pack' elsewhere"
  mkdir -p "$1"
  [ -f "$1/build.ninja" ] ||
    $meson setup "$1" "$root" --buildtype=release -Dllvm=disabled -Dopencl=disabled -Dtests=enabled >"$1/setup.log" 2>&1 ||
    { tail -n 20 "$1/setup.log"; die "meson setup failed"; }
  ninja -C "$1" kontor-program tests/unit >"$1/build.log" 2>&1 || { tail -n 40 "$1/build.log"; die "the build failed"; }
}

# The libraries of a program that a machine with glibc may lack.
libraries() {
  ldd "$1" | awk '$3 ~ /^\// {print $3}' | grep -E 'lib(fmt|z|stdc\+\+|gcc_s)\.so'
}

make_pack() {
  build "$root/build-gpu"
  rm -rf "$pack" && mkdir -p "$pack/tests" "$pack/tools" "$pack/lib" "$pack/data"
  for program in tests/unit tools/kontor; do
    [ -x "$root/build-gpu/$program" ] || { say "this tree has no $program"; continue; }
    strip -o "$pack/$program" "$root/build-gpu/$program"
    libraries "$root/build-gpu/$program" | xargs -I{} cp -L {} "$pack/lib/"
  done
  ln -sfn ../../data/mnist-12k "$pack/data/mnist-12k"
  git -C "$root" rev-parse HEAD >"$pack/commit"
  say "packed into $pack: $(du -sh "$pack" | cut -f1)"
}

# run NAME SECONDS COMMAND...: logs it, adds a line to the summary; a step that runs too long is stopped.
failures=0
run() {
  local name=$1 seconds=$2 code=0 start=$SECONDS
  shift 2
  [ "$seconds" -lt "$(left)" ] || seconds=$(left)
  [ "$seconds" -gt 5 ] || { echo "not run: $name: no time left" | tee -a "$out/summary.txt"; failures=$((failures + 1)); return; }
  { echo; echo "== $name: $*"; } >>"$out/log.txt"
  timeout "$seconds" "$@" 2>&1 | tee -a "$out/log.txt" | tail -n 25
  code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || failures=$((failures + 1))
  printf '%-8s %s (%d s, exit code %d)\n' "$([ "$code" -eq 0 ] && echo passed || echo FAILED)" "$name" $((SECONDS - start)) "$code" |
    tee -a "$out/summary.txt"
}

if [ "${1-}" = pack ]; then
  make_pack
  exit
fi
[ $# -eq 0 ] || die "usage: bench/gpu.sh [pack]"

mkdir -p "$out" || die "$out cannot be made"
: >"$out/log.txt"
{ date -u +%FT%TZ; git -C "$root" rev-parse HEAD 2>/dev/null || cat "$pack/commit" 2>/dev/null; } >"$out/summary.txt"
if [ -x "$pack/tests/unit" ]; then
  programs=$pack
  export LD_LIBRARY_PATH=$pack/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  say "programs of $pack, built at $(cat "$pack/commit")"
else
  programs=$root/build-gpu
  build "$programs"
fi
export KONTOR_CACHE_DIR=${KONTOR_CACHE_DIR:-$out/cache}
[ -d /usr/local/nvidia/lib64 ] && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64

command -v nvidia-smi >/dev/null && run "the GPU" 30 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
kontor=$programs/tools/kontor
[ -x "$kontor" ] && run "kontor devices" 60 "$kontor" devices
# Catch2 takes [x] for a tag, so names are matched by what follows it.
run "memory and launches" 60 "$programs/tests/unit" "*memory and launches of the device"
run "hand-made kernels, every op and cast in every dtype" 120 "$programs/tests/unit" "*on a GPU the kernels have the interpreter's bits"
run "random graphs" 120 "$programs/tests/unit" "*graphs: cuda"
run "the op table" 300 "$programs/tests/unit" "*op table on cuda"
grep -h '^op table' "$out/log.txt" >>"$out/summary.txt"
grep -h '^SKIPPED' "$out/log.txt" >>"$out/summary.txt" && failures=$((failures + 1))
if [ -x "$kontor" ]; then
  steps=${KONTOR_GPU_STEPS:+--steps $KONTOR_GPU_STEPS}
  # shellcheck disable=SC2086
  run "kontor train --device cuda" 300 "$kontor" train --device cuda --data "$root/data/mnist-12k" --out "$out/train" $steps
  run "kontor train --device cuda --method backprop" 120 "$kontor" train --method backprop --device cuda \
    --data "$root/data/mnist-12k" --out "$out/train-backprop" --steps "${KONTOR_GPU_STEPS:-200}"
else
  echo "not run: kontor train: this tree has no program kontor" | tee -a "$out/summary.txt"
  failures=$((failures + 1))
fi
rm -rf "$out/cache"
echo "total: $((SECONDS - begun)) s, $failures failures" | tee -a "$out/summary.txt"
[ "$failures" -eq 0 ]
