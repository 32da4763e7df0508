// Sums of products by a formula: each pair of terms is a product of matrices over the letters that end there.
#include <algorithm>
#include <map>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

/// A letter, or an axis of "...": -1 is its last.
using Label = int;
using Labels = std::vector<Label>;

bool has(const Labels& in, Label label) { return std::find(in.begin(), in.end(), label) != in.end(); }

/// A tensor whose axes have labels.
struct Operand {
  Ref x;
  Labels labels;
};

Labels without(const Labels& from, const Labels& others) {
  Labels out;
  for (const Label l : from)
    if (!has(others, l)) out.push_back(l);
  return out;
}

class Einsum {
 public:
  Einsum(const std::string& formula, const std::vector<Ref>& tensors) : formula_(formula) {
    const size_t arrow = formula.find("->");
    const std::string left = formula.substr(0, arrow);
    std::vector<std::string> terms{""};
    for (const char c : left)
      if (c == ',') terms.emplace_back();
      else if (c != ' ') terms.back() += c;
    if (terms.size() != tensors.size())
      fail("einsum: '{}': {} terms for {} tensors", formula, terms.size(), tensors.size());
    for (size_t i = 0; i < terms.size(); i++)
      operands_.push_back({tensors[i], labels_of(terms[i], tensors[i]->rank())});
    for (const Operand& o : operands_) measure(o);
    if (arrow != std::string::npos) result_ = result_of(formula.substr(arrow + 2));
    else result_ = usual_result();
  }

  Ref run() {
    for (Operand& o : operands_) prepare(o);
    Operand so_far = operands_[0];
    for (size_t i = 1; i < operands_.size(); i++) {
      Labels needed = result_;
      for (size_t k = i + 1; k < operands_.size(); k++)
        needed.insert(needed.end(), operands_[k].labels.begin(), operands_[k].labels.end());
      so_far = product(summed(so_far, joined(needed, operands_[i].labels)),
                       summed(operands_[i], joined(needed, so_far.labels)), needed);
    }
    return arranged(summed(so_far, result_), result_).x;
  }

 private:
  const std::string& formula_;
  std::vector<Operand> operands_;
  Labels result_;
  std::map<Label, Ref> size_;
  size_t dots_ = 0;  // axes that "..." stands for, at most

