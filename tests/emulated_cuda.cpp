// A CUDA driver and NVRTC for machines without a GPU: "compiling" keeps the source, loading a module compiles it with the
// host's C++ compiler, a launch runs its threads one after another. It proves that the back end's calls fit together and
// that CUDA C means what the loop tree meant; it proves nothing of a GPU's own arithmetic. A launch that writes to no memory
// of the device is an error: each kernel has something to say. Found by tests/e2e/test_cuda.py.
#include <dlfcn.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#define EMULATED extern "C" __attribute__((visibility("default")))

namespace {

constexpr int kInvalid = 1, kOutOfMemory = 2, kNotFound = 500, kLaunchFailed = 719;
constexpr size_t kMemory = size_t{1} << 30;

const char* const kPrelude = R"(
#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(threads)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))
struct int2 { int x, y; };
struct int4 { int x, y, z, w; };
struct Index { unsigned x; };
static Index threadIdx, blockIdx, blockDim;
extern "C" float fmaf(float, float, float); extern "C" double fma(double, double, double);
extern "C" float sqrtf(float); extern "C" double sqrt(double); extern "C" float fabsf(float); extern "C" double fabs(double);
extern "C" float floorf(float); extern "C" double floor(double); extern "C" float ceilf(float); extern "C" double ceil(double);
static inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
static inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
static inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
static inline double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }
static inline long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
)";

