// Comparing devices with the interpreter on loop trees.
#include "tests/device_trees.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "backends/interp/element.h"
#include "backends/interp/evaluate_tree.h"
#include "base/error.h"
#include "codegen/schedule.h"
#include "graph/index/index.h"

namespace kontor {
namespace {

const char* const kTrees[] = {
    R"(kernel softmax(x f32[40, 33]) -> y f32[40, 33]
  global i 40
    m max f32; s sum f32; e f32[33]
    loop j 33: m <- x[i, j]
    loop j 33
      let %1 = x[i, j] - m
      e[j] = %1 * %1
      s <- e[j]
    loop j 33: y[i, j] = e[j] / s + x[i, j - 1 if 0 < j]
)",
    R"(kernel lanes(x f32[70, 128], y f32[70, 128]) -> z f32[70]
  global i 70
    q dot f32[16]
    loop j 8
      unroll l 16: q[l] <- x[i, j * 16 + l], y[i, j * 16 + l]
    z[i] = merge(q)
)",
    R"(kernel blocks(x f32[6, 64]) -> z f32[6, 3]
  global i 6
    q sum f32[3, 4]
    loop b 3
      loop j 5: q[b, j % 4] <- x[i, b * 5 + j]
    loop b 3: z[i, b] = merge(q[b]) * 2.0
)",
    // A scan: what is read in a loop is what was folded so far, and afterwards all of it.
    R"(kernel scan(x i32[10, 20]) -> y i32[10, 20], z i32[10]
  global i 10
    p sum i32
    loop j 20
      y[i, j] = p
      p <- x[i, j]
    z[i] = p
)",
    // One work item does it all: a histogram, with elements that are met more than once.
    R"(kernel histogram(x u8[300], w i32[300]) -> h sum i32[256]
  clear h
  loop i 300: h[i64(x[i])] <- w[i]
)",
    R"(kernel branches($0 f32, $2 i64 1..100, x f32[50], k i64[50]) -> y f32[50], b bool[50]
  global i 50
    if i < $2
      y[i] = x[k[i] if 0 <= k[i] & k[i] < 50] * $0
    else
      y[i] = x[i] + $0
    b[i] = x[i] < 0.0 | i == 3
    check 5: i < $2
)",
    // The same values, before and after what they read is written, in one block and from one turn of a loop to the next.
    R"(kernel reread(x f32[10, 6]) -> y f32[10, 9]
  global i 10
    p sum f32; e f32[2]
    p <- x[i, 0]
    y[i, 0] = p * p
    p <- x[i, 1]
    y[i, 1] = p * p
    e[0] = p
    y[i, 2] = e[0] + p
    loop j 6
      y[i, j + 3] = p * p + e[0]
      p <- x[i, j]
      e[0] = p * 0.5
)",
    // A multiply and an add round twice.
    R"(kernel twice(x f32[500], y f32[500], z f64[500]) -> a f32[500], b f64[500]
  global i 500
    a[i] = x[i] * y[i] + y[i] / 3.0
    b[i] = z[i] * z[i] / 7.0_f64 + z[i] * f64(x[i])
)",
    R"(kernel shifts(x i32[40], y u8[40], z i64[40]) -> a i32[40], b u8[40], c i64[40]
  global i 40
    a[i] = shl(x[i], 3_i32) ^ shr(x[i], 7_i32) ^ shr(x[i], 40_i32)
    b[i] = shl(y[i], 3_u8) ^ shr(y[i], 2_u8) ^ shl(y[i], 9_u8)
    c[i] = shl(z[i], 33) ^ shr(z[i], 3) ^ z[i] // 8 ^ z[i] % -8
)",
    R"(kernel sequential(x f64[9]) -> y f64[9], s f64
  p sum f64
  loop i 9
    p <- x[i]
    y[i] = p / 3.0_f64
  s = p
)",
    // The parts of a state have names of their own.
    R"(kernel named(x i64[20, 33]) -> y i32[20], z i64[20]
  global i 20
    m_index sum i64
    m argmax i64
    loop r 33
      m <- x[i, r] % 7, i32(r)
      m_value sum i64
      m_value <- x[i, r]
      m_index <- m_value % 3
    y[i] = m.index
    z[i] = m.value + m_index
)",
};

