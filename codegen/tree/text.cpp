// Printing loop trees. Nodes have no names of their own: ranges and places are named by their text, made unique in their
// scope; shared values are bound by `let` before the first statement of the innermost block that holds all their uses.
#include "codegen/tree/text.h"

#include <algorithm>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "base/error.h"
#include "base/lasting.h"
#include "graph/text/expression.h"

namespace kontor::tree {

namespace {

constexpr std::string_view reserved[] = {"loop",   "thread", "global", "lane", "unroll", "vector",
                                         "if",     "else",   "check",  "let",  "width",  "merge",
                                         "kernel", "true",   "false",  "clear"};

/// A statement list. Statements are counted by occurrence: one node may stand in several places of the tree.
struct Block {
  int parent = -1;
  int index = 0;  // of the statement in `parent` that this block belongs to
  int depth = 0;
  std::unordered_set<const Node*> declares = {};
};

struct Use {
  int block, index;
};

/// Where each value is used and which of them are bound where.
class Sharing {
 public:
  explicit Sharing(const Node& kernel) {
    blocks_.push_back({});
    for (const Ref& p : params(kernel)) blocks_[0].declares.insert(p.get());
    walk(body(kernel), 0);
    bind();
  }

  /// The k-th block in the order of the walk, which the printer follows.
  const std::vector<const Node*>& lets(int block, int index) const {
    static const std::vector<const Node*>& none = lasting(std::vector<const Node*>());
    auto it = lets_.find({block, index});
    return it == lets_.end() ? none : it->second;
  }

 private:
  std::vector<Block> blocks_;
  std::unordered_map<const Node*, std::vector<Use>> uses_;
  std::vector<Ref> roots_;
  std::vector<Use> root_uses_;
  std::map<std::pair<int, int>, std::vector<const Node*>> lets_;

  void use(const Ref& value, int block, int index) {
    uses_[value.get()].push_back({block, index});
    roots_.push_back(value);
    root_uses_.push_back({block, index});
  }

  void nest(std::span<const Ref> list, int parent, int index, const Ref& range) {
    int block = static_cast<int>(blocks_.size());
    blocks_.push_back({parent, index, blocks_[static_cast<size_t>(parent)].depth + 1});
    if (range) blocks_.back().declares.insert(range.get());
    walk(list, block);
  }

  void walk(std::span<const Ref> list, int block) {
    for (int i = 0; i < static_cast<int>(list.size()); i++) {
      const Node& s = *list[static_cast<size_t>(i)];
      if (s.op == Op::Place && space(s) != Space::Param) {
        blocks_[static_cast<size_t>(block)].declares.insert(&s);
        for (const Ref& d : s.src) use(d, block, i);
      } else if (s.op == Op::Loop) {
        use(s[0]->src[0], block, i);
        nest(body(s), block, i, s[0]);
      } else if (s.op == Op::If) {
        use(s[0], block, i);
        nest(then_body(s), block, i, {});
        nest(else_body(s), block, i, {});
      } else {
        if (s.op == Op::Check)
          if (const Ref value = shown_by(s)) use(value, block, i);
        if (s.op == Op::Check) use(s[0], block, i);
        for (size_t k = 1; k < s.src.size() && s.op != Op::Check; k++) use(s[k], block, i);
      }
    }
  }

  /// Leaves, and what is hardly longer than a name.
  static bool small(const Node& n) {
    auto leaf = [](const Ref& s) { return s->src.empty() || s->op == Op::Range || s->op == Op::Place; };
    if (n.src.empty() || n.op == Op::Range || n.op == Op::Place) return true;
    return n.src.size() <= 4 && std::all_of(n.src.begin(), n.src.end(), leaf);
  }

  /// The block around `block` in which the innermost name that the value needs is declared.
  int home(const Node* value, int block, std::unordered_map<const Node*, int>& memo) const {
    std::vector<const Node*> stack{value};
    while (!stack.empty()) {
      const Node* n = stack.back();
      const size_t before = stack.size();
      const bool named = n->op == Op::Range || n->op == Op::Place;
      if (!named && !memo.contains(n))
        for (const Ref& s : n->src)
          if (!memo.contains(s.get())) stack.push_back(s.get());
      if (stack.size() > before) continue;
      stack.pop_back();
      if (!memo.contains(n)) memo[n] = named ? declaring(n, block) : innermost(*n, memo);
    }
    return memo.at(value);
  }

  int declaring(const Node* name, int block) const {
    while (block > 0 && !blocks_[static_cast<size_t>(block)].declares.contains(name))
      block = blocks_[static_cast<size_t>(block)].parent;
    return block;
  }

