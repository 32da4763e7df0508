// [accesses] What shape_accesses says of each access of a vector loop is what the index expressions mean, lane by lane.
#include "codegen/tree/shape_accesses.h"

#include <map>
#include <random>
#include <set>
#include <unordered_map>

#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "graph/functions/functions.h"
#include "graph/graph.h"
#include "graph/scalar.h"
#include "tests/catch.h"
#include "tests/device_trees.h"
#include "tests/on_device.h"
#include "tests/op_jobs.h"
#include "tests/random_graph.h"
#include "tests/thinned.h"

#include <kontor/kontor.h>

using namespace kontor;

namespace {

// ---- by hand: without its comments each is read, and with them printed

constexpr const char* by_hand[] = {
    // The example of codegen/tree/shape_accesses.h.
    R"(kernel far(y f32[2, 16], x f32[16, 40]) -> y
  unroll c 2
    vector l 16 width 16
      y[c, l] = x[l, c * 20] + x[c, l * 2]
      # y[c, l]: contiguous
      # x[l, c * 20]: gather 40
      # x[c, l * 2]: pairs
)",
    R"(kernel varying(y f32[2, 8], x f32[16], z f32[16]) -> y
  unroll i 2
    vector k i + 3 width 8
      y[i, k] = x[max(k - 1, i)] + z[i * 2 + k * 3]
      # y[i, k]: contiguous, masked by extent
      # x[max(k - 1, i)]: gather, masked by extent
      # z[i * 2 + k * 3]: gather 3, masked by extent
  vector l 1 width 16
    y[l, 7] = x[3]
    # y[l, 7]: contiguous, masked by extent
    # x[3]: uniform
)",
    R"(kernel sides(y f32[64], x f32[64], s f32[1]) -> y
  vector l 64 width 64
    y[l] = x[63 - l] * s[0]
    # y[l]: contiguous
    # x[63 - l]: reversed
    # s[0]: uniform
)",
    // The second pass over a row asks for the next one: of a large parameter that is not written, where its loops read the row.
    R"(kernel passes(y f32[1024, 2048], x f32[1024, 2048], z f32[1024, 2048], a f32[64, 2048]) -> y
  thread i 1024
    s sum f32[16]
    loop r 128
      vector l 16 width 16
        let %0 = r * 16 + l
        s[l] <- x[i, %0] * a[i % 64, %0]
        # s[l]: contiguous
        # x[i, %0]: contiguous
        # a[i % 64, %0]: contiguous
    loop j 128
      vector k 16 width 16
        let %1 = k + j * 16
        y[i, %1] = x[i, %1] + a[i % 64, %1] + z[i, %1] + merge(s)
        # y[i, %1]: contiguous
        # x[i, %1]: contiguous, asks for 8192 bytes ahead
        # a[i % 64, %1]: contiguous
        # z[i, %1]: contiguous
    loop u 64
      vector v 16 width 16
        y[i, v] = y[i, v] + x[i, u * 16 + v]
        # y[i, v]: contiguous
        # y[i, v]: contiguous
        # x[i, u * 16 + v]: contiguous
)",
    // Of rows in lanes each asks for its lines to come; not where other rows are read before these.
    R"(kernel rows(y f32[1024, 2048], x f32[1024, 2048]) -> y
  thread i 64
    s sum f32[16]
    loop j 128
      unroll u 16
        vector l 16 width 16
          s[l] <- x[l + i * 16, u + j * 16]
          # s[l]: contiguous
          # x[l + i * 16, u + j * 16]: block 2048 along u, asks for 256 bytes ahead
    loop t 128
      loop v 64
        unroll c 16
          vector m 16 width 16
            let %0 = m + v * 16
            let %1 = c + t * 16
            y[%0, %1] = x[%0, %1]
            # y[%0, %1]: block 2048 along c
            # x[%0, %1]: block 2048 along c
)",
    // Elements smaller than a word are turned as words, also of what another nest writes; short rows are asked for as a whole.
    R"(kernel words(c bf16[512, 384], y f32[512], z f32[512], x bf16[512, 384], n f32[16, 32]) -> c, y, z
  loop a 512
    vector b 64 width 64
      c[a, b] = x[a, b]
      # c[a, b]: contiguous
      # x[a, b]: contiguous
  loop i 32
    s sum f32[16]; t sum f32[16]
    loop j 12
      unroll u 32
        vector l 16 width 16
          s[l] <- f32(c[l + i * 16, u + j * 32]) * n[l, u]
          # s[l]: contiguous
          # c[l + i * 16, u + j * 32]: block 384 along u, 2 in a word, asks for 12288 bytes ahead
          # n[l, u]: block 32 along u
      unroll v 16
        vector m 16 width 16
          t[m] <- f32(x[m + i * 16, v + j * 32])
          # t[m]: contiguous
          # x[m + i * 16, v + j * 32]: block 384 along v, asks for 256 bytes ahead
    vector k 16 width 16
      let %0 = k + i * 16
      y[%0] = s[k]
      # y[%0]: contiguous
      # s[k]: contiguous
      z[%0] = t[k]
      # z[%0]: contiguous
      # t[k]: contiguous
)",
    // Whole lines of large results, but not of what is read too, of small ones, or beside the lines.
    R"(kernel large(y f32[4096, 2048], z f32[4096, 2048], s f32[2048], w f32[4096, 2049], x f32[4096, 2048]) -> y, z, s, w
  loop i 4096
    loop j 128
      vector l 16 width 16
        let %0 = l + j * 16
        let %1 = x[i, %0]
        y[i, %0] = %1
        # y[i, %0]: contiguous, past the caches
        # x[i, %0]: contiguous
        z[i, %0] = z[i, %0] + 1.0
        # z[i, %0]: contiguous
        # z[i, %0]: contiguous
        s[%0] = %1
        # s[%0]: contiguous
        # x[i, %0]: contiguous
        w[i, %0] = %1
        # w[i, %0]: contiguous
        # x[i, %0]: contiguous
)",
    R"(kernel masks(y f32[40], x f32[40], k i32[40]) -> y
  vector l 40 width 64
    if k[l] < 3_i32
      # k[l]: contiguous, masked by extent
      y[l] = x[l] + x[0 if 7 < l] + x[l if 7 < l]
      # y[l]: contiguous, masked by extent and branch
      # x[l]: contiguous, masked by extent and branch
      # x[0 if 7 < l]: uniform, masked by extent and branch and guard
      # x[l if 7 < l]: contiguous, masked by extent and branch and guard
    else
      y[l] = x[39 - l]
      # y[l]: contiguous, masked by extent and branch
      # x[39 - l]: reversed, masked by extent and branch
)",
    R"(kernel far(y f32[16], x f32[16, 40], z f32[64], k i32[16]) -> y
  vector l 16 width 16
    y[l] = x[l, 3] + z[l * 2] + z[l // 4] + z[i64(k[l])] + z[l * l]
    # y[l]: contiguous
    # x[l, 3]: gather 40
    # z[l * 2]: pairs
    # z[l // 4]: groups of 4
    # k[l]: contiguous
    # z[i64(k[l])]: gather
    # z[l * l]: gather
)",
    R"(kernel runs(y f32[2, 3, 16], x f32[2, 6, 40, 8]) -> y
  loop i 2
    loop j 3
      vector l 16 width 16
        y[i, j, l] = x[i, j * 2 + l // 8, 3, l % 8]
        # y[i, j, l]: contiguous
        # x[i, j * 2 + l // 8, 3, l % 8]: runs of 8
)",
    R"(kernel turned(y f32[48, 16], x f32[16, 40]) -> z f32[48, 16]
  unroll c 40
    vector l 16 width 16
      y[c, l] = x[l, c]
      # y[c, l]: contiguous
      # x[l, c]: block 40 along c (32 of 40 copies); gather 40 (8 of 40 copies)
  unroll d 16
    vector m 16 width 16
      z[m, d] = x[d, m]
      # z[m, d]: block 16 along d
      # x[d, m]: contiguous
)",
    R"(kernel copies(y f32[3, 16], x f32[16], z f32[40]) -> y
  unroll c 3
    vector l 16 width 16
      let %0 = l + c - 1
      y[c, l] = x[%0 if -1 < %0 & %0 < 16] + z[(l + c * 4) // 8] + z[(l + c) // 2]
      # y[c, l]: contiguous
      # x[%0 if -1 < %0 & %0 < 16]: contiguous, masked by guard (2 of 3 copies); contiguous (1 of 3 copies)
      # z[(l + c * 4) // 8]: groups of 8 (2 of 3 copies); gather (1 of 3 copies)
      # z[(l + c) // 2]: groups of 2 (2 of 3 copies); gather (1 of 3 copies)
)",
    R"(kernel folds(y f32[8], h sum f32[10], x f32[100], k i32[100]) -> y, h
  p sum f32[64]; q f32[24]
  vector l 64 width 64
    p[l] <- x[l]
    # p[l]: contiguous
    # x[l]: contiguous
  vector m 36 width 64
    p[m] <- x[m + 64]
    # p[m]: contiguous, blended by extent
    # x[m + 64]: contiguous, masked by extent
  vector n 20 width 32
    q[n] = x[n]
    # q[n]: contiguous, blended by extent
    # x[n]: contiguous, masked by extent
    q[n + 4] = x[n]
    # q[n + 4]: contiguous, blended by extent
    # x[n]: contiguous, masked by extent
    h[i64(k[n])] <- x[n]
    # h[i64(k[n])]: in turn, masked by extent
    # k[n]: contiguous, masked by extent
    # x[n]: contiguous, masked by extent
  vector o 8 width 8
    t f32
    t = x[o]
    # t: contiguous
    # x[o]: contiguous
    u f32[4]
    u[2] = t + q[7 - o]
    # u[2]: contiguous
    # t: contiguous
    # q[7 - o]: reversed
    y[o] = merge(p) + t * u[2] + q[o]
    # y[o]: contiguous
    # t: contiguous
    # u[2]: contiguous
    # q[o]: contiguous
)",
};

