// The rows of the op table and the values of their inputs.
#include "tests/op_table.h"

#include <cmath>
#include <limits>
#include <string>

#include "base/threefry.h"
#include "graph/functions/functions.h"
#include "graph/scalar.h"
#include "tests/thinned.h"

namespace kontor {

namespace {

// clang-format off
constexpr OpCase rows[] = {
    // elementwise, floats
    {.name = "add",            .expression = "f32[5, 7] + f32[5, 7]", .specials = true},
    {.name = "add_broadcast",  .expression = "f32[5, 1] + f32[3, 1, 7]"},
    {.name = "sub",            .expression = "f32[37] - f32[37]", .specials = true},
    {.name = "mul",            .expression = "f32[5, 7] * f32[7]", .specials = true},
    {.name = "div",            .expression = "f32[5, 7] / f32[5, 7]", .low = 0.5, .high = 2, .specials = false},
    {.name = "div_specials",   .expression = "f32[67] / f32[67]", .gradient = false, .specials = true},
    {.name = "div_integers",   .expression = "i32[19] / i32[19]", .least = 1, .greatest = 9, .gradient = false},
    {.name = "weak_number",    .expression = "2 * f32[9] + 1"},
    {.name = "fma",            .expression = "fma(f32[40], f32[40], f32[40])", .specials = true},
    {.name = "fma_f64",        .expression = "fma(f64[40], f64[40], f64[40])", .specials = true},
    {.name = "mod_f32",        .expression = "mod(f32[40], f32[40])", .low = 0.3, .high = 5, .gradient = false},
    {.name = "floor_div_f32",  .expression = "f32[40] // f32[40]", .low = 0.3, .high = 5, .gradient = false},
    {.name = "maximum",        .expression = "maximum(f32[51], f32[51])", .specials = true},
    {.name = "minimum",        .expression = "minimum(f32[51], f32[51])", .specials = true},
    {.name = "clamp",          .expression = "clamp(f32[51], -1.0, 1.5)", .specials = true},
    {.name = "where",          .expression = "x = f32[5, 7]; where(x > 0.25, x * 3, f32[7])", .specials = true},
    {.name = "compare",        .expression = "a = f32[51]; b = f32[51]; cast(a < b, u8) + cast(a <= b, u8) * 2 + cast(a == b, u8) * 4 + cast(a != b, u8) * 8", .gradient = false, .specials = true},
    {.name = "logical",        .expression = "logical_or(logical_and(f32[9], i32[9]), logical_not(u8[9]))", .gradient = false},
    {.name = "neg",            .expression = "-f32[33]", .specials = true},
    {.name = "abs",            .expression = "abs(f32[33])", .specials = true},
    {.name = "sign",           .expression = "sign(f32[33])", .gradient = false, .specials = true},
    {.name = "floor",          .expression = "floor(f32[33])", .gradient = false, .specials = true},
    {.name = "ceil",           .expression = "ceil(f32[33])", .gradient = false, .specials = true},
    {.name = "square",         .expression = "square(f32[33])", .specials = true},
    {.name = "isnan",          .expression = "isnan(f32[33])", .gradient = false, .specials = true},
    {.name = "sqrt",           .expression = "sqrt(f32[33])", .low = 0.2, .high = 9},
    {.name = "sqrt_specials",  .expression = "sqrt(f32[67])", .gradient = false, .specials = true},
    {.name = "round",          .expression = "round(f32[133])", .low = -9, .high = 9, .gradient = false, .specials = true},
    {.name = "round_ties",     .expression = "x = f32[40]; round(floor(x) + 0.5) + round(x * 1e6) + round(f64[40] * 1e9)", .gradient = false},
    {.name = "trunc",          .expression = "trunc(f32[133])", .low = -9, .high = 9, .gradient = false, .specials = true},
    {.name = "isinf",          .expression = "isinf(f32[67])", .gradient = false, .specials = true},
    {.name = "isfinite",       .expression = "isfinite(f32[67])", .gradient = false, .specials = true},
    {.name = "reciprocal",     .expression = "reciprocal(f32[33])", .low = 0.2, .high = 9},
    {.name = "copysign",       .expression = "copysign(f32[67], f32[67])", .specials = true},
    {.name = "remainder",      .expression = "remainder(f32[40], 1.75)", .low = 2, .high = 3},
    {.name = "rsqrt",          .expression = "rsqrt(f32[33])", .low = 0.2, .high = 9},
    {.name = "exp",            .expression = "exp(f32[5, 41])", .specials = true},
    {.name = "exp_wide",       .expression = "exp(f32[501])", .low = -110, .high = 95, .gradient = false, .specials = true},
    {.name = "exp_f64",        .expression = "exp(f64[101])", .low = -760, .high = 720, .gradient = false, .specials = true},
    {.name = "log",            .expression = "log(f32[5, 41])", .low = 0.1, .high = 20},
    {.name = "log_specials",   .expression = "log(f32[67])", .gradient = false, .specials = true},
    {.name = "log_f64",        .expression = "log(f64[67])", .low = 1e-3, .high = 1e3, .specials = true},
    {.name = "exp2",           .expression = "exp2(f32[101])", .low = -5, .high = 5, .specials = true},
    {.name = "exp2_wide",      .expression = "exp2(f32[501])", .low = -160, .high = 135, .gradient = false, .specials = true},
    {.name = "exp2_f64",       .expression = "exp2(f64[101])", .low = -1090, .high = 1030, .gradient = false, .specials = true},
    {.name = "expm1",          .expression = "expm1(f32[101])", .low = -5, .high = 5, .specials = true},
    {.name = "expm1_f64",      .expression = "expm1(f64[101])", .low = -40, .high = 720, .gradient = false, .specials = true},
    {.name = "log2",           .expression = "log2(f32[101])", .low = 0.1, .high = 20, .specials = true},
    {.name = "log2_f64",       .expression = "log2(f64[101])", .low = 0.1, .high = 20, .specials = true},
    {.name = "log10",          .expression = "log10(f32[101])", .low = 0.1, .high = 20, .specials = true},
    {.name = "log10_f64",      .expression = "log10(f64[101])", .low = 0.1, .high = 20, .specials = true},
    {.name = "log1p",          .expression = "log1p(f32[101])", .low = -0.9, .high = 20, .specials = true},
    {.name = "log1p_f64",      .expression = "log1p(f64[101])", .low = -0.9, .high = 20, .specials = true},
    {.name = "sin",            .expression = "sin(f32[101])", .low = -20, .high = 20},
    {.name = "sin_specials",   .expression = "sin(f32[101])", .low = -1e5, .high = 1e5, .gradient = false, .specials = true},
    {.name = "cos",            .expression = "cos(f32[101])", .low = -20, .high = 20},
    {.name = "cos_f64",        .expression = "cos(f64[101])", .low = -1e6, .high = 1e6, .gradient = false, .specials = true},
    {.name = "tan",            .expression = "tan(f32[101])", .low = -1.4, .high = 1.4, .specials = true},
    {.name = "tan_wide",       .expression = "tan(f32[101])", .low = -1e5, .high = 1e5, .gradient = false, .specials = true},
    {.name = "tan_f64",        .expression = "tan(f64[101])", .low = -1e6, .high = 1e6, .gradient = false, .specials = true},
    {.name = "asin",           .expression = "asin(f32[101])", .low = -0.99, .high = 0.99, .specials = true},
    {.name = "asin_f64",       .expression = "asin(f64[101])", .low = -0.99, .high = 0.99, .specials = true},
    {.name = "acos",           .expression = "acos(f32[101])", .low = -0.99, .high = 0.99, .specials = true},
    {.name = "acos_f64",       .expression = "acos(f64[101])", .low = -0.99, .high = 0.99, .specials = true},
    {.name = "atan",           .expression = "atan(f32[101])", .low = -9, .high = 9, .specials = true},
    {.name = "atan_f64",       .expression = "atan(f64[101])", .low = -9, .high = 9, .specials = true},
    {.name = "atan2",          .expression = "atan2(f32[101], f32[101])", .specials = true},
    {.name = "atan2_f64",      .expression = "atan2(f64[101], f64[101])", .specials = true},
    {.name = "sinh",           .expression = "sinh(f32[101])", .low = -5, .high = 5, .specials = true},
    {.name = "sinh_f64",       .expression = "sinh(f64[101])", .low = -720, .high = 720, .gradient = false, .specials = true},
    {.name = "cosh",           .expression = "cosh(f32[101])", .low = -5, .high = 5, .specials = true},
    {.name = "cosh_f64",       .expression = "cosh(f64[101])", .low = -720, .high = 720, .gradient = false, .specials = true},
    {.name = "asinh",          .expression = "asinh(f32[101])", .low = -9, .high = 9, .specials = true},
    {.name = "asinh_f64",      .expression = "asinh(f64[101])", .low = -9, .high = 9, .specials = true},
    {.name = "acosh",          .expression = "acosh(f32[101])", .low = 1.1, .high = 9, .specials = true},
    {.name = "acosh_f64",      .expression = "acosh(f64[101])", .low = 1.1, .high = 9, .specials = true},
    {.name = "atanh",          .expression = "atanh(f32[101])", .low = -0.9, .high = 0.9, .specials = true},
    {.name = "atanh_f64",      .expression = "atanh(f64[101])", .low = -0.9, .high = 0.9, .specials = true},
    {.name = "tanh",           .expression = "tanh(f32[101])", .low = -5, .high = 5, .specials = true},
    {.name = "tanh_f64",       .expression = "tanh(f64[101])", .low = -5, .high = 5, .specials = true},
    {.name = "erf",            .expression = "erf(f32[101])", .low = -3, .high = 3, .specials = true},
    {.name = "erf_f64",        .expression = "erf(f64[101])", .low = -3, .high = 3, .specials = true},
    {.name = "sigmoid",        .expression = "sigmoid(f32[101])", .low = -6, .high = 6, .specials = true},
    {.name = "relu",           .expression = "relu(f32[101])", .specials = true},
    {.name = "silu",           .expression = "silu(f32[101])", .specials = true},
    {.name = "gelu",           .expression = "gelu(f32[101])", .specials = true},
    {.name = "gelu_tanh",      .expression = "gelu_tanh(f32[101])", .low = -4, .high = 4, .specials = true},
    {.name = "hardsigmoid",    .expression = "hardsigmoid(f32[101])", .low = -4, .high = 4, .specials = true},
    {.name = "hardswish",      .expression = "hardswish(f32[101])", .low = -4, .high = 4, .specials = true},
    {.name = "mish",           .expression = "mish(f32[101])", .low = -4, .high = 4, .specials = true},
    {.name = "softplus",       .expression = "softplus(f32[101])", .low = -4, .high = 4, .specials = true},
    {.name = "elu",            .expression = "elu(f32[101])", .specials = true},
    {.name = "selu",           .expression = "selu(f32[101])", .specials = true},
    {.name = "leaky_relu",     .expression = "leaky_relu(f32[101]) + leaky_relu(f32[101], 0.25)", .specials = true},
    {.name = "pow",            .expression = "pow(f32[40], f32[40])", .low = 0.2, .high = 3},
    {.name = "pow_specials",   .expression = "pow(f32[67], f32[67])", .gradient = false, .specials = true},
    {.name = "pow_number",     .expression = "pow(f32[40], 3) + pow(f32[40], 2)"},
    {.name = "pow_f64",        .expression = "pow(f64[40], f64[40])", .low = 0.2, .high = 3},
    {.name = "exp_f16",        .expression = "exp(f16[40])", .gradient = false},
    {.name = "bf16",           .expression = "cast(cast(f32[40], bf16) * 3, f32)", .gradient = false, .specials = true},
    {.name = "f16",            .expression = "cast(cast(f32[40], f16) + 0.5, f32)", .gradient = false, .specials = true},
    {.name = "detach",         .expression = "x = f32[12]; detach(x) + 1", .gradient = false},
    {.name = "mark",           .expression = "mark(f32[12] * 2, \"x\") * 3"},

    // elementwise, integers
    {.name = "i32_arithmetic", .expression = "a = i32[33]; b = i32[33]; (a + b) * (a - b)", .least = -50000, .greatest = 50000, .gradient = false},
    {.name = "i64_arithmetic", .expression = "a = i64[33]; b = i64[33]; (a + b) * (a - b)", .least = -3000000000, .greatest = 3000000000, .gradient = false},
    {.name = "u8_wraps",       .expression = "u8[33] * u8[33] + 7", .greatest = 255, .gradient = false},
    {.name = "u64_arithmetic", .expression = "u64[33] * u64[33] + u64[33]", .greatest = 3000000000, .gradient = false},
    {.name = "floor_div",      .expression = "i32[64] // i32[64]", .least = -9, .greatest = -1, .gradient = false},
    {.name = "floor_div_i64",  .expression = "i64[64] // 7", .least = -100, .greatest = 100, .gradient = false},
    {.name = "mod",            .expression = "i32[64] % 5", .least = -100, .greatest = 100, .gradient = false},
    {.name = "mod_u32",        .expression = "u32[64] % 5", .greatest = 4000000000, .gradient = false},
    {.name = "bits",           .expression = "a = u32[33]; b = u32[33]; ((a & b) | (a ^ bit_not(b))) << 3 >> 1", .greatest = 4294967295, .gradient = false},
    {.name = "shifts",         .expression = "shift_left(i32[40], i32[40]) ^ shift_right(i32[40], i32[40])", .least = 0, .greatest = 40, .gradient = false},
    {.name = "shift_right",    .expression = "i64[40] >> 2", .least = -100000, .greatest = 100000, .gradient = false},
    {.name = "bool_logic",     .expression = "a = bool[33]; b = bool[33]; (a & b) | (a ^ logical_not(b))", .gradient = false},
    {.name = "integer_extremes", .expression = "maximum(minimum(i32[40], 3), i32[40]) + abs(i32[40]) + sign(i32[40]) - neg(i32[40])", .gradient = false},
    {.name = "pow_integers",   .expression = "pow(i64[30], 3) + pow(i64[30], abs(i64[30]))", .gradient = false},
    {.name = "cast_saturates", .expression = "cast(f32[67], i32)", .low = -5e9, .high = 5e9, .gradient = false, .specials = true},
    {.name = "cast_to_u8",     .expression = "cast(f32[67], u8)", .low = -300, .high = 600, .gradient = false, .specials = true},
    {.name = "cast_to_i64",    .expression = "cast(f64[67], i64)", .low = -1e10, .high = 1e10, .gradient = false, .specials = true},
    {.name = "cast_to_u64",    .expression = "cast(f32[67], u64)", .low = -1e10, .high = 1e10, .gradient = false, .specials = true},
    {.name = "cast_to_bool",   .expression = "cast(f32[67], bool)", .gradient = false, .specials = true},
    {.name = "cast_wraps",     .expression = "cast(i64[40], u8)", .least = -1000, .greatest = 1000, .gradient = false},
    {.name = "cast_i64_f32",   .expression = "cast(i64[40], f32)", .least = -100000000000, .greatest = 100000000000, .gradient = false},
    {.name = "cast_u64_f64",   .expression = "cast(u64[40], f64)", .greatest = 100000000000, .gradient = false},
    {.name = "cast_f64_f32",   .expression = "cast(f64[40], f32)", .gradient = false, .specials = true},
    {.name = "cast_f32_f64",   .expression = "cast(f32[40], f64)", .gradient = false, .specials = true},
    {.name = "bitcast",        .expression = "bitcast(bitcast(f32[40], u32) ^ 2147483648, f32)", .gradient = false, .specials = true},
    {.name = "bitcast_bool",   .expression = "cast(bitcast(bool[40], f8e4m3), f32) + cast(bitcast(cast(f32[40], f8e5m2), bool), f32)", .gradient = false, .specials = true},
    {.name = "bitcast_64",     .expression = "bitcast(f64[40], i64) >> 52", .gradient = false, .specials = true},

    // made
    {.name = "full",           .expression = "full([3, 5], 2.5) + f32[5]"},
    {.name = "iota",           .expression = "iota(37) * 3", .gradient = false},
    {.name = "arange",         .expression = "arange(1.0, 3.0, 0.1)", .gradient = false},
    {.name = "eye",            .expression = "eye(5) * f32[5]"},

    // folds
    {.name = "sum_last",       .expression = "sum(f32[6, 130], [1])"},
    {.name = "sum_first",      .expression = "sum(f32[130, 6], [0])"},
    {.name = "sum_middle",     .expression = "sum(f32[4, 33, 5], [1], keepdims=true)"},
    {.name = "sum_outer_two",  .expression = "sum(f32[4, 9, 5], [0, 2])"},
    {.name = "sum_all",        .expression = "sum(f32[7, 11])"},
    {.name = "sum_long",       .expression = "sum(f32[9001])", .gradient = false},
    {.name = "sum_f64",        .expression = "sum(f64[3, 200], [1])"},
    {.name = "sum_bool",       .expression = "sum(bool[3, 40], [1])", .gradient = false},
    {.name = "sum_i32",        .expression = "sum(i32[3, 40])", .gradient = false},
    {.name = "sum_u8",         .expression = "sum(u8[3, 400], [1])", .greatest = 255, .gradient = false},
    {.name = "sum_nan",        .expression = "sum(f32[3, 40], [1])", .gradient = false, .specials = true},
    {.name = "prod",           .expression = "prod(f32[5, 6], [1])"},
    {.name = "prod_i64",       .expression = "prod(i64[5, 6], [0])", .gradient = false},
    {.name = "max",            .expression = "max(f32[6, 37], [1])"},
    {.name = "max_nan",        .expression = "max(f32[6, 37], [0])", .gradient = false, .specials = true},
    {.name = "max_i32",        .expression = "max(i32[6, 37], [1])", .least = -1000, .greatest = 1000, .gradient = false},
    {.name = "min",            .expression = "min(f32[6, 37])"},
    {.name = "min_u64",        .expression = "min(u64[6, 37], [1])", .greatest = 1000, .gradient = false},
    {.name = "mean",           .expression = "mean(f32[6, 37], [0])"},
    {.name = "var",            .expression = "var(f32[6, 37], [1], correction=1)"},
    {.name = "var_long",       .expression = "var(f32[140000], correction=1)", .gradient = false},
    {.name = "mean_and_var",   .expression = "x = f32[6, 37]; mean(x, [1]) + var(x, [1])"},
    {.name = "any_all",        .expression = "any(f32[3, 9] > 1.5, [1]) ^ all(f32[3, 9] > -1.9, [1])", .gradient = false},
    {.name = "argmax",         .expression = "argmax(f32[6, 37], 1)", .gradient = false},
    {.name = "argmax_ties",    .expression = "argmax(i32[6, 37], 0)", .least = 0, .greatest = 2, .gradient = false},
    {.name = "argmax_nan",     .expression = "argmax(f32[4, 61], 1)", .gradient = false, .specials = true},
    {.name = "argmax_all",     .expression = "argmax(f32[6, 7])", .gradient = false},
    {.name = "argmax_lanes",   .expression = "argmax(f32[3, 1000], 1)", .gradient = false},
    {.name = "argmax_pieces",  .expression = "argmax(f32[263000], 0)", .gradient = false},
    {.name = "argmax_lowest",  .expression = "x = f32[3, 300]; argmax(where(x > 1.9, x, log(x * 0)), 1)", .gradient = false},
    {.name = "argmax_first",   .expression = "argmax(floor(f32[5, 300, 3]), 1)", .gradient = false},
    {.name = "argmax_bool",    .expression = "argmax(f32[4, 200] > 1.9, 1)", .gradient = false},
    {.name = "argmax_u64",     .expression = "argmax(u64[4, 200], 1)", .greatest = 50, .gradient = false},
    {.name = "argmax_f64",     .expression = "argmax(f64[4, 200], 1)", .gradient = false, .specials = true},
    {.name = "argmax_f8",      .expression = "argmax(f8e4m3[4, 200], 1)", .gradient = false, .specials = true},
    {.name = "argmin_f16",     .expression = "argmin(f16[4, 200], 1)", .gradient = false, .specials = true},
    {.name = "argmin_bf16",    .expression = "argmin(bf16[200, 4], 0)", .gradient = false, .specials = true},
    {.name = "argmin_nan",     .expression = "argmin(f32[4, 200], 1)", .gradient = false, .specials = true},
    {.name = "logsumexp",      .expression = "logsumexp(f32[5, 37], [1])", .low = -8, .high = 8},
    {.name = "logsumexp_kept", .expression = "x = f32[5, 3, 70]; x - logsumexp(x, [0, 2], keepdims=true)", .low = -30, .high = 30},
    {.name = "logsumexp_inf",  .expression = "logsumexp(f32[4, 61], [0])", .gradient = false, .specials = true},
    {.name = "logsumexp_low",  .expression = "x = f32[4, 300]; logsumexp(where(x > 1.9, x, log(x * 0)), [1])", .gradient = false},
    {.name = "logsumexp_long", .expression = "logsumexp(f32[2, 140000], [1])", .gradient = false},
    {.name = "logsumexp_bf16", .expression = "logsumexp(bf16[3, 200], [1])", .gradient = false},
    {.name = "argmin",         .expression = "argmin(f32[6, 37], 1, keepdims=true)", .gradient = false},

    // scans
    {.name = "cumsum",         .expression = "cumsum(f32[6, 37], 1)"},
    {.name = "cumsum_first",   .expression = "cumsum(f32[6, 37] * 2, 0) + 1"},
    {.name = "cumsum_u8",      .expression = "cumsum(u8[3, 40], 1)", .greatest = 255, .gradient = false},
    {.name = "cumsum_pieces",  .expression = "cumsum(f32[2, 5000], 1)", .gradient = false},
    {.name = "cumsum_padded",  .expression = "cumsum(f32[4099], 0)", .gradient = false},
    {.name = "cumsum_rows",    .expression = "x = f32[9, 33]; cumsum(x - mean(x, [1], keepdims=true), 1) * x"},
    {.name = "cumprod",        .expression = "cumprod(f32[6, 13], 1)"},
    {.name = "cumprod_i64",    .expression = "cumprod(i64[5, 6], 0)", .gradient = false},
    {.name = "cummax",         .expression = "cummax(f32[6, 37], 1)"},
    {.name = "cummax_nan",     .expression = "cummax(f32[6, 61], 0)", .gradient = false, .specials = true},
    {.name = "cummax_pieces",  .expression = "cummax(i32[8200], 0)", .gradient = false},
    {.name = "cummin",         .expression = "cummin(f32[3, 4, 21], 1)"},
    {.name = "logcumsumexp",   .expression = "logcumsumexp(f32[5, 37], 1)", .low = -8, .high = 8},
    {.name = "linear_scan",    .expression = "linear_scan(f32[6, 37], f32[6, 37], 1)", .low = -1, .high = 1},
    {.name = "moving_average", .expression = "linear_scan(0.75, f32[3, 29] * 0.25, -1)"},
    {.name = "linear_pieces",  .expression = "linear_scan(f32[2, 4100] / 2, f32[2, 4100], 1)", .gradient = false},

    // movement
    {.name = "reshape",        .expression = "reshape(f32[6, 4] * 2, [3, -1]) + f32[3, 8]"},
    {.name = "flatten",        .expression = "flatten(f32[2, 3, 4], 1)"},
    {.name = "permute",        .expression = "permute(f32[3, 4, 5], [2, 0, 1]) * f32[5, 3, 4]"},
    {.name = "transpose",      .expression = "transpose(f32[19, 23]) + 1"},
    {.name = "expand",         .expression = "expand(f32[3, 1], [2, 3, 5])"},
    {.name = "pad",            .expression = "pad(f32[3, 4], [1, 2, 0, 3], 0.5)"},
    {.name = "pad_of_sum",     .expression = "pad(sum(f32[5, 9], [0]), [2, 2]) * f32[13]"},
    {.name = "slice",          .expression = "slice(f32[9, 4], 0, 2, 8)"},
    {.name = "slice_step",     .expression = "slice(slice(f32[9, 10], 0, 1, 9, 3), 1, 0, step=2)"},
    {.name = "slice_back",     .expression = "slice(f32[9], 0, -1, step=-2)"},
    {.name = "select",         .expression = "select(f32[4, 5, 3], 1, -2)"},
    {.name = "flip",           .expression = "flip(f32[4, 5], [1]) - f32[4, 5]"},
    {.name = "squeeze",        .expression = "squeeze(unsqueeze(f32[4, 1, 5], 0))"},
    {.name = "window",         .expression = "sum(window(f32[3, 20], 1, 4, 2, 3), [2])"},
    {.name = "window_overlap", .expression = "window(f32[12], 0, 3) * f32[10, 3]"},
    {.name = "unwindow",       .expression = "sum(unwindow(f32[6, 3], 0, 13, 2, 1), [1])"},
    {.name = "cat",            .expression = "cat([f32[3, 2], f32[3, 4], f32[3, 1]], 1)"},
    {.name = "stack",          .expression = "stack([f32[3, 2], f32[3, 2]], -1)"},

    // products and models
    {.name = "matmul",         .expression = "matmul(f32[9, 17], f32[17, 33])"},
    {.name = "matmul_tiles",   .expression = "matmul(f32[37, 65], f32[65, 130])", .gradient = false},
    {.name = "matmul_computed", .expression = "matmul(f32[70, 65], abs(f32[65, 140]))", .gradient = false},
    {.name = "matmul_noise",   .expression = "matmul(f32[66, 64], f32[64, 192] + uniform([64, 192]))", .gradient = false},
    {.name = "matmul_panel_transposed", .expression = "matmul(f32[70, 75], transpose(f32[140, 75]))", .gradient = false},
    {.name = "matmul_noise_transposed", .expression = "matmul(f32[66, 96], transpose(f32[140, 96] + uniform([140, 96])))",
     .gradient = false},
    {.name = "sum_of_transpose", .expression = "sum(permute(f32[5, 40, 33], [2, 1, 0]), [2])"},
    {.name = "permute_blocks", .expression = "permute(f32[2, 33, 3, 40], [0, 2, 3, 1]) * f32[2, 3, 40, 33]", .gradient = false},
    {.name = "transpose_f64",  .expression = "transpose(f64[40, 33]) * 2", .gradient = false},
    {.name = "transpose_u8",   .expression = "transpose(u8[130, 140])", .gradient = false},
    {.name = "transpose_blocks", .expression = "transpose(f32[45, 70]) * 2", .gradient = false},
    {.name = "matmul_turned",  .expression = "matmul(f32[3, 2, 64], transpose(f32[3, 48, 64]))"},
    {.name = "matmul_turned_tiles", .expression = "matmul(f32[29, 48], transpose(f32[32, 48]))", .gradient = false},
    {.name = "matmul_turned_f64", .expression = "matmul(f64[64], transpose(f64[32, 64]))", .gradient = false},
    {.name = "matmul_turned_narrow", .expression = "matmul(bf16[2, 32], transpose(bf16[32, 32])) + matmul(f16[32], transpose(f16[32, 32]))", .gradient = false},
    {.name = "matmul_f64",     .expression = "matmul(f64[9, 17], f64[17, 33])"},
    {.name = "matmul_i32",     .expression = "matmul(i32[5, 6], i32[6, 7])", .gradient = false},
    {.name = "matmul_batch",   .expression = "matmul(f32[3, 1, 4, 5], f32[2, 5, 6])"},
    {.name = "matmul_vectors", .expression = "matmul(f32[17], f32[17]) + matmul(matmul(f32[4], f32[4, 5]), f32[5])"},
    {.name = "matmul_transposed", .expression = "matmul(transpose(f32[17, 9]), transpose(f32[33, 17]))"},
    {.name = "matmul_bias_relu", .expression = "relu(matmul(f32[9, 17], f32[17, 33]) + f32[33])"},
    {.name = "conv2d",         .expression = "conv2d(f32[2, 3, 8, 9], f32[4, 3, 3, 3], f32[4])"},
    {.name = "conv2d_same",    .expression = "conv2d(f32[2, 3, 6, 7], f32[4, 3, 3, 3], padding=1)"},
    {.name = "conv2d_stride",  .expression = "conv2d(f32[2, 2, 9, 8], f32[3, 2, 3, 2], stride=[2, 3], padding=[1, 0])"},
    {.name = "conv2d_dilated", .expression = "conv2d(f32[1, 2, 9, 9], f32[3, 2, 3, 3], dilation=2)"},
    {.name = "conv2d_groups",  .expression = "conv2d(f32[2, 4, 5, 5], f32[6, 2, 3, 3], groups=2)"},
    {.name = "conv2d_channel", .expression = "conv2d(f32[2, 1, 9, 10], f32[3, 1, 3, 2], stride=[1, 2], padding=1, dilation=[2, 1])"},
    {.name = "conv2d_rows",    .expression = "conv2d(f32[2, 1, 28, 28], f32[5, 1, 5, 5])", .gradient = false},
    {.name = "conv2d_model",   .expression = "relu(conv2d(f32[4, 1, 12, 12], f32[8, 1, 5, 5], f32[8]))", .gradient = false},
    {.name = "conv1d",         .expression = "conv1d(f32[2, 4, 11], f32[6, 2, 3], f32[6], stride=2, padding=1, dilation=2, groups=2)"},
    {.name = "conv1d_long",    .expression = "conv1d(f32[3, 8, 150], f32[16, 8, 5], padding=2)", .gradient = false},
    {.name = "conv1d_bf16",    .expression = "conv1d(bf16[2, 4, 37], bf16[6, 4, 3])", .gradient = false},
    {.name = "conv3d",         .expression = "conv3d(f32[2, 2, 4, 5, 6], f32[3, 2, 2, 3, 2], f32[3], stride=[1, 2, 1], padding=[1, 0, 1])"},
    {.name = "conv_transpose", .expression = "conv_transpose(f32[2, 3, 5], f32[3, 4, 3], f32[4], stride=2, padding=1, output_padding=1)"},
    {.name = "conv_transpose2d", .expression = "conv_transpose(f32[2, 4, 3, 4], f32[4, 3, 3, 2], f32[6], stride=[2, 1], padding=[1, 0], dilation=[1, 2], groups=2)"},
    {.name = "conv_transpose3d", .expression = "conv_transpose(f32[1, 2, 3, 2, 3], f32[2, 3, 2, 2, 2], stride=2)"},
    {.name = "conv_transpose_wide", .expression = "relu(conv_transpose(f32[2, 16, 9, 9], f32[16, 8, 4, 4], f32[8], stride=2, padding=1))", .gradient = false},
    {.name = "max_pool",       .expression = "max_pool(f32[2, 3, 11], 3, 2, padding=1) * max_pool(f32[2, 3, 18], 4, 3, dilation=2, padding=2, ceil=true)"},
    {.name = "max_pool_nan",   .expression = "max_pool(f32[2, 3, 9, 9], 3, 2, padding=1)", .gradient = false, .specials = true},
    {.name = "max_pool3d",     .expression = "max_pool(f32[2, 2, 4, 5, 6], [2, 3, 2], ceil=true)"},
    {.name = "avg_pool",       .expression = "avg_pool(f32[2, 3, 10], 3, 2, padding=1, ceil=true) + avg_pool(f32[2, 3, 10], 3, 2, padding=1, ceil=true, count_padding=false)"},
    {.name = "avg_pool_i64",   .expression = "avg_pool(i64[2, 3, 7, 7], 3, 2, padding=1, count_padding=false)", .gradient = false},
    {.name = "max_pool2d",     .expression = "max_pool2d(f32[2, 3, 6, 7], 2)"},
    {.name = "max_pool2d_overlap", .expression = "max_pool2d(f32[1, 2, 7, 7], 3, 2)"},
    {.name = "avg_pool2d",     .expression = "avg_pool2d(f32[2, 3, 6, 6], [2, 3])"},
    {.name = "softmax",        .expression = "softmax(f32[5, 37])", .low = -8, .high = 8},
    {.name = "softmax_first",  .expression = "softmax(f32[37, 5], axis=0)"},
    {.name = "log_softmax",    .expression = "log_softmax(f32[5, 37])", .low = -8, .high = 8},
    {.name = "cross_entropy",  .expression = "cross_entropy(f32[7, 10], i64[7])", .least = 0, .greatest = 9},
    {.name = "cross_entropy_mean", .expression = "mean(cross_entropy(f32[7, 10], u8[7]))", .least = 0, .greatest = 9},
    {.name = "cross_entropy_smooth", .expression = "cross_entropy(f32[7, 10], i64[7], 0.125, 3)", .least = 0, .greatest = 9},
    {.name = "cross_entropy_ignored", .expression = "cross_entropy(f32[3, 7, 10], i32[3, 7], ignored=-1)", .least = -1, .greatest = 9},
    {.name = "nll",            .expression = "nll(log_softmax(f32[7, 10]), i64[7]) + nll(f32[7, 10], i64[7], -1)", .least = 0, .greatest = 9},
    {.name = "mse",            .expression = "mse(f32[7, 10], f32[10])"},
    {.name = "binary_cross_entropy", .expression = "binary_cross_entropy(f32[7, 10], f32[10])", .low = 0.1, .high = 0.9},
    {.name = "binary_cross_entropy_ends", .expression = "binary_cross_entropy(round(f32[70]), f32[70])", .low = 0, .high = 1, .gradient = false},
    {.name = "binary_cross_entropy_with_logits", .expression = "binary_cross_entropy_with_logits(f32[7, 10], f32[10])", .low = -6, .high = 6},
    {.name = "attention",      .expression = "attention(f32[2, 3, 5, 8], f32[2, 3, 7, 8], f32[2, 3, 7, 6])"},
    {.name = "attention_causal", .expression = "attention(f32[3, 6, 8], f32[3, 9, 8], f32[3, 9, 8], causal=true)"},
    {.name = "attention_window", .expression = "attention(f32[9, 8], f32[9, 8], f32[9, 4], causal=true, window=3)"},
    {.name = "attention_nearby", .expression = "attention(f32[9, 8], f32[9, 8], f32[9, 4], window=2, scale=0.5)"},
    {.name = "attention_blind", .expression = "attention(f32[7, 8], f32[4, 8], f32[4, 8], causal=true)"},
    {.name = "attention_mask", .expression = "attention(f32[2, 3, 5, 8], f32[2, 1, 7, 8], f32[2, 1, 7, 6], f32[3, 5, 7])"},
    {.name = "attention_hidden", .expression = "attention(f32[2, 5, 8], f32[2, 7, 8], f32[2, 7, 6], f32[5, 1] + f32[7] > 0.5)"},
    {.name = "attention_groups", .expression = "attention(f32[2, 6, 5, 8], f32[2, 3, 5, 8], f32[2, 3, 5, 4], f32[6, 1, 5] > 0, causal=true)"},
    {.name = "attention_lanes", .expression = "attention(f32[2, 70, 32], f32[2, 70, 32], f32[2, 70, 32], causal=true)", .gradient = false},
    {.name = "attention_blocks", .expression = "attention(f32[2, 300, 4], f32[2, 320, 4], f32[2, 320, 4], causal=true)", .gradient = false},
    {.name = "attention_bf16", .expression = "attention(bf16[2, 20, 16], bf16[2, 20, 16], bf16[2, 20, 16])", .gradient = false},
    {.name = "scale_controls", .expression = "x = set_scale(f32[4, 6], 3) * 2; y = dynamic_rescale(rebalance(x, -2), backward=true); scalify(sum(stop_scale(y) * y))"},
    {.name = "scale_casts",    .expression = "x = cast_backward(cast_forward(f32[4, 6] * 3, f8e4m3), f8e5m2); scaled_data(x) * scale_of(x)", .specials = true},
    {.name = "layer_norm",     .expression = "layer_norm(f32[5, 37], 1, f32[37], f32[37])"},
    {.name = "conv2d_norm_conv2d",
     .expression = "conv2d(max_pool2d(instance_norm(conv2d(f32[4, 16, 12, 12], f32[32, 16, 3, 3])), 2), f32[16, 32, 3, 3])",
     .gradient = false},
    {.name = "batch_norm",     .expression = "batch_norm(f32[4, 3, 5, 2], weight=f32[3], bias=f32[3])"},
    {.name = "batch_norm_given", .expression = "batch_norm(f32[4, 3], f32[3], f32[3], f32[3])", .low = 0.5},
    {.name = "group_norm",     .expression = "group_norm(f32[2, 6, 5], 2, f32[6], f32[6]) + group_norm(f32[2, 6, 5], 3)"},
    {.name = "instance_norm",  .expression = "instance_norm(f32[2, 3, 5, 6], f32[3], f32[3])"},
    {.name = "one_hot",        .expression = "one_hot(i32[7], 5)", .least = 0, .greatest = 4, .gradient = false},
    {.name = "take",           .expression = "take(f32[5, 6], i64[4, 2])", .least = -5, .greatest = 4},
    {.name = "take_last",      .expression = "take(f32[5, 6], i32[3], axis=1)", .least = 0, .greatest = 5},
    {.name = "pick",           .expression = "pick(f32[5, 6], u8[5])", .least = 0, .greatest = 5},
    {.name = "put",            .expression = "put(f32[6, 4], 0, 2, f32[3, 4]) * 2"},
    {.name = "put_one",        .expression = "put(f32[6, 4], 1, 3, f32[6])"},

    // order: rows that are counted one by one, in one block, in several; keys of one word and of two
    {.name = "sort",           .expression = "sort(f32[5, 37])"},
    {.name = "sort_specials",  .expression = "sort(f32[3, 133])", .gradient = false, .specials = true},
    {.name = "sort_axis",      .expression = "sort(f32[61, 3], 0, true)"},
    {.name = "sort_blocks",    .expression = "sort(f32[2, 4500])", .gradient = false},
    {.name = "sort_f64",       .expression = "sort(f64[2, 300])", .gradient = false, .specials = true},
    {.name = "sort_f16",       .expression = "sort(cast(f32[2, 177], f16), descending=true)", .gradient = false, .specials = true},
    {.name = "sort_i32",       .expression = "sort(i32[2, 3, 190], 1) + sort(i32[2, 3, 190], 2)", .gradient = false},
    {.name = "sort_i64",       .expression = "sort(i64[400])", .least = -3000000000, .greatest = 3000000000, .gradient = false},
    {.name = "argsort",        .expression = "argsort(f32[4, 170])", .gradient = false, .specials = true},
    {.name = "argsort_stable", .expression = "argsort(i32[4, 200], descending=true) + argsort(u8[4, 200])", .gradient = false},
    {.name = "argsort_bool",   .expression = "argsort(bool[3, 160], descending=true) * 100 + argsort(bool[3, 160])", .gradient = false},
    {.name = "topk",           .expression = "topk(f32[4, 60], 5) * transpose(topk(f32[60, 4], 5, 0, false))"},
    {.name = "argtopk",        .expression = "argtopk(f32[4, 60], 7)", .gradient = false, .specials = true},
    {.name = "median",         .expression = "median(f32[4, 21], 1) + median(f32[20, 4], 0, true)"},
    {.name = "median_all",     .expression = "median(i32[4, 15]) + median(f32[5, 5])", .gradient = false, .specials = true},
    {.name = "searchsorted",   .expression = "searchsorted(sort(f32[37]), f32[3, 20], right=true)", .gradient = false, .specials = true},
    {.name = "searchsorted_rows", .expression = "searchsorted(sort(i32[3, 40]), i32[3, 9])", .gradient = false},

    // positions of their own
    {.name = "gather",         .expression = "gather(f32[5, 7], i64[3, 7], 0)", .least = -5, .greatest = 4},
    {.name = "gather_last",    .expression = "gather(f32[5, 7], i32[4, 9], 1)", .least = 0, .greatest = 6},
    {.name = "scatter",        .expression = "scatter(f32[5, 7], i64[3, 7], f32[3, 7], 0)", .least = -5, .greatest = 4},
    {.name = "scatter_add",    .expression = "scatter_add(f32[5, 7], i32[4, 9], f32[4, 9], 1)", .least = 0, .greatest = 6},
    {.name = "narrow",         .expression = "narrow(f32[5, 9], 1, 3, 4) * narrow(f32[9, 4], 0, min(i64[2]), 5)", .least = 1, .greatest = 4},

    {.name = "nonzero",        .expression = "nonzero(f32[5, 9] > 0.5, 20) + nonzero(i32[45], 20, 7)", .least = -1, .greatest = 1, .gradient = false},
    {.name = "nonzero_pieces", .expression = "nonzero(f32[9001] > 1.5, 900)", .gradient = false},
    {.name = "masked_select",  .expression = "masked_select(f32[5, 9], f32[9] > 0.25, 25, -3)"},

    // arrangements
    {.name = "full_like",      .expression = "full_like(f32[3, 5], 2.5) + f32[5]"},
    {.name = "linspace",       .expression = "linspace(-1.0, 2.0, 7)", .gradient = false},
    {.name = "tile",           .expression = "tile(f32[3, 5], [2, 1, 3])"},
    {.name = "repeat",         .expression = "repeat(f32[3, 5], 4, 1)"},
    {.name = "roll",           .expression = "roll(f32[3, 5], 2, 1) + roll(f32[3, 5], -4, 0)"},
    {.name = "tril",           .expression = "tril(f32[2, 5, 6]) + triu(f32[2, 5, 6], 1)"},
    {.name = "triu",           .expression = "triu(f32[5, 6], -2) * tril(f32[5, 6], 2)"},
    {.name = "diag",           .expression = "diag(f32[5], 2) + diag(f32[6], -1)"},
    {.name = "diag_of",        .expression = "diag(f32[2, 5, 6], 1) + diag(f32[2, 6, 5], -1)"},
    {.name = "stddev",         .expression = "stddev(f32[6, 37], 1, correction=1)"},
    {.name = "norm",           .expression = "norm(f32[6, 37], 1) + norm(f32[37, 6], 0, order=1.0) + norm(f32[6, 5], 1, order=3.0)", .low = 0.5},

    // sums of products
    {.name = "outer",          .expression = "outer(f32[5], f32[7])"},
    {.name = "tensordot",      .expression = "tensordot(f32[3, 4, 5], f32[4, 5, 2]) + tensordot(f32[3], f32[2], 0)"},
    {.name = "einsum",         .expression = "einsum(\"bij,bjk->bik\", [f32[2, 3, 4], f32[2, 4, 5]])"},
    {.name = "einsum_diagonal", .expression = "einsum(\"ii,ij,k\", [f32[4, 4], f32[4, 3], f32[2]])"},
    {.name = "einsum_dots",    .expression = "einsum(\"...ij,...j->i...\", [f32[2, 1, 3, 4], f32[5, 4]])"},

    // random numbers
    {.name = "random_words",   .expression = "uniform([7, 9])", .gradient = false},
    {.name = "uniform",        .expression = "uniform([33], -2.0, 3.0) * f32[33]", .gradient = false},
    {.name = "uniform_f64",    .expression = "uniform([33], dtype=f64)", .gradient = false},
    {.name = "normal",         .expression = "normal([3, 11], 1.0, 2.0)", .gradient = false},
    {.name = "normal_f64",     .expression = "normal([3, 11], 1.0, 2.0, dtype=f64)", .gradient = false},
    {.name = "randint",        .expression = "randint([40], -3, 12)", .gradient = false},
    {.name = "randint_wide",   .expression = "randint([40], -5000000000, 6000000000)", .gradient = false},
    {.name = "permutation",    .expression = "permutation(23)", .gradient = false},
    {.name = "truncated_normal", .expression = "truncated_normal([333], 0.5, 2.0, -1.0, 4.0)", .gradient = false},
    {.name = "truncated_normal_f64", .expression = "truncated_normal([333], 0.0, 1.0, 3.0, 9.0, dtype=f64)", .gradient = false},
    {.name = "bernoulli",      .expression = "bernoulli(f32[5, 37])", .low = -0.1, .high = 1.1, .gradient = false, .specials = true},
    {.name = "multinomial",    .expression = "multinomial(f32[3, 40], 9) * 100 + multinomial(f32[3, 40], 9, true)", .gradient = false},
    {.name = "multinomial_specials", .expression = "multinomial(f32[133], 50)", .gradient = false, .specials = true},
};

constexpr double specials[] = {
    0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity(),
    std::numeric_limits<double>::quiet_NaN(), 1e-45, -1e-40, 1e-38, 3e38, -3e38, 88.7, -103.0, 1e10, 16777217.0, -3.0};
// clang-format on

Value element(const OpCase& row, DType dtype, uint64_t key, uint64_t at) {
  uint64_t bits = random_bits64(key, at);
  double unit = static_cast<double>(bits >> 11) * 0x1p-53;
  if (is_float(dtype)) {
    if (row.specials && bits % 3 == 0) return from_double(dtype, specials[(bits >> 3) % std::size(specials)]);
    return from_double(dtype, row.low + (row.high - row.low) * unit);
  }
  if (dtype == DType::Bool) return from_int(dtype, static_cast<int64_t>(bits & 1));
  int64_t least = kind(dtype) == Kind::Unsigned && row.least < 0 ? 0 : row.least;
  uint64_t span = static_cast<uint64_t>(row.greatest) - static_cast<uint64_t>(least) + 1;
  return from_int(dtype, least + static_cast<int64_t>(random_below(key, at, span)));
}

}  // namespace

std::span<const OpCase> op_table() { return rows; }

std::vector<OpCase> op_table_thinned() {
  std::vector<OpCase> out;
  for (size_t i = 0; i < std::size(rows); i += sanitized ? 5 : 1) out.push_back(rows[i]);
  return out;
}

Graph graph_of(const OpCase& row, bool wide) {
  std::string text(row.expression);
  for (size_t at = 0; wide && (at = text.find("f32[", at)) != std::string::npos; at++)
    text.replace(at, 4, "f64[");
  return make_graph({parse_expression(text)});
}

std::vector<std::byte> input_of(const OpCase& row, const Graph& graph, size_t number) {
  const Node& leaf = *graph.inputs[number];
  int64_t count = 1;
  for (int64_t n : static_shape(leaf)) count *= n;
  int64_t size = item_size(leaf.dtype);
  std::vector<std::byte> out(static_cast<size_t>(count * size));
  for (int64_t i = 0; i < count; i++) {
    uint64_t bits = element(row, leaf.dtype, number + 1, static_cast<uint64_t>(i)).bits;
    for (int64_t b = 0; b < size; b++)
      out[static_cast<size_t>(i * size + b)] = static_cast<std::byte>(bits >> (8 * b));
  }
  return out;
}

}  // namespace kontor