const char* const kWarpTrees[] = {
    // Rows folded, joined and used by all lanes; the last turn has fewer of them.
    R"(kernel rows(x f32[50, 150]) -> y f32[50], z f32[50, 150]
  global i 50
    m max f32[64]; s sum f32[64]
    loop r 2
      lane l 64: m[l] <- x[i, r * 64 + l]
    lane l 22 width 64: m[l] <- x[i, 128 + l]
    y[i] = merge(m)
    lane j 150: z[i, j] = x[i, j] - merge(m)
    loop r 2
      lane l 64: s[l] <- z[i, r * 64 + l]
    y[i] = merge(s) + y[i]
)",
    // What other lanes wrote is read; a value is replaced in place; chains of different lengths.
    R"(kernel whole(x f64[40, 64], k i64[40]) -> y f64[40], z f64[40, 64]
  global i 40
    s sum f64[64]
    loop r max(i % 3, 1)
      lane l 64: s[l] <- x[i, l] * 0.5_f64
    if k[i] < 20
      y[i] = y[i] + merge(s)
    lane l 64: z[i, l] = x[i, l] + y[i]
    lane l 64: z[i, l] = z[i, l] * 2.0_f64 + x[i, 63 - l]
)",
    R"(kernel narrow(x u8[9, 128], h f16[9, 128]) -> y i32[9], z f16[9], b bool[9]
  global i 9
    s sum i32[64]; p min f16[64]; a max bool[64]
    loop r 2
      lane l 64
        s[l] <- i32(x[i, r * 64 + l])
        p[l] <- h[i, r * 64 + l]
        a[l] <- x[i, r * 64 + l] == 7_u8
    y[i] = merge(s)
    z[i] = merge(p)
    b[i] = merge(a)
)",
    // A fold of what all lanes of another one come to.
    R"(kernel variance(x f32[30, 130]) -> y f32[30]
  global i 30
    s sum f32[64]; q sum f32[64]
    loop r 2
      lane l 64: s[l] <- x[i, r * 64 + l]
    lane l 2 width 64: s[l] <- x[i, 128 + l]
    let %1 = merge(s) / 130.0
    loop r 2
      lane l 64: q[l] <- (x[i, r * 64 + l] - %1) * (x[i, r * 64 + l] - %1)
    lane l 2 width 64: q[l] <- x[i, 128 + l] - %1
    y[i] = merge(q) + %1
)",
    // A state with two parts goes from thread to thread at once.
    R"(kernel furthest(x i64[20, 150]) -> y i32[20], z i64[20], w i32[20]
  global i 20
    m argmax i64[64]; n argmin i64[64]
    loop r 2
      lane l 64
        m[l] <- x[i, r * 64 + l] % 9, i32(r * 64 + l)
        n[l] <- x[i, r * 64 + l] % 7, i32(r * 64 + l)
    lane l 22 width 64: m[l] <- x[i, 128 + l] % 9, i32(128 + l)
    y[i] = merge(m.index)
    z[i] = merge(m.value)
    w[i] = merge(n.index)
)",
    // No parallel loop: one warp.
    R"(kernel one(x i64[128]) -> y i64
  s sum i64[64]
  loop r 2
    lane l 64: s[l] <- x[r * 64 + l]
  y = merge(s)
)",
};

using Bytes = std::vector<std::byte>;

int64_t count_of(const Node& place) {
  int64_t count = 1;
  for (const Ref& d : tree::dims(place)) count *= d->bounds.hi;
  return count;
}

uint64_t random_value(DType dtype, std::mt19937_64& random) {
  if (dtype == DType::Bool) return random() & 1;
  if (!is_float(dtype)) return random() >> (random() % 64);
  // All bits of the mantissa, so that products and sums round.
  double mantissa = static_cast<double>(random() >> 11) - 0x1p52;
  return from_double(dtype, std::ldexp(mantissa, static_cast<int>(random() % 24) - 60)).bits;
}

Bytes filled(const Node& place, std::span<const uint64_t> values, std::mt19937_64& random) {
  Bytes bytes(static_cast<size_t>(count_of(place) * item_size(place.dtype)));
  for (int64_t i = 0; i < count_of(place); i++) {
    uint64_t bits =
        values.empty() ? random_value(place.dtype, random) : values[static_cast<size_t>(i) % values.size()];
    store_element(bytes.data(), i, place.dtype, cut_to(place.dtype, bits));
  }
  return bytes;
}

