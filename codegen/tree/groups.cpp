// Which thread of a group runs what, and has what: one walk over a kernel.
#include "codegen/tree/groups.h"

#include <algorithm>

#include "base/error.h"
#include "graph/index/index.h"

namespace kontor {

namespace {

constexpr int64_t most_threads = 1024,
                  most_shared_bytes = 227 << 10;  // of a group: what an H100 has

/// The loops that are shared out around a statement, and all that stands in the outermost of them.
struct Nest {
  const Node* outermost = nullptr;
  std::vector<Ref> locals = {}, matrix = {};
};

class Survey {
 public:
  explicit Survey(const Node& kernel) {
    found_.threads = threads_in(tree::body(kernel));
    if (found_.threads > most_threads)
      mistake("a group has {} threads, more than {}", found_.threads, most_threads);
    const Node* parallel = tree::parallel_loop(kernel);
    if (found_.threads > 1 && parallel && tree::kind(*parallel) == LoopKind::Thread)
      mistake("threads of a CPU have no groups");
    if (found_.threads > 1 && tree::has_lanes(kernel)) mistake("a group has lanes too");
    in_body(tree::body(kernel), {});
    for (const Node* place : uniform_)
      if (found_.own.contains(place)) mistake("'{}' is read by other threads than have it", place->arg.text);
  }

  Groups found() { return std::move(found_); }

 private:
  Groups found_;
  NodeMap<size_t> private_;                  // declared in a nest: in how many loops that are shared out
  NodeSet uniform_;                          // read as one that all threads have
  std::vector<const Node*> stores_, reads_;  // of memory and shared places in the nest at hand
  std::vector<Ref> locals_;                  // its Local loops

  template <class... A>
  void mistake(fmt::format_string<A...> text, A&&... args) {
    if (found_.mistake.empty()) found_.mistake = fmt::format(text, std::forward<A>(args)...);
  }

  int64_t threads_in(std::span<const Ref> body) {
    int64_t most = 1;
    for (const Ref& s : body) {
      int64_t n = 1;
      if (s->op == Op::If) n = threads_in(std::span(s->src).subspan(1));
      if (s->op == Op::Loop) n = threads_of(*s);
      if (n > 1 && most > 1 && n != most && in_nest_)
        mistake("parts of a loop are run by {} and {} threads", most, n);
      most = std::max(most, n);
    }
    return most;
  }

  bool in_nest_ = false, in_matrix_ = false;

  int64_t threads_of(const Node& loop) {
    if (!tree::is_shared_out(loop)) return threads_in(tree::body(loop));
    const Ref& range = loop.src[0];
    if (!range->src[0]->is_const()) return mistake("the extent of loop {} varies", range->arg.text), 1;
    const bool outermost = !std::exchange(in_nest_, true), is_matrix = tree::kind(loop) == LoopKind::Matrix,
               rows = is_matrix && !std::exchange(in_matrix_, true);
    const int64_t inside = threads_in(tree::body(loop));
    if (outermost) in_nest_ = false;
    if (rows) in_matrix_ = false;
    const MatrixRow* instruction = rows ? matrix_row(extent(range->src[0])) : nullptr;
    int64_t all = std::max(inside, instruction ? instruction->threads : warp);
    if (tree::kind(loop) == LoopKind::Local)
      found_.strides[range.get()] = inside, all = inside * extent(range->src[0]);
    if (outermost) found_.spread[&loop] = all;
    return all;
  }

  void in_body(std::span<const Ref> body, const Nest& nest) {
    for (const Ref& s : body) in_statement(*s, nest);
  }

