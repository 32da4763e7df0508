// Which loads ask for what will be read later.
#include "codegen/tree/read_ahead.h"

#include <algorithm>
#include <map>
#include <span>
#include <vector>

#include "codegen/target.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

/// [bytes] a parameter has at least: less stays in a near cache.
constexpr int64_t large = 128 << 10;
/// [bytes] of a row: a shorter one is over before what was asked for comes, two longer ones fill a core's own cache.
constexpr int64_t shortest_row = 1 << 10, longest_row = 128 << 10;
/// [bytes] that come before what is asked for arrives: of shorter rows not the next one is asked for, but one farther on.
constexpr int64_t least_ahead = 8 << 10;
/// [bytes] apart are rows in lanes of which hardware does not foresee the next line; how far ahead of each is asked for, and how
/// many of all lanes' rows may be asked for while those before are read.
constexpr int64_t rows_apart = 2 * line_bytes, along_rows = 4 * line_bytes, most_rows = 96 << 10;

using Loops = std::vector<const Node*>;

const Ref& range(const Node* loop) { return (*loop)[0]; }
int64_t count(const Node* loop) { return const_int(*range(loop)->src[0]); }

struct Read {
  const Node* load;
  Ref position;  // in elements, row-major
  Loops loops;   // around it, outer before inner, within the nest that was looked through

  int64_t bytes(int64_t elements) const { return elements * item_size(load->dtype); }
  /// Elements from an iteration of a loop to the next; 0: it does not depend on it, or not in this way.
  int64_t apart(const Node* loop) const {
    int64_t n = 0;
    return ix::affine(position, range(loop), n) ? n : 0;
  }
};

bool is_large(const Node& param) {
  int64_t elements = 1;
  for (const Ref& d : param.src) elements *= d->is_const() ? const_int(*d) : 0;
  return elements * item_size(param.dtype) >= large;
}

class Search {
 public:
  explicit Search(const Ref& kernel) {
    each_statement(tree::body(*kernel), [&](const Node& s) {
      if (s.op != Op::Loop) return;
      if (!is_counted(&s)) return;
      rows_of(s);
      for (const Ref& inner : tree::body(s))
        if (inner->op == Op::Loop && is_counted(inner.get())) rows_in_lanes(*inner, s);
    });
  }
  std::unordered_map<const Node*, int64_t> found;

 private:
  static bool is_counted(const Node* loop) {
    return tree::kind(*loop) == LoopKind::Thread || tree::kind(*loop) == LoopKind::Loop;
  }

  template <class F>
  static void each_statement(std::span<const Ref> body, const F& visit) {
    for (const Ref& s : body) {
      visit(*s);
      if (s->op == Op::Loop) each_statement(tree::body(*s), visit);
      if (s->op != Op::If) continue;
      each_statement(tree::then_body(*s), visit);
      each_statement(tree::else_body(*s), visit);
    }
  }

  /// Loads of large parameters in the vector loops of a nest that always run.
  void reads_in(const Node& loop, Loops& around, std::vector<Read>& out) const {
    if (!range(&loop)->src[0]->is_const()) return;
    around.push_back(&loop);
    const bool is_vector = tree::kind(loop) == LoopKind::Vector;
    for (const Ref& s : tree::body(loop)) {
      if (s->op == Op::Loop) reads_in(*s, around, out);
      else if (is_vector && (s->op == Op::Store || s->op == Op::FoldStep)) loads_of(*s, around, out);
    }
    around.pop_back();
  }

  void loads_of(const Node& statement, const Loops& around, std::vector<Read>& out) const {
    for (const Node* n : topological(statement.src)) {
      if (n->op != Op::Load || tree::guard(*n)) continue;
      const Node& param = *n->src[0];
      if (tree::space(param) == Space::Param && is_large(param))
        out.push_back({n, ix::flatten(tree::at(*n), param.src), around});
    }
  }

  /// Of short rows not the next one, but one that memory has the time to bring.
  static int64_t far_enough(int64_t row) { return row * std::max<int64_t>(1, (least_ahead + row - 1) / row); }

  /// A loop that goes over each row more than once: the second pass asks for the next row.
  void rows_of(const Node& loop) {
    std::map<const Node*, int> passes;  // by parameter
    for (const Ref& s : tree::body(loop)) {
      if (s->op != Op::Loop) continue;
      std::vector<Read> reads;
      Loops around;
      reads_in(*s, around, reads);
      for (const Read& r : reads)
        if (passes[r.load->src[0].get()] == 1 && reads_a_row(r, loop))
          found[r.load] = far_enough(r.bytes(r.apart(&loop)));
      std::vector<const Node*> params;
      for (const Read& r : reads) params.push_back(r.load->src[0].get());
      std::ranges::sort(params);
      params.erase(std::unique(params.begin(), params.end()), params.end());
      for (const Node* p : params) passes[p]++;
    }
  }

  static bool reads_a_row(const Read& r, const Node& loop) {
    const int64_t row = r.apart(&loop);
    return r.bytes(row) >= shortest_row && r.bytes(row) <= longest_row && reads_all(r, row);
  }

  /// Whether the loops go over each of so many elements once.
  static bool reads_all(const Read& r, int64_t elements) {
    Loops left = r.loops;
    int64_t covered = 1;
    while (!left.empty()) {
      const auto next = std::ranges::find_if(left, [&](const Node* l) { return r.apart(l) == covered; });
      if (next == left.end()) return false;
      covered *= count(*next);
      left.erase(next);
    }
    return covered == elements;
  }

  /// Loops along rows that lie in lanes, some of a line of each at a time: these ask for what is further along each, or, where
  /// `around` goes from some short rows to the next ones, for those.
  void rows_in_lanes(const Node& nest, const Node& around) {
    std::vector<Read> reads;
    Loops loops;
    reads_in(nest, loops, reads);
    for (const Read& r : reads) {
      const auto steps = std::ranges::find_if(r.loops.rbegin() + 1, r.loops.rend(), is_counted);
      if (steps == r.loops.rend() || !std::all_of(r.loops.rbegin() + 1, steps, is_unrolled)) continue;
      const int64_t lanes = r.bytes(r.apart(r.loops.back())), step = r.bytes(r.apart(*steps));
      if (lanes < rows_apart || step < 1 || step > line_bytes) continue;
      const int64_t rows = r.apart(&around);
      if (rows > 0 && r.bytes(rows) <= most_rows && reads_all(r, rows))
        found[r.load] = far_enough(r.bytes(rows));
      else found.try_emplace(r.load, along_rows);
    }
  }
  static bool is_unrolled(const Node* loop) { return tree::kind(*loop) == LoopKind::Unroll; }
};

}  // namespace

std::unordered_map<const Node*, int64_t> read_ahead(const Ref& kernel) { return Search(kernel).found; }

}  // namespace kontor