// ---- the oracle: positions and guards, lane by lane, from what the expressions mean

uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

using PlacesOfLanes = std::set<std::pair<const Node*, const Node*>>;

/// Vector loops inside of which places are declared: each lane has its own.
void add_places_of_lanes(std::span<const Ref> statements, const Node* vector, PlacesOfLanes& out) {
  for (const Ref& s : statements) {
    if (s->op == Op::Place && vector) out.emplace(s.get(), vector);
    const bool is_vector = s->op == Op::Loop && tree::kind(*s) == LoopKind::Vector;
    if (s->op == Op::Loop || s->op == Op::If)
      add_places_of_lanes(std::span(s->src).subspan(1), is_vector ? s.get() : vector, out);
  }
}

/// One state of a kernel: loops are somewhere, memory holds something.
class Meaning {
 public:
  Meaning(uint64_t seed, const Node& vector, const std::set<const Node*>& of_lanes)
      : seed_(seed), vector_(vector), of_lanes_(of_lanes) {}

  void set(const Node* range, int64_t at) {
    ranges_[range] = at;
    known_.clear();
  }
  void set_lane(int64_t lane) {
    lane_ = lane;
    known_.clear();
  }
  int64_t integer(const Ref& n) { return to_int(n->dtype, value(*n)); }

