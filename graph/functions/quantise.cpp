// Formats, scales, data. See quantise.h; what holds all of it is tests/test_quantise.cpp.
#include "graph/functions/quantise.h"

#include <cmath>

#include "base/error.h"
#include "graph/functions/float_format.h"
#include "graph/index/index.h"
#include "graph/recording.h"
#include "graph/scalar.h"
#include "graph/shape.h"

namespace kontor {

namespace {

constexpr FloatFormat e2m1 = {2, 1, 1, Specials::None};

ElementFormat of_dtype(DType d) { return {row(d).name, d, row(d).format, greatest(d)}; }

// clang-format off
constexpr ScaleRow scale_rows[] = {
    {ScaleKind::None, "none"},
    {ScaleKind::F32,  "f32"},
    {ScaleKind::E8M0, "e8m0"},
    {ScaleKind::Pow2, "pow2"},
    {ScaleKind::E4M3, "e4m3"},
};
// clang-format on

constexpr double f32_greatest = 0x1.fffffep127;
constexpr int mantissa_bits = 23, exponent_bias = 127;  // of f32

/// a's exponent as f32 stores it (i32, 0 .. 255); a is not negative.
Term stored_exponent(const Term& a) { return a.bits(DType::I32) >> mantissa_bits; }

Term between(const Term& x, double low, double high) { return max(min(x, high), low); }

/// On the format's grid: x over the distance of its neighbours there, rounded to a whole number.
Term on_grid(const Term& x, const ElementFormat& f, const Ref& noise) {
  const int mantissa = f.format.mantissa_bits, least = 1 - f.format.bias + exponent_bias;
  const Term a = min(abs(x), f.greatest), e = max(stored_exponent(a), static_cast<double>(least));
  const Term step = ((e - static_cast<double>(mantissa)) << mantissa_bits).bits(DType::F32);
  const Term inverse =
      ((static_cast<double>(2 * exponent_bias + mantissa) - e) << mantissa_bits).bits(DType::F32);
  const Term places = a * inverse;  // exact, below 2^(mantissa + 1)
  if (!noise) return with_sign(((places + 0x1p23) - 0x1p23) * step, sign_bit(x));
  const Term below = floor(places), part = places - below;
  const Term drawn = Term(noise).bits(DType::U32);
  const Term unit = (drawn >> 8).as(DType::F32) * 0x1p-24;  // 24 bits in [0, 1)
  return with_sign(where(unit < part, below + 1.0, below) * step, sign_bit(x));
}

Ref rounded(const Ref& x, const ElementFormat& f, const Ref& noise, bool saturate) {
  const Term wide(fn::in_accumulator(x));
  if (f.held == DType::F32) return wide.node;
  const bool native = f.format.bias != e2m1.bias;
  if (!native || noise) return where(wide == wide, on_grid(wide, f, noise), wide).node;
  return (saturate ? between(wide, -f.greatest, f.greatest) : wide).as(f.held).as(DType::F32).node;
}

// --- blocks

/// A shape cut into blocks along its axes: what is reshaped to what. An axis that blocks do not divide is padded.
struct Blocks {
  Dims shape, padded, split, counts, kept;
  Ints over, pads;  // axes of `split` within a block; low and high of each axis of `shape`

  Blocks(std::string_view who, const Ref& x, const Ints& block) : shape(x->shape) {
    if (block.size() > x->rank()) fail("{}: {}: blocks of {} axes", who, describe(*x), block.size());
    const size_t leading = x->rank() - block.size();
    for (size_t i = 0; i < x->rank(); i++) {
      const int64_t extent = block.empty() ? 0 : i < leading ? 1 : block[i - leading];
      if (extent < 0) fail("{}: {}: a block of {}", who, describe(*x), extent);
      add(who, *x, shape[i], extent);
    }
  }

  Ref amax(const Ref& x) const {
    const Ref in = fn::reshape(fn::pad(fn::abs(x), pads, 0), split);
    return fn::reshape(over.empty() ? in : fn::reduce(Fold::Max, {in}, over, true), counts);
  }
  /// One number a block, everywhere in it.
  Ref spread(const Ref& scales) const {
    const Ref all = fn::reshape(fn::broadcast(fn::reshape(scales, kept), split), padded);
    return fn::shrink(all, Dims(shape.size(), index(0)), shape);
  }