  int innermost(const Node& n, const std::unordered_map<const Node*, int>& memo) const {
    int found = 0;
    for (const Ref& s : n.src) {
      const int h = memo.at(s.get());
      if (blocks_[static_cast<size_t>(h)].depth > blocks_[static_cast<size_t>(found)].depth) found = h;
    }
    return found;
  }

  /// Values that are named since they would nest too deep in the text, which is read by recursion.
  static std::unordered_set<const Node*> deep_values(const std::vector<const Node*>& order) {
    constexpr int deepest =
        deepest_nesting / 4;  // each takes two at most: a sign, parentheses; the rest is for loops
    std::unordered_map<const Node*, int> level;
    std::unordered_set<const Node*> deep;
    for (const Node* n : order) {
      if (n->op == Op::Range || n->op == Op::Place) continue;
      int most = 0;
      for (const Ref& s : n->src)
        if (auto it = level.find(s.get()); it != level.end()) most = std::max(most, it->second);
      level[n] = most + 1;
      if (most + 1 < deepest || small(*n)) continue;
      deep.insert(n);
      level[n] = 0;
    }
    return deep;
  }

  Use meet(Use a, Use b) const {
    auto up = [&](Use& u) {
      const Block& k = blocks_[static_cast<size_t>(u.block)];
      u = {k.parent, k.index};
    };
    auto depth = [&](const Use& u) { return blocks_[static_cast<size_t>(u.block)].depth; };
    while (depth(a) > depth(b)) up(a);
    while (depth(b) > depth(a)) up(b);
    while (a.block != b.block) up(a), up(b);
    return {a.block, std::min(a.index, b.index)};
  }

  void bind() {
    std::vector<const Node*> order = topological(roots_);
    const std::unordered_set<const Node*> deep = deep_values(order);
    std::unordered_map<int, std::unordered_map<const Node*, int>> homes;
    for (auto it = order.rbegin(); it != order.rend(); ++it) {  // users first
      const Node* value = *it;
      auto found = uses_.find(value);
      if (found == uses_.end() || value->op == Op::Place) continue;
      std::vector<Use> places =
          small(*value) ? found->second : bind_value(value, deep.contains(value), found->second, homes);
      if (value->op == Op::Range) continue;
      for (const Use& u : places)
        for (const Ref& s : value->src) uses_[s.get()].push_back(u);
    }
    for (auto& [at, values] : lets_) put_in_order({at.first, at.second}, values);
  }

  bool is_within(Use use, Use place) const {
    while (use.block > 0 && use.block != place.block) {
      const Block& b = blocks_[static_cast<size_t>(use.block)];
      use = {b.parent, b.index};
    }
    return use.block == place.block && use.index >= place.index;
  }

  /// Sources first, in the order in which the statements from `place` on need them: what stands elsewhere in the kernel, and
  /// may share nodes with them, has no say in it.
  void put_in_order(Use place, std::vector<const Node*>& values) const {
    if (values.size() < 2) return;
    std::vector<Ref> needed;
    for (size_t i = 0; i < roots_.size(); i++)
      if (is_within(root_uses_[i], place)) needed.push_back(roots_[i]);
    std::unordered_map<const Node*, size_t> position;
    for (const Node* n : topological(needed)) position.emplace(n, position.size());
    std::sort(values.begin(), values.end(),
              [&](const Node* a, const Node* b) { return position.at(a) < position.at(b); });
  }

  /// Binds a value in each group of two uses or more that share a home, a deep one in each; returns where it is written out.
  std::vector<Use> bind_value(const Node* value, bool deep, const std::vector<Use>& uses,
                              std::unordered_map<int, std::unordered_map<const Node*, int>>& homes) {
    std::map<int, std::vector<Use>> groups;
    for (const Use& u : uses) groups[home(value, u.block, homes[u.block])].push_back(u);
    std::vector<Use> written;
    for (const auto& [block, group] : groups) {
      Use at = group[0];
      for (const Use& u : group) at = meet(at, u);
      if (group.size() > 1 || deep) lets_[{at.block, at.index}].push_back(value);
      written.push_back(at);
    }
    return written;
  }
};

class Printer {
 public:
  explicit Printer(const Notes& notes) : notes_(notes) {}

  std::string text;

