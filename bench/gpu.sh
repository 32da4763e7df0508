#!/usr/bin/env bash
# Kontor on an NVIDIA GPU, in one call under 9 minutes: builds, runs the tests that want a GPU and the op table on the
# device cuda, trains MNIST on it. Results: $OUT (default out/gpu): log.txt, summary.txt, train/.
#
#   bench/gpu.sh              on the machine with the GPU; it needs no network. Without a pack, it needs g++, meson, ninja,
#                             pkg-config and the headers of fmt, zlib, nlohmann_json, CLI11 and Catch2; LLVM may be missing
#   bench/gpu.sh pack         on a machine that has those: builds into .gpu/ programs that need only glibc; take it along
#   bench/gpu.sh check BUILD  needs no GPU and runs nothing: whether BUILD has every test and option that the steps name
#
# NVRTC is found in CUDA toolkits and Python packages; KONTOR_NVRTC names it elsewhere. GPU_STEPS=n trains n steps,
# not 200.
set -uo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
pack=$root/.gpu
out=${OUT:-$root/out/gpu}
limit=530 # seconds for everything, the build included: no step gets more than what is left of them
begun=$SECONDS

say() { printf 'gpu.sh: %s\n' "$*"; }
die() { say "$@"; exit 1; }
left() { echo $((limit - (SECONDS - begun))); }

meson_command() {
  if command -v meson >/dev/null; then echo meson
  elif python3 -c 'import mesonbuild.mesonmain' 2>/dev/null; then echo python3 -m mesonbuild.mesonmain
  fi
}

# Builds the programs into the folder $1, in at most $2 seconds.
build() {
  local meson seconds=$2
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
  timeout -k 5 "$seconds" ninja -C "$1" kontor-program tests/unit >"$1/build.log" 2>&1 ||
    { grep -A 5 -E '(^FAILED|error):' "$1/build.log" | head -n 40; die "the build failed, or took more than $seconds s (see $1/build.log)"; }
}

# The libraries of a program that a machine with glibc may lack.
libraries() {
  ldd "$1" | awk '$3 ~ /^\// {print $3}' | grep -E 'lib(fmt|z|stdc\+\+|gcc_s)\.so'
}

make_pack() {
  build "$root/build-gpu" 3600
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
  timeout -k 5 "$seconds" "$@" 2>&1 | tee -a "$out/log.txt" | tail -n 25
  code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || failures=$((failures + 1))
  printf '%-8s %s (%d s, exit code %d)\n' "$([ "$code" -eq 0 ] && echo passed || echo FAILED)" "$name" $((SECONDS - start)) "$code" |
    tee -a "$out/summary.txt"
}

# check NAME SECONDS COMMAND...: whether the command's test, or verb and options, are there.
check() {
  local name=$1 program=$3 wanted found missing=()
  shift 3
  if [ "${program##*/}" = unit ]; then
    found=$("$program" "$1" --list-test-names-only 2>/dev/null; "$program" "$1" --list-tests 2>/dev/null)
    wanted=${1#\*}
    [[ $found == *"$wanted"* ]] || missing+=("the test '$wanted'")
  else
    found=$("$program" "$1" --help 2>&1) || missing+=("the verb '$1'")
    for wanted in "$@"; do
      [[ $wanted != --* ]] || grep -qE -- "$wanted([ ,=]|$)" <<<"$found" || missing+=("the option $wanted of '$1'")
    done
  fi
  [ ${#missing[@]} -eq 0 ] && { echo "ok: $name"; return; }
  printf 'missing for "%s": %s\n' "$name" "${missing[@]}"
  failures=$((failures + 1))
}

# each DO: does `DO NAME SECONDS COMMAND...` for each step, the shortest first.
each() {
  local do=$1 unit=$programs/tests/unit kontor=$programs/tools/kontor
  local training=(--data "$root/data/mnist-12k" --steps "${GPU_STEPS:-200}" --device cuda)
  $do "kontor devices" 30 "$kontor" devices
  # Catch2 takes [x] for a tag, so names are matched by what follows it.
  $do "memory and launches" 30 "$unit" "*memory and launches of the device"
  $do "hand-made kernels, every op and cast in every dtype" 90 "$unit" "*on a GPU the kernels have the interpreter's bits"
  $do "random graphs" 60 "$unit" "*graphs: cuda"
  $do "kontor train --method backprop" 60 "$kontor" train --method backprop "${training[@]}" --out "$out/train-backprop"
  $do "the op table and its gradients" 240 "$unit" "*the op table on cuda"
  $do "kontor train" 240 "$kontor" train "${training[@]}" --out "$out/train"
}

if [ "${1-}" = pack ]; then
  make_pack
  exit
fi
if [ "${1-}" = check ] && [ $# -eq 2 ]; then
  programs=$2
  each check
  [ "$failures" -eq 0 ]
  exit
fi
[ $# -eq 0 ] || die "usage: bench/gpu.sh [pack | check BUILD]"

mkdir -p "$out" || die "$out cannot be made"
: >"$out/log.txt"
{ date -u +%FT%TZ; git -C "$root" rev-parse HEAD 2>/dev/null || cat "$pack/commit" 2>/dev/null; } >"$out/summary.txt"
if [ -x "$pack/tests/unit" ]; then
  programs=$pack
  export LD_LIBRARY_PATH=$pack/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  say "programs of $pack, built at $(cat "$pack/commit")"
else
  programs=$root/build-gpu
  build "$programs" 240
fi
export KONTOR_CACHE_DIR=${KONTOR_CACHE_DIR:-$out/cache}
[ -d /usr/local/nvidia/lib64 ] && export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64

command -v nvidia-smi >/dev/null && run "the GPU" 30 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
each run
{ grep -h '^op table' "$out/log.txt"; grep -hE '^ +(test accuracy|training time|work|peak memory) ' "$out/log.txt"; } >>"$out/summary.txt"
grep -h '^SKIPPED' "$out/log.txt" >>"$out/summary.txt" && failures=$((failures + 1))
rm -rf "$out/cache"
echo "total: $((SECONDS - begun)) s, $failures failures" | tee -a "$out/summary.txt"
[ "$failures" -eq 0 ]
