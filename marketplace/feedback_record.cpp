// Learned feedback as graphs (spec, section 4.7). With e the slopes of the losses at the logits, u = e / deviation of the residual,
// and B_k the matrix of group k: delta_k = B_k u (for values before an activation f: f' * B_k u / mean f'^2); gradients are
// delta_k^T x_k / tokens.
#include "marketplace/feedback_record.h"

#include <algorithm>

#include "graph/functions/random.h"
#include "graph/index/index.h"
#include "graph/transforms/gradient.h"

namespace kontor::inline v0::marketplace {

namespace {

constexpr double kLeastVariance = 1e-5;  // of a token's residual
constexpr double kLeastSquare = 1e-8;    // of a group's values

Ref total(const Ref& x) { return fn::sum(x, {}, false); }

Ref stored(const Ref& x) { return make(Op::Copy, {x}); }

/// [.., width] as [tokens, width].
Ref flat(const Ref& x) {
  int64_t tokens = 1;
  for (size_t a = 0; a + 1 < x->rank(); ++a) tokens *= extent(x->shape[a]);
  return fn::reshape(x, {index(tokens), x->shape.back()});
}

/// A value of each token for each of its channels.
Ref wide(const Ref& of_token, const Ref& like) {
  Dims thin = like->shape;
  thin.back() = index(1);
  return fn::broadcast(fn::reshape(of_token, thin), like->shape);
}

}  // namespace

FeedbackRecorder::FeedbackRecorder(FeedbackParts parts, const FeedbackOptions& options, FeedbackInputs inputs,
                                   std::vector<Ref> kept)
    : parts_(std::move(parts)), options_(options), in_(std::move(inputs)), kept_(std::move(kept)) {
  for (size_t i = 0; i < kept_.size(); ++i) clean_.emplace(parts_.kept[i].get(), kept_[i]);
  rows_ = clean(parts_.rows);
  error_ = stored(gradient(total(rows_), std::vector<Ref>{leaf(parts_.head().output)})[0]);
  scaled_ = error_;
  if (parts_.residual) {
    const Ref r = clean(parts_.residual),
              last = fn::var(r, Ints{static_cast<int64_t>(r->rank()) - 1}, true, 0);
    const Ref over = fn::sqrt(fn::add(last, kLeastVariance));
    scaled_ = stored(fn::div(error_, fn::broadcast(over, error_->shape)));
  }
}

Ref FeedbackRecorder::noise(size_t g) const {
  return fn::rademacher_at(in_.key, in_.counters[g], parts_.groups[g].seen->shape, DType::F32);
}

// The kept values, but for those that depend on one of them.
Substitution FeedbackRecorder::free_behind(const Ref& value) const {
  const std::vector<Ref> behind = parts_.behind(value);
  Substitution out;
  for (size_t i = 0; i < kept_.size(); ++i)
    if (std::find(behind.begin(), behind.end(), parts_.kept[i]) == behind.end())
      out.emplace(parts_.kept[i].get(), kept_[i]);
  return out;
}

// Rank 0: the noise in a group's values, a part of their root mean square.
Ref FeedbackRecorder::size_of_noise(size_t g) const {
  const Ref square = fn::mean(fn::square(leaf(parts_.groups[g].value)), {}, false);
  return fn::mul(fn::sqrt(fn::add(square, kLeastSquare)), options_.sigma);
}

Ref FeedbackRecorder::differences(size_t g) const {
  const Ref& value = parts_.groups[g].value;
  const Ref size = stored(size_of_noise(g)), signs = noise(g);
  Substitution noisy = free_behind(value);
  const Ref added = in_place_of_value(parts_.groups[g], fn::mul(signs, fn::splat(size, signs->shape)));
  noisy[value.get()] = fn::add(leaf(value), added);
  const Ref change = fn::sub(substitute(parts_.rows, noisy), rows_);
  const Ref d = fn::div(change, fn::splat(size, change->shape));
  return fn::where(finite(d), d, 0.0);
}

// The activation's slope at the group's values; null: it has none.
Ref FeedbackRecorder::slope(size_t g) const {
  const NoiseGroup& group = parts_.groups[g];
  if (!group.activation) return {};
  const Ref& at = leaf(group.value);
  const Ref y = substitute(group.activation, Substitution{{group.value.get(), at}});
  return gradient(total(y), std::vector<Ref>{at})[0];
}

FeedbackMemory FeedbackRecorder::remembered(size_t g, const Ref& differences,
                                            const FeedbackMemory& before) const {
  Ref signs = noise(g);
  if (const Ref s = slope(g)) signs = fn::mul(signs, s);
  const Ref u = flat(scaled_), weighted = flat(fn::mul(scaled_, wide(differences, scaled_)));
  const auto added = [&](const Ref& old, const Ref& a, const Ref& b) {
    return fn::add(fn::mul(old, options_.memory), fn::matmul(fn::transpose(a, 0, 1), b));
  };
  return {added(before.products, stored(flat(signs)), stored(weighted)), added(before.squares, u, u)};
}

Ref FeedbackRecorder::predicted(size_t g, const Ref& matrix, const Ref& differences) const {
  Ref d = fn::reshape(fn::matmul(flat(scaled_), fn::transpose(matrix, 0, 1)), parts_.groups[g].seen->shape);
  if (const Ref s = slope(g)) {
    const Ref over = fn::mean(fn::square(s), {}, false);
    d = fn::mul(fn::mul(d, s), fn::splat(fn::div(1.0, fn::add(over, 1e-12)), d->shape));
  }
  d = stored(d);
  const Ref signs = noise(g);
  const Ref seen = fn::sum(fn::mul(signs, d), Ints{static_cast<int64_t>(d->rank()) - 1}, false);
  const Ref beyond = fn::mul(fn::sub(differences, seen), fn::splat(in_.corrections[g], seen->shape));
  return fn::add(d, fn::mul(signs, wide(beyond, d)));
}

// Through what follows, the head alone: linear in it, so that its product is not made again.
Ref FeedbackRecorder::exact(size_t g) const {
  const Ref& value = parts_.groups[g].value;
  const Ref logits = substitute(parts_.head().output, free_behind(value));
  return gradient(total(fn::mul(logits, fn::detach(error_))), std::vector<Ref>{leaf(value)})[0];
}

Ref FeedbackRecorder::through_attention(const ProductLayer& layer, const Ref& delta) const {
  const Ref& from = leaf(layer.output);
  const NoiseGroup& group = parts_.groups[layer.mixed];
  const Ref mixed = substitute(group.value, Substitution{{layer.output.get(), from}});
  const Ref up = in_place_of_value(group, delta);
  return gradient(total(fn::mul(mixed, fn::detach(up))), std::vector<Ref>{from})[0];
}

std::vector<Ref> FeedbackRecorder::gradients(const std::vector<Ref>& matrices,
                                             const std::vector<Ref>& differences,
                                             std::span<const Ref> wrt) const {
  std::vector<Ref> deltas;
  for (size_t g = 0; g < parts_.groups.size(); ++g)
    deltas.push_back(stored(parts_.groups[g].exact ? exact(g) : predicted(g, matrices[g], differences[g])));
  Ref sum;
  const auto add = [&](const Ref& value, const Ref& delta) {
    const Ref term = total(fn::mul(value, fn::detach(delta)));
    sum = sum ? fn::add(sum, term) : term;
  };
  for (const ProductLayer& l : parts_.layers) {
    const Ref input = fn::detach(clean(l.input));
    const Ref y = substitute(l.output, Substitution{{l.input.get(), input}});
    if (&l == &parts_.head()) {
      add(y, error_);
    } else if (l.mixed != SIZE_MAX) {
      add(y, stored(through_attention(l, deltas[l.mixed])));
    } else {
      for (size_t g = 0; g < deltas.size(); ++g)
        if (parts_.groups[g].value == l.output) add(y, deltas[g]);
    }
  }
  if (parts_.embedding) add(parts_.embedding, deltas[parts_.embedding_group]);
  int64_t tokens = 1;
  for (const Ref& d : rows_->shape) tokens *= extent(d);
  return gradient(fn::mul(sum, 1 / static_cast<double>(tokens)), wrt);
}

}  // namespace kontor::inline v0::marketplace
