#!/usr/bin/env bash
# Kontor on an NVIDIA GPU, in two phases for one warm machine, each within its own time:
#
#   bench/gpu.sh correctness  at most 150 s: memory, every op and cast, random graphs, the op table, training to a floor
#   bench/gpu.sh speed        at most 250 s: copy bandwidth, then each case in PyTorch and Kontor by turns (bench/gpu_speed.py)
#   bench/gpu.sh pack         on a machine with the headers: builds into .gpu/ programs that need only glibc; take it along
#   bench/gpu.sh check BUILD  needs no GPU and runs nothing: whether BUILD has every test and option that the steps name
#
# Without a pack, the phases build: g++, meson, ninja, pkg-config and the headers of fmt, zlib, nlohmann_json, CLI11 and
# Catch2 are needed then, LLVM is not. No network is. Results, appended as they are made: $OUT (default out/gpu)/PHASE.txt and
# PHASE.tar.gz with logs and curves. NVRTC is found in CUDA toolkits and in the packages of python3; KONTOR_NVRTC names it
# elsewhere. GPU_STEPS=n trains n steps, not 200, and asks for no accuracy.
set -uo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
pack=$root/.gpu
out=${OUT:-$root/out/gpu}
begun=$SECONDS

say() { printf 'gpu.sh: %s\n' "$*"; }
die() { say "$@"; exit 1; }
left() { echo $((limit - (SECONDS - begun))); }

meson_command() {
  if command -v meson >/dev/null; then echo meson
  elif python3 -c 'import mesonbuild.mesonmain' 2>/dev/null; then echo python3 -m mesonbuild.mesonmain
  fi
}

# Builds the programs into the folder $1, in at most $2 seconds. They, and the libraries that a pack takes along, find these
# beside themselves, so that no other program is given them.
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
    $meson setup "$1" "$root" --buildtype=release -Dllvm=disabled -Dopencl=disabled -Dtests=enabled \
      -Dcpp_link_args='-Wl,--disable-new-dtags,-rpath,$ORIGIN/../lib' >"$1/setup.log" 2>&1 ||
    { tail -n 20 "$1/setup.log"; die "meson setup failed"; }
  timeout -k 5 "$seconds" ninja -C "$1" kontor-program tests/unit >"$1/build.log" 2>&1 ||
    { grep -A 5 -E '(^FAILED|error):' "$1/build.log" | head -n 40; die "the build failed, or took more than $seconds s (see $1/build.log)"; }
}

# The libraries of a program that are not of glibc.
libraries() {
  ldd "$1" | awk '$3 ~ /^\// {print $3}' | grep -vE '/lib(c|m|dl|rt|pthread|mvec|resolv|util)\.so\.'
}

make_pack() {
  build "$root/build-gpu" 3600
  rm -rf "$pack" && mkdir -p "$pack/tests" "$pack/tools" "$pack/lib" "$pack/data"
  for program in tests/unit tools/kontor; do
    [ -x "$root/build-gpu/$program" ] || die "this tree has no $program"
    strip -o "$pack/$program" "$root/build-gpu/$program"
    libraries "$root/build-gpu/$program" | xargs -I{} cp -L {} "$pack/lib/"
    ! libraries "$pack/$program" | grep -v "^$pack/" || die "$program finds these outside of the pack"
  done
  ln -sfn ../../data/mnist-12k "$pack/data/mnist-12k"
  git -C "$root" rev-parse HEAD >"$pack/commit"
  say "packed into $pack: $(du -sh "$pack" | cut -f1)"
}

# Which programs are run: those of the pack, or of a build made now.
choose_programs() {
  if [ -x "$pack/tests/unit" ]; then
    programs=$pack
    say "programs of $pack, built at $(cat "$pack/commit")"
  else
    programs=$root/build-gpu
    build "$programs" 600
    begun=$SECONDS
  fi
}

# The CUDA library of the Python that has PyTorch, where no toolkit is found.
find_nvrtc() {
  [ -z "${KONTOR_NVRTC-}" ] && command -v python3 >/dev/null || return 0
  VIRTUAL_ENV=${VIRTUAL_ENV:-$(python3 -c 'import sys; print(sys.prefix)')}
  export VIRTUAL_ENV
}

# run NAME SECONDS COMMAND...: logs it, adds a line to the summary; a step that runs too long is stopped.
failures=0
run() {
  local name=$1 seconds=$2 code=0 start=$SECONDS
  shift 2
  [ "$seconds" -lt "$(left)" ] || seconds=$(left)
  [ "$seconds" -gt 5 ] || { echo "not run: $name: no time left" | tee -a "$summary"; failures=$((failures + 1)); return; }
  { echo; echo "== $name: $*"; } >>"$log"
  timeout -k 5 "$seconds" "$@" >"$out/.step" 2>&1
  code=$?
  cat "$out/.step" >>"$log"
  tail -n "${tail:-12}" "$out/.step"
  [ "$code" -eq 0 ] || failures=$((failures + 1))
  printf '%-8s %s (%d s, exit code %d)\n' "$([ "$code" -eq 0 ] && echo passed || echo FAILED)" "$name" $((SECONDS - start)) "$code" |
    tee -a "$summary"
  if [ "$code" -eq 0 ]; then grep -E '^SKIPPED' "$out/.step" | tee -a "$summary"; fi
  if grep -q '^SKIPPED' "$out/.step"; then failures=$((failures + 1)); fi
}

