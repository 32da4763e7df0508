// Scaled: what a value of the graph is to the pass, and the parts that rules are made of.
#pragma once
#include <span>
#include <vector>

#include "scalify/exponent.h"

namespace kontor::scalify {

/// A value as data * 2^at. What Scalify calls a tensor's scale is 2^predicted: where the value is expected to be, by rules alone.
/// Both are equal once the data is *normalised*; before, they may differ, and cost nothing: a factor is multiplied in only where
/// data is rounded or meets data of another exponent. Of integers and bools only the data counts.
struct Scaled {
  Ref data;
  Exponent at = {}, predicted = {};
  bool any_scale = false;     ///< all elements are 0, infinite or NaN: the data of every scale
  bool non_negative = false;  ///< no element is below 0
};

/// To which side of the exact value the exponent of a scale is rounded.
enum class ScaleRounding : uint8_t { Down, Nearest, Up };

/// A rule got wrong on purpose: what the tests are tried on.
enum class Mutation : uint8_t { None, NoRootOfCount, SumsTakeTheLesser, FactorsIgnored };

struct RuleOptions {
  ScaleRounding rounding = ScaleRounding::Down;
  Mutation mutation = Mutation::None;
};

/// A node whose sources were scaled.
struct Step {
  const Node& node;
  std::span<const Scaled* const> from;
  const RuleOptions& options;

  const Scaled& operator[](size_t i) const { return *from[i]; }
  /// Source i as the value that it stands for: its data at exponent 0.
  Ref value(size_t i) const;
  /// The node with these as its first sources, and all others as data.
  Ref with(std::vector<Ref> first) const;
  /// What a sum of so many terms grows by: the root of their number, by which terms of both signs add up; all of it where none is
  /// negative.
  int64_t growth(int64_t count, bool non_negative) const;
};

/// Sources at one exponent, to be added or compared.
struct Aligned {
  Exponent at;         ///< the greatest of those that have one
  Exponent predicted;  ///< the same of predictions
  std::vector<Ref> data;
  bool any_scale = true, non_negative = true;  ///< of all of them
};
Aligned aligned(const Step& s, std::initializer_list<size_t> sources);

/// Elements along the axes of a shape; 0 where that is not known.
int64_t count_along(std::span<const Ref> shape, std::span<const int64_t> axes);
/// floor(log2(count)) of a number above 0.
int64_t floor_log2(int64_t count);
/// The same value at exponent `predicted`.
Scaled normalised(const Scaled& x);

}  // namespace kontor::scalify
