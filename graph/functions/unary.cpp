// The table of functions of one tensor. To add one: a row here, a row in tests/op_table.cpp (docs/adding-an-op.md).
#include "graph/functions/unary.h"

#include <cmath>
#include <limits>
#include <numbers>

#include "graph/functions/float_format.h"
#include "graph/functions/mathematics.h"

namespace kontor {

namespace {

using In = const Term&;

template <Ref (*Function)(const Ref&)>
Term plain(In x) {
  return Term(Function(x.node));
}

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Ties to even, as what is added and taken away again leaves no fraction. Its gradient is 0: none goes through bits.
Term round_of(In x) {
  if (!is_float(x.node->dtype)) return x;
  Term wide(fn::in_accumulator(x.node)), a = abs(wide);
  const double whole = std::ldexp(1.0, format_of(wide).mantissa);  // from here on there are no fractions
  return with_sign(where(a < whole, (a + whole) - whole, a), sign_bit(wide)).as(x.node->dtype);
}

Term trunc_of(In x) { return is_float(x.node->dtype) ? where(x < 0.0, ceil(x), floor(x)) : x; }

// Not every float has infinities: those that have none are asked as f32.
Term isinf_of(In x) {
  if (!is_float(x.node->dtype)) return Term(fn::fill(DType::Bool, 0, x.node->shape));
  return abs(Term(fn::in_accumulator(x.node))) == infinity;
}
Term isfinite_of(In x) {
  if (!is_float(x.node->dtype)) return Term(fn::fill(DType::Bool, 1, x.node->shape));
  return abs(Term(fn::in_accumulator(x.node))) < infinity;
}

// --- activations

Term sigmoid_of(In x) { return 1.0 / (unary("exp", -x) + 1.0); }

Term gelu_slope(In x) {
  Term cdf = fma(unary("erf", x * (0.5 * std::numbers::sqrt2)), 0.5, 0.5);
  Term pdf = unary("exp", x * x * -0.5) * (0.5 * std::numbers::inv_sqrtpi * std::numbers::sqrt2);
  return fma(x, pdf, cdf);
}

// x * (1 + tanh(u)) / 2 = x / (1 + exp(-2u)), u = sqrt(2 / pi) * (x + cubic * x^3)
constexpr double cubic = 0.044715, twice_root = 2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi;

Term gelu_tanh_of(In x) { return x / (unary("exp", x * fma(x * x, -twice_root * cubic, -twice_root)) + 1.0); }
Term gelu_tanh_slope(In x, In y) {
  Term z = min(x * x, 1e4);  // from there on it is 0 or 1
  Term s = sigmoid_of(x * fma(z, twice_root * cubic, twice_root));
  return fma(y * (1.0 - s), fma(z, 3 * twice_root * cubic, twice_root), s);
}

Term silu_slope(In x, In y) { return fma(sigmoid_of(x), x.constant(1) - y, y); }

/// tanh(log(1 + e)) = n / (n + 2), where e = exp(x) and n = e (e + 2); from x = 40 on it is 1 in every float.
struct Mish {
  Term e, n;
};
Mish mish_parts(In x) {
  Term e = unary("exp", min(x, 40.0));
  return {e, fma(e, e, e + e)};
}
Term mish_of(In x) {
  const Term n = mish_parts(x).n;
  return x * (n / (n + 2.0));
}
Term mish_slope(In x) {
  const auto [e, n] = mish_parts(x);
  Term part = 1.0 / (n + 2.0);
  return fma(x, e * (e + 1.0) * part * part * 4.0, n * part);
}

// Klambauer et al., 2017
constexpr double selu_scale = 1.0507009873554804934193349852946,
                 selu_alpha = 1.6732632423543772848170429916717;

constexpr UnaryRow::Takes Float = UnaryRow::Float, AsItIs = UnaryRow::AsItIs;
// clang-format off
constexpr UnaryRow table[] = {
    {"neg",         "-x.",                                           AsItIs, plain<fn::neg>},
    {"abs",         "The magnitude.",                                AsItIs, plain<fn::abs>},
    {"sign",        "-1, 0 or 1; NaN of NaN.",                       AsItIs, plain<fn::sign>},
    {"floor",       "The greatest whole number not above x.",        AsItIs, plain<fn::floor>},
    {"ceil",        "The least whole number not below x.",           AsItIs, plain<fn::ceil>},
    {"round",       "The nearest whole number, of two the even one.", AsItIs, round_of},
    {"trunc",       "The whole part: rounded towards 0.",            AsItIs, trunc_of},
    {"square",      "x * x.",                                        AsItIs, plain<fn::square>},
    {"isnan",       "x is NaN.",                                     AsItIs, plain<fn::isnan>},
    {"isinf",       "x is infinite.",                                AsItIs, isinf_of},
    {"isfinite",    "x is neither infinite nor NaN.",                AsItIs, isfinite_of},
    {"logical_not", "x is 0.",                                       AsItIs, plain<fn::logical_not>},
    {"bit_not",     "All bits of an integer turned; not of a bool.", AsItIs, plain<fn::bit_not>},
    {"detach",      "x, through which no gradient passes.",          AsItIs, plain<fn::detach>},

    {"reciprocal",  "1 / x.",                        Float, [](In x) { return 1.0 / x; },
     [](In, In y, In g) { return -(g * (y * y)); }},
    {"sqrt",        "Square root, correctly rounded.", AsItIs, plain<fn::sqrt>},
    {"rsqrt",       "1 / sqrt(x).",                  Float, [](In x) { return 1.0 / sqrt(x); },
     [](In, In y, In g) { return g * (y * y * y * -0.5); }},
    {"exp",         "e to the power x.",             Float, exp_of,   [](In, In y, In g) { return g * y; }},
    {"exp2",        "2 to the power x.",             Float, exp2_of,  [](In, In y, In g) { return g * (y * std::numbers::ln2); }},
    {"expm1",       "exp(x) - 1, also near 0.",      Float, expm1_of, [](In, In y, In g) { return fma(g, y, g); }},
    {"log",         "Natural logarithm.",            Float, log_of,   [](In x, In, In g) { return g / x; }},
    {"log2",        "Logarithm to the base 2.",      Float, log2_of,  [](In x, In, In g) { return g / (x * std::numbers::ln2); }},
    {"log10",       "Logarithm to the base 10.",     Float, log10_of, [](In x, In, In g) { return g / (x * std::numbers::ln10); }},
    {"log1p",       "log(1 + x), also near 0.",      Float, log1p_of, [](In x, In, In g) { return g / (x + 1.0); }},

    {"sin",         "Sine of radians.",              Float, sin_of,   [](In x, In, In g) { return g * unary("cos", x); }},
    {"cos",         "Cosine of radians.",            Float, cos_of,   [](In x, In, In g) { return -(g * unary("sin", x)); }},
    {"tan",         "Tangent of radians.",           Float, tan_of,   [](In, In y, In g) { return fma(g * y, y, g); }},
    {"asin",        "The angle of a sine.",          Float, asin_of,  [](In x, In, In g) { return g / sqrt(fma(-x, x, 1.0)); }},
    {"acos",        "The angle of a cosine.",        Float, acos_of,  [](In x, In, In g) { return -(g / sqrt(fma(-x, x, 1.0))); }},
    {"atan",        "The angle of a tangent.",       Float, atan_of,  [](In x, In, In g) { return g / fma(x, x, 1.0); }},
    {"sinh",        "Hyperbolic sine.",              Float, sinh_of,  [](In x, In, In g) { return g * unary("cosh", x); }},
    {"cosh",        "Hyperbolic cosine.",            Float, cosh_of,  [](In x, In, In g) { return g * unary("sinh", x); }},
    {"tanh",        "Hyperbolic tangent.",           Float, tanh_of,  [](In, In y, In g) { return g * (1.0 - y * y); }},
    {"asinh",       "The inverse of sinh.",          Float, asinh_of, [](In x, In, In g) { return g / sqrt(fma(x, x, 1.0)); }},
    {"acosh",       "The inverse of cosh, from 0.",  Float, acosh_of, [](In x, In, In g) { return g / sqrt(fma(x, x, -1.0)); }},
    {"atanh",       "The inverse of tanh.",          Float, atanh_of, [](In x, In, In g) { return g / fma(-x, x, 1.0); }},
    {"erf",         "Error function.",               Float, erf_of,
     [](In x, In, In g) { return g * (unary("exp", -(x * x)) * (2 * std::numbers::inv_sqrtpi)); }},

    {"relu",        "max(x, 0).",                                    AsItIs,
     [](In x) { return max(x, 0.0); },
     [](In, In y, In g) { return where(y > 0.0, g, 0.0); }},
    {"sigmoid",     "1 / (1 + exp(-x)).",                            Float, sigmoid_of,
     [](In, In y, In g) { return g * (y * (1.0 - y)); }},
    {"hardsigmoid", "min(max(x + 3, 0), 6) / 6.",                    Float,
     [](In x) { return min(max(x + 3.0, 0.0), 6.0) / 6.0; },
     [](In x, In, In g) { return where(abs(x) < 3.0, g / 6.0, 0.0); }},
    {"gelu",        "x * (1 + erf(x / sqrt(2))) / 2.",               Float,
     [](In x) { return x * 0.5 * (unary("erf", x * std::numbers::sqrt2 * 0.5) + 1.0); },
     [](In x, In, In g) { return g * gelu_slope(x); }},
    {"gelu_tanh",   "gelu with tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)) for erf.", Float, gelu_tanh_of,
     [](In x, In y, In g) { return g * gelu_tanh_slope(x, y); }},
    {"silu",        "x / (1 + exp(-x)).",                            Float,
     [](In x) { return x / (unary("exp", -x) + 1.0); },
     [](In x, In y, In g) { return g * silu_slope(x, y); }},
    {"hardswish",   "x * hardsigmoid(x).",                           Float,
     [](In x) { return x * unary("hardsigmoid", x); },
     [](In x, In, In g) { return g * where(abs(x) < 3.0, fma(x, 1.0 / 3, 0.5), where(x < 0.0, 0.0, x.constant(1))); }},
    {"mish",        "x * tanh(softplus(x)).",                        Float, mish_of,
     [](In x, In, In g) { return g * mish_slope(x); }},
    {"softplus",    "log(1 + exp(x)).",                              Float,
     [](In x) { return max(x, 0.0) + unary("log1p", unary("exp", -abs(x))); },
     [](In x, In, In g) { return g * sigmoid_of(x); }},
    {"elu",         "x > 0: x, else exp(x) - 1.",                    Float,
     [](In x) { return where(x > 0.0, x, unary("expm1", x)); },
     [](In x, In y, In g) { return where(x > 0.0, g, fma(g, y, g)); }},
    {"selu",        "elu with slopes of mean 0 and variance 1: 1.0507 * (x > 0: x, else 1.6733 * (exp(x) - 1)).", Float,
     [](In x) { return where(x > 0.0, x * selu_scale, unary("expm1", x) * (selu_scale * selu_alpha)); },
     [](In x, In y, In g) { return g * where(x > 0.0, x.constant(selu_scale), y + selu_scale * selu_alpha); }},
};
// clang-format on

}  // namespace

std::span<const UnaryRow> unary_table() { return table; }

const UnaryRow* find_unary(std::string_view name) {
  for (const UnaryRow& row : table)
    if (row.name == name) return &row;
  return nullptr;
}

Ref record_unary(const UnaryRow& row, const Ref& given) {
  const Ref x = row.takes == UnaryRow::Float ? fn::as_float(given) : given;
  const Term y = row.takes == UnaryRow::Float ? row.formula(Term(fn::in_accumulator(x))).as(x->dtype)
                                              : row.formula(Term(x));
  return row.gradient ? fn::call(row.name, y.node, {x}) : y.node;
}

}  // namespace kontor
