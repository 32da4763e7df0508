// The star and the full plan, written on nodes: the leader's loss is recorded once, and `batch` gives it vendors.
// Formulas: ../shared/spec/marketplace.md 1.2 and 1.4 (full), issue 3 item 7 (star).
#include "marketplace/record.h"

#include "base/error.h"
#include "graph/batch.h"
#include "graph/functions.h"
#include "graph/index.h"

namespace kontor::inline v0::marketplace {

namespace {

/// Puts Marks into the model while the objective is recorded.
class Marked {
 public:
  explicit Marked(std::span<const nn::Parameter> parameters) : parameters_(parameters) {
    for (const nn::Parameter& p : parameters) {
      marks.push_back(fn::mark(node_of(*p.tensor), p.name));
      kept_.push_back(std::move(*p.tensor));
      *p.tensor = tensor_of(marks.back());
    }
  }
  ~Marked() {
    for (size_t i = 0; i < parameters_.size(); ++i) *parameters_[i].tensor = std::move(kept_[i]);
  }
  Marked(const Marked&) = delete;
  Marked& operator=(const Marked&) = delete;
  std::vector<Ref> marks;

 private:
  std::span<const nn::Parameter> parameters_;
  std::vector<Tensor> kept_;
};

/// A group's vendors: what they make of the parameters, by batching over seeds and deviations.
struct Vendors {
  std::vector<size_t> index;        // of parameters
  std::vector<Ref> deltas;          // [vendors, ..] each
  std::vector<BatchedLeaf> leaves;  // the parameters' Marks with deltas added
};

class Recorder {
 public:
  Recorder(const Options& options, std::span<const std::vector<size_t>> members, const StepInputs& inputs)
      : options_(options), members_(members), in_(inputs) {}

  StepGraph run(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                std::span<const nn::Parameter> parameters) {
    leader(objective, x, labels, parameters);
    const Ref seeds = vendor_seeds();
    int64_t first = 0;
    for (size_t g = 0; g < members_.size(); ++g) {
      const int64_t n = options_.groups[g].vendors;
      groups_.push_back(vendors(g, fn::slice(seeds, 0, first, first + n, 1)));
      first += n;
    }
    if (options_.plan == Plan::Star) star();
    else full();
    update();
    return std::move(out_);
  }

 private:
  const Options& options_;
  std::span<const std::vector<size_t>> members_;
  const StepInputs& in_;
  std::vector<Ref> marks_;
  std::vector<Vendors> groups_;
  std::vector<Ref> weights_;  // of each group: [vendors], the weight of each delta in its direction
  StepGraph out_;

  void leader(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
              std::span<const nn::Parameter> parameters) {
    Marked marked(parameters);
    const nn::Score score = objective(x, labels);
    if (score.loss.elements() != 1)
      fail("marketplace: the loss has {} elements, not one", score.loss.elements());
    out_.loss = fn::reshape(fn::cast(node_of(score.loss), DType::F32), {});
    if (!score.accuracy.empty()) out_.accuracy = fn::reshape(node_of(score.accuracy), {});
    marks_ = marked.marks;
  }

  /// u64 [vendors of all groups]: block counter + i of Threefry under the run's key.
  Ref vendor_seeds() const {
    int64_t total = 0;
    for (const Group& g : options_.groups) total += g.vendors;
    const Ref words =
        fn::reshape(fn::random_words(in_.key, in_.counter, {index(2 * total)}), {index(total), index(2)});
    const Ref low = fn::cast(fn::select(words, 1, 0), DType::U64);
    const Ref high = fn::cast(fn::select(words, 1, 1), DType::U64);
    return fn::bit_or(low, fn::shift_left(high, 32));
  }

  /// One vendor with a seed of rank 0 is recorded; batched over the seeds it is all of them. The draws of a group's
  /// parameters follow each other under one key.
  Vendors vendors(size_t g, const Ref& seeds) const {
    const Ref seed = fn::mark(constant(DType::U64, int64_t{0}), "seed");
    const Ref sigma = fn::mark(constant(DType::F32, 0.0), "sigma");
    std::vector<Ref> one;
    Ref blocks = index(0);
    for (size_t i : members_[g]) {
      const Ref& mark = marks_[i];
      const Ref at = constant(DType::U64, const_int(*blocks));
      const Ref unit = fn::uniform_at(seed, at, mark->shape, -1, 1, DType::F32);
      one.push_back(fn::mul(unit, fn::splat(sigma, mark->shape)));
      blocks = ix::add(blocks, ix::ceil_div(ix::product(mark->shape), index(2)));
    }
    Vendors v{.index = members_[g],
              .deltas = batch(one, std::vector<BatchedLeaf>{{seed, seeds}, {sigma, deviations(g)}}),
              .leaves = {}};
    for (size_t k = 0; k < v.index.size(); ++k) {
      const Ref& mark = marks_[v.index[k]];
      v.leaves.push_back({mark, fn::add(fn::broadcast(mark, v.deltas[k]->shape), v.deltas[k])});
    }
    return v;
  }

