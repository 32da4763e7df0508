// [verify] what the LLVM renderer emits: each kind of access beyond a place is said, and what stays inside is not.
#include "codegen/render.h"
#include "codegen/render_llvm/verify.h"
#include "codegen/schedule.h"
#include "codegen/tree/text.h"
#include "kontor/types.h"
#include "tests/catch.h"

using namespace kontor;

namespace {

/// A function of a place %p of 20 floats around `body`.
std::string function(const std::string& body) {
  return "define void @k(ptr noalias readonly %args) nounwind {\nentry:\n  %p = alloca [20 x float], align 64\n" +
         body + "  ret void\n}\n";
}

/// A loop whose counter is %i, from 0 to `end`.
std::string loop(const std::string& end, const std::string& body) {
  return "  br label %l0\nl0:\n  %i = phi i64 [ 0, %entry ], [ %next, %l0 ]\n" + body +
         "  %next = add nuw nsw i64 %i, 1\n  %more = icmp slt i64 %next, " + end +
         "\n  br i1 %more, label %l0, label %x1\nx1:\n";
}

std::string branch(const std::string& condition, const std::string& body) {
  return "  br i1 " + condition + ", label %t0, label %j1\nt0:\n" + body + "  br label %j1\nj1:\n";
}

std::string at(const std::string& position, const std::string& name = "%a", const std::string& base = "%p") {
  return "  " + name + " = getelementptr float, ptr " + base + ", i64 " + position + "\n";
}

const std::string kWide = "  store <16 x float> zeroinitializer, ptr %a, align 4\n";

std::string wrong(const std::string& body, const std::vector<LlvmRegion>& regions = {},
                  const std::vector<LlvmFact>& facts = {}) {
  const std::vector<std::string> mistakes = verify_llvm(function(body), regions, facts);
  return mistakes.empty() ? "" : mistakes[0];
}

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("[verify] LLVM text: an access as wide as its place, and one that is wider") {
  CHECK(wrong("  store <16 x float> zeroinitializer, ptr %p, align 64\n") == "");
  CHECK(
      wrong("  store <32 x float> zeroinitializer, ptr %p, align 64\n") ==
      "`store <32 x float> zeroinitializer, ptr %p, align 64` takes bytes 0 to 127 of a local place, which has 80");
  CHECK_THAT(wrong("  %v = load <32 x float>, ptr %p, align 64\n"), Contains("takes bytes 0 to 127"));
  CHECK(wrong(at("4") + kWide) == "");
  CHECK_THAT(wrong(at("5") + kWide), Contains("takes bytes 20 to 83"));
  CHECK_THAT(wrong(at("-1") + kWide), Contains("takes bytes -4 to 59"));
  CHECK_THAT(wrong(at("2") + at("3", "%b", "%a") + "  store <16 x float> %x, ptr %b, align 4\n"),
             Contains("takes bytes 20 to 83"));
}

TEST_CASE("[verify] LLVM text: positions that loops and arithmetic give") {
  const std::string four = "  %j = mul i64 %i, 4\n";
  CHECK(wrong(loop("2", four + at("%j") + kWide)) == "");
  CHECK_THAT(wrong(loop("3", four + at("%j") + kWide)), Contains("takes bytes 32 to 95"));
  const std::string less = "  %k = sub nsw i64 %i, 1\n  %m = call i64 @llvm.smax.i64(i64 %k, i64 0)\n";
  CHECK(wrong(loop("6", less + at("%m") + kWide)) == "");
  CHECK_THAT(wrong(loop("7", less + at("%m") + kWide)), Contains("takes bytes 20 to 83"));
  const std::string chosen = "  %c = icmp slt i64 %i, 9\n  %k = select i1 %c, i64 0, i64 %i\n";
  CHECK(wrong(loop("9", chosen + at("%k") + kWide)) == "");
  CHECK_THAT(wrong(loop("10", chosen + at("%k") + kWide)), Contains("takes bytes 36 to 99"));
}

TEST_CASE("[verify] LLVM text: an index that goes along with a loop's counter") {
  auto along = [](const std::string& step, const std::string& begin, const std::string& end) {
    return "  br label %l0\nl0:\n  %i = phi i64 [ 2, %entry ], [ %next, %l0 ]\n  %j = phi i64 [ " + begin +
           ", %entry ], [ %then, %l0 ]\n" + at("%j") + kWide + "  %then = add i64 %j, " + step +
           "\n  %next = add i64 %i, 1\n  %more = icmp slt i64 %next, " + end +
           "\n  br i1 %more, label %l0, label %x1\nx1:\n";
  };
  CHECK(wrong(along("4", "0", "4")) == "");
  CHECK_THAT(wrong(along("4", "0", "5")), Contains("takes bytes 32 to 95"));
  CHECK(wrong(along("-2", "4", "5")) == "");
  CHECK_THAT(wrong(along("-2", "4", "6")), Contains("takes bytes -8 to 55"));
  CHECK_THAT(wrong(along("1", "5", "3")), Contains("takes bytes 20 to 83"));
  CHECK(wrong("  %n = load i64, ptr %elsewhere, align 8\n" + along("%n", "0", "9")) == "");
}

TEST_CASE("[verify] LLVM text: what a branch keeps away is not judged, nor what nobody knows") {
  const std::string small = "  %c = icmp ult i64 %i, 5\n";
  CHECK(wrong(loop("100", small + branch("%c", at("%i") + kWide))) == "");
  const std::string beyond = "  %c = icmp uge i64 %i, 5\n";
  CHECK_THAT(wrong(loop("100", beyond + branch("%c", at("%i") + kWide))), Contains("of a local place"));
  const std::string unknown = "  %n = load i64, ptr %elsewhere, align 8\n";
  CHECK(wrong(unknown + at("%n") + kWide) == "");
  CHECK(wrong(unknown + loop("%n", at("%i") + kWide)) == "");
  CHECK_THAT(wrong(loop("%n", at("%i") + kWide), {}, {{"%n", 6}}), Contains("takes bytes 20 to 83"));
}

TEST_CASE("[verify] LLVM text: memory whose size is said from outside, and the zeros of a guard") {
  const std::string store = "  store <8 x double> zeroinitializer, ptr %q, align 8\n";
  CHECK(wrong(store, {{"%q", "y", 64}}) == "");
  CHECK_THAT(wrong(store, {{"%q", "y", 56}}), Contains("takes bytes 0 to 63 of y, which has 56"));
  const std::string guarded = "  %a = select i1 false, ptr %p, ptr @zeros\n";
  CHECK(wrong(guarded + "  %v = load <64 x double>, ptr %a, align 4\n") == "");
  CHECK_THAT(wrong("  %a = select i1 true, ptr %p, ptr @zeros\n  %v = load <64 x float>, ptr %a, align 4\n"),
             Contains("takes bytes 0 to 255"));
}

TEST_CASE("[verify] a tree whose lanes reach beyond a place is refused before it is compiled") {
  auto rendered = [](const char* text) -> std::string {
    int64_t scratch = 0;
    try {
      render_llvm(tree::parse(text), "k", Target{}, scratch);
    } catch (const InternalError& error) {
      return error.what();
    }
    return "";
  };
  CHECK(rendered("kernel k(x f32[8]) -> y f32[8]\n p f32[8]\n vector l 8 width 8: p[l] = x[l]\n"
                 " vector l 8 width 8: y[l] = p[l]\n") == "");
  CHECK_THAT(rendered("kernel k(x f32[8]) -> y f32[8]\n p f32[4]\n vector l 8 width 8: p[l] = x[l]\n"
                      " vector l 8 width 8: y[l] = p[l]\n"),
             Contains("of p, which has 16"));
  CHECK_THAT(rendered("kernel k(x f32[8]) -> y f32[4]\n vector l 8 width 8: y[l] = x[l]\n"),
             Contains("of y, which has 16"));
  CHECK_THAT(
      rendered("kernel k(x f32[8]) -> y f32[40]\n loop i 6: vector l 8 width 8: y[8 * i + l] = x[l]\n"),
      Contains("takes bytes 160 to 191 of y, which has 160"));
}
