// Windows over the last one to three axes of [n, c, ..]: convolutions, their transposes, and pools.
#include <algorithm>
#include <utility>

#include "base/error.h"
#include "graph/functions/functions.h"
#include "graph/index/index.h"
#include "graph/shape.h"

namespace kontor::fn {

namespace {

constexpr size_t most_windowed = 3;  // axes

/// One number for each of `count` axes, of which all are alike if one is given.
Ints one_each(std::string_view who, std::string_view what, const Ints& given, size_t count) {
  constexpr std::string_view wanted[] = {"", "", " or two", " or three"};
  if (given.size() == count) return given;
  if (given.size() != 1) fail("{}: {} ({}): one number{}", who, what, fmt::join(given, ", "), wanted[count]);
  return Ints(count, given[0]);
}

/// How windows lie along each of the axes behind the first two.
struct Windows {
  Ints size, stride, padding, dilation;
  size_t count() const { return size.size(); }
};

size_t windowed_axes(std::string_view who, const Ref& x) {
  if (x->rank() < 3 || x->rank() > 2 + most_windowed)
    fail("{}: {}: needs [n, c, ..] with one to three axes behind", who, describe(*x));
  return x->rank() - 2;
}

/// [n, c, ..] -> [n, c, windows of each axis, taps of each axis].
Ref patches(Ref x, const Windows& w) {
  Ints order{0, 1};
  for (size_t i = 0; i < w.count(); i++) {
    x = window(x, static_cast<int64_t>(2 + 2 * i), w.size[i], w.stride[i], w.dilation[i]);
    order.push_back(static_cast<int64_t>(2 + 2 * i));
  }
  for (size_t i = 0; i < w.count(); i++) order.push_back(static_cast<int64_t>(3 + 2 * i));
  return permute(x, order);
}

Ints around(const Ints& low, const Ints& high) {
  Ints out(4, 0);
  for (size_t i = 0; i < low.size(); i++) out.insert(out.end(), {low[i], high[i]});
  return out;
}

// ---- convolutions

void check_weight(std::string_view who, const Ref& x, const Ref& weight, size_t count,
                  std::string_view form) {
  if (x->rank() != 2 + count || weight->rank() != 2 + count)
    fail("{}: {} x {}: needs {}", who, describe(*x), describe(*weight), form);
  if (x->dtype == DType::Bool) fail("{}: {}: takes numbers", who, describe(*x));
  for (const Ref& dim : weight->shape)
    if (!dim->is_const()) fail("{}: {}: the weight has no fixed size", who, describe(*weight));
}

void check_groups(std::string_view who, int64_t outputs, int64_t groups) {
  if (groups < 1 || groups > std::max<int64_t>(outputs, 1) || outputs % groups != 0)
    fail("{}: {} outputs in {} groups", who, outputs, groups);
}

void check_bias(std::string_view who, const Ref& bias, int64_t outputs) {
  if (bias && bias->shape != Dims{index(outputs)})
    fail("{}: bias {}: needs [{}]", who, describe(*bias), outputs);
}

/// Taps [n, c, .., k..] and weight [o, c/groups, k..] -> [n, o, ..]. Axes of the fold: n, group, o, .., c, k.. (without
/// group where there is one).
Ref dot_of_taps(const Ref& taps, const Ref& weight, int64_t groups, size_t count) {
  const Dims &s = taps->shape, &w = weight->shape;
  const Ref one = index(1), g = index(groups), o = index(extent(w[0]) / groups), c = w[1];
  const auto places = std::span(s).subspan(2, count), sizes = std::span(s).subspan(2 + count);
  const auto shape = [&](std::initializer_list<Ref> front, std::span<const Ref> where, const Ref& channels,
                         std::span<const Ref> taps_of) {
    Dims out(front);
    if (groups == 1) out.erase(out.begin() + 1);
    out.insert(out.end(), where.begin(), where.end());
    out.push_back(channels);
    out.insert(out.end(), taps_of.begin(), taps_of.end());
    return out;
  };
  Dims split{s[0], g, c};
  split.insert(split.end(), s.begin() + 2, s.end());
  Ints order{0, 1}, axes;
  for (size_t i = 0; i < count; i++) order.push_back(static_cast<int64_t>(3 + i));
  order.push_back(2);
  for (size_t i = 0; i < count; i++) order.push_back(static_cast<int64_t>(3 + count + i));
  const Ref by_group = permute(reshape(taps, split), order);
  const Dims whole = shape({s[0], g, o}, places, c, sizes), ones(count, one);
  const Ref left = reshape(by_group, shape({s[0], g, one}, places, c, sizes));
  const Ref right = reshape(weight, shape({one, g, o}, ones, c, sizes));
  for (size_t a = whole.size() - count - 1; a < whole.size(); a++) axes.push_back(static_cast<int64_t>(a));
  const Ref out = dot(broadcast(left, whole), broadcast(right, whole), axes);
  Dims joined{s[0], w[0]};
  joined.insert(joined.end(), places.begin(), places.end());
  return reshape(out, joined);
}

/// A product in its accumulator plus the bias of each channel, rounded once, as a Call.
Ref with_bias(std::string_view who, Ref out, std::vector<Ref> args, DType dtype, const Ref& bias) {
  if (bias) {
    Dims shape(out->rank() - 1, index(1));
    shape[0] = bias->shape[0];
    out = add(out, reshape(in_accumulator(bias), shape));
    dtype = promote(dtype, bias->dtype);
    args.push_back(bias);
  }
  return call(who, cast(out, dtype), args);
}

Ints fixed_sizes(const Ref& weight) {
  Ints out;
  for (size_t a = 2; a < weight->rank(); a++) out.push_back(extent(weight->shape[a]));
  return out;
}

struct Convolution {
  std::string_view name, form;
  size_t count;  // of axes
};

Ref convolution(const Convolution& kind, const Ref& given, const Ref& weight, const Ref& bias,
                const Ints& stride, const Ints& padding, const Ints& dilation, int64_t groups) {
  const std::string_view who = kind.name;
  check_weight(who, given, weight, kind.count, kind.form);
  check_groups(who, extent(weight->shape[0]), groups);
  if (ix::mul(weight->shape[1], index(groups)) != given->shape[1])
    fail("{}: {} x {}: channels {} and {} x {} groups differ", who, describe(*given), describe(*weight),
         describe_dim(given->shape[1]), extent(weight->shape[1]), groups);
  check_bias(who, bias, extent(weight->shape[0]));
  const Input operands[] = {given, weight};
  const DType dtype = operand_dtype(who, operands);
  const Ref x = cast(given, dtype), w = cast(weight, dtype);
  const Windows windows{fixed_sizes(w), one_each(who, "stride", stride, kind.count),
                        one_each(who, "padding", padding, kind.count),
                        one_each(who, "dilation", dilation, kind.count)};
  const Ref padded = pad(in_accumulator(x), around(windows.padding, windows.padding), 0);
  const Ref out = dot_of_taps(patches(padded, windows), in_accumulator(w), groups, kind.count);
  return with_bias(who, out, {x, w}, dtype, bias);
}

/// [c, o/groups, k..] -> [o, c/groups, k..].
Ref outputs_first(const Ref& weight, int64_t groups) {
  const Dims& s = weight->shape;
  Dims apart{index(groups), index(extent(s[0]) / groups), s[1]}, joined{ix::mul(s[1], groups), apart[1]};
  Ints order{0, 2, 1};
  for (size_t a = 2; a < s.size(); a++) {
    apart.push_back(s[a]), joined.push_back(s[a]);
    order.push_back(static_cast<int64_t>(a + 1));
  }
  return reshape(permute(reshape(weight, apart), order), joined);
}

/// What each place of the output gets from each tap: [n, c, ..] -> [n, c, outputs of each axis, taps of each axis].
Ref spread(Ref x, const Windows& w, const Ints& beyond) {
  constexpr std::string_view who = "conv_transpose";
  Ints order{0, 1};
  for (size_t i = 0; i < w.count(); i++) {
    const auto axis = static_cast<int64_t>(2 + 2 * i);
    const Ref n = x->shape[static_cast<size_t>(axis)];
    const int64_t taps = reach(w.size[i], w.dilation[i]);
    if (reach(n->bounds.hi, w.stride[i]) > most_elements || taps > most_elements)
      fail("{}: {}: stride {} or dilation {} reaches beyond {} elements", who, describe(*x), w.stride[i],
           w.dilation[i], most_elements);
    // Without elements there are no windows to be undone: what is left of the padding is not there either.
    const Ref last = ix::mul(ix::sub(n, 1), w.stride[i]), whole = ix::add(last, index(taps));
    const Ref size = ix::add(ix::sub(whole, index(2 * w.padding[i])), index(beyond[i]));
    if (size->bounds.lo < 0)
      fail("{}: {}: a padding of {} is more than there is of axis {}", who, describe(*x), w.padding[i],
           2 + i);
    Dims tapped = unsqueeze(x, axis + 1)->shape;
    tapped[static_cast<size_t>(axis) + 1] = index(w.size[i]);
    x = unwindow(broadcast(unsqueeze(x, axis + 1), tapped), axis, ix::add(size, index(w.padding[i])),
                 w.stride[i], w.dilation[i]);
    Dims begin(x->rank(), index(0)), part = x->shape;
    begin[static_cast<size_t>(axis)] = index(w.padding[i]), part[static_cast<size_t>(axis)] = size;
    x = shrink(x, begin, part);
    order.push_back(axis);
  }
  for (size_t i = 0; i < w.count(); i++) order.push_back(static_cast<int64_t>(3 + 2 * i));
  return permute(x, order);
}

void check_transpose(const Windows& w, const Ints& beyond) {
  constexpr std::string_view who = "conv_transpose";
  for (size_t i = 0; i < w.count(); i++) {
    if (w.size[i] < 1 || w.stride[i] < 1 || w.dilation[i] < 1 || w.padding[i] < 0 ||
        w.padding[i] > most_elements)
      fail("{}: size {}, stride {}, dilation {}, padding {}", who, w.size[i], w.stride[i], w.dilation[i],
           w.padding[i]);
    if (beyond[i] < 0 || beyond[i] >= std::max(w.stride[i], w.dilation[i]))
      fail(
          "{}: an output padding of {} with a stride of {} and a dilation of {}: needs less than one of them",
          who, beyond[i], w.stride[i], w.dilation[i]);
  }
}

}  // namespace

Ref conv1d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups) {
  return convolution({"conv1d", "x [n, c, w] and weight [o, c/groups, kw]", 1}, x, weight, bias, stride,
                     padding, dilation, groups);
}