// Threads of a warp, or of a block that has barriers, as fibres: each runs to its next shuffle or barrier, in an order that
// changes from round to round, and goes on when all have come there.
const char* const kWarps = R"(
#include <ucontext.h>
#include <cstdlib>
#include <cstring>
struct Fibre { ucontext_t context; bool done; char stack[1 << 16]; };
static Fibre fibres[1024];
static ucontext_t scheduler;
static unsigned self, first_thread;
static unsigned long long exchanged[1024];
static void meet() { swapcontext(&fibres[self].context, &scheduler); threadIdx.x = first_thread + self; }
static void __syncthreads() { meet(); }
template <class T> static T exchange(T value, unsigned from) {
  exchanged[self] = 0;
  std::memcpy(&exchanged[self], &value, sizeof value);
  meet();
  std::memcpy(&value, &exchanged[self / 32 * 32 + from], sizeof value);
  meet();
  return value;
}
template <class T> static T __shfl_down_sync(unsigned mask, T value, unsigned by) {
  if (mask != 0xffffffffu) std::abort();
  return exchange(value, self % 32 + by < 32 ? self % 32 + by : self % 32);
}
template <class T> static T __shfl_sync(unsigned mask, T value, unsigned from) {
  if (mask != 0xffffffffu || from > 31) std::abort();
  return exchange(value, from);
}
static void __syncwarp() { meet(); }
// mma.m16n8k16 of bf16 by PTX's tables: who has which element of a (16 x 16), b (16 x 8) and c (16 x 8).
static void emulated_mma(float* c, unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  static unsigned as[1024][4], bs[1024][2];
  const unsigned warp = self / 32 * 32, lane = self % 32, mine[6] = {a0, a1, a2, a3, b0, b1};
  std::memcpy(as[self], mine, sizeof as[self]), std::memcpy(bs[self], mine + 4, sizeof bs[self]);
  meet();
  const auto number = [](unsigned bits, int half) { return __builtin_bit_cast(float, half ? bits & 0xffff0000u : bits << 16); };
  for (unsigned e = 0; e < 4; e++) {
    const unsigned row = lane / 4 + (e / 2) * 8, column = lane % 4 * 2 + e % 2;
    double sum = c[e];
    for (unsigned k = 0; k < 16; k++)
      sum += double(number(as[warp + row % 8 * 4 + k % 8 / 2][row / 8 + k / 8 * 2], k % 2)) *
             number(bs[warp + column * 4 + k % 8 / 2][k / 8], k % 2);
    c[e] = float(sum);
  }
  meet();
}
// Shared memory that a launch gives, and copies to it, which land when they are waited for.
alignas(128) static unsigned char shared_memory[232448];
static unsigned __cvta_generic_to_shared(const void* p) {
  const auto at = (const unsigned char*)p - shared_memory;
  if (at < 0 || at >= (long)sizeof shared_memory) std::abort();
  return unsigned(at);
}
struct Copy { void* to; const void* from; };
struct Copies { int count, groups, ends[4096]; Copy list[4096]; };
static Copies copies[1024];
static void emulated_copy(void* to, const void* from) {
  if ((unsigned long long)to % 16 || (unsigned long long)from % 16 || copies[self].count == 4096) std::abort();
  copies[self].list[copies[self].count++] = {to, from};
}
static void emulated_end_of_copies() {
  if (copies[self].groups == 4096) std::abort();
  copies[self].ends[copies[self].groups++] = copies[self].count;
}
static void emulated_await(int left) {
  Copies& c = copies[self];
  if (c.groups <= left) return;
  const int done = c.groups - left, landed = c.ends[done - 1];
  for (int i = 0; i < landed; i++) std::memcpy(c.list[i].to, c.list[i].from, 16);
  c.count -= landed, c.groups = left;
  std::memmove(c.list, c.list + landed, sizeof(Copy) * unsigned(c.count));
  for (int g = 0; g < left; g++) c.ends[g] = c.ends[done + g] - landed;
}
// wgmma.m64nNk16 of bf16: descriptors of matrices without swizzles, and who has which element of c (64 x N).
static float element_of(unsigned long long matrix, bool along, unsigned i, unsigned k) {
  const unsigned char* start = shared_memory + (matrix & 0x3fff) * 16;
  const unsigned long long steps = (matrix >> 16 & 0x3fff) * 16, side = (matrix >> 32 & 0x3fff) * 16;
  unsigned short bits;
  std::memcpy(&bits, start + i / 8 * side + k / 8 * steps + (along ? k % 8 * 16 + i % 8 * 2 : i % 8 * 16 + k % 8 * 2), 2);
  return __builtin_bit_cast(float, unsigned(bits) << 16);
}
static void emulated_wgmma(float* c, unsigned long long a, unsigned long long b, unsigned columns, bool a_along, bool b_along) {
  const unsigned lane = self % 32;
  for (unsigned e = 0; e < columns / 2; e++) {
    const unsigned row = self % 128 / 32 * 16 + lane / 4 + e / 2 % 2 * 8, column = e / 4 * 8 + lane % 4 * 2 + e % 2;
    double sum = c[e];
    for (unsigned k = 0; k < 16; k++) sum += double(element_of(a, a_along, row, k)) * element_of(b, b_along, column, k);
    c[e] = float(sum);
  }
}
static void (*fibre_main)(void**);
static void** fibre_arguments;
static void fibre_entry() { fibre_main(fibre_arguments); fibres[self].done = true; }
static void run_together(void (*main)(void**), void** arguments, unsigned threads) {
  fibre_main = main, fibre_arguments = arguments;
  for (unsigned f = 0; f < threads; f++) {
    fibres[f].done = false;
    copies[f].count = copies[f].groups = 0;
    getcontext(&fibres[f].context);
    fibres[f].context.uc_stack.ss_sp = fibres[f].stack;
    fibres[f].context.uc_stack.ss_size = sizeof fibres[f].stack;
    fibres[f].context.uc_link = &scheduler;
    makecontext(&fibres[f].context, fibre_entry, 0);
  }
  static unsigned random = 1;
  for (unsigned left = threads; left > 0;) {
    unsigned ended = 0, start = (random = random * 1664525 + 1013904223) >> 22;
    const bool back = random >> 20 & 1;
    for (unsigned i = 0; i < threads; i++) {
      self = (start + (back ? threads - i : i)) % threads;
      if (fibres[self].done) continue;
      threadIdx.x = first_thread + self;
      swapcontext(&scheduler, &fibres[self].context);
      ended += fibres[self].done;
    }
    if (ended != 0 && ended != left) std::abort();  // some threads wait for others that have ended
    left -= ended;
  }
}
)";