  void in_statement(const Node& s, const Nest& nest) {
    const bool is_simple =
        s.op == Op::Store || s.op == Op::FoldStep || (s.op == Op::Loop && tree::kind(s) == LoopKind::Matrix);
    if (!nest.matrix.empty() && !is_simple) mistake("more than stores and folds stand in a matrix loop");
    if (s.op == Op::Place) declare(s, nest);
    if (s.op == Op::Store || s.op == Op::FoldStep) {
      in_expressions(std::span(s.src).subspan(1), nest);
      return access(s, nest);
    }
    if (s.op == Op::Check) return in_expressions(s.src, nest);
    if (s.op == Op::If) {
      in_expressions(std::span(s.src).first(1), nest);
      return in_body(std::span(s.src).subspan(1), nest);
    }
    if (s.op != Op::Loop) return;
    in_expressions(std::span(s.src[0]->src), nest);
    if (!tree::is_shared_out(s)) return in_body(tree::body(s), nest);
    Nest inner = nest;
    if (!inner.outermost) inner.outermost = &s;
    (tree::kind(s) == LoopKind::Local ? inner.locals : inner.matrix).push_back(s.src[0]);
    if (tree::kind(s) == LoopKind::Local) locals_.push_back(s.src[0]);
    check_matrix(inner);
    in_body(tree::body(s), inner);
    if (inner.outermost == &s) end_nest();
  }

  void check_matrix(const Nest& nest) {
    std::vector<int64_t> extents;
    for (const Ref& l : nest.matrix) extents.push_back(l->src[0]->is_const() ? extent(l->src[0]) : -1);
    if (extents.empty()) return;
    const MatrixRow* row = matrix_row(extents[0], extents.size() > 1 ? extents[1] : 0);
    if (!row || extents.size() > 3 || (extents.size() == 3 && extents[2] != row->steps))
      mistake("loops of {} are none of a matrix instruction", fmt::join(extents, " x "));
  }

  void in_expressions(std::span<const Ref> roots, const Nest& nest) {
    for (const Node* n : topological(roots))
      if (n->op == Op::Load || n->op == Op::Merge) access(*n, nest);
  }

  void access(const Node& n, const Nest& nest) {
    const Node& place = *n.src[0];
    if (const auto declared = private_.find(&place); declared != private_.end()) {
      if (n.op != Op::Load && declared->second != nest.locals.size() + nest.matrix.size())
        mistake("'{}' is written in a loop that is shared out, and declared outside of that", place.arg.text);
      return;
    }
    if (tree::space(place) == Space::Local) return n.op == Op::Merge ? read(n, nest) : of_local(n, nest);
    if (!nest.outermost) return;
    if (n.op == Op::Load || n.op == Op::Merge) return read(n, nest);
    if (n.op == Op::FoldStep)
      return mistake("threads fold into '{}', which is no thread's own", place.arg.text);
    stores_.push_back(&n);
  }

  void read(const Node& n, const Nest& nest) {
    if (n.op == Op::Merge && nest.outermost)
      mistake("'{}' is merged where threads have elements", n.src[0]->arg.text);
    if (nest.outermost) reads_.push_back(&n);
    if (n.op == Op::Merge) uniform_.insert(n.src[0].get());
  }

  void declare(const Node& place, const Nest& nest) {
    if (tree::space(place) == Space::Param) return;
    if (nest.outermost) private_[&place] = nest.locals.size() + nest.matrix.size();
    if (tree::space(place) != Space::Shared) return;
    if (nest.outermost) mistake("'{}' is shared, and declared by one thread", place.arg.text);
    found_.shared_bytes += shared_bytes(place);
    if (found_.shared_bytes > most_shared_bytes)
      mistake("a group shares {} bytes, more than {}", found_.shared_bytes, most_shared_bytes);
  }

  // Threads run a nest without waiting for each other: what one stores no other may read in it.
  void end_nest() {
    for (const Node* store : stores_)
      for (const Node* read : reads_) {
        if (read->src[0] != store->src[0]) continue;
        const auto tells_apart = [&](const Ref& l) {
          return extent(l->src[0]) <= 1 ||
                 std::ranges::any_of(tree::at(*store), [&](const Ref& i) { return ix::depends_on(i, l); });
        };
        if (!std::ranges::equal(tree::at(*store), tree::at(*read)) ||
            !std::ranges::all_of(locals_, tells_apart))
          mistake("a thread reads of '{}' what another stores", read->src[0]->arg.text);
      }
    stores_.clear(), reads_.clear(), locals_.clear();
  }

