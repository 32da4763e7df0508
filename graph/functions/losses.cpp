// Losses: of classes, of probabilities, of distances.
#include <limits>

#include "base/error.h"
#include "graph/functions/formula.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

/// Labels of which those that are ignored are class 0, and which they are (null: none).
struct Labels {
  Ref classes, skipped;

  Labels(const Ref& labels, std::optional<int64_t> ignored) : classes(labels) {
    if (!ignored) return;
    skipped = eq(labels, Input(*ignored));
    if (!is_integer(labels->dtype)) return;  // what reads them says so
    classes = where(skipped, splat(constant(labels->dtype, int64_t{0}), labels->shape), labels);
  }
  /// Losses of the rows, 0 of those that are ignored.
  Ref counted(const Ref& rows) const {
    return skipped ? where(skipped, splat(constant(rows->dtype, 0.0), rows->shape), rows) : rows;
  }
};

Ref as_sums(const Ref& x) { return in_accumulator(as_float(x)); }

/// log(x), but -100 at least; at 0, where its slope is infinite, no gradient passes.
Term log_from(const Term& x) {
  const Term none = x == 0.0;
  return where(none, -100.0, max(unary("log", where(none, 1.0, x)), -100.0));
}

/// Of two floats, element by element, as wide as sums are, rounded once.
Ref of_two(std::string_view who, const Ref& a, const Ref& b, Term (*loss)(const Term& a, const Term& b)) {
  const Input operands[] = {as_float(a), as_float(b)};
  const DType dtype = operand_dtype(who, operands);
  const std::vector<Ref> both = align(who, operands, dtype);
  return cast(loss(Term(in_accumulator(both[0])), Term(in_accumulator(both[1]))).node, dtype);
}

}  // namespace

Ref cross_entropy(const Ref& logits, const Ref& labels, double smoothing, std::optional<int64_t> ignored) {
  if (!(smoothing >= 0 && smoothing <= 1)) fail("cross_entropy: a smoothing of {}", smoothing);
  const Labels of(labels, ignored);
  if (smoothing == 0) return of.counted(cross_entropy_of_rows(logits, of.classes));
  const Ref x = as_sums(logits);
  const Term right(cross_entropy_of_rows(x, of.classes));
  const Term spread = Term(logsumexp(x, Ints{-1}, false)) - Term(mean(x, Ints{-1}, false));
  const Term rows = right * (1 - smoothing) + spread * smoothing;
  return cast(of.counted(rows.node), as_float(logits)->dtype);
}

Ref nll(const Ref& x, const Ref& labels, std::optional<int64_t> ignored) {
  if (x->rank() == 0 || x->rank() != labels->rank() + 1 || !is_integer(labels->dtype) ||
      !std::equal(labels->shape.begin(), labels->shape.end(), x->shape.begin()))
    fail("nll: {} by {}: needs x [.., classes] and integer labels [..]", describe(*x), describe(*labels));
  const Labels of(labels, ignored);
  return of.counted(neg(element_of_rows(as_float(x), of.classes)));
}

Ref binary_cross_entropy(const Ref& x, const Ref& targets) {
  return of_two("binary_cross_entropy", x, targets, [](const Term& p, const Term& t) {
    return -(t * log_from(p) + (1.0 - t) * log_from(1.0 - p));
  });
}

Ref binary_cross_entropy_with_logits(const Ref& x, const Ref& targets) {
  return of_two("binary_cross_entropy_with_logits", x, targets,
                [](const Term& z, const Term& t) { return unary("softplus", z) - z * t; });
}

Ref mse(const Ref& x, const Ref& targets) {
  const Input operands[] = {as_float(x), as_float(targets)};
  const DType dtype = operand_dtype("mse", operands);
  const std::vector<Ref> both = align("mse", operands, dtype);
  return cast(mean(square(sub(in_accumulator(both[0]), in_accumulator(both[1]))), {}, false), dtype);
}

}  // namespace kontor::fn