struct Module {
  void* library;
};
using Run = void (*)(unsigned block, unsigned blocks, unsigned threads, void** arguments);

struct Program {
  std::string source, log;
};

// Never destroyed: a process that ends may still release memory.
std::map<unsigned long long, size_t>& allocated = *new std::map<unsigned long long, size_t>;
int contexts = 0;
thread_local bool current = false;

bool has(const std::string& source, const char* what) { return source.find(what) != std::string::npos; }
bool has_barriers(const std::string& source) { return has(source, "__syncthreads") || has(source, "mma_m"); }
bool needs_fibres(const std::string& source) {
  return has_barriers(source) || has(source, "__shfl") || has(source, "__syncwarp");
}

/// What calls the entry `name` of the source for each thread, its arguments read through pointers.
std::string caller(const std::string& source, const std::string& name) {
  const size_t start = source.find(" " + name + "(", source.find("__global__")),
               open = source.find('(', start), close = source.find(')', open);
  if (start == std::string::npos) return "";
  std::string list = source.substr(open + 1, close - open - 1), arguments;
  for (size_t i = 0, number = 0; i < list.size(); number++) {
    const size_t end = std::min(list.find(", ", i), list.size());
    const std::string one = list.substr(i, end - i), type = one.substr(0, one.rfind(' '));
    arguments += (number ? ", *(" : "*(") + type + "*)p[" + std::to_string(number) + "]";
    i = end + 2;
  }
  if (needs_fibres(source)) {
    return "static void fibre_of(void** p) { " + name + "(" + arguments +
           "); }\n"
           "extern \"C\" void run_" +
           name +
           "(unsigned block, unsigned blocks, unsigned threads, void** p) {\n"
           "  (void)blocks; blockIdx.x = block; blockDim.x = threads;\n"
           "  const unsigned together = " +
           (has_barriers(source) ? "threads" : "32") +
           ";\n"
           "  for (first_thread = 0; first_thread < threads; first_thread += together) run_together(fibre_of, p, together);\n}\n";
  }
  return "extern \"C\" void run_" + name +
         "(unsigned block, unsigned blocks, unsigned threads, void** p) {\n"
         "  (void)blocks; blockIdx.x = block; blockDim.x = threads;\n"
         "  for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) " +
         name + "(" + arguments + ");\n}\n";
}

std::string entry_of(const std::string& source) {
  const std::string mark = "extern \"C\" __global__ void ", bounds = "__launch_bounds__(";
  size_t at = source.find(mark);
  if (at == std::string::npos) return "";
  at += mark.size();
  if (source.compare(at, bounds.size(), bounds) == 0) at = source.find(' ', at) + 1;
  return source.substr(at, source.find('(', at) - at);
}

/// What stands for an instruction in PTX; "" if it is none that is known.
std::string instead_of(const std::string& ptx) {
  const auto begins = [&](const char* what) { return ptx.compare(0, std::strlen(what), what) == 0; };
  if (begins("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "))
    return "emulated_mma(c, a0, a1, a2, a3, b0, b1);";
  if (begins("cp.async.cg.shared.global [%0], [%1], 16;")) return "emulated_copy(to, from);";
  if (begins("cp.async.commit_group;")) return "emulated_end_of_copies();";
  if (begins("cp.async.wait_group "))
    return "emulated_await(" + std::to_string(std::atoi(ptx.c_str() + 20)) + ");";
  for (const char* fence : {"wgmma.fence.sync.aligned;", "fence.proxy.async.shared::cta;",
                            "wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;"})
    if (begins(fence)) return ";";
  const std::string wgmma = "{.reg .pred p; setp.ne.b32 p, 1, 0; wgmma.mma_async.sync.aligned.m64n";
  if (!begins(wgmma.c_str())) return "";
  const size_t tail = ptx.find(", p, 1, 1, ") + 11;
  return "emulated_wgmma(c, a, b, " + std::to_string(std::atoi(ptx.c_str() + wgmma.size())) + ", " +
         ptx.substr(tail, 4) + ");";
}

