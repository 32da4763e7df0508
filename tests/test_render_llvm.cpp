// [render] the LLVM renderer: loop trees as native code against the interpreter, bit for bit. Buffers end at a page that
// may not be touched, so that a read past the end is seen too.
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <random>
#include <unordered_set>

#include "backends/backend.h"
#include "backends/interp/evaluate_tree.h"
#include "codegen/render.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "graph/index/index.h"
#include "graph/scalar.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/dtypes.h"
#include "tests/run_graph.h"

using namespace kontor;

namespace {

Backend* native() {
  static std::unique_ptr<Backend> device = []() -> std::unique_ptr<Backend> {
    for (const BackendKind* kind : backend_kinds())
      if (kind->name == "llvm") return kind->open();
    return nullptr;
  }();
  return device.get();
}

/// Memory of one buffer, with a forbidden page on each side: it ends where the second begins.
class Fenced {
 public:
  explicit Fenced(size_t bytes) : size(bytes) {
    auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    length_ = (bytes + page - 1) / page * page + 2 * page;
    base_ = static_cast<char*>(mmap(nullptr, length_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(base_ + page, length_ - 2 * page, PROT_READ | PROT_WRITE);
    data = base_ + length_ - page - bytes;
  }
  Fenced(Fenced&& other) noexcept
      : data(other.data),
        size(other.size),
        base_(std::exchange(other.base_, nullptr)),
        length_(other.length_) {}
  Fenced& operator=(Fenced&&) = delete;
  ~Fenced() {
    if (base_) munmap(base_, length_);
  }
  char* data;
  size_t size;

 private:
  char* base_;
  size_t length_;
};

std::mt19937_64& random_bits() {
  static std::mt19937_64 generator(7);
  return generator;
}

/// Plain values, or (odd) also those at the edges of the dtype.
Value random_value(DType dtype, bool odd) {
  auto r = random_bits()();
  if (dtype == DType::Bool) return {r & 1};
  if (odd && r % 4 == 0) {
    if (!is_float(dtype))
      return from_int(dtype, std::array<int64_t, 6>{0, -1, 1, INT64_MIN >> (64 - row(dtype).bits),
                                                    INT64_MAX >> (64 - row(dtype).bits), 7}[r / 4 % 6]);
    double inf = std::numeric_limits<double>::infinity();
    return from_double(
        dtype, std::array{0.0, -0.0, inf, -inf, std::nan(""), 1e-39, 3e9, -5e9, 2e19, 255.5}[r / 4 % 10]);
  }
  if (is_float(dtype)) return from_double(dtype, static_cast<double>(static_cast<int64_t>(r)) / 4e18);
  return {odd ? r >> (64 - row(dtype).bits) : r % 100};
}

std::vector<int64_t> slot_values(const Ref& kernel, const std::vector<int64_t>& given) {
  std::vector<int64_t> out = given;
  out.resize(std::max<size_t>(out.size(), tree::slots(kernel).size()));
  return out;
}

int64_t evaluated(const Ref& e, const Ref& kernel, const std::vector<int64_t>& slots) {
  NodeMap<int64_t> values;
  for (const Ref& s : tree::slots(kernel)) values[s.get()] = slots[static_cast<size_t>(s->at(0))];
  return ix::evaluate(e, values);
}

struct Run {
  std::vector<std::vector<char>> memory;
  uint32_t error = 0;
};

int64_t run_native(const Ref& kernel, std::span<void* const> buffers, const std::vector<int64_t>& slots) {
  KernelSource source{.name = "k", .text = {}};
  source.text = render_llvm(kernel, "k", native()->target(), source.scratch_bytes);
  INFO(source.text);
  std::string binary = native()->compile(std::span(&source, 1), {}).at(0);
  std::unique_ptr<Program> program = native()->load(source, binary);
  const Node* parallel = tree::parallel_loop(*kernel);
  int64_t shares = parallel ? evaluated(parallel->src[0]->src[0], kernel, slots) : 1;
  native()->launch({.program = program.get(), .buffers = buffers, .scalars = slots, .shares = shares}, {});
  return native()->synchronise();
}

bool same_element(DType dtype, Value a, Value b) {
  if (a == b) return true;
  return is_float(dtype) && std::isnan(to_double(dtype, a)) && std::isnan(to_double(dtype, b));
}

void require_same(const Ref& param, const char* got, const char* want, size_t bytes) {
  auto size = static_cast<size_t>(item_size(param->dtype));
  for (size_t i = 0; i < bytes; i += size) {
    Value a{}, b{};
    std::memcpy(&a.bits, got + i, size);
    std::memcpy(&b.bits, want + i, size);
    if (same_element(param->dtype, a, b)) continue;
    INFO(param->arg.text << "[" << i / size << "] is " << to_double(param->dtype, a) << ", not "
                         << to_double(param->dtype, b));
    FAIL();
  }
}

/// Runs the tree on random data, native and interpreted, and compares each buffer.
void same_bits(const Ref& kernel, const std::vector<int64_t>& given = {}, bool odd = false) {
  if (!native()) KONTOR_SKIP("built without the llvm back end");
  std::vector<int64_t> slots = slot_values(kernel, given);
  std::vector<Fenced> one, two;
  std::vector<void*> first, second;
  for (const Ref& p : tree::params(*kernel)) {
    int64_t count = evaluated(ix::product(tree::dims(*p)), kernel, slots), size = item_size(p->dtype);
    one.emplace_back(static_cast<size_t>(count * size));
    two.emplace_back(static_cast<size_t>(count * size));
    for (int64_t i = 0; i < count; i++) {
      Value v = random_value(p->dtype, odd);
      std::memcpy(one.back().data + i * size, &v.bits, static_cast<size_t>(size));
    }
    std::memcpy(two.back().data, one.back().data, one.back().size);
    first.push_back(one.back().data);
    second.push_back(two.back().data);
  }
  int64_t error = evaluate_tree(kernel, second, slots);
  REQUIRE(run_native(kernel, first, slots) == error);
  std::span<const Ref> params = tree::params(*kernel);
  for (size_t i = 0; i < params.size(); i++) require_same(params[i], one[i].data, two[i].data, one[i].size);
}

void same_bits(const char* text, const std::vector<int64_t>& given = {}, bool odd = false) {
  INFO(text);
  same_bits(tree::parse(text), given, odd);
}

/// y[i] = value of x[i].., for 200 elements in vectors of 64 lanes, the last ones masked; or one by one.
Ref elementwise(const std::vector<DType>& from, DType to, const std::function<Ref(std::vector<Ref>)>& value,
                bool vector) {
  Ref n = index(200), t = ix::range(4, "t");
  Ref l = ix::range(ix::min(index(64), ix::sub(n, ix::mul(t, 64))), "l"), at = ix::add(ix::mul(t, 64), l);
  std::vector<Ref> params, loads;
  for (size_t i = 0; i < from.size(); i++) {
    params.push_back(tree::param(from[i], {n}, static_cast<int64_t>(i), "x" + std::to_string(i)));
    loads.push_back(tree::load(params.back(), {at}));
  }
  params.push_back(tree::param(to, {n}, static_cast<int64_t>(from.size()), "y"));
  Ref store = tree::store(params.back(), {at}, value(loads));
  Ref inner = tree::loop(vector ? LoopKind::Vector : LoopKind::Loop, l, {store}, vector ? 64 : 0);
  return tree::kernel("elementwise", params, {tree::loop(LoopKind::Thread, t, {inner})});
}

bool takes(Op op, DType dtype) {
  if (has(op, FloatOnly)) return is_float(dtype);
  if (op == Op::IDiv || op == Op::Mod || op == Op::Shl || op == Op::Shr) return is_integer(dtype);
  return !has(op, IntegerOnly) || !is_float(dtype);
}

}  // namespace

TEST_CASE("[render] every elementwise op in every dtype, with lanes and without") {
  for (DType dtype : every_dtype)
    for (int o = 0; o < op_count; o++) {
      auto op = static_cast<Op>(o);
      if (!is_elementwise(op) || op == Op::Cast || op == Op::Bitcast || !takes(op, dtype)) continue;
      INFO(row(op).name << " " << name(dtype));
      std::vector<DType> from(static_cast<size_t>(row(op).arity), dtype);
      if (op == Op::Where) from[0] = DType::Bool;
      DType to = has(op, Comparison) ? DType::Bool : dtype;
      auto value = [&](std::vector<Ref> x) { return make(op, std::move(x)); };
      same_bits(elementwise(from, to, value, true), {}, true);
      same_bits(elementwise(from, to, value, false), {}, true);
    }
}

TEST_CASE("[render] casts between all every_dtype") {
  for (DType from : every_dtype)
    for (DType to : every_dtype) {
      INFO(name(from) << " to " << name(to));
      auto cast = [&](std::vector<Ref> x) { return make(Op::Cast, std::move(x), {}, to); };
      same_bits(elementwise({from}, to, cast, true), {}, true);
      if (row(from).bits != row(to).bits || (from == DType::Bool) != (to == DType::Bool)) continue;
      auto bitcast = [&](std::vector<Ref> x) { return make(Op::Bitcast, std::move(x), {}, to); };
      same_bits(elementwise({from}, to, bitcast, true));
    }
}

TEST_CASE("[render] operations with constants") {
  for (DType dtype : {DType::I32, DType::U32, DType::I64, DType::U8, DType::I8})
    for (Op op : {Op::IDiv, Op::Mod, Op::Shl, Op::Shr, Op::Max, Op::Mul})
      for (int64_t c : {0, 1, 2, 3, 8, 31, 100, -1, -7}) {
        if (c < 0 && kind(dtype) == Kind::Unsigned) continue;
        INFO(row(op).name << " " << name(dtype) << " " << c);
        auto value = [&](std::vector<Ref> x) { return make(op, {x[0], constant(dtype, c)}); };
        same_bits(elementwise({dtype}, dtype, value, true), {}, true);
      }
  for (double c : {0.0, -0.0, 1.5, std::nan("")}) {
    auto relu = [&](std::vector<Ref> x) {
      Ref k = constant(DType::F32, c);
      return make(Op::Add, {make(Op::Max, {x[0], k}), make(Op::Min, {k, x[0]})});
    };
    same_bits(elementwise({DType::F32}, DType::F32, relu, true), {}, true);
  }
}

// What a kernel does, as text. The second member gives values of the slots.
struct Tree {
  const char* text;
  std::vector<int64_t> slots = {};
};

static const Tree trees[] = {
    // clang-format off
    {R"(kernel slots($0 f32, $1 i64 1..1000, $2 bool, x f32[$1]) -> y f32[$1]
  thread t ($1 + 63) // 64
    vector l min(64, $1 - t * 64) width 64: y[t * 64 + l] = where($2, x[t * 64 + l] * $0, x[0])
)", {0x3fc00000, 333, 1}},
    {R"(kernel sum(x f32[5, 1000]) -> y f32[5]
  thread i 5
    s sum f32[64]
    loop j 15: vector l 64 width 64: s[l] <- x[i, j * 64 + l]
    vector l 40 width 64: s[l] <- x[i, 960 + l]
    y[i] = merge(s)
)"},
    {R"(kernel extremes(x i32[7, 100]) -> lo i32[7], hi i32[7], product i32[7]
  thread i 7
    a min i32[16]; b max i32[16]; c prod i32[16]
    loop j 6: vector l 16 width 16
      let %0 = x[i, j * 16 + l]
      a[l] <- %0
      b[l] <- %0
      c[l] <- %0
    vector l 4 width 16
      let %0 = x[i, 96 + l]
      a[l] <- %0
      b[l] <- %0
      c[l] <- %0
    lo[i] = merge(a)
    hi[i] = merge(b)
    product[i] = merge(c)
)"},
    {R"(kernel scalar_folds(x f64[9, 33]) -> y f64[9]
  loop i 9
    m max f64; s sum f64
    loop j 33: m <- x[i, j]
    loop j 33: s <- x[i, j] - m
    y[i] = s / m
)"},
    {R"(kernel matmul(a f32[16, 40], b f32[40, 64]) -> c f32[16, 64]
  thread t 2
    p f32[40, 32]
    loop k 40: vector l 32 width 32: p[k, l] = b[k, 32 * t + l]
    loop r 4
      q dot f32[4, 2, 16]
      loop k 40: unroll i 4: unroll u 2: vector l 16 width 16: q[i, u, l] <- a[4 * r + i, k], p[k, 16 * u + l]
      unroll i 4: unroll u 2: vector l 16 width 16: c[4 * r + i, 32 * t + 16 * u + l] = q[i, u, l]
)"},
    {R"(kernel matmul_tail(a f32[10, 40], b f32[40, 37]) -> c f32[10, 37]
  thread t 3
    loop u 3
      loop r min(4, 10 - 4 * t)
        q dot f32[16]
        loop k 40: vector l min(16, 37 - u * 16) width 16: q[l] <- a[4 * t + r, k], b[k, 16 * u + l]
        vector l min(16, 37 - u * 16) width 16: c[4 * t + r, 16 * u + l] = q[l]
)"},
    {R"(kernel softmax_like(x f32[6, 100]) -> y f32[6, 100]
  thread i 6
    m max f32[64]; s sum f32[64]; e f32[100]
    loop j 2: vector l min(64, 100 - 64 * j) width 64: m[l] <- x[i, 64 * j + l]
    loop j 2: vector l min(64, 100 - 64 * j) width 64
      e[64 * j + l] = x[i, 64 * j + l] - merge(m)
      s[l] <- e[64 * j + l]
    loop j 2: vector l min(64, 100 - 64 * j) width 64: y[i, 64 * j + l] = e[64 * j + l] / merge(s)
)"},
    {R"(kernel large_places(x f32[3000]) -> y f32[3000]
  thread t 1
    e f32[3000]; f sum f32[1500]
    loop i 46: vector l 64 width 64: e[64 * i + l] = x[64 * i + l] * x[64 * i + l]
    vector l 56 width 64: e[2944 + l] = x[2944 + l]
    loop i 3000: f[i // 2] <- e[i]
    loop i 3000: y[i] = f[i // 2] + e[2999 - i]
)"},
    {R"(kernel conv(x f32[2, 9, 9], w f32[3, 3, 16]) -> y f32[2, 9, 9, 16]
  thread n 2
    loop i 9: loop j 9
      q dot f32[16]
      unroll a 3: unroll b 3: vector o 16 width 16: q[o] <- x[n, i + a - 1, j + b - 1 if 0 <= i + a - 1 & i + a - 1 < 9 & 0 <= j + b - 1 & j + b - 1 < 9], w[a, b, o]
      vector o 16 width 16: y[n, i, j, o] = q[o]
)"},
    {R"(kernel conv_lanes(x f32[2, 9, 9], w f32[4, 3, 3]) -> y f32[2, 4, 9, 9]
  thread n 2
    loop o 4: loop i 9
      q dot f32[16]
      unroll a 3: unroll b 3: vector j 9 width 16: q[j] <- x[n, i + a - 1, j + b - 1 if 0 <= i + a - 1 & i + a - 1 < 9 & 0 <= j + b - 1 & j + b - 1 < 9], w[o, a, b]
      vector j 9 width 16: y[n, o, i, j] = q[j]
)"},
    {R"(kernel strides(x f32[40], z f32[16, 16]) -> flip f32[16], odd f32[16], column f32[16], by_three f32[8]
  vector l 16 width 16: flip[l] = x[15 - l]
  vector l 16 width 16: odd[l] = x[2 * l + 1]
  vector l 13 width 16: column[l] = z[l, 3] + x[12 - l]
  vector l 8 width 8: by_three[7 - l] = x[3 * l]
  vector l 3 width 16: column[15 - l] = x[2 * l + 35]
)"},
    {R"(kernel guards_by_lane(x f32[10]) -> y f32[32]
  vector l 32 width 32
    y[l] = x[l - 5 if 5 <= l & l < 15] + x[7 if l < 3] + x[9 - l if l <= 9] + x[(31 - l) // 3 if 1 < 31 - l & (31 - l) // 3 < 10]
)"},
    {R"(kernel divisions(x i32[64]) -> y i32[64]
  vector l 64 width 64: y[l] = x[(l % 8) * 8 + l // 8] + i32(l % 5) * i32(l // 7)
)"},
    {R"(kernel gather(x f32[20, 32], idx i64[10]) -> y f32[10, 32], z f32[10]
  thread t 2
    loop i 5
      let %0 = idx[5 * t + i] % 20
      vector l 32 width 32: y[5 * t + i, l] = x[%0, l]
    vector l 5 width 8: z[5 * t + l] = x[idx[5 * t + l] % 20, (idx[5 * t + l] // 20) % 32]
)"},
    {R"(kernel scatter(v f32[50], idx i32[50]) -> y sum f32[8]
  clear y
  loop i 12: vector l 4 width 4: y[i64(idx[4 * i + l]) % 8] <- v[4 * i + l]
  loop i 2: y[i64(idx[48 + i]) % 8] <- v[48 + i]
)"},
    {R"(kernel masked_scatter(v f32[50], idx i32[50]) -> y sum f32[8]
  clear y
  loop i 4: vector l min(16, 50 - 16 * i) width 16: y[i64(idx[16 * i + l]) % 8] <- v[16 * i + l]
)"},
    {R"(kernel outer_lanes(x f32[30, 20]) -> y f32[20], z f32[20]
  thread t 2
    vector l min(16, 20 - 16 * t) width 16
      s sum f32; m max f32[2]; e f32[30]
      loop i 30
        s <- x[i, 16 * t + l]
        e[i] = x[i, 16 * t + l] * s
        m[i % 2] <- e[i]
      if 0 < t
        y[16 * t + l] = s + merge(m)
      else
        y[16 * t + l] = e[29]
      z[16 * t + l] = e[t]
)"},
    {R"(kernel lane_branches(x f32[40]) -> y f32[40]
  loop t 3: vector l min(16, 40 - 16 * t) width 16
    if x[16 * t + l] < 0.5
      y[16 * t + l] = x[16 * t + l] * 2.0
    else
      y[16 * t + l] = x[39 - 16 * t - l]
)"},
    {R"(kernel branches($0 i64 0..9, x f32[10]) -> y f32[10]
  loop i 10
    if i < $0
      y[i] = x[i] * x[9 - i]
    else
      if $0 < 5: y[i] = x[i - $0]
      y[9 - i] = x[i]
)", {4}},
    {R"(kernel empty_loops($0 i64 0..9, x f32[10]) -> y sum f32[10]
  clear y
  loop i 10: loop j $0: y[i] <- x[i] * x[j]
)", {0}},
    {R"(kernel checks(x i32[64], idx i32[10]) -> y i32[64]
  vector l 50 width 64
    check 3: x[l] < 100_i32
    y[l] = x[l]
  loop i 10: check 5: idx[i] < 0_i32
)"},
    {R"(kernel checks_hold(x i32[64]) -> y i32[64]
  vector l 50 width 64
    check 3: x[l] <= 100_i32
    y[l] = x[l]
)"},
    {R"(kernel bools(x bool[70], z f32[70]) -> y bool[70], any bool
  a max bool[64]
  loop i 2: vector l min(64, 70 - 64 * i) width 64
    y[64 * i + l] = x[64 * i + l] & (0.0 <= z[64 * i + l])
    a[l] <- y[64 * i + l]
  any = merge(a)
)"},
    {R"(kernel narrow(x f16[40], z bf16[40]) -> y f16[40], s bf16
  a sum bf16[16]
  loop i 3: vector l min(16, 40 - 16 * i) width 16
    y[16 * i + l] = x[16 * i + l] * f16(z[16 * i + l])
    a[l] <- z[16 * i + l]
  s = merge(a)
)"},
    {R"(kernel counters() -> u u32[40], f f32[40], i i64[40]
  loop t 3: vector l min(16, 40 - 16 * t) width 16
    u[16 * t + l] = u32((16 * t + l) * 3)
    f[16 * t + l] = f32(16 * t + l) * 0.5
    i[16 * t + l] = (16 * t + l) * (l + 1)
)"},
    {R"(kernel update(g f32[100]) -> w f32[100], m f32[100]
  loop t 2: vector l min(64, 100 - 64 * t) width 64
    m[64 * t + l] = m[64 * t + l] * 0.9 + g[64 * t + l]
    w[64 * t + l] = w[64 * t + l] - m[64 * t + l] * 0.1
)"},
    {R"(kernel ragged_tile(a f32[8, 20], b f32[20, 10]) -> c f32[8, 10], d f32[8]
  thread t 2
    q dot f32[4, 10]; m max f32[16]
    loop k 20: unroll i 4: vector l 10 width 16: q[i, l] <- a[4 * t + i, k], b[k, l]
    loop j 2
      vector l min(16, 20 - 16 * j) width 16: m[l] <- a[t, 16 * j + l]
    unroll i 4: vector l 10 width 16: c[4 * t + i, l] = q[i, l]
    unroll i 4: d[4 * t + i] = merge(m)
)"},
    {R"(kernel one_extent_for_all(a f32[8, 20], b f32[20, 37]) -> c f32[8, 37]
  thread t 3
    loop i 8
      q dot f32[16]
      loop k 20: vector l min(16, 37 - 16 * t) width 16: q[l] <- a[i, k], b[k, 16 * t + l]
      vector l min(16, 37 - 16 * t) width 16: c[i, 16 * t + l] = q[l]
)"},
    {R"(kernel pairs(x f32[129], u u8[31]) -> y f32[64], v u8[16]
  vector l 64 width 64: y[l] = max(x[2 * l], x[2 * l + 1]) + x[2 * l + 1 if x[0] < 9.0]
  vector l 16 width 16: v[l] = u[2 * l]
)"},
    {R"(kernel flattened(x f32[10, 37]) -> y f32[10, 37], z i64[50]
  loop t 5: vector l 64 width 64
    y[(64 * t + l) // 37, (64 * t + l) % 37] = x[(64 * t + l) // 37, (64 * t + l) % 37]
  loop t 3: vector l 16 width 16: z[16 * t + l] = (16 * t + l) % 7 + (l - 20) // 3 + t % 2 * ((l + t) % 4)
  unroll t 2: z[48 + t] = (7 * t - 3) // 4 + (7 * t - 3) % 4
)"},
    {R"(kernel mixed_branches($0 i64 0..9, x f32[40]) -> y f32[40], z f32[40]
  loop t 3: vector l min(16, 40 - 16 * t) width 16
    if t < 2 & x[16 * t + l] < 0.25 & l < 9
      y[16 * t + l] = x[16 * t + l] * 2.0
    else
      y[16 * t + l] = x[39 - 16 * t - l]
    z[16 * t + l] = x[(16 * t + l) // 3 * 2 if t < $0 & 2 < l] + x[2 * l if t < $0] + x[t if l < 5 & t < 1]
)", {1}},
    {R"(kernel lanes_with_accumulators(x f32[90, 20]) -> y f32[20], z f32[20]
  thread t 2
    vector l min(16, 20 - 16 * t) width 16
      s sum f32[64]; m max f32[32]
      loop i 90
        s[i % 64] <- x[i, 16 * t + l]
        m[i % 32] <- x[i, 16 * t + l]
      y[16 * t + l] = merge(s) * merge(m)
      loop i 2
        if i == t: z[16 * t + l] = merge(s)
)"},
    {R"(kernel growing(x f32[32]) -> y f32[2, 16]
  q sum f32[16]
  loop j 2: vector l min(16, 4 + 12 * j) width 16
    q[l] <- x[16 * j + l] + 1.0
    y[j, l] = q[l]
)"},
    {R"(kernel not_reached($0 i64 0..9, $1 i64 0..999999999, x f32[10]) -> y f32[10], z f32[16]
  loop i $0: y[i] = x[$1]
  if $1 < 10: y[0] = x[$1]
  loop j 3: vector l min(16, $0 + 0 * j) width 16: z[l] = x[$1 + l]
)", {0, 999999999}},
    {R"(kernel grouped($0 i64 0..9, x f32[40], w u32[8], t i64[200]) -> y f32[2, 64], z u32[128], s i64[128], m f32[48], d f32[64]
  loop i 2: vector l 64 width 64
    let %0 = (i * 64 + l) // 2
    y[i, l] = x[%0 // 16] + f32(%0 * %0) + where(f32(%0) < 9.0, f32(%0), f32(l))
    z[i * 64 + l] = w[(i * 64 + l) // 32 + $0] >> u32((i * 64 + l) % 32) & 1_u32
    s[i * 64 + l] = t[%0 + l // 4 * 2] + (i * 64 + l) // 128 + (l + 1) // 2
  loop i 3: vector l 13 width 16: m[i * 16 + l] = x[(i * 16 + l) // 4] + where((l // 8) == 1, x[l], 0.5)
  p sum f32[32]
  loop i 4: vector l 32 width 32: p[l // 2 + l % 2] <- x[(i * 32 + l) // 4]
  loop i 2: vector l 32 width 32: d[i * 32 + l] = p[l // 2]
)", {3}},
    {R"(kernel running(x f32[50]) -> y f32[50]
  s sum f32
  loop i 50
    s <- x[i]
    y[i] = s
)"},
    // clang-format on
};

TEST_CASE("[render] trees") {
  for (const Tree& t : trees) same_bits(t.text, t.slots);
}

namespace {

/// Random kernels: three nested loops of any kind, folds at each level, guarded and wrapped indexes.
class RandomTree {
 public:
  explicit RandomTree(uint64_t seed) : random_(seed) {}

  Ref make_kernel() {
    for (int i = 0; i < 3; i++) {
      std::vector<Ref> dims;
      for (int64_t d = pick(1, 3); d > 0; d--) dims.push_back(index(pick(3, 12)));
      inputs_.push_back(param(i == 2 ? DType::I32 : DType::F32, dims));
    }
    vector_at_ = pick(0, 3);
    std::vector<Ref> body = level(0);
    return tree::kernel("random", params_, body);
  }

 private:
  struct Visible {
    Ref place;
    bool lanes;  // the last dimension is that of the vector loop to come
  };

  int64_t pick(int64_t lo, int64_t hi) { return std::uniform_int_distribution<int64_t>(lo, hi)(random_); }
  bool chance(int percent) { return pick(0, 99) < percent; }

  Ref param(DType dtype, std::vector<Ref> dims) {
    auto number = static_cast<int64_t>(params_.size());
    params_.push_back(tree::param(dtype, std::move(dims), number, "p" + std::to_string(number)));
    return params_.back();
  }

  Ref some_range() {
    return ranges_.empty() ? index(pick(0, 3))
                           : ranges_[static_cast<size_t>(pick(0, static_cast<int64_t>(ranges_.size()) - 1))];
  }

  Ref position() {
    Ref e = index(pick(-2, 5));
    for (int64_t n = pick(0, 2); n > 0; n--) e = ix::add(e, ix::mul(some_range(), pick(-1, 3)));
    if (chance(20)) e = ix::idiv(e, pick(2, 5));
    if (chance(15)) e = make(Op::Max, {e, some_range()});
    if (chance(10)) e = ix::add(e, make(Op::Cast, {ix::mod(some_range(), pick(2, 3))}, {}, DType::I64));
    return e;
  }

  Ref load(const Ref& place) {
    std::vector<Ref> at;
    Ref guard;
    for (const Ref& d : tree::dims(*place)) {
      Ref e = position();
      bool wrap = chance(50);
      if (wrap) e = ix::mod(e, extent(d));
      if (!wrap) guard = ix::both(guard, ix::both(ix::le(index(0), e), ix::lt(e, extent(d))));
      at.push_back(e);
    }
    return tree::load(place, at, guard);
  }

  Ref leaf() {
    if (chance(15)) return make(Op::Cast, {position()}, {}, DType::F32);
    if (chance(10)) return constant(DType::F32, 0.25 * static_cast<double>(pick(-8, 8)));
    if (chance(20) && !visible_.empty()) {
      const Visible& v = visible_[static_cast<size_t>(pick(0, static_cast<int64_t>(visible_.size()) - 1))];
      if (!v.lanes || vector_range_) return tree::load(v.place, place_index(v));
    }
    Ref x = load(inputs_[static_cast<size_t>(pick(0, 2))]);
    return x->dtype == DType::F32 ? x : make(Op::Cast, {x}, {}, DType::F32);
  }

  Ref value(int depth = 2) {
    if (depth == 0) return leaf();
    Ref a = value(depth - 1), b = value(depth - 1);
    switch (pick(0, 5)) {
      case 0:  return make(Op::Add, {a, b});
      case 1:  return make(Op::Mul, {a, b});
      case 2:  return make(Op::Max, {a, b});
      case 3:  return make(Op::Where, {make(Op::Lt, {a, b}), b, leaf()});
      case 4:  return make(Op::Where, {ix::lt(position(), position()), a, b});
      default: return make(Op::Sub, {a, b});
    }
  }

  std::vector<Ref> place_index(const Visible& v) {
    std::vector<Ref> at = {ix::mod(position(), 4)};
    if (has_lanes(v.place)) at.push_back(vector_range_);
    return at;
  }
  static bool has_lanes(const Ref& place) { return tree::dims(*place).size() == 2; }

  void fold_into(std::vector<Ref>& body) {
    for (const Visible& v : visible_)
      if (chance(50) && (v.lanes ? bool(vector_range_)
                                 : bool(vector_range_) == declared_in_vector_.contains(v.place.get())))
        body.push_back(tree::fold(v.place, place_index(v), {value()}));
  }

  void output(std::vector<Ref>& body, const Ref& x) {
    std::vector<Ref> dims;
    for (const Ref& r : ranges_) dims.push_back(index(r->src[0]->bounds.hi));
    Ref y = param(DType::F32, dims);
    Ref store = tree::store(y, ranges_, x);
    if (chance(20)) store = tree::branch(ix::lt(position(), position()), {store});
    body.push_back(store);
  }

  Ref wrapped(int64_t depth) {
    bool vector = depth == vector_at_;
    int64_t most = pick(1, vector ? 16 : 5);
    Ref e = index(most);
    if (chance(30) && !ranges_.empty()) e = ix::min(e, ix::add(ix::mod(some_range(), 4), pick(0, 2)));
    if (vector_range_ || e->bounds.hi != most) e = index(most);
    Ref r = ix::range(e, std::string(1, static_cast<char>('i' + depth)));
    LoopKind kind = vector                        ? LoopKind::Vector
                    : depth == 0 && chance(50)    ? LoopKind::Thread
                    : e->is_const() && chance(40) ? LoopKind::Unroll
                                                  : LoopKind::Loop;
    ranges_.push_back(r);
    if (vector) vector_range_ = r;
    std::vector<Ref> body = level(depth + 1);
    if (vector) vector_range_ = {};
    ranges_.pop_back();
    return tree::loop(kind, r, body, vector ? 16 : 0);
  }

  std::vector<Ref> level(int64_t depth) {
    std::vector<Ref> body;
    size_t seen = visible_.size();
    if (depth > 0 && chance(70)) {
      bool lanes = !vector_range_ && vector_at_ >= depth && vector_at_ < 3;
      std::vector<Ref> dims = {index(4)};
      if (lanes) dims.push_back(index(16));
      Fold fold = std::array{Fold::Sum, Fold::Max, Fold::Min}[static_cast<size_t>(pick(0, 2))];
      visible_.push_back(
          {tree::place(DType::F32, dims, "s" + std::to_string(fresh_id()), static_cast<int>(fold)), lanes});
      if (vector_range_) declared_in_vector_.insert(visible_.back().place.get());
      body.push_back(visible_.back().place);
    }
    if (depth < 3) {
      body.push_back(wrapped(depth));
      if (depth > 0 && chance(40)) body.push_back(wrapped(depth));
    }
    if (depth > 0) {
      fold_into(body);
      output(body, value());
      for (size_t i = seen; i < visible_.size(); i++)
        output(body, has_lanes(visible_[i].place) ? tree::merge(visible_[i].place, {index(1)})
                                                  : tree::load(visible_[i].place, {index(2)}));
    }
    visible_.resize(seen);
    return body;
  }

  std::mt19937_64 random_;
  std::vector<Ref> params_, inputs_, ranges_;
  std::vector<Visible> visible_;
  std::unordered_set<const Node*> declared_in_vector_;
  Ref vector_range_;
  int64_t vector_at_ = 0;
};

}  // namespace

TEST_CASE(
    "[render] places one after the other in the same scratch memory: what one held is not read for the other") {
  Backend* llvm = device("llvm");
  if (!llvm) KONTOR_SKIP("no llvm device");
  CHECK(differs_from_interp(*llvm, tree::parse(R"(
kernel scratch(s f32[2], v f32[2, 65, 32]) -> s
  thread i 2
    top f32[1, 32]
    vector l 32 width 32
      m max f32[64]
      loop k 64: m[k] <- v[i, k, l]
      m[0] <- v[i, 64, l]
      top[0, l] = merge(m)
    all f32[1, 32]
    vector n 32 width 32
      t sum f32[64]
      loop q 64: t[q] <- v[i, q, n] - top[0, n]
      t[0] <- v[i, 64, n] - top[0, n]
      all[0, n] = merge(t)
    e sum f32
    loop r 32: e <- all[0, r] + top[0, r]
    s[i] = e
)")) == "");
}

TEST_CASE("[render] random trees") {
  for (uint64_t seed = 1; seed <= 300; seed++) {
    Ref kernel = RandomTree(seed).make_kernel();
    INFO("seed " << seed << "\n" << tree::print(kernel));
    same_bits(kernel);
  }
}

TEST_CASE("[render] the text depends on the tree alone") {
  for (const Tree& t : trees) {
    int64_t scratch = 0;
    std::string first = render_llvm(tree::parse(t.text), "k", Target{}, scratch);
    std::string second = render_llvm(tree::parse(t.text), "k", Target{}, scratch);
    REQUIRE(first == second);
  }
}

TEST_CASE("[render] an expression of ten thousand operations") {
  auto value = [](std::vector<Ref> x) {
    Ref v = x[0];
    for (int i = 0; i < 10000; i++)
      v = make(Op::Xor, {make(Op::Mul, {v, constant(DType::U32, int64_t{3})}), x[0]});
    return v;
  };
  Ref kernel = elementwise({DType::U32}, DType::U32, value, false);
  int64_t scratch = 0;
  std::string text = render_llvm(kernel, "k", Target{}, scratch);
  REQUIRE(text.size() > 10000 * 20);
}

TEST_CASE("[render] the inner loop of a matmul: one load for each row and vector, one fma for each pair") {
  Ref kernel = tree::parse(R"(
kernel matmul(a f32[64, 40], b f32[40, 96]) -> c f32[64, 96]
  thread t 2
    p f32[40, 48]
    loop k 40: unroll u 3: vector l 16 width 16: p[k, 16 * u + l] = b[k, 48 * t + 16 * u + l]
    loop r 8
      q dot f32[8, 3, 16]
      loop k 40: unroll i 8: unroll u 3: vector l 16 width 16: q[i, u, l] <- a[8 * r + i, k], p[k, 16 * u + l]
      unroll i 8: unroll u 3: vector l 16 width 16: c[8 * r + i, 48 * t + 16 * u + l] = q[i, u, l]
)");
  int64_t scratch = 0;
  std::string text = render_llvm(kernel, "k", Target{}, scratch);
  REQUIRE(scratch == 40 * 48 * 4);
  text.resize(text.find("\ndeclare"));
  std::vector<std::string> blocks;
  for (size_t at = 0; at < text.size();) {  // the text between labels
    size_t end = text.find(":\n", at);
    blocks.push_back(text.substr(at, end == std::string::npos ? end : end - at));
    at = end == std::string::npos ? text.size() : end + 2;
  }
  auto count = [](const std::string& block, const char* word) {
    int n = 0;
    for (size_t at = block.find(word); at != std::string::npos; at = block.find(word, at + 1)) n++;
    return n;
  };
  int found = 0;
  for (const std::string& block : blocks) {
    if (count(block, "llvm.fma") == 0) continue;
    found++;
    REQUIRE(count(block, "@llvm.fma.v16f32(") == 24);
    REQUIRE(count(block, "= load float") == 8);
    REQUIRE(count(block, "= load <16 x float>") == 3 + 24);  // the panel, and the accumulators (registers)
    REQUIRE(count(block, "= mul") == 0);                     // indexes go along with the counter
  }
  REQUIRE(found == 1);
}

TEST_CASE("[render] what it cannot render is said") {
  auto text_of = [](const char* text) {
    int64_t scratch = 0;
    return render_llvm(tree::parse(text), "k", Target{}, scratch);
  };
  auto message = [&](const char* text) -> std::string {
    try {
      return text_of(text);
    } catch (const InternalError& error) {
      return error.what();
    }
  };
  REQUIRE(message("kernel k(x f32[48]) -> y f32[48]\n vector l 48 width 48: y[l] = x[l]\n") ==
          "LLVM renderer: a vector loop of width 48");
  REQUIRE(
      message(
          "kernel k(x f32[8, 8]) -> y f32[8, 8]\n vector l 8 width 8: vector m 8 width 8: y[l, m] = x[m, l]\n") ==
      "LLVM renderer: a vector loop inside another");
  REQUIRE(message("kernel k(x f32[8]) -> y f32\n vector l 8 width 8: y = x[l]\n") ==
          "LLVM renderer: all lanes write one element");
}