  static Labels joined(Labels a, const Labels& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  // The letters of a term, with `rest` labels for its "...".
  Labels letters(const std::string& term, size_t rest) const {
    Labels out;
    for (size_t i = 0; i < term.size(); i++) {
      if (term.compare(i, 3, "...") == 0) {
        for (size_t k = rest; k > 0; k--) out.push_back(-static_cast<Label>(k));
        i += 2;
      } else if (std::isalpha(static_cast<unsigned char>(term[i]))) {
        out.push_back(term[i]);
      } else {
        fail("einsum: '{}': no letter '{}'", formula_, term[i]);
      }
    }
    return out;
  }

  Labels labels_of(const std::string& term, size_t rank) {
    const size_t named = letters(term, 0).size();
    const size_t rest = term.find("...") == std::string::npos || rank < named ? 0 : rank - named;
    Labels out = letters(term, rest);
    if (out.size() != rank)
      fail("einsum: '{}': term '{}' has {} axes, its tensor {}", formula_, term, out.size(), rank);
    dots_ = std::max(dots_, rest);
    return out;
  }

  // Axes of 1 broadcast where they are of "...".
  void measure(const Operand& o) {
    for (size_t a = 0; a < o.labels.size(); a++) {
      const Ref& n = o.x->shape[a];
      Ref& known = size_.try_emplace(o.labels[a], n).first->second;
      if (o.labels[a] < 0 && is_int(known, 1)) known = n;
      if (known == n || (o.labels[a] < 0 && is_int(n, 1))) continue;
      fail("einsum: '{}': axis {} of {} differs from {} elsewhere", formula_, a, describe(*o.x),
           describe_dim(known));
    }
  }

  Labels result_of(std::string term) const {
    std::erase(term, ' ');
    Labels out = letters(term, dots_);
    if (dots_ > 0 && term.find("...") == std::string::npos)
      fail("einsum: '{}': the result has no '...'", formula_);
    for (size_t i = 0; i < out.size(); i++)
      if (!size_.contains(out[i]) ||
          has(Labels(out.begin(), out.begin() + static_cast<ptrdiff_t>(i)), out[i]))
        fail("einsum: '{}': the result has '{}' twice, or no term has it", formula_,
             static_cast<char>(out[i]));
    return out;
  }

  Labels usual_result() const {
    Labels out;
    std::map<Label, int> times;
    for (const Operand& o : operands_)
      for (const Label l : o.labels) times[l]++;
    for (const auto& [label, n] : times)
      if (label < 0 || n == 1) out.push_back(label);
    return out;
  }

  // A letter twice is the diagonal; "..." axes of 1 that others make longer are expanded.
  void prepare(Operand& o) const {
    for (size_t a = 0; a < o.labels.size(); a++)
      for (size_t b = a + 1; b < o.labels.size(); b++)
        if (o.labels[a] == o.labels[b]) {
          o = diagonal(o, a, b);
          return prepare(o);
        }
    Dims shape = o.x->shape;
    for (size_t a = 0; a < o.labels.size(); a++) shape[a] = size_.at(o.labels[a]);
    o.x = broadcast(o.x, shape);
  }

  static Operand diagonal(const Operand& o, size_t a, size_t b) {
    const Label label = o.labels[a];
    const Labels both{label};
    Ints order;
    for (size_t k = 0; k < o.labels.size(); k++)
      if (k != a && k != b) order.push_back(static_cast<int64_t>(k));
    order.insert(order.end(), {static_cast<int64_t>(a), static_cast<int64_t>(b)});
    Operand out{diag(permute(o.x, order), 0), without_positions(o.labels, a, b)};
    out.labels.push_back(label);
    return out;
  }
  static Labels without_positions(const Labels& from, size_t a, size_t b) {
    Labels out;
    for (size_t k = 0; k < from.size(); k++)
      if (k != a && k != b) out.push_back(from[k]);
    return out;
  }

  // Without the labels that are not needed.
  static Operand summed(const Operand& o, const Labels& needed) {
    Ints axes;
    Labels kept;
    for (size_t a = 0; a < o.labels.size(); a++)
      if (has(needed, o.labels[a])) kept.push_back(o.labels[a]);
      else axes.push_back(static_cast<int64_t>(a));
    return {axes.empty() ? o.x : cast(sum(o.x, axes, false), o.x->dtype), kept};
  }

  // With its axes in that order.
  static Operand arranged(const Operand& o, const Labels& labels) {
    Ints order;
    for (const Label l : labels)
      order.push_back(std::find(o.labels.begin(), o.labels.end(), l) - o.labels.begin());
    return {permute(o.x, order), labels};
  }

  Ref extent_of(const Labels& labels) const {
    Ref n = index(1);
    for (const Label l : labels) n = ix::mul(n, size_.at(l));
    return n;
  }

  Dims sizes(const Labels& labels) const {
    Dims out;
    for (const Label l : labels) out.push_back(size_.at(l));
    return out;
  }

  Operand product(const Operand& a, const Operand& b, const Labels& needed) const {
    Labels shared, ended;
    for (const Label l : a.labels)
      if (has(b.labels, l)) (has(needed, l) ? shared : ended).push_back(l);
    const Labels rows = without(a.labels, b.labels), columns = without(b.labels, a.labels);
    const Ref left = arranged(a, joined(joined(shared, rows), ended)).x;
    const Ref right = arranged(b, joined(joined(shared, ended), columns)).x;
    const auto shaped = [&](const Ref& x, const Ref& m, const Ref& n) {
      Dims shape = sizes(shared);
      shape.insert(shape.end(), {m, n});
      return reshape(x, shape);
    };
    const Ref m = extent_of(rows), k = extent_of(ended), n = extent_of(columns);
    const Ref x = shaped(left, m, k), y = shaped(right, k, n);
    const Labels labels = joined(joined(shared, rows), columns);
    return {reshape(ended.empty() ? mul(x, y) : matmul(x, y), sizes(labels)), labels};
  }
};

}  // namespace

Ref einsum(const std::string& formula, const std::vector<Ref>& tensors) {
  if (tensors.empty()) fail("einsum: no tensors");
  const std::vector<Input> inputs(tensors.begin(), tensors.end());
  const DType dtype = operand_dtype("einsum", inputs);
  if (dtype == DType::Bool) fail("einsum: takes numbers");
  std::vector<Ref> terms;
  for (const Ref& t : tensors) terms.push_back(in_accumulator(cast(t, dtype)));
  return cast(Einsum(formula, terms).run(), dtype);
}

Ref outer(const Ref& a, const Ref& b) {
  return mul(unsqueeze(flatten(a, 0), 1), unsqueeze(flatten(b, 0), 0));
}

Ref tensordot(const Ref& a, const Ref& b, int64_t axes) {
  const bool fits =
      axes >= 0 && axes <= static_cast<int64_t>(a->rank()) && axes <= static_cast<int64_t>(b->rank());
  const auto split = static_cast<ptrdiff_t>(a->rank()) - axes;
  if (!fits || !std::equal(a->shape.begin() + split, a->shape.end(), b->shape.begin()))
    fail("tensordot: {} x {}: the last {} axes of one are not the first of the other", describe(*a),
         describe(*b), axes);
  Dims shape(a->shape.begin(), a->shape.begin() + split);
  const Ref rows = ix::product(shape),
            inner = ix::product(std::span(b->shape).first(static_cast<size_t>(axes)));
  const Dims rest(b->shape.begin() + axes, b->shape.end());
  const Ref out = matmul(reshape(a, {rows, inner}), reshape(b, {inner, ix::product(rest)}));
  shape.insert(shape.end(), rest.begin(), rest.end());
  return reshape(out, shape);
}

}  // namespace kontor::fn