/// Instructions that kernels write in PTX, as the functions above; shared memory that a launch gives is theirs.
std::string without_ptx(std::string source) {
  for (size_t begin = 0; (begin = source.find("asm volatile(\"", begin)) != std::string::npos;) {
    const size_t text = begin + 14, end = source.find(");\n}", begin);
    const std::string instead = instead_of(source.substr(text, source.find('"', text) - text));
    if (instead.empty()) return "#error unknown PTX\n";
    source.replace(begin, end + 2 - begin, instead);
  }
  const std::string given = "extern __shared__ __align__(128) unsigned char shared[];";
  if (const size_t at = source.find(given); at != std::string::npos)
    source.replace(at, given.size(), "unsigned char* shared = shared_memory;");
  return source;
}

bool build(const std::string& source, const std::string& path) {
  const char* compiler = std::getenv("CXX");
  const std::string text = path + ".cpp";
  std::FILE* file = std::fopen(text.c_str(), "w");
  if (!file) return false;
  const std::string whole = kPrelude + std::string(needs_fibres(source) ? kWarps : "") + without_ptx(source) +
                            caller(source, entry_of(source));
  const bool written = std::fwrite(whole.data(), 1, whole.size(), file) == whole.size();
  if (std::fclose(file) != 0 || !written) return false;
  const std::string command = std::string(compiler ? compiler : "c++") +
                              " -std=c++20 -O1 -w -ffp-contract=off -fno-strict-aliasing -shared -fPIC -o " +
                              path + " " + text + " -lm";
  const bool built = std::system(command.c_str()) == 0;
  std::remove(text.c_str());
  return built;
}

bool inside(unsigned long long address, size_t bytes) {
  auto it = allocated.upper_bound(address);
  if (it == allocated.begin()) return false;
  --it;
  return address + bytes <= it->first + it->second;
}

size_t whole_pages(size_t bytes) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

void protect(int access) {
  for (const auto& [address, bytes] : allocated)
    ::mprotect(reinterpret_cast<void*>(address), whole_pages(bytes), access);
}

/// While it lives, memory of the device can be read only; the first write to a buffer is seen, and lets all go on.
class WatchWrites {
 public:
  WatchWrites() {
    seen_ = 0;
    struct sigaction action = {};
    action.sa_sigaction = &on_fault;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGSEGV, &action, &before_);
    protect(PROT_READ);
  }
  ~WatchWrites() {
    protect(PROT_READ | PROT_WRITE);
    ::sigaction(SIGSEGV, &before_, nullptr);
  }
  WatchWrites(const WatchWrites&) = delete;
  WatchWrites& operator=(const WatchWrites&) = delete;
  bool seen() const { return seen_ != 0; }

 private:
  static void on_fault(int, siginfo_t* info, void*) {
    if (seen_ != 0 || !inside(reinterpret_cast<unsigned long long>(info->si_addr), 1)) {
      ::sigaction(SIGSEGV, &before_,
                  nullptr);  // a fault of the kernel's own: met again, with what was there before
      return;
    }
    seen_ = 1;
    protect(PROT_READ | PROT_WRITE);
  }
  static inline volatile sig_atomic_t seen_ = 0;
  static inline struct sigaction before_ = {};
};

/// What nvrtc.cpp asks of NVRTC, and why: no flag may get lost.
const char* const kFlags[] = {
    "--gpu-architecture=sm_90a", "--std=c++17",      "--fmad=false",      "--ftz=false",
    "--prec-div=true",           "--prec-sqrt=true", "--disable-warnings"};

}  // namespace