bool same(DType dtype, Value a, Value b) {
  if (a == b) return true;
  return is_float(dtype) && std::isnan(to_double(dtype, a)) && std::isnan(to_double(dtype, b));
}

std::string first_difference(const Node& place, const Bytes& want, const Bytes& got) {
  for (int64_t i = 0; i < count_of(place); i++) {
    Value a = load_element(want.data(), i, place.dtype), b = load_element(got.data(), i, place.dtype);
    if (!same(place.dtype, a, b))
      return fmt::format("{}[{}] is {} ({:#x}) instead of {} ({:#x})", place.arg.text, i,
                         to_double(place.dtype, b), b.bits, to_double(place.dtype, a), a.bits);
  }
  return "";
}

int64_t shares_of(const Ref& kernel, std::span<const int64_t> scalars) {
  NodeMap<int64_t> slots;
  for (const Ref& s : tree::slots(kernel)) slots[s.get()] = scalars[static_cast<size_t>(s->at(0))];
  return ix::evaluate(tree::work_items(*kernel), slots);
}

int64_t run_on(Backend& device, const Ref& kernel, std::span<const int64_t> scalars,
               std::vector<Bytes>& memory, const std::string& text) {
  KernelSource source = device.kind().render(kernel, "entry", device.target());
  if (!text.empty()) source.text = text;
  std::string binary = device.compile(std::span(&source, 1), {}).at(0);
  std::unique_ptr<Program> program = device.load(source, binary);
  std::vector<void*> buffers;
  for (Bytes& bytes : memory) {
    // Not at the start of its memory, as the runtime's temporaries are not.
    void* base = device.allocate(bytes.size() + 192);
    buffers.push_back(static_cast<std::byte*>(base) + 192);
    device.copy_in(buffers.back(), bytes.data(), bytes.size());
  }
  device.launch({.program = program.get(),
                 .buffers = buffers,
                 .scalars = scalars,
                 .shares = shares_of(kernel, scalars)},
                {});
  int64_t error = device.synchronise();
  for (size_t i = 0; i < memory.size(); i++) {
    device.copy_out(memory[i].data(), buffers[i], memory[i].size());
    device.release(static_cast<std::byte*>(buffers[i]) - 192);
  }
  return error;
}

}  // namespace

std::string differs_from_interp(Backend& device, const Ref& kernel, std::span<const int64_t> scalars,
                                std::span<const std::vector<uint64_t>> values, const std::string& text) {
  std::mt19937_64 random(7);
  std::vector<Bytes> want, got;
  std::vector<void*> pointers;
  std::span<const Ref> params = tree::params(*kernel);
  for (size_t i = 0; i < params.size(); i++)
    want.push_back(filled(*params[i], i < values.size() ? values[i] : std::vector<uint64_t>(), random));
  got = want;
  for (Bytes& bytes : want) pointers.push_back(bytes.data());
  int64_t expected = evaluate_tree(kernel, pointers, scalars),
          error = run_on(device, kernel, scalars, got, text);
  if ((error != 0) != (expected != 0)) return fmt::format("error word {} instead of {}", error, expected);
  for (size_t i = 0; i < params.size(); i++)
    if (std::string found = first_difference(*params[i], want[i], got[i]); !found.empty()) return found;
  return "";
}

std::vector<uint64_t> special_values(DType dtype) {
  std::vector<uint64_t> out;
  if (dtype == DType::Bool) return {0, 1};
  if (!is_float(dtype)) {
    uint64_t top = uint64_t{1} << (row(dtype).bits - 1);
    for (uint64_t base : {uint64_t{0}, top, uint64_t{1} << 24, uint64_t{1} << 53, uint64_t{0xffff}})
      for (int more : {0, 1, 2, 3, 5, 7, 31, 33, 64, -1, -2, -7})
        out.push_back(base + static_cast<uint64_t>(more));
    return out;
  }
  double inf = std::numeric_limits<double>::infinity();
  for (double x : {0.0,    0.5,    1.0,   1.5,     2.5,          3.0,           1.0 / 3,      127.5,
                   128.0,  255.0,  256.0, 65504.0, 65520.0,      2147483647.0,  2147483648.0, 4294967296.0,
                   9.3e18, 1.9e19, 1e-3,  6e-8,    1e-40,        1e38,          3.4e38,       1e300,
                   448.0,  464.0,  465.0, 0.0625,  1.0009765625, 1.00048828125, inf})
    for (double sign : {1.0, -1.0}) out.push_back(from_double(dtype, sign * x).bits);
  out.push_back(from_double(dtype, std::nan("")).bits);
  return out;
}

