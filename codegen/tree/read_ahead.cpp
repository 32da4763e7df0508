// Which loads ask for what will be read later.
#include "codegen/tree/read_ahead.h"

#include <algorithm>
#include <map>
#include <vector>

#include "codegen/target.h"
#include "codegen/tree/walk.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

/// [bytes] a parameter has at least: less stays in the caches that are near.
constexpr int64_t large = int64_t{4} << 20;
/// [bytes] of a row: a shorter one is over before what was asked for comes, two longer ones fill a core's own cache.
constexpr int64_t shortest_row = 1 << 10, longest_row = 128 << 10;
/// [bytes] apart are rows of which hardware does not foresee the next line, and how far ahead of each is asked for.
constexpr int64_t rows_apart = 4 << 10, along_rows = 4 * line_bytes;

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
      if (s.op == Op::Store || s.op == Op::FoldStep) written_.push_back(s.src[0].get());
    });
    each_statement(tree::body(*kernel), [&](const Node& s) {
      if (s.op != Op::Loop) return;
      if (tree::kind(s) == LoopKind::Thread || tree::kind(s) == LoopKind::Loop) rows_of(s), rows_in_lanes(s);
    });
  }
  std::unordered_map<const Node*, int64_t> found;

 private:
  std::vector<const Node*> written_;

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
      const bool reads = tree::space(param) == Space::Param && std::ranges::count(written_, &param) == 0;
      if (reads && is_large(param)) out.push_back({n, ix::flatten(tree::at(*n), param.src), around});
    }
  }

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
          found[r.load] = r.bytes(r.apart(&loop));
      std::vector<const Node*> params;
      for (const Read& r : reads) params.push_back(r.load->src[0].get());
      std::ranges::sort(params);
      params.erase(std::unique(params.begin(), params.end()), params.end());
      for (const Node* p : params) passes[p]++;
    }
  }

  /// Whether the loops within go over each element between this iteration's first and the next one's first once.
  static bool reads_a_row(const Read& r, const Node& loop) {
    const int64_t row = r.apart(&loop);
    if (r.bytes(row) < shortest_row || r.bytes(row) > longest_row) return false;
    Loops left = r.loops;
    int64_t covered = 1;
    while (!left.empty()) {
      const auto next = std::ranges::find_if(left, [&](const Node* l) { return r.apart(l) == covered; });
      if (next == left.end()) return false;
      covered *= count(*next);
      left.erase(next);
    }
    return covered == row;
  }

  /// A loop along rows that lie in lanes, a line of each at a time.
  void rows_in_lanes(const Node& loop) {
    std::vector<Read> reads;
    Loops around;
    reads_in(loop, around, reads);
    for (const Read& r : reads) {
      const bool rows = r.bytes(r.apart(r.loops.back())) >= rows_apart;
      const bool lines = r.bytes(r.apart(&loop)) == line_bytes;
      const bool at_once = std::all_of(r.loops.begin() + 1, r.loops.end() - 1,
                                       [](const Node* l) { return tree::kind(*l) == LoopKind::Unroll; });
      if (rows && lines && at_once) found[r.load] = along_rows;
    }
  }
};

}  // namespace

std::unordered_map<const Node*, int64_t> read_ahead(const Ref& kernel) { return Search(kernel).found; }

}  // namespace kontor