  int64_t position(const Node& access, std::span<const Ref> dims) {
    int64_t p = 0;
    std::span<const Ref> at = tree::at(access);
    for (size_t i = 0; i < at.size(); i++) p = p * integer(dims[i]) + integer(at[i]);
    return of_lanes_.contains(access.src[0].get()) ? p * tree::width(vector_) + lane_ : p;
  }

  bool holds(const Node& load) {
    const Ref guard = tree::guard(load);
    return !guard || integer(guard) != 0;
  }

 private:
  uint64_t seed_;
  const Node& vector_;
  const std::set<const Node*>& of_lanes_;
  int64_t lane_ = 0;
  std::map<const Node*, int64_t> ranges_;
  struct Known {
    Ref node;  // kept alive: its address is the key
    Value value;
  };
  std::unordered_map<const Node*, Known>
      known_;  // at this point: positions that are drawn share most of their nodes

  Value value(const Node& n) {
    if (const auto it = known_.find(&n); it != known_.end()) return it->second.value;
    const Value found = compute(n);
    known_[&n] = {Ref(&n), found};
    return found;
  }

  Value compute(const Node& n) {
    if (n.is_const()) return value_of(n);
    if (n.op == Op::Range) return from_int(DType::I64, range(n));
    if (n.op == Op::Slot) return something(n.dtype, mixed(static_cast<uint64_t>(n.at(0))), n.bounds);
    if (n.op == Op::Load && !holds(n)) return {};
    if (n.op == Op::Load || n.op == Op::Merge) return memory(n);
    std::vector<Value> args;
    for (const Ref& s : n.src) args.push_back(value(*s));
    return apply(n.op, n.dtype, n[n.op == Op::Where ? 1 : 0]->dtype, args.data());
  }