Ref conv2d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups) {
  return convolution({"conv2d", "x [n, c, h, w] and weight [o, c/groups, kh, kw]", 2}, x, weight, bias,
                     stride, padding, dilation, groups);
}

Ref conv3d(const Ref& x, const Ref& weight, const Ref& bias, const Ints& stride, const Ints& padding,
           const Ints& dilation, int64_t groups) {
  return convolution({"conv3d", "x [n, c, d, h, w] and weight [o, c/groups, kd, kh, kw]", 3}, x, weight, bias,
                     stride, padding, dilation, groups);
}

Ref conv_transpose(const Ref& given, const Ref& weight, const Ref& bias, const Ints& stride,
                   const Ints& padding, const Ints& output_padding, const Ints& dilation, int64_t groups) {
  constexpr std::string_view who = "conv_transpose";
  const size_t count = windowed_axes(who, given);
  check_weight(who, given, weight, count, "x [n, c, ..] and weight [c, o/groups, k..] of as many axes");
  if (given->shape[1] != weight->shape[0])
    fail("{}: {} x {}: channels {} and {} differ", who, describe(*given), describe(*weight),
         describe_dim(given->shape[1]), extent(weight->shape[0]));
  check_groups(who, extent(weight->shape[0]), groups);
  const Windows w{fixed_sizes(weight), one_each(who, "stride", stride, count),
                  one_each(who, "padding", padding, count), one_each(who, "dilation", dilation, count)};
  const Ints beyond = one_each(who, "output padding", output_padding, count);
  check_transpose(w, beyond);
  const Input operands[] = {given, weight};
  const DType dtype = operand_dtype(who, operands);
  const Ref x = cast(given, dtype), scaled = cast(weight, dtype);
  const Ref by_output = outputs_first(in_accumulator(scaled), groups);
  check_bias(who, bias, extent(by_output->shape[0]));
  const Ref out = dot_of_taps(spread(in_accumulator(x), w, beyond), by_output, groups, count);
  return with_bias(who, out, {x, scaled}, dtype, bias);
}