std::vector<std::vector<uint64_t>> combinations(DType dtype, size_t count) {
  const std::vector<uint64_t> values = special_values(dtype);
  std::vector<std::vector<uint64_t>> out(3);
  for (size_t i = 0; i < count; i++) {
    out[0].push_back(values[i % values.size()]);
    out[1].push_back(values[i / values.size() % values.size()]);
    out[2].push_back(values[(i * 7 + i / 5) % values.size()]);
  }
  return out;
}

std::span<const char* const> hand_made_trees() { return kTrees; }
std::span<const char* const> warp_trees() { return kWarpTrees; }

bool has_op(Op op, DType dtype) {
  if (!is_elementwise(op) || op == Op::Cast || op == Op::Bitcast || op == Op::Where) return false;
  if (has(op, FloatOnly)) return is_float(dtype);
  if (!has(op, IntegerOnly)) return true;
  bool logic = op == Op::And || op == Op::Or || op == Op::Xor || op == Op::Not;
  return is_integer(dtype) || (dtype == DType::Bool && logic);
}

static Ref kernel_of(const std::string& name, std::vector<Ref> inputs, const Ref& i,
                     std::span<const Ref> outputs) {
  std::vector<Ref> params = std::move(inputs), body;
  for (const Ref& value : outputs) {
    auto number = static_cast<int64_t>(params.size());
    params.push_back(
        tree::param(value->dtype, {i->src[0]}, number, fmt::format("{}{}", row(value->op).name, number)));
    body.push_back(tree::store(params.back(), {i}, value));
  }
  return tree::kernel(name, params, {tree::loop(LoopKind::Global, i, body)});
}

Ref op_kernel(Op op, DType dtype, int64_t count) {
  Ref i = ix::range(count, "i");
  std::vector<Ref> params, values;
  for (int k = 0; k < row(op).arity; k++) {
    DType d = op == Op::Where && k == 0 ? DType::Bool : dtype;
    params.push_back(tree::param(d, {index(count)}, k, fmt::format("x{}", k)));
    values.push_back(tree::load(params.back(), {i}));
  }
  Ref out = make(op, values);
  return kernel_of("op", params, i, std::span(&out, 1));
}

Ref elementwise_kernel(DType dtype, int64_t count) {
  Ref i = ix::range(count, "i");
  std::vector<Ref> params, values, out;
  for (const char* name : {"x", "y", "z"}) {
    params.push_back(tree::param(dtype, {index(count)}, static_cast<int64_t>(params.size()), name));
    values.push_back(tree::load(params.back(), {i}));
  }
  for (int k = 0; k < op_count; k++) {
    Op op = static_cast<Op>(k);
    if (!has_op(op, dtype)) continue;
    out.push_back(make(op, std::span<const Ref>(values).first(static_cast<size_t>(row(op).arity))));
  }
  out.push_back(make(Op::Where, {make(Op::Lt, {values[0], values[1]}), values[1], values[2]}));
  return kernel_of(fmt::format("ops_{}", name(dtype)), params, i, out);
}

Ref cast_kernel(DType from, std::span<const DType> to, int64_t count) {
  Ref i = ix::range(count, "i");
  std::vector<Ref> out, params = {tree::param(from, {index(count)}, 0, "x")};
  Ref x = tree::load(params[0], {i});
  for (DType d : to) {
    if (d != from) out.push_back(make(Op::Cast, {x}, {}, d));
    bool same_size = row(d).bits == row(from).bits && d != DType::Bool && from != DType::Bool;
    if (d != from && same_size) out.push_back(make(Op::Bitcast, {x}, {}, d));
  }
  return kernel_of(fmt::format("casts_{}", name(from)), params, i, out);
}

}  // namespace kontor