  int64_t range(const Node& n) {
    if (&n == vector_[0].get()) return lane_;
    if (auto it = ranges_.find(&n); it != ranges_.end()) return it->second;
    const int64_t extent = std::max<int64_t>(integer(n.src[0]), 1);
    return ranges_[&n] = static_cast<int64_t>(mixed(seed_ ^ static_cast<uint64_t>(n.at(0))) %
                                              static_cast<uint64_t>(extent));
  }

  Value memory(const Node& n) {
    uint64_t at = seed_ ^ mixed(static_cast<uint64_t>(n.src[0]->at(0)) + 17 * tree::part(n));
    for (const Ref& i : tree::at(n)) at = mixed(at ^ static_cast<uint64_t>(integer(i)));
    if (of_lanes_.contains(n.src[0].get())) at = mixed(at ^ static_cast<uint64_t>(lane_));
    return something(n.dtype, at, {0, 9});
  }

  static Value something(DType dtype, uint64_t random, Bounds in) {
    const uint64_t most = static_cast<uint64_t>(std::min<int64_t>(in.hi, 50) - std::max<int64_t>(in.lo, 0));
    const auto n =
        static_cast<int64_t>(random % (std::min<uint64_t>(most, 50) + 1)) + std::max<int64_t>(in.lo, 0);
    return is_float(dtype) ? from_double(dtype, static_cast<double>(n) - 4) : from_int(dtype, n);
  }
};

class Oracle {
 public:
  explicit Oracle(const Ref& kernel) : kernel_(kernel), shapes_(kernel) {
    add_places_of_lanes(tree::body(*kernel), nullptr, of_lanes_);
  }

  /// "" if the kernel's accesses are what is said of them, at some random iterations.
  std::string mistake(uint64_t seed) {
    std::string first;
    for_each_access(kernel_,
                    [&](const Node&, const Node& access, const AccessScope& scope, const AccessShape& shape) {
                      if (!first.empty() || (seen_[{&access, print(shape)}]++ > 8)) return;
                      counts[shape.kind]++;
                      for (uint64_t k = 0; k < 3 && first.empty(); k++) {
                        const char* what = broken(access, scope, shape, mixed(seed + k));
                        if (what)
                          first = fmt::format("{}: {}: {}", tree::print(Ref(&access)), print(shape), what);
                      }
                    });
    return first.empty() ? "" : first + "\n" + print_accesses(kernel_);
  }

  std::map<AccessKind, int> counts;

 private:
  Ref kernel_;
  AccessShapes shapes_;
  PlacesOfLanes of_lanes_;
  std::map<std::pair<const Node*, std::string>, int> seen_;

  static int64_t promised(const AccessShape& shape, int64_t lane) {
    switch (shape.kind) {
      case AccessKind::Uniform:    return 0;
      case AccessKind::Contiguous: return lane;
      case AccessKind::Reversed:   return -lane;
      case AccessKind::Pairs:      return 2 * lane;
      case AccessKind::Groups:     return lane / shape.run;
      default:                     return shape.stride * lane;
    }
  }

