// Exponents as text: how the scale of a value comes of those of the leaves.
//   %2 = 2^3     set_scale  %0
//   %5 = 2^6     reduce dot %3 %4
#include "base/error.h"
#include "graph/folds.h"
#include "graph/shape.h"
#include "scalify/scalify.h"

namespace kontor::scalify {

namespace {

std::string made_by(const Node& n) {
  if (n.is(Op::Call)) return n.arg.text;
  if (n.is(Op::Const)) return fmt::format("{}", const_float(n));
  const bool folds = n.is(Op::Reduce) || n.is(Op::Scan) || n.is(Op::Scatter);
  return folds ? fmt::format("{} {}", row(n.op).name, plain_name(fold_in(n))) : std::string(row(n.op).name);
}

std::string known(const Scaled& x) {
  if (x.any_scale) return "  any scale";
  return x.non_negative ? "  not negative" : "";
}

}  // namespace

std::string explain(const Graph& graph, const Options& options) {
  std::string out;
  NodeMap<size_t> number;
  for (const Made& made : scalify(graph, options).values) {
    const Node& n = *made.value;
    if (!is_float(n.dtype)) continue;
    std::string sources;
    for (const Ref& s : n.is(Op::Call) ? n.src.subspan(1) : std::span<const Ref>(n.src))
      if (const auto it = number.find(s.get()); it != number.end())
        sources += fmt::format(" %{}", it->second);
    const std::string scale =
        made.scaled.any_scale ? "-" : fmt::format("2^{}", describe(made.scaled.predicted));
    out += fmt::format("%{} = {:8} {} {}{}{}\n", number.size(), scale, describe(n), made_by(n), sources,
                       known(made.scaled));
    number.emplace(&n, number.size());
  }
  return out;
}

}  // namespace kontor::scalify