  void kernel(const Node& k) {
    Sharing sharing(k);
    sharing_ = &sharing;
    std::vector<std::string> list;
    for (const Ref& s : slots(Ref(&k))) list.push_back(slot(*s));
    for (const Ref& p : params(k)) declare(p.get(), p->arg.text);
    const std::unordered_set<const Node*> stored = written(k);
    const size_t outputs = first_output(k, stored);
    int position = 0;
    for (const Ref& p : params(k)) {
      std::string number = param_number(*p) == position ? "" : fmt::format(" at {}", param_number(*p));
      if (static_cast<size_t>(position++) == outputs) flush_params(k, list), list.clear();
      list.push_back(declaration(*p) + number);
    }
    if (outputs == params(k).size()) {  // they are not the last ones: named, where the last ones are declared
      flush_params(k, list), list.clear();
      for (const Ref& p : params(k))
        if (stored.contains(p.get())) list.push_back(name_of(*p));
    }
    text += joined(list) + "\n";
    block(body(k), 1);
  }

  void statement(const Node& s, int depth) {
    switch (s.op) {
      case Op::Place:
        return space(s) == Space::Param ? line(depth, "clear " + name_of(s)) : place_statement(s, depth);
      case Op::Loop:     return loop_statement(s, depth);
      case Op::If:       return if_statement(s, depth);
      case Op::Store:    return line(depth, access(s) + " = " + joined_values(values(s)));
      case Op::FoldStep: return line(depth, access(s) + " <- " + joined_values(values(s)));
      case Op::Check:    return check_statement(s, depth);
      default:           return line(depth, expression(s));
    }
  }

  void check_statement(const Node& s, int depth) {
    const Ref value = shown_by(s);
    const std::string of = value ? fmt::format(" of {}", expression(*value)) : "";
    line(depth, fmt::format("check {}{}: {}", s.at(0), of, expression(*s[0])));
  }

  std::string expression(const Node& value) {
    return print_expression(value, [this](const Node& n) { return spelled(n); });
  }

 private:
  const Notes& notes_;
  const Sharing* sharing_ = nullptr;
  std::unordered_map<const Node*, std::vector<std::string>> names_;  // innermost last
  std::unordered_set<std::string> taken_;
  int block_count_ = 0, let_count_ = 0;
  bool place_open_ = false;  // the last line declares a place, and may take another

  void line(int depth, const std::string& what) {
    text += std::string(static_cast<size_t>(2 * depth), ' ') + what + "\n";
    place_open_ = false;
  }

  static std::string joined(const std::vector<std::string>& list) {
    std::string out;
    for (const std::string& s : list) out += (out.empty() ? "" : ", ") + s;
    return out;
  }

  std::string joined_values(std::span<const Ref> list) {
    std::vector<std::string> out;
    for (const Ref& v : list) out.push_back(expression(*v));
    return joined(out);
  }

  void flush_params(const Node& k, const std::vector<std::string>& list) {
    text += fmt::format("kernel {}({}) -> ", name_text(k.arg.text), joined(list));
  }

  static std::string slot(const Node& s) {
    std::string range = s.arg.ints.size() >= 3 ? fmt::format(" {}..{}", s.at(1), s.at(2)) : "";
    return fmt::format("${} {}{}", s.at(0), name(s.dtype), range);
  }

  static std::unordered_set<const Node*> written(const Node& k) {
    std::unordered_set<const Node*> places;
    for (const Node* n : topological(body(k)))
      if (n->op == Op::Store || n->op == Op::FoldStep) places.insert(n->src[0].get());
    return places;
  }

  /// The first of the last parameters that are all written.
  static size_t first_output(const Node& k, const std::unordered_set<const Node*>& stored) {
    size_t first = params(k).size();
    while (first > 0 && stored.contains(params(k)[first - 1].get())) first--;
    return first;
  }

  std::string declare(const Node* n, const std::string& wanted) {
    std::string base = name_text(wanted);
    if (base.starts_with("inf") || base.starts_with("nan")) base = "v_" + base;
    Op op{};
    bool word = std::find(std::begin(reserved), std::end(reserved), base) != std::end(reserved) ||
                find_op(base, op) || find_dtype(base) != DType::Void;
    std::string unique = base;
    for (int k = 2; word || taken_.contains(unique); k++, word = false)
      unique = fmt::format("{}_{}", base, k);
    taken_.insert(unique);
    names_[n].push_back(unique);
    return unique;
  }

  void forget(const Node* n) {
    taken_.erase(names_[n].back());
    names_[n].pop_back();
  }

  std::string name_of(const Node& n) const {
    auto it = names_.find(&n);
    if (it != names_.end() && !it->second.empty()) return it->second.back();
    if (n.op != Op::Range && n.op != Op::Place) return "";
    return (sharing_ ? "?" : "") +
           name_text(n.arg.text);  // in a whole kernel, a name out of scope is a mistake
  }