  /// [vendors]: sigma, but none for the leader of the full plan.
  Ref deviations(size_t g) const {
    const Dims shape{index(options_.groups[g].vendors)};
    const Ref sigma = fn::splat(in_.sigma, shape);
    if (options_.plan == Plan::Star) return sigma;
    return fn::where(fn::eq(fn::iota(shape[0], DType::I64), 0), 0.0, sigma);
  }

  Ref with_vendors(const Ref& loss, size_t g) const {
    const Ref out = batch(std::vector<Ref>{loss}, groups_[g].leaves)[0];
    if (out->rank() == loss->rank())
      fail("marketplace: the loss does not depend on group '{}'", options_.groups[g].name);
    return out;
  }

  /// c = -3/(sigma^2 n) (loss_v - loss of the leader).
  void star() {
    for (size_t g = 0; g < groups_.size(); ++g) {
      const Ref losses = with_vendors(out_.loss, g);
      out_.losses.push_back(losses);
      const double n = static_cast<double>(options_.groups[g].vendors);
      const Ref factor = fn::div(-3.0 / n, fn::mul(in_.sigma, in_.sigma));
      const Ref difference = fn::sub(losses, fn::splat(out_.loss, losses->shape));
      weights_.push_back(fn::mul(difference, fn::splat(factor, losses->shape)));
    }
  }

  /// z = -(loss - mean) / std over all paths; c of a vendor is the sum of z over the paths that it is on.
  void full() {
    Ref losses = out_.loss;
    for (size_t g = 0; g < groups_.size(); ++g) losses = with_vendors(losses, g);
    const Ref mean = fn::mean(losses, {}, false);
    const Ref deviation = fn::sqrt(fn::var(losses, {}, false, 1));
    const Ref some = fn::gt(deviation, 0.0);
    const Ref z = fn::div(fn::neg(fn::sub(losses, fn::splat(mean, losses->shape))),
                          fn::splat(fn::where(some, deviation, 1.0), losses->shape));
    const int64_t axes = static_cast<int64_t>(groups_.size());
    for (int64_t g = 0; g < axes; ++g) {
      Ints others;
      for (int64_t a = 0; a < axes; ++a)
        if (a != axes - 1 - g) others.push_back(a);
      weights_.push_back(others.empty() ? z : fn::sum(z, others, false));
    }
    out_.losses = {fn::reshape(losses, {ix::product(losses->shape)})};
  }

  /// D = sum over vendors of c delta; theta += lr D / |D|. A direction without length moves nothing.
  void update() {
    std::vector<std::vector<Ref>> directions(groups_.size());
    std::vector<Ref> squares;
    for (size_t g = 0; g < groups_.size(); ++g) {
      Ref square;
      for (const Ref& delta : groups_[g].deltas) {
        Dims thin(delta->rank(), index(1));
        thin[0] = delta->shape[0];
        const Ref weights = fn::broadcast(fn::reshape(weights_[g], thin), delta->shape);
        const Ref d = fn::sum(fn::mul(weights, delta), Ints{0}, false);
        directions[g].push_back(d);
        const Ref part = fn::sum(fn::square(d), {}, false);
        square = square ? fn::add(square, part) : part;
      }
      squares.push_back(square);
    }
    if (options_.unit == Unit::Whole) {
      Ref all = squares[0];
      for (size_t g = 1; g < squares.size(); ++g) all = fn::add(all, squares[g]);
      squares.assign(squares.size(), all);
    }
    for (size_t g = 0; g < groups_.size(); ++g) move(g, directions[g], squares[g]);
  }

  void move(size_t g, const std::vector<Ref>& directions, const Ref& square) {
    constexpr double infinite = __builtin_inf();
    const Ref fine = fn::logical_and(fn::gt(square, 0.0), fn::lt(square, infinite));
    const Ref scale = fn::where(fine, fn::div(in_.lr, fn::sqrt(square)), 0.0);
    for (size_t k = 0; k < directions.size(); ++k) {
      const Ref& d = directions[k];
      const Ref leader = marks_[groups_[g].index[k]];
      const Ref moved = fn::add(leader, fn::mul(d, fn::splat(scale, d->shape)));
      out_.changed.push_back(fn::where(fn::splat(fine, d->shape), moved, leader));
      out_.index.push_back(groups_[g].index[k]);
    }
  }
};

}  // namespace

StepGraph record_step(const nn::Objective& objective, const Tensor& x, const Tensor& labels,
                      std::span<const nn::Parameter> parameters, const Options& options,
                      std::span<const std::vector<size_t>> members, const StepInputs& inputs) {
  return Recorder(options, members, inputs).run(objective, x, labels, parameters);
}

}  // namespace kontor::inline v0::marketplace