 private:
  void add(std::string_view who, const Node& x, const Ref& n, int64_t extent) {
    const bool whole = extent == 0 || is_int(n, extent);
    pads.push_back(0);
    if (extent == 1 || whole) {
      pads.push_back(0);
      if (whole) over.push_back(static_cast<int64_t>(split.size()));
      padded.push_back(n), split.push_back(n);
      counts.push_back(whole ? index(1) : n), kept.push_back(counts.back());
      return;
    }
    if (n->bounds.lo != n->bounds.hi)
      fail("{}: {}: blocks of {} along an axis whose size varies", who, describe(x), extent);
    const int64_t count = (n->bounds.lo + extent - 1) / extent;
    pads.push_back(count * extent - n->bounds.lo);
    over.push_back(static_cast<int64_t>(split.size()) + 1);
    padded.push_back(index(count * extent));
    split.insert(split.end(), {index(count), index(extent)});
    kept.insert(kept.end(), {index(count), index(1)});
    counts.push_back(index(count));
  }
};

// --- scales of blocks' greatest sizes (f32)

/// 2^(code - 127), also below the normal numbers; of 255 NaN.
Term power_of_code(const Term& code) {
  const Term bits = where(code == 0.0, code.integer(0x00400000), code << mantissa_bits);
  return where(code == 255.0, code.integer(0x7FC00000), bits).bits(DType::F32);
}

Term power_scale(const Term& amax, const ElementFormat& f, bool up) {
  const int emax = std::ilogb(f.greatest);
  Term code = stored_exponent(amax) - static_cast<double>(emax);
  if (up) {
    const Term mantissa = amax.bits(DType::I32) & int64_t{0x7FFFFF};
    const auto most = static_cast<int64_t>(std::ldexp(std::ldexp(f.greatest, -emax) - 1, mantissa_bits));
    code = code + (mantissa > static_cast<double>(most)).as(DType::I32);
  }
  return power_of_code(where(amax == amax, between(code, 0, 254), 255.0));
}

Term or_one(const Term& scale) { return where(scale == 0.0, 1.0, scale); }
Term finite_size(const Term& amax) { return min(amax, f32_greatest); }

void need_narrow(std::string_view who, const Ref& x) {
  if (x->dtype == DType::F64) fail("{}: {}: takes f32 and narrower", who, describe(*x));
}

Ref as_f32(std::string_view who, const Ref& x) {
  need_narrow(who, x);
  return fn::cast(x, DType::F32);
}

int64_t number_of(const ElementFormat& f) { return &f - element_formats().data(); }

/// f8e4m3 numbers of which each times `whole` is the scale.
Ref fine_scales(const Ref& x, const ElementFormat& f, const Blocks& blocks, const Ref& whole) {
  const Term amax(blocks.amax(x)), all(fn::broadcast(whole, blocks.counts));
  return fn::cast(fn::round_to(((finite_size(amax) / f.greatest) / all).node, "f8e4m3", {}, true),
                  DType::F8E4M3);
}

/// x over numbers of its shape; 0 over 0 is 0.
Ref over(const Ref& x, const Ref& by) {
  const Term divisor(by);
  return where(divisor == 0.0, 0.0, Term(x) / divisor).node;
}

/// All but the data.
Quantised scales_only(const Ref& x, const ElementFormat& f, ScaleKind kind, const Ints& block) {
  if (kind == ScaleKind::E4M3) {
    const Ref whole = fn::tensor_scale(x, std::string(f.name));
    return {{}, fine_scales(x, f, Blocks("quantise", x, block), whole), whole};
  }
  const std::string_view name = scale_rows[static_cast<size_t>(kind)].name;
  return {{}, fn::block_scales(x, std::string(f.name), std::string(name), block), {}};
}

/// What blocks are divided by, in f32.
Ref factors(const Quantised& q) {
  return q.whole ? fn::mul(fn::cast(q.scales, DType::F32), q.whole) : q.scales;
}

}  // namespace

std::span<const ElementFormat> element_formats() {
  static const ElementFormat rows[] = {{"f4e2m1", DType::F8E4M3, e2m1, 6.0},
                                       of_dtype(DType::F8E4M3),
                                       of_dtype(DType::F8E5M2),
                                       of_dtype(DType::F16),
                                       of_dtype(DType::BF16),
                                       of_dtype(DType::F32)};
  return rows;
}

const ElementFormat& find_element_format(std::string_view who, std::string_view wanted) {
  std::string known;
  for (const ElementFormat& f : element_formats()) {
    if (f.name == wanted) return f;
    known += fmt::format("{}{}", known.empty() ? "" : " ", f.name);
  }
  fail("{}: unknown format '{}'; known: {}", who, wanted, known);
}

std::span<const ScaleRow> scale_kinds() { return scale_rows; }

ScaleKind find_scale_kind(std::string_view who, std::string_view wanted) {
  std::string known;
  for (const ScaleRow& r : scale_rows) {
    if (r.name == wanted) return r.kind;
    known += fmt::format("{}{}", known.empty() ? "" : " ", r.name);
  }
  fail("{}: unknown kind of scale '{}'; known: {}", who, wanted, known);
}

namespace fn {

Ref round_to(const Ref& given, const std::string& format, const Ref& noise, bool saturate) {
  const ElementFormat& f = find_element_format("round_to", format);
  const Ref x = as_float(given);
  need_narrow("round_to", x);
  if (f.held == DType::F32) return cast(x, f.held);
  if (noise && f.held == DType::BF16) fail("round_to: stochastic rounding to bf16 is not there");
  if (noise && (noise->dtype != DType::U32 || noise->shape != x->shape))
    fail("round_to: {} with noise {}: needs u32 of that shape", describe(*x), describe(*noise));
  std::vector<Ref> args{x};
  if (noise) args.push_back(noise);
  return call("round_to", rounded(x, f, noise, saturate), std::move(args), {number_of(f), saturate});
}

Ref tensor_scale(const Ref& given, const std::string& format) {
  const ElementFormat& f = find_element_format("tensor_scale", format);
  const Ref x = as_f32("tensor_scale", as_float(given));
  const Term amax(max(abs(x), {}, false));
  return call("tensor_scale", or_one(finite_size(amax) / (f.greatest * greatest(DType::F8E4M3))).node, {x},
              {number_of(f)});
}

Ref block_scales(const Ref& given, const std::string& format, const std::string& scale, const Ints& block) {
  constexpr std::string_view who = "block_scales";
  const ElementFormat& f = find_element_format(who, format);
  const ScaleKind kind = find_scale_kind(who, scale);
  const Ref x = as_f32(who, as_float(given));
  const Blocks blocks(who, x, block);
  if (kind == ScaleKind::None) return full(blocks.counts, 1.0, DType::F32);
  Ref body;
  if (kind == ScaleKind::E4M3) {
    const Ref whole = tensor_scale(x, format);
    body = mul(cast(fine_scales(x, f, blocks, whole), DType::F32), whole);
  } else {
    const Term amax(blocks.amax(x));
    body = kind == ScaleKind::F32 ? or_one(finite_size(amax) / f.greatest).node
                                  : power_scale(amax, f, kind == ScaleKind::Pow2).node;
  }
  Ints attributes{number_of(f), static_cast<int64_t>(kind)};
  attributes.insert(attributes.end(), block.begin(), block.end());
  return call(who, body, {x}, std::move(attributes));
}

Ref quantise(const Ref& given, const Ref& scales, const std::string& format, const Ints& block,
             const Ref& noise) {
  const Ref x = as_f32("quantise", as_float(given));
  const Blocks blocks("quantise", x, block);
  if (scales->shape != blocks.counts)
    fail("quantise: {} by scales {}: a block of them has no scale, or more than one", describe(*x),
         describe(*scales));
  const Ref rounded = round_to(over(x, blocks.spread(cast(scales, DType::F32))), format, noise, true);
  return cast(rounded, find_element_format("quantise", format).held);
}

Ref dequantise(const Ref& data, const Ref& scales, const Ints& block) {
  const Ref x = as_f32("dequantise", as_float(data));
  const Blocks blocks("dequantise", x, block);
  if (scales->shape != blocks.counts)
    fail("dequantise: {} by scales {}: a block of them has no scale, or more than one", describe(*data),
         describe(*scales));
  return mul(x, blocks.spread(cast(scales, DType::F32)));
}

Ref to_e8m0(const Ref& scales) {
  const Term x(abs(as_f32("to_e8m0", as_float(scales))));
  const Term code = between(stored_exponent(x), 0, 254);
  return cast(where(x == x, code, 255.0).node, DType::U8);
}

Ref from_e8m0(const Ref& codes) {
  if (codes->dtype != DType::U8) fail("from_e8m0: {}: codes are u8", describe(*codes));
  return power_of_code(Term(cast(codes, DType::I32))).node;
}

Quantised quantised(const Ref& given, const ElementFormat& f, ScaleKind kind, const Ints& block,
                    const Ref& noise) {
  const Ref x = as_f32("quantise", as_float(given));
  Quantised q = scales_only(x, f, kind, block);
  q.data = quantise(x, factors(q), std::string(f.name), block, noise);
  return q;
}

Ref noise_for(const Dims& shape) {
  RandomSource& source = random_source();
  const Ref key = source.key();
  return random_words(key, source.counter(ix::ceil_div(ix::product(shape), index(2))), shape);
}

Ref dequantised(const Quantised& q, const Ints& block) { return dequantise(q.data, factors(q), block); }

Ref fake_quantised(const Ref& given, const ElementFormat& f, ScaleKind kind, const Ints& block,
                   const Ref& noise) {
  const Ref x = as_float(given), wide = as_f32("fake_quantise", x);
  // Without the dtype that holds the format in between, where rounding needs none.
  const Ref by = Blocks("fake_quantise", wide, block).spread(factors(scales_only(wide, f, kind, block)));
  const Ref body = cast(mul(rounded(over(wide, by), f, noise, true), by), x->dtype);
  Ints attributes{number_of(f), static_cast<int64_t>(kind)};
  attributes.insert(attributes.end(), block.begin(), block.end());
  std::vector<Ref> args{x};
  if (noise) args.push_back(noise);
  return call("fake_quantise", body, std::move(args), std::move(attributes));
}

}  // namespace fn
}  // namespace kontor