// ---- the driver

EMULATED int cuInit(unsigned flags) { return flags == 0 ? 0 : kInvalid; }
EMULATED int cuGetErrorName(int code, const char** out) {
  *out = code == kOutOfMemory    ? "CUDA_ERROR_OUT_OF_MEMORY"
         : code == kNotFound     ? "CUDA_ERROR_NOT_FOUND"
         : code == kLaunchFailed ? "CUDA_ERROR_LAUNCH_FAILED"
                                 : "CUDA_ERROR_INVALID_VALUE";
  return 0;
}
EMULATED int cuGetErrorString(int, const char** out) { return *out = "emulated", 0; }
EMULATED int cuDriverGetVersion(int* out) { return *out = 12040, 0; }
EMULATED int cuDeviceGetCount(int* out) { return *out = 1, 0; }
EMULATED int cuDeviceGet(int* out, int number) { return *out = 7, number == 0 ? 0 : kInvalid; }
EMULATED int cuDeviceGetName(char* out, int size, int device) {
  if (device != 7) return kInvalid;
  std::snprintf(out, static_cast<size_t>(size), "Emulated GPU");
  return 0;
}
EMULATED int cuDeviceTotalMem_v2(size_t* out, int device) {
  return *out = kMemory, device == 7 ? 0 : kInvalid;
}
EMULATED int cuDeviceGetAttribute(int* out, int attribute, int device) {
  *out = attribute == 75 ? 9 : attribute == 76 ? 0 : 132;
  return device == 7 && (attribute == 75 || attribute == 76 || attribute == 16) ? 0 : kInvalid;
}
EMULATED int cuDevicePrimaryCtxRetain(void** out, int device) {
  return contexts++, *out = &contexts, device == 7 ? 0 : kInvalid;
}
EMULATED int cuDevicePrimaryCtxRelease_v2(int device) { return device == 7 && contexts-- > 0 ? 0 : kInvalid; }
EMULATED int cuCtxSetCurrent(void* context) { return current = true, context == &contexts ? 0 : kInvalid; }
EMULATED int cuStreamCreate(void** out, unsigned flags) {
  return *out = &current, flags == 1 && current ? 0 : kInvalid;
}
EMULATED int cuStreamDestroy_v2(void*) { return current ? 0 : kInvalid; }
EMULATED int cuStreamSynchronize(void*) { return current ? 0 : kInvalid; }
EMULATED int cuMemAlloc_v2(unsigned long long* out, size_t bytes) {
  if (!current || bytes == 0) return kInvalid;
  if (bytes > kMemory) return kOutOfMemory;
  void* memory =
      ::mmap(nullptr, whole_pages(bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return kOutOfMemory;
  std::memset(memory, 0xA5, bytes);
  *out = reinterpret_cast<unsigned long long>(memory);
  allocated[*out] = bytes;
  return 0;
}
EMULATED int cuMemFree_v2(unsigned long long address) {
  const auto it = allocated.find(address);
  if (!current || it == allocated.end()) return kInvalid;
  ::munmap(reinterpret_cast<void*>(address), whole_pages(it->second));
  allocated.erase(it);
  return 0;
}
EMULATED int cuMemcpyHtoDAsync_v2(unsigned long long to, const void* from, size_t bytes, void*) {
  if (!current || !inside(to, bytes)) return kInvalid;
  std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return 0;
}
EMULATED int cuMemcpyDtoHAsync_v2(void* to, unsigned long long from, size_t bytes, void*) {
  if (!current || !inside(from, bytes)) return kInvalid;
  std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return 0;
}
EMULATED int cuMemsetD32Async(unsigned long long to, unsigned value, size_t count, void*) {
  if (!current || !inside(to, 4 * count)) return kInvalid;
  for (size_t i = 0; i < count; i++) reinterpret_cast<unsigned*>(to)[i] = value;
  return 0;
}
EMULATED int cuModuleLoadData(void** out, const void* image) {
  static int number = 0;
  const char* folder = std::getenv("TMPDIR");
  const std::string path = std::string(folder ? folder : "/tmp") + "/emulated-" + std::to_string(::getpid()) +
                           "-" + std::to_string(number++) + ".so";
  if (!current || !build(static_cast<const char*>(image), path)) return kInvalid;
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  std::remove(path.c_str());
  if (!library) return kInvalid;
  *out = new Module{library};
  return 0;
}
EMULATED int cuModuleUnload(void* module) {
  ::dlclose(static_cast<Module*>(module)->library);
  delete static_cast<Module*>(module);
  return 0;
}
EMULATED int cuModuleGetFunction(void** out, void* module, const char* name) {
  *out = ::dlsym(static_cast<Module*>(module)->library, (std::string("run_") + name).c_str());
  return *out ? 0 : kNotFound;
}
EMULATED int cuFuncSetAttribute(void* function, int attribute, int value) {
  return function && attribute == 8 && value > 0 && value <= 232448 ? 0 : kInvalid;
}
EMULATED int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                            unsigned bz, unsigned shared, void*, void** arguments, void** extra) {
  const bool valid = current && gx > 0 && gx <= 0x7fffffff && gy == 1 && gz == 1 && bx > 0 && bx <= 1024 &&
                     by == 1 && bz == 1 && shared <= 232448 && !extra;
  if (!valid) return kInvalid;
  const WatchWrites watch;
  for (unsigned block = 0; block < gx; block++) reinterpret_cast<Run>(function)(block, gx, bx, arguments);
  return watch.seen() ? 0 : kLaunchFailed;
}

// ---- NVRTC

EMULATED const char* nvrtcGetErrorString(int) { return "NVRTC_ERROR_COMPILATION"; }
EMULATED int nvrtcVersion(int* major, int* minor) { return *major = 12, *minor = 4, 0; }
EMULATED int nvrtcGetNumSupportedArchs(int* out) { return *out = 2, 0; }
EMULATED int nvrtcGetSupportedArchs(int* out) { return out[0] = 80, out[1] = 90, 0; }
EMULATED int nvrtcCreateProgram(Program** out, const char* source, const char*, int, const char* const*,
                                const char* const*) {
  *out = new Program{source, ""};
  return 0;
}
EMULATED int nvrtcDestroyProgram(Program** program) { return delete *program, *program = nullptr, 0; }
EMULATED int nvrtcCompileProgram(Program* program, int count, const char* const* options) {
  const auto given = [&](const char* flag) {
    return std::any_of(options, options + count, [&](const char* o) { return std::strcmp(o, flag) == 0; });
  };
  for (const char* flag : kFlags)
    if (!given(flag)) program->log += std::string("emulated: no ") + flag + "\n";
  if (count != static_cast<int>(std::size(kFlags)))
    program->log += "emulated: " + std::to_string(count) + " flags, not those that are known\n";
  if (entry_of(program->source).empty()) program->log += "emulated: no entry\n";
  return program->log.empty() ? 0 : 6;
}
EMULATED int nvrtcGetProgramLogSize(Program* p, size_t* out) { return *out = p->log.size() + 1, 0; }
EMULATED int nvrtcGetProgramLog(Program* p, char* out) {
  return std::memcpy(out, p->log.c_str(), p->log.size() + 1), 0;
}
EMULATED int nvrtcGetPTXSize(Program*, size_t*) { return kInvalid; }
EMULATED int nvrtcGetPTX(Program*, char*) { return kInvalid; }
EMULATED int nvrtcGetCUBINSize(Program* p, size_t* out) { return *out = p->source.size(), 0; }
EMULATED int nvrtcGetCUBIN(Program* p, char* out) {
  return std::memcpy(out, p->source.data(), p->source.size()), 0;
}