  const char* broken(const Node& access, const AccessScope& scope, const AccessShape& shape, uint64_t seed) {
    std::set<const Node*> lanes_own;
    for (const auto& [place, loop] : of_lanes_)
      if (loop == scope.vector) lanes_own.insert(place);
    Meaning m(seed, *scope.vector, lanes_own);
    for (const UnrolledCopy& c : scope.copies) m.set(c.range, c.at);
    const int64_t width = tree::width(*scope.vector), extent = m.integer((*scope.vector)[0]->src[0]);
    const bool whole = extent == width, at_will = shape.kind == AccessKind::Gather && !shape.stride;
    std::vector<int64_t> at;
    std::vector<bool> on;
    for (int64_t lane = 0; lane < std::min(width, extent); lane++) {
      m.set_lane(lane);
      at.push_back(m.position(access, shapes_.place(*access.src[0]).dims));
      on.push_back(access.op != Op::Load || m.holds(access));
    }
    const auto is_needed = [&](int64_t lane) { return on[static_cast<size_t>(lane)]; };
    for (int64_t lane = 0; lane < static_cast<int64_t>(at.size()); lane++) {
      const int64_t from = shape.kind == AccessKind::Runs ? lane / shape.run * shape.run : 0;
      const int64_t expected = shape.kind == AccessKind::Runs ? lane - from : promised(shape, lane);
      const bool says = !at_will && shape.kind != AccessKind::InTurn;
      if (says && is_needed(lane) &&
          at[static_cast<size_t>(lane)] != at[static_cast<size_t>(from)] + expected)
        return "a lane lies elsewhere";
      if (!shape.mask.guard && on[static_cast<size_t>(lane)] != on[0]) return "lanes have different guards";
    }
    return broken_mask(access, scope, shape, m, whole);
  }

  const char* broken_mask(const Node& access, const AccessScope& scope, const AccessShape& shape, Meaning& m,
                          bool whole) {
    const auto is = [&](auto... kinds) { return ((shape.kind == kinds) || ...); };
    if (is(AccessKind::Pairs, AccessKind::Runs, AccessKind::Groups, AccessKind::Block) &&
        (!whole || scope.branch))
      return "lanes are off";
    const bool local = tree::space(*access.src[0]) == Space::Local;
    if (is(AccessKind::Contiguous, AccessKind::Reversed, AccessKind::Gather) && !local) {
      if (!whole && !shape.mask.extent) return "lanes beyond the extent are on";
      if (scope.branch && !shape.mask.branch) return "lanes that do not take the branch are on";
    }
    if (shape.past_caches && (!whole || shape.mask.any() || scope.branch)) return "lanes of a line are off";
    if (shape.past_caches && is(AccessKind::Contiguous) && !begins_line(access, m))
      return "it begins in a line";
    if (shape.ahead && (access.op != Op::Load || shape.mask.any() || local))
      return "no load of a parameter that always is";
    if (is(AccessKind::Block)) return broken_block(access, scope, shape, m);
    return nullptr;
  }

  bool begins_line(const Node& access, Meaning& m) const {
    m.set_lane(0);
    return m.position(access, shapes_.place(*access.src[0]).dims) * item_size(access.src[0]->dtype) % 64 == 0;
  }

  const char* broken_block(const Node& access, const AccessScope& scope, const AccessShape& shape,
                           Meaning& m) {
    const int64_t width = tree::width(*scope.vector) * std::max<int64_t>(shape.run, 1);
    const auto dims = shapes_.place(*access.src[0]).dims;
    m.set_lane(0);
    for (const UnrolledCopy& c : scope.copies) {
      if (c.range != shape.along) continue;
      const int64_t begin = c.at / width * width;
      if (begin + width > c.count) return "the block is not whole";
      m.set(c.range, begin);
      if (shape.past_caches && !begins_line(access, m)) return "a row of the block begins in a line";
      const int64_t first = m.position(access, dims);
      for (int64_t k = 1; k < width; k++) {
        m.set(c.range, begin + k);
        if (m.position(access, dims) != first + k) return "copies do not lie side by side";
        if (access.op == Op::Load && !m.holds(access)) return "a copy has a guard";
      }
      return nullptr;
    }
    return "no such loop is open";
  }
};

std::string mistake_in(const Ref& kernel, uint64_t seed, std::map<AccessKind, int>& counts) {
  Oracle oracle(kernel);
  std::string mistake = oracle.mistake(seed);
  for (const auto& [kind, n] : oracle.counts) counts[kind] += n;
  return mistake;
}

