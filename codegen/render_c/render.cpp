// The kernel as a whole: its signature, its scopes and the names in them.
#include <algorithm>

#include "base/error.h"
#include "codegen/render_c/renderer.h"
#include "codegen/tree/text.h"

namespace kontor::clike {

/// Words that may name no variable in one of the dialects.
static constexpr std::string_view reserved[] = {
    "asm",       "auto",     "bool",      "break",    "case",      "catch",    "char",     "class",
    "const",     "constant", "continue",  "default",  "delete",    "do",       "double",   "else",
    "enum",      "error",    "event_t",   "extern",   "false",     "float",    "for",      "friend",
    "global",    "goto",     "half",      "if",       "image1d_t", "inline",   "int",      "kernel",
    "local",     "long",     "namespace", "new",      "not",       "and",      "or",       "xor",
    "operator",  "private",  "protected", "public",   "quad",      "register", "restrict", "return",
    "sampler_t", "short",    "signed",    "sizeof",   "size_t",    "static",   "struct",   "switch",
    "template",  "this",     "throw",     "true",     "try",       "typedef",  "typename", "uchar",
    "uint",      "ulong",    "union",     "unsigned", "ushort",    "using",    "virtual",  "void",
    "volatile",  "while",    "fma",       "sqrt",     "fabs",      "floor",    "ceil",     "fmaf",
    "sqrtf",     "fabsf",    "floorf",    "ceilf",    "threadIdx", "blockIdx", "blockDim", "gridDim",
    "linux",     "unix",     "INFINITY",  "NAN",      "shared",
};

int Renderer::pin_level() const {
  int level = top();
  while (level > 0 && !frames_[static_cast<size_t>(level)].pins) level--;
  return level;
}

void Renderer::line(int level, const std::string& text) {
  std::string& code = frames_[static_cast<size_t>(level)].code;
  code.append(2 * static_cast<size_t>(level) + 2, ' ').append(text).append("\n");
}

/// Adds the innermost frame to the one around it, between `head` and `tail`.
void Renderer::close(const std::string& head, const std::string& tail) {
  std::string code = std::move(frames_.back().code);
  frames_.pop_back();
  line(head);
  frames_.back().code += code;
  line(tail);
}

std::string Renderer::unique(std::string_view wanted, int level) {
  std::string base;
  for (char ch : wanted) base += std::isalnum(static_cast<unsigned char>(ch)) ? ch : '_';
  if (base.empty() || std::isdigit(static_cast<unsigned char>(base[0]))) base.insert(0, "p");
  bool ours = base.size() > 1 && (base[0] == 'v' || base[0] == 's') &&
              base.find_first_not_of("0123456789", 1) == std::string::npos;
  if (ours || std::find(std::begin(reserved), std::end(reserved), base) != std::end(reserved)) base += '_';
  std::string found = base;
  auto taken = [&](const Frame& f) {
    return std::find(f.names.begin(), f.names.end(), found) != f.names.end();
  };
  for (int i = 1; std::any_of(frames_.begin(), frames_.end(), taken); i++)
    found = fmt::format("{}_{}", base, i);
  frames_[static_cast<size_t>(level)].names.push_back(found);
  return found;
}

PlaceState& Renderer::place_of(const Node& place) {
  auto it = places_.find(&place);
  if (it == places_.end() || it->second.name.empty())
    broken("C renderer: place '{}' is not declared", place.arg.text);
  return it->second;
}

/// Beside a parallel loop nothing may write to buffers: every work item would.
void Renderer::check_root(const Node& n) const {
  bool param = n.op == Op::Place && tree::space(n) == Space::Param;
  if (n.op == Op::Store || n.op == Op::FoldStep) param = tree::space(*n.src[0]) == Space::Param;
  if (auto it = writes_.find(&n); it != writes_.end())
    for (const Node* place : it->second) param |= tree::space(*place) == Space::Param;
  if (param) broken("C renderer: kernel {} writes to a buffer outside its parallel loop", kernel_->arg.text);
}

std::string Renderer::signature(const std::string& entry) {
  std::string out =
      fmt::format("{}{} {}(", c_.dialect().kernel,
                  thread_.empty() ? "" : fmt::format(" __launch_bounds__({})", group_.threads), entry);
  frames_[0].names.push_back(entry);
  if (c_.dialect().items) frames_[0].names.insert(frames_[0].names.end(), {"begin", "end"});
  std::span<const Ref> all = tree::params(*kernel_);
  std::vector<Ref> params(all.begin(), all.end());
  std::sort(params.begin(), params.end(),
            [](const Ref& a, const Ref& b) { return tree::param_number(*a) < tree::param_number(*b); });
  for (const Ref& p : params) {
    PlaceState& state = places_[p.get()];
    state.name = unique(p->arg.text, 0);
    state.dims = p->src;
    if (c_.dialect().offsets) {
      frames_[0].names.push_back(state.name + "_at");
      line(fmt::format("{0} += {0}_at / {1};", state.name, item_size(p->dtype)));
    }
    // What one thread of a warp or group writes the others read: to the compiler it may be anyone's.
    const bool is_seen = state.written && state.read && (!lane_.empty() || !thread_.empty());
    const std::string_view apart = is_seen ? "" : c_.dialect().apart;
    if (!thread_.empty())  // as all memory of the device is: several elements are read at once
      line(fmt::format("{0} = ({1}{2}*)__builtin_assume_aligned({0}, 16);", state.name,
                       state.written ? "" : "const ", c_.memory_type(p->dtype)));
    out += fmt::format("{}{}{}* {}{}, ", c_.dialect().global, state.written ? "" : "const ",
                       c_.memory_type(p->dtype), apart, state.name);
  }
  out += fmt::format("{}{}* error", c_.dialect().global, c_.memory_type(DType::I64));
  if (c_.dialect().items)
    for (const char* name : {"begin", "end"})
      out += fmt::format(", {} {}", c_.variable_type(DType::I64), name);
  if (c_.dialect().offsets)
    for (const Ref& p : params)
      out += fmt::format(", {} {}_at", c_.variable_type(DType::I64), places_[p.get()].name);
  for (const Ref& s : tree::slots(kernel_)) {
    std::string name = fmt::format("s{}", s->at(0)), raw = s->dtype == DType::I64 ? name : name + "_bits";
    out += fmt::format(", {} {}", c_.variable_type(DType::I64), raw);
    if (s->dtype != DType::I64)
      line(fmt::format("const {} {} = {};", c_.variable_type(s->dtype), name,
                       c_.from_slot(s->dtype, raw).text));
    memo_[s.get()] = {{name}};
  }
  return out + ") {\n";
}

std::string Renderer::render(const std::string& entry) {
  std::string head = signature(entry);
  bool any = tree::parallel_loop(*kernel_) != nullptr;
  if (!lane_.empty()) {
    lane_ = unique(lane_, 0);
    line(fmt::format("const int {} = threadIdx.x % {};", lane_, warp));
    ranges_[lanes_.thread.get()] = {{lane_}, 0};
  }
  if (!thread_.empty()) {
    thread_ = unique(thread_, 0);
    line(fmt::format("const int {} = threadIdx.x;", thread_));
    bind_quads();
    if (is_shared_given()) line("extern __shared__ __align__(128) unsigned char shared[];");
  }
  if (!any) open(true);
  for (const Ref& s : tree::body(*kernel_)) {
    bool spread =
        s->op == Op::Loop && (tree::kind(*s) == LoopKind::Thread || tree::kind(*s) == LoopKind::Global);
    if (any && !spread) check_root(*s);
    if (spread) {
      parallel(*s);
    } else {
      statement(*s);
    }
  }
  if (!any) close(fmt::format("if ({} == 0) {{", in({item(), Sum}, Equality)));
  std::string text = tree::print(kernel_);
  std::string slots;
  for (const Ref& s : tree::slots(kernel_)) slots += fmt::format(" {}", s->at(0));
  std::string helpers = c_.helpers();
  std::string group = thread_.empty() ? "" : fmt::format("// group: {}\n", group_.threads);
  if (is_shared_given()) group += fmt::format("// shared: {}\n", group_.shared_bytes);
  return fmt::format("// {}\n// slots:{}\n{}{}\n{}{}{}{}}}\n", text.substr(0, text.find('\n')), slots, group,
                     c_.dialect().pragmas, helpers, helpers.empty() ? "" : "\n", head, frames_[0].code);
}

}  // namespace kontor::clike

namespace kontor {

std::string render_c(const Ref& kernel, const std::string& entry, Dialect dialect) {
  return clike::Renderer(kernel, dialect).render(entry);
}

}  // namespace kontor