  std::string spelled(const Node& n) {
    if (std::string known = name_of(n); !known.empty()) return known;
    if (n.op == Op::Slot) return fmt::format("${}", n.at(0));
    if (n.op == Op::Load) return access(n);
    if (n.op == Op::Merge) return "merge(" + access(n) + ")";
    return "";
  }

  std::string access(const Node& n) {
    std::string inside;
    for (const Ref& i : at(n)) inside += (inside.empty() ? "" : ", ") + expression(*i);
    if (n.op == Op::Load && guard(n)) inside += (inside.empty() ? "if " : " if ") + expression(*guard(n));
    return name_of(*n[0]) + part_of(n) + (inside.empty() ? "" : "[" + inside + "]");
  }

  /// Which part of the fold's state is read, where there are several: "best.index[i]".
  static std::string part_of(const Node& n) {
    if (parts(*n[0]) == 1 || (n.op != Op::Load && n.op != Op::Merge)) return "";
    return fmt::format(".{}", row(fold_of(*n[0])).part[part(n)].name);
  }

  std::string declaration(const Node& p) {
    std::string fold = has_fold(p) ? fmt::format(" {}", row(fold_of(p)).name) : "";
    std::string shape = joined_values(dims(p));
    std::string what =
        fmt::format("{}{} {}{}", name_of(p), fold, name(p.dtype), shape.empty() ? "" : "[" + shape + "]");
    if (space(p) != Space::Shared) return what;
    const SharedAs how = shared_as(p);
    return fmt::format("shared {}{}{}", what, how.pad ? fmt::format(" row {} pad {}", how.row, how.pad) : "",
                       how.ahead ? fmt::format(" ahead {}", how.ahead) : "");
  }

  void place_statement(const Node& p, int depth) {
    std::string what = declaration(p);
    size_t line_start = text.rfind('\n', text.size() - 2) + 1;
    if (place_open_ && text.size() - line_start + what.size() < 100) {
      text.insert(text.size() - 1, "; " + what);
    } else {
      line(depth, what);
    }
    place_open_ = true;
  }

  void loop_statement(const Node& s, int depth) {
    std::string extent = expression(*s[0]->src[0]);
    std::string unique = declare(s[0].get(), s[0]->arg.text);
    std::string width_text = width(s) ? fmt::format(" width {}", width(s)) : "";
    line(depth, fmt::format("{} {} {}{}", name(kind(s)), unique, extent, width_text));
    block(body(s), depth + 1);
    forget(s[0].get());
  }

  void if_statement(const Node& s, int depth) {
    line(depth, "if " + expression(*s[0]));
    notes(s, depth + 1);
    block(then_body(s), depth + 1);
    if (else_body(s).empty()) {
      block_count_++;
      return;
    }
    line(depth, "else");
    block(else_body(s), depth + 1);
  }

  void notes(const Node& s, int depth) {
    if (!notes_) return;
    for (const auto& [n, note] : notes_(s)) line(depth, fmt::format("# {}: {}", access(*n), note));
  }

  void block(std::span<const Ref> list, int depth) {
    int id = block_count_++;
    std::vector<const Node*> declared;
    for (int i = 0; i < static_cast<int>(list.size()); i++) {
      const Node& s = *list[static_cast<size_t>(i)];
      if (sharing_)
        for (const Node* value : sharing_->lets(id, i)) let(value, depth, declared);
      if (s.op == Op::Place && space(s) != Space::Param) {
        declare(&s, s.arg.text);
        declared.push_back(&s);
      }
      statement(s, depth);
      if (s.op != Op::Loop && s.op != Op::If) notes(s, depth);
    }
    for (const Node* n : declared) forget(n);
    place_open_ = false;
  }

  void let(const Node* value, int depth, std::vector<const Node*>& declared) {
    std::string unique = fmt::format("%{}", let_count_++);
    line(depth, fmt::format("let {} = {}", unique, expression(*value)));
    names_[value].push_back(unique);
    declared.push_back(value);
  }
};

}  // namespace

std::string print(const Ref& kernel, const Notes& notes) {
  Printer printer(notes);
  printer.kernel(*kernel);
  return printer.text;
}

std::string print(const Ref& node) {
  if (node->op == Op::Kernel) return print(node, Notes());
  const Notes none;
  Printer printer(none);
  if (!is_statement(node->op)) return printer.expression(*node);
  printer.statement(*node, 0);
  return printer.text;
}

}  // namespace kontor::tree
