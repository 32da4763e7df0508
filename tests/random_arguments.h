// Random arguments for a row of the function table: proposed by type and by parameter name, kept if the function takes
// them.
#pragma once
#include <optional>
#include <unordered_map>

#include "base/threefry.h"
#include "tests/random_graph.h"

namespace kontor {

/// Numbers in order, from a seed.
class Dice {
 public:
  explicit Dice(uint64_t seed) : seed_(seed) {}
  uint64_t below(uint64_t n) { return random_below(seed_, counter_++, n); }
  bool once_in(uint64_t n) { return below(n) == 0; }
  int64_t from_to(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(below(static_cast<uint64_t>(high - low) + 1));
  }
  template <class T>
  T one_of(std::initializer_list<T> list) {
    return list.begin()[below(list.size())];
  }
  template <class T>
  const T& any_of(const std::vector<T>& list) {
    return list[below(list.size())];
  }

 private:
  uint64_t seed_, counter_ = 0;
};

/// What an input's values are.
enum class Values : uint8_t { Any, Special, Indices, NonZero, Smooth };

/// The leaves of a case in the making.
class Leaves {
 public:
  Leaves(Dice& dice, bool smooth) : dice_(dice), smooth_(smooth) {}
  struct Form {  // braces draw both in this order, arguments of a call in the compiler's
    DType dtype;
    Ints dims;
  };
  Ref leaf(const Form& form, Values values = Values::Any, int64_t bound = 1);
  Ref leaf_of(Array value);
  const Array& array(const Ref& leaf) const { return arrays_.at(leaf.get()); }

  Ints dims();  ///< of a rank and extents that go wrong: 0, 1, primes, vector widths and one off
  int64_t extent();
  DType dtype();      ///< any; often the same within a case
  int64_t cap = 200;  ///< elements of one leaf, about

 private:
  Dice& dice_;
  bool smooth_;
  std::optional<DType> usual_;
  std::vector<Ref> alive_;
  std::unordered_map<const Node*, Array> arrays_;
};

/// Arguments for `row`, in which `x` is one tensor (null: none is given). `others` are values that may be used too.
std::vector<Argument> propose_arguments(const FunctionRow& row, const Ref& x, std::span<const Ref> others,
                                        Leaves& leaves, Dice& dice, bool smooth);
/// Whether a row can read a tensor.
bool reads_tensor(const FunctionRow& row);

}  // namespace kontor
