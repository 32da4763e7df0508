// Functions whose bodies are instructions of PTX (NVIDIA, "Parallel Thread Execution ISA"), for what CUDA C has no words.
#include "base/error.h"
#include "codegen/render_c/dialect.h"

namespace kontor::clike {

namespace {

struct PtxRow {
  std::string_view name, result, parameters, body;
};

// clang-format off
constexpr PtxRow rows[] = {
    {"mma_m16n8k16_bf16", "void",
     "float* c, unsigned int a0, unsigned int a1, unsigned int a2, unsigned int a3, unsigned int b0, unsigned int b1",
     R"(asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));)"},
    // Of a matrix in shared memory: its address, and bytes between blocks along the steps and along its rows or columns.
    {"shared_matrix", "unsigned long long", "const void* p, unsigned int steps, unsigned int side",
     "return (unsigned long long)(((unsigned int)__cvta_generic_to_shared(p) & 0x3ffffu) >> 4) | "
     "(unsigned long long)(steps >> 4) << 16 | (unsigned long long)(side >> 4) << 32;"},
    {"begin_matrices", "void", "", R"(asm volatile("wgmma.fence.sync.aligned;" ::: "memory");)"},
    {"end_matrices", "void", "",
     R"(asm volatile("wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;" ::: "memory");)"},
    {"show_matrices", "void", "", R"(asm volatile("fence.proxy.async.shared::cta;" ::: "memory");)"},
    {"copy_16_bytes", "void", "void* to, const void* from",
     R"(asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"((unsigned int)__cvta_generic_to_shared(to)), "l"(from) : "memory");)"},
    {"end_of_copies", "void", "", R"(asm volatile("cp.async.commit_group;" ::: "memory");)"},
    // All but the last {} groups of copies.
    {"await_copies", "void", "", R"(asm volatile("cp.async.wait_group {};" ::: "memory");)"},
};
// clang-format on

std::string with_number(std::string_view text, int64_t number) {
  const size_t at = text.find("{}");
  return at == std::string_view::npos
             ? std::string(text)
             : fmt::format("{}{}{}", text.substr(0, at), number, text.substr(at + 2));
}

}  // namespace

std::string Speller::ptx(Ptx which, int64_t number) {
  const PtxRow& r = rows[static_cast<size_t>(which)];
  const std::string name = number < 0 ? std::string(r.name) : fmt::format("{}_{}", r.name, number);
  define_text(name, fmt::format("{} {} {}({}) {{\n  {}\n}}\n", row_.function, r.result, name, r.parameters,
                                with_number(r.body, number)));
  return name;
}

/// Of 64 rows and so many columns, whose elements a thread has as codegen/tree/groups.h says.
std::string Speller::group_matrix(int64_t columns, bool a_along, bool b_along) {
  const std::string name =
      fmt::format("wgmma_m64n{}k16_bf16{}{}", columns, a_along ? "_ta" : "", b_along ? "_tb" : "");
  std::string registers, results;
  for (int64_t i = 0; i < columns / 2; i++) {
    registers += fmt::format("{}%{}", i ? ", " : "", i);
    results += fmt::format("{}\"+f\"(c[{}])", i ? ", " : "", i);
  }
  define_text(name, fmt::format(R"({0} void {1}(float* c, unsigned long long a, unsigned long long b) {{
  asm volatile("{{.reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n{2}k16.f32.bf16.bf16 {{{3}}}, %{4}, %{5}, p, 1, 1, {6:d}, {7:d};}}"
               : {8} : "l"(a), "l"(b));
}}
)",
                                row_.function, name, columns, registers, columns / 2, columns / 2 + 1,
                                a_along, b_along, results));
  return name;
}

void Speller::define_text(const std::string& name, const std::string& text) {
  if (known_.insert(name).second) helpers_.push_back(text);
}

}  // namespace kontor::clike
