// Parts that rules are made of.
#include "scalify/scaled.h"

#include <algorithm>
#include <bit>

#include "graph/dtype.h"

namespace kontor::scalify {

Ref Step::value(size_t i) const {
  const Scaled& x = *from[i];
  return is_float(x.data->dtype) ? times_power(x.data, x.at) : x.data;
}

Ref Step::with(std::vector<Ref> first) const {
  for (size_t i = first.size(); i < from.size(); i++) first.push_back(from[i]->data);
  return with_sources(node, first);
}

int64_t floor_log2(int64_t count) {
  return static_cast<int64_t>(std::bit_width(static_cast<uint64_t>(count))) - 1;
}

int64_t Step::growth(int64_t count, bool non_negative) const {
  constexpr int64_t most = int64_t{1} << 30;  // whose square is a number still
  count = std::min(count, most);
  if (count < 2 || options.mutation == Mutation::NoRootOfCount) return 0;
  const int64_t down = floor_log2(count), exact = int64_t{1} << down;
  switch (options.rounding) {
    case ScaleRounding::Down:    return non_negative ? down : down / 2;
    case ScaleRounding::Nearest: return floor_log2(2 * count * (non_negative ? count : 1)) / 2;
    case ScaleRounding::Up:      return non_negative ? down + (exact != count) : (down + 1 + (exact != count)) / 2;
  }
  return 0;
}

Aligned aligned(const Step& s, std::initializer_list<size_t> sources) {
  Aligned out;
  for (size_t i : sources) {
    const Scaled& x = s[i];
    out.non_negative = out.non_negative && x.non_negative;
    if (x.any_scale) continue;
    out.at = out.any_scale ? x.at : max(out.at, x.at);
    if (out.any_scale) out.predicted = x.predicted;
    else if (s.options.mutation == Mutation::SumsTakeTheLesser)
      out.predicted = min(out.predicted, x.predicted);
    else out.predicted = max(out.predicted, x.predicted);
    out.any_scale = false;
  }
  for (size_t i : sources) {
    const bool as_it_is = s[i].any_scale || s.options.mutation == Mutation::FactorsIgnored;
    out.data.push_back(as_it_is ? s[i].data : times_power(s[i].data, s[i].at - out.at));
  }
  return out;
}

int64_t count_along(std::span<const Ref> shape, std::span<const int64_t> axes) {
  int64_t count = 1;
  for (int64_t a : axes) {
    const Ref& dim = shape[static_cast<size_t>(a)];
    if (!dim->is_const()) return 0;
    count *= extent(dim);
  }
  return count;
}

Scaled normalised(const Scaled& x) {
  if (!is_float(x.data->dtype) || x.at == x.predicted) return x;
  Scaled out = x;
  if (!x.any_scale) out.data = times_power(x.data, x.at - x.predicted);
  out.at = x.predicted;
  return out;
}

}  // namespace kontor::scalify