# check NAME SECONDS COMMAND...: whether the command's test, or verb and options, are there.
check() {
  local name=$1 wanted found missing=()
  shift 2
  case $1 in on_device|trained) shift ;; esac
  [ "${1##*[!0-9]*}" ] && shift # the floor of `trained`
  local program=$1
  shift
  if [ "${program##*/}" = unit ]; then
    found=$("$program" "$1" --list-test-names-only 2>/dev/null; "$program" "$1" --list-tests 2>/dev/null)
    wanted=${1#\*} wanted=${wanted%\*}
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

# on_device COMMAND...: `kontor devices`, and fails where the device cuda does not open.
on_device() {
  local found
  found=$("$@") || return 1
  echo "$found"
  grep -q '^cuda ' <<<"$found" && ! grep -q '^cuda  *not here' <<<"$found"
}

# trained FLOOR COMMAND...: a training run whose test accuracy, in percent, is at least the floor.
trained() {
  local floor=$1 text accuracy
  shift
  text=$("$@" 2>&1) || { tail -n 20 <<<"$text"; return 1; }
  tail -n 12 <<<"$text"
  accuracy=$(sed -n 's/^ *test accuracy *\([0-9.]*\) %.*/\1/p' <<<"$text" | tail -n 1)
  [ -z "${GPU_STEPS-}" ] || return 0
  awk -v a="${accuracy:-0}" -v f="$floor" 'BEGIN { exit !(a >= f) }' || { echo "FAILED: ${accuracy:-no} % is under the floor of $floor %"; return 1; }
}
export -f on_device trained

# each DO: does `DO NAME SECONDS COMMAND...` for each step of the phase correctness, what tells most first.
each() {
  local do=$1 unit=$programs/tests/unit kontor=$programs/tools/kontor
  local training=(--data "$root/data/mnist-12k" --steps "${GPU_STEPS:-200}" --device cuda)
  $do "kontor devices" 30 on_device "$kontor" devices
  # Catch2 takes [x] for a tag, so names are matched by what follows it.
  $do "memory and launches" 30 "$unit" "*memory and launches of the device"
  $do "hand-made kernels, every op and cast in every dtype" 60 "$unit" "*on a GPU the kernels have the interpreter's bits"
  $do "tiles, matrix instructions, rows in registers" 40 "$unit" "*groups] on a GPU*"
  $do "kontor train --method backprop" 40 trained 95 "$kontor" train --method backprop "${training[@]}" --out "$out/train-backprop"
  $do "random graphs" 40 "$unit" "*graphs: cuda"
  $do "the op table and its gradients" 90 "$unit" "*the op table on cuda"
  $do "kontor train" 60 trained 88 "$kontor" train "${training[@]}" --out "$out/train"
}

# bash runs functions for `timeout`, which takes only programs.
step() {
  local name=$1 seconds=$2
  shift 2
  case $1 in
    on_device|trained) run "$name" "$seconds" bash -c '"$@"' "$1" "$@" ;;
    *) run "$name" "$seconds" "$@" ;;
  esac
}

finish() {
  rm -rf "$out/cache" "$out/.step"
  echo "total: $((SECONDS - begun)) s, $failures failures" | tee -a "$summary"
  (cd "$out" && tar czf "$1.tar.gz" "$1.log" $(ls -d "$1".jsonl train train-backprop 2>/dev/null))
  rm -rf "$log" "$out/train" "$out/train-backprop"
  [ "$failures" -eq 0 ]
}

begin() {
  limit=$2
  mkdir -p "$out" || die "$out cannot be made"
  summary=$out/$1.txt log=$out/$1.log
  : >"$log"
  { date -u +%FT%TZ; cat "$pack/commit" 2>/dev/null || git -C "$root" rev-parse HEAD 2>/dev/null; } >"$summary"
  choose_programs
  find_nvrtc
  [ ! -d /usr/local/nvidia/lib64 ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}/usr/local/nvidia/lib64 # the driver
  export KONTOR_CACHE_DIR=${KONTOR_CACHE_DIR:-$out/cache}
  ! command -v nvidia-smi >/dev/null || run "the GPU" 30 nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
}

case ${1-}:$# in
  pack:1) make_pack ;;
  check:2)
    programs=$2
    each check
    [ "$failures" -eq 0 ]
    ;;
  correctness:1)
    begin correctness 150
    each step
    finish correctness
    ;;
  speed:1)
    begin speed 250
    tail=60 run "speed" 245 python3 "$root/bench/gpu_speed.py" "$programs/tools/kontor" --limit "$(($(left) - 8))" --out "$out/speed.jsonl"
    grep -E '^\|' "$log" >>"$summary"
    finish speed
    ;;
  *) die "usage: bench/gpu.sh correctness | speed | pack | check BUILD" ;;
esac