// ---- pools

namespace {

/// How far windows reach behind the last element of an axis: the padding, or as far as one more window of which a part is
/// taken that begins before the padding behind (as PyTorch's ceil_mode).
Ints behind(std::string_view who, const Ref& x, const Windows& w, bool ceil) {
  Ints out = w.padding;
  for (size_t i = 0; ceil && i < w.count(); i++) {
    const Ref& dim = x->shape[2 + i];
    if (!dim->is_const()) fail("{}: {}: axis {} has no fixed size", who, describe(*x), 2 + i);
    const int64_t rest = extent(dim) + 2 * w.padding[i] - reach(w.size[i], w.dilation[i]);
    if (rest <= 0) continue;
    const int64_t more = (w.stride[i] - rest % w.stride[i]) % w.stride[i], last = rest + more;
    if (more > 0 && last < extent(dim) + w.padding[i]) out[i] += more;
  }
  return out;
}

Windows pool_windows(std::string_view who, const Ref& x, const Ints& size, const Ints& stride,
                     const Ints& padding, const Ints& dilation) {
  const size_t count = windowed_axes(who, x);
  Windows w{one_each(who, "size", size, count), one_each(who, "stride", stride, count),
            one_each(who, "padding", padding, count), one_each(who, "dilation", dilation, count)};
  for (size_t i = 0; i < count; i++) {
    if (w.stride[i] == 0) w.stride[i] = w.size[i];
    if (w.size[i] < 1 || w.stride[i] < 1 || w.dilation[i] < 1)
      fail("{}: size {}, stride {}, dilation {}: each must be at least 1", who, w.size[i], w.stride[i],
           w.dilation[i]);
    if (reach(w.size[i], w.dilation[i]) > most_elements)
      fail("{}: {} taps at distance {} reach beyond {} elements", who, w.size[i], w.dilation[i],
           most_elements);
    if (w.padding[i] < 0 || w.padding[i] > w.size[i] / 2)
      fail("{}: a padding of {} for windows of {}: at most half of one", who, w.padding[i], w.size[i]);
  }
  return w;
}

Ints tap_axes(const Windows& w) {
  Ints out;
  for (size_t i = 0; i < w.count(); i++) out.push_back(static_cast<int64_t>(2 + w.count() + i));
  return out;
}

Ref max_pool(std::string_view who, const Ref& x, const Windows& w, bool ceil) {
  const Ref least = identity(Fold::Max, x->dtype);
  return max(patches(pad(x, around(w.padding, behind(who, x, w, ceil)), Input(least)), w), tap_axes(w),
             false);
}

/// 1 where something counts as an element, 0 elsewhere: elements do, the padding does or not, what lies behind it never does.
Ref counted(const Ref& x, DType dtype, const Windows& w, const Ints& after, bool count_padding) {
  Dims thin{index(1), index(1)};
  thin.insert(thin.end(), x->shape.begin() + 2, x->shape.end());
  Ref ones = full(thin, 1, dtype);
  Ints before = w.padding, rest = after;
  if (count_padding) {
    ones = pad(ones, around(before, before), 1);
    for (size_t i = 0; i < rest.size(); i++) rest[i] -= std::exchange(before[i], 0);
  }
  return pad(ones, around(before, rest), 0);
}

Ref avg_pool(std::string_view who, const Ref& x, const Windows& w, bool ceil, bool count_padding) {
  const Ints after = behind(who, x, w, ceil);
  const bool padded = std::any_of(w.padding.begin(), w.padding.end(), [](int64_t p) { return p != 0; });
  if (after == w.padding && (count_padding || !padded))
    return mean(patches(pad(x, around(w.padding, w.padding), 0), w), tap_axes(w), false);
  const DType dtype = as_float(x)->dtype, wide = accumulator(dtype);
  const Ref taps = patches(pad(in_accumulator(widened(x)), around(w.padding, after), 0), w);
  const Ref total = sum(taps, tap_axes(w), false);
  const Ref count = sum(patches(counted(x, wide, w, after, count_padding), w), tap_axes(w), false);
  return cast(div(cast(total, wide), count), dtype);
}

Ref need_four(std::string_view who, const Ref& x) {
  if (x->rank() != 4) fail("{}: {}: needs [n, c, h, w]", who, describe(*x));
  return x;
}

}  // namespace

Ref max_pool(const Ref& x, const Ints& size, const Ints& stride, const Ints& padding, const Ints& dilation,
             bool ceil) {
  return max_pool("max_pool", x, pool_windows("max_pool", x, size, stride, padding, dilation), ceil);
}

Ref avg_pool(const Ref& x, const Ints& size, const Ints& stride, const Ints& padding, bool ceil,
             bool count_padding) {
  return avg_pool("avg_pool", x, pool_windows("avg_pool", x, size, stride, padding, {1}), ceil,
                  count_padding);
}

Ref max_pool2d(const Ref& x, const Ints& size, const Ints& stride) {
  constexpr std::string_view who = "max_pool2d";
  return max_pool(who, x, pool_windows(who, need_four(who, x), size, stride, {0}, {1}), false);
}

Ref avg_pool2d(const Ref& x, const Ints& size, const Ints& stride) {
  constexpr std::string_view who = "avg_pool2d";
  return avg_pool(who, x, pool_windows(who, need_four(who, x), size, stride, {0}, {1}), false, true);
}

}  // namespace kontor::fn