  void of_local(const Node& n, const Nest& nest) {
    const Node* place = n.src[0].get();
    const Own own = own_of(n, nest);
    const bool any =
        own.row >= 0 || std::find(own.thread.begin(), own.thread.end(), true) != own.thread.end();
    if (!any) {
      if (nest.outermost && n.op != Op::Load) mistake("all threads write '{}'", place->arg.text);
      uniform_.insert(place);
      return;
    }
    for (const Ref& l : nest.locals)
      if (extent(l->src[0]) > 1 && std::ranges::find(tree::at(n), l) == tree::at(n).end())
        mistake("'{}' has no dimension for loop {}", place->arg.text, l->arg.text);
    if ((own.row < 0) != (own.column < 0) || (!nest.matrix.empty() && own.row < 0))
      mistake("'{}' is no result of a matrix instruction", place->arg.text);
    const auto before = found_.own.find(place);
    if (before == found_.own.end()) {
      found_.own[place] = own, numbers_[place] = numbers_of(n);
    } else if (before->second.thread != own.thread || before->second.row != own.row ||
               before->second.column != own.column || numbers_[place] != numbers_of(n)) {
      mistake("other threads have elements of '{}' in another loop", place->arg.text);
    }
  }

  Own own_of(const Node& n, const Nest& nest) const {
    Own own;
    for (const Ref& i : tree::at(n)) {
      const auto of = [&](const std::vector<Ref>& list) {
        return std::find(list.begin(), list.end(), i) - list.begin();
      };
      const int d = static_cast<int>(own.thread.size());
      own.thread.push_back(of(nest.locals) < std::ssize(nest.locals));
      const auto matrix = of(nest.matrix);
      if (matrix < std::ssize(nest.matrix) && matrix == 0) own.row = d;
      if (matrix < std::ssize(nest.matrix) && matrix == 1) own.column = d;
    }
    return own;
  }

  // Which part of a thread's number each index is.
  std::vector<int64_t> numbers_of(const Node& n) const {
    std::vector<int64_t> out;
    for (const Ref& i : tree::at(n)) {
      const auto it = found_.strides.find(i.get());
      out.push_back(it == found_.strides.end() ? 0 : it->second);
    }
    return out;
  }
  NodeMap<std::vector<int64_t>> numbers_;
};

}  // namespace

int64_t shared_bytes(const Node& place) {
  constexpr int64_t line = 128;
  return (tree::shared_elements(place) * item_size(place.dtype) + line - 1) / line * line;
}

const MatrixRow* matrix_row(int64_t rows, int64_t columns) {
  for (const MatrixRow& r : matrix_rows)
    if (r.rows == rows && (columns == 0 || r.columns == columns)) return &r;
  return nullptr;
}

const MatrixRow& matrix_row(const Node& place, const Own& own) {
  const auto along = [&](int d) { return extent(tree::dims(place)[static_cast<size_t>(d)]); };
  const MatrixRow* found = matrix_row(along(own.row), along(own.column));
  if (!found) broken("'{}' is no result of a matrix instruction", place.arg.text);
  return *found;
}

Groups groups_of(const Node& kernel) { return Survey(kernel).found(); }

bool tree::is_shared_out(const Node& loop) {
  return loop.op == Op::Loop && (kind(loop) == LoopKind::Local || kind(loop) == LoopKind::Matrix);
}

int64_t tree::group_threads(const Node& kernel) {
  const Ref root(&kernel);
  const auto nodes = topological(std::span(&root, 1));
  return std::any_of(nodes.begin(), nodes.end(), [](const Node* n) { return is_shared_out(*n); })
             ? groups_of(kernel).threads
             : 1;
}

}  // namespace kontor