/// In a graph's kernels, for vectors of 16 and 64 bytes.
std::string mistake_in(const Graph& graph, uint64_t seed, std::map<AccessKind, int>& counts) {
  for (int bytes : {16, 64})
    for (const ScheduledKernel& k : schedule(graph, Target{.vector_bytes = bytes, .threads = 2}).kernels)
      if (std::string m = mistake_in(k.tree, seed, counts); !m.empty()) return m;
  return "";
}

constexpr const char* expressions[] = {
    "permute(f32[500,300],[1,0])",
    "permute(bf16[64,40],[1,0]) + bf16[40,64]",
    "cumsum(f32[64,1000],1)",
    "conv2d(f32[8,3,32,32], f32[16,3,3,3])",
    "slice(f32[64,100],1,0,100,2)",
    "flip(f32[100,100],1)",
    "reshape(permute(f32[24,36],[1,0]), [864])",
    "normal([100,64])",
    "softmax(f32[64,500])",
    "window(f32[64,100],1,3)",
    "matmul(permute(f32[64,96],[1,0]), f32[64,80])",
    "permute(f32[4096,2064],[1,0])",
    "exp(f32[2048,4099])",
    "cumsum(f32[8388608],0)",
    "softmax(f32[4112,2048])",
    "matmul(bf16[1,96], permute(bf16[64,96],[1,0]))",
    "matmul(u8[1,64], permute(u8[64,64],[1,0]))",
};

}  // namespace

TEST_CASE("[accesses] by hand") {
  for (const char* text : by_hand) CHECK(print_accesses(tree::parse(text)) == text);
}

TEST_CASE("[accesses] the text reads back") {
  for (const char* text : hand_made_trees()) {
    const std::string printed = print_accesses(tree::parse(text));
    CHECK(print_accesses(tree::parse(printed)) == printed);
    CHECK(tree::print(tree::parse(printed)) == tree::print(tree::parse(text)));
  }
}

TEST_CASE("[accesses] lanes lie where it is said") {
  std::map<AccessKind, int> counts;
  for (const char* text : by_hand)
    for (uint64_t seed = 0; seed < thinned(uint64_t{20}); seed++)
      CHECK(mistake_in(tree::parse(text), seed, counts) == "");
  for (const char* text : expressions)
    CHECK(mistake_in(make_graph({parse_expression(text)}), 1, counts) == "");
  for (const OpCase& row : op_table_thinned()) {
    INFO(row.name);
    CHECK(mistake_in(graph_of(row), 2, counts) == "");
  }
  for (uint64_t seed = 0; seed < thinned(uint64_t{200}); seed++) {
    INFO("seed " << seed);
    CHECK(mistake_in(random_case(seed).graph, seed, counts) == "");
  }
  for (int kind = 0; kind <= static_cast<int>(AccessKind::InTurn); kind++) {
    INFO(name(static_cast<AccessKind>(kind)));
    CHECK(counts[static_cast<AccessKind>(kind)] > 0);
  }
}

TEST_CASE("[accesses] results that go past the caches have the bits of results that do not") {
  const auto functions = {+[](const Tensor& x) { return x.exp(); },
                          +[](const Tensor& x) { return x.cumsum(1); },
                          +[](const Tensor& x) { return x.permute({0, 2, 1}) + 1.0; },
                          +[](const Tensor& x) { return x.cast(DType::F16).softmax(-1).cast(DType::F64); }};
  constexpr int64_t parts = 8, rows = 24;
  for (int threads : {1, 2}) {
    OnDevice on("llvm", threads);
    Tensor x = Tensor::normal({parts * rows, 256, 176});  // 33 MiB
    x.realize();
    for (const auto& f : functions) {
      const std::vector<float> whole = f(x).cast(DType::F32).to_vector<float>();
      const size_t length = whole.size() / parts;
      for (int64_t part = 0; part < parts; part++) {
        Tensor own = x.slice(0, part * rows, (part + 1) * rows) * 1.0;
        own.realize();
        const std::vector<float> wanted = f(own).cast(DType::F32).to_vector<float>();
        REQUIRE(wanted.size() == length);
        const auto begin = whole.begin() + static_cast<int64_t>(static_cast<size_t>(part) * length);
        CHECK(std::equal(wanted.begin(), wanted.end(), begin));
      }
    }
  }
}
