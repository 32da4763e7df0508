// LLVM IR text -> a relocatable object. The only file that includes LLVM headers.
#include "backends/llvm/module/interface.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>

#include <llvm/ADT/SmallString.h>
#include <llvm/Analysis/TargetLibraryInfo.h>
#include <llvm/AsmParser/Parser.h>
#include <llvm/Config/llvm-config.h>
#include <llvm/IR/DiagnosticInfo.h>
#include <llvm/IR/DiagnosticPrinter.h>
#include <llvm/IR/LLVMContext.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Module.h>
#include <llvm/IR/OptBisect.h>
#include <llvm/IR/PassTimingInfo.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Passes/StandardInstrumentations.h>
#include <llvm/Support/ErrorHandling.h>
#include <llvm/Support/SourceMgr.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>
#include <llvm/Transforms/InstCombine/InstCombine.h>
#include <llvm/Transforms/Scalar/EarlyCSE.h>
#include <llvm/Transforms/Scalar/LICM.h>
#include <llvm/Transforms/Scalar/SROA.h>
#include <llvm/Transforms/Scalar/SimplifyCFG.h>

#include "base/lasting.h"

namespace {

using Request = KontorLlvmRequest;

struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

[[noreturn]] void throw_fatal(void*, const char* reason, bool) { throw Failure(reason); }
[[noreturn]] void throw_out_of_memory(void*, const char*, bool) { throw std::bad_alloc(); }

// LLVM ends the process where it meets IR that it cannot lower; the handler turns that into an exception of ours.
void initialise() {
  static std::once_flag once;
  std::call_once(once, [] {
    llvm::InitializeNativeTarget();
    llvm::InitializeNativeTargetAsmPrinter();
    llvm::install_fatal_error_handler(throw_fatal);
    llvm::install_bad_alloc_error_handler(throw_out_of_memory);
  });
}

void collect_diagnostic(const llvm::DiagnosticInfo* info, void* context) {
  if (info->getSeverity() != llvm::DS_Error) return;
  std::string* log = static_cast<std::string*>(context);
  llvm::raw_string_ostream stream(*log);
  llvm::DiagnosticPrinterRawOStream printer(stream);
  info->print(printer);
  stream << '\n';
}

bool wants(const Request& request, KontorLlvmOutput output) { return (request.outputs >> output & 1) != 0; }

// cpuid is slow in a virtual machine: asked once.
const std::string& host_processor() {
  static const std::string& name = kontor::lasting(llvm::sys::getHostCPUName().str());
  return name;
}

std::unique_ptr<llvm::Module> parse(const Request& request, llvm::LLVMContext& context) {
  llvm::SMDiagnostic diagnostic;
  llvm::MemoryBufferRef text(llvm::StringRef(request.ir, request.ir_size), request.entry);
  std::unique_ptr<llvm::Module> module = llvm::parseAssembly(text, diagnostic, context);
  if (module && module->getFunction(request.entry)) return module;
  if (module) throw Failure(std::string("the IR has no function @") + request.entry);
  std::string log;
  llvm::raw_string_ostream stream(log);
  diagnostic.print(nullptr, stream, false);
  throw Failure(stream.str());
}

std::unique_ptr<llvm::TargetMachine> make_machine(const Request& request) {
  std::string name = llvm::sys::getProcessTriple(), error;
  llvm::Triple triple(name);
#if LLVM_VERSION_MAJOR >= 22
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(triple, error);
#else
  const llvm::Target* target = llvm::TargetRegistry::lookupTarget(name, error);
#endif
  if (!target) throw Failure(error);
  llvm::TargetOptions options;
  options.AllowFPOpFusion = llvm::FPOpFusion::Strict;  // a multiply and an add round twice
#if LLVM_VERSION_MAJOR >= 21
  const llvm::Triple& machine_triple = triple;
#else
  const std::string& machine_triple = name;
#endif
  return std::unique_ptr<llvm::TargetMachine>(
      target->createTargetMachine(machine_triple, request.cpu, request.features, options, llvm::Reloc::PIC_,
                                  llvm::CodeModel::Small, llvm::CodeGenOptLevel::Default, true));
}

// Making a machine takes as long as compiling a small kernel, so that each thread keeps its last one.
struct KeptMachine {
  std::string made_for;
  std::unique_ptr<llvm::TargetMachine> machine;

  llvm::TargetMachine& get(const Request& request) {
    const std::string wanted = std::string(request.cpu) + '/' + request.features;
    if (!machine || made_for != wanted) machine = make_machine(request);
    made_for = wanted;
    return *machine;
  }
};

KeptMachine& kept_machine() { return kontor::of_thread<KeptMachine>(); }

// All but the entry is internal, so that nothing goes through a GOT or PLT; no unwind tables are needed.
void set_attributes(llvm::Module& module, const llvm::TargetMachine& machine, const Request& request) {
#if LLVM_VERSION_MAJOR >= 21
  module.setTargetTriple(machine.getTargetTriple());
#else
  module.setTargetTriple(machine.getTargetTriple().str());
#endif
  module.setDataLayout(machine.createDataLayout());
  const std::string tune = request.tune[0] ? request.tune : host_processor();
  for (llvm::Function& function : module) {
    if (function.isDeclaration()) continue;
    bool entry = function.getName() == request.entry;
    function.setLinkage(entry ? llvm::GlobalValue::ExternalLinkage : llvm::GlobalValue::InternalLinkage);
    function.setDSOLocal(true);
    function.addFnAttr(llvm::Attribute::NoUnwind);
    function.addFnAttr("target-cpu", request.cpu);
    if (*request.features) function.addFnAttr("target-features", request.features);
    function.addFnAttr("tune-cpu", tune);
    function.addFnAttr("prefer-vector-width", std::to_string(request.vector_bits));
    function.addFnAttr("no-builtins");
  }
  for (llvm::GlobalVariable& global : module.globals()) {
    if (!global.isDeclaration()) global.setLinkage(llvm::GlobalValue::PrivateLinkage);
  }
}

// The renderer writes vectors itself, so that no pass that looks for them, for idioms or for calls runs.
llvm::FunctionPassManager pipeline() {
  llvm::FunctionPassManager passes;
  passes.addPass(llvm::SROAPass(llvm::SROAOptions::ModifyCFG));
  passes.addPass(llvm::EarlyCSEPass(false));
  passes.addPass(llvm::InstCombinePass());
  passes.addPass(llvm::SimplifyCFGPass());
  passes.addPass(llvm::createFunctionToLoopPassAdaptor(llvm::LICMPass(llvm::LICMOptions()), true));
  passes.addPass(llvm::EarlyCSEPass(true));
  return passes;
}

void optimise(llvm::Module& module, llvm::TargetMachine& machine, llvm::TimePassesHandler& times) {
  llvm::PassInstrumentationCallbacks callbacks;
  times.registerCallbacks(callbacks);
  llvm::PassBuilder builder(&machine, llvm::PipelineTuningOptions(), std::nullopt, &callbacks);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::TargetLibraryInfoImpl library(machine.getTargetTriple());
  library.disableAllFunctions();
  functions.registerPass([&] { return llvm::TargetLibraryAnalysis(library); });
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  llvm::FunctionPassManager passes = pipeline();
  for (llvm::Function& function : module) {
    if (!function.isDeclaration()) passes.run(function, functions);
  }
}

llvm::SmallString<0> emit(llvm::Module& module, llvm::TargetMachine& machine, llvm::CodeGenFileType type) {
  llvm::SmallString<0> bytes;
  llvm::raw_svector_ostream stream(bytes);
  llvm::legacy::PassManager passes;
  llvm::TargetLibraryInfoImpl library(machine.getTargetTriple());
  library.disableAllFunctions();
  passes.add(new llvm::TargetLibraryInfoWrapperPass(library));
  if (machine.addPassesToEmitFile(passes, stream, nullptr, type))
    throw Failure("LLVM cannot emit this file type");
  passes.run(module);
  return bytes;
}

std::string text_of(const llvm::Module& module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  return stream.str();
}

void check(const llvm::Module& module) {
  std::string log;
  llvm::raw_string_ostream stream(log);
  if (llvm::verifyModule(module, &stream)) throw Failure(stream.str());
}

/// Codegen without strength reduction of loops, which takes a quarter of LLVM's time to find what the text says already: an
/// index that goes along with a loop's counter (Builder::scaled). A context's own, so that another user of the same
/// library keeps the pass.
class Gate : public llvm::OptPassGate {
 public:
  // LLVM 19 declares the second of these; it is const in later versions, which name a pass by its short name.
  bool isEnabled() const { return true; }
  bool shouldRunPass(llvm::StringRef pass, llvm::StringRef) { return wanted(pass); }
  bool shouldRunPass(llvm::StringRef pass, llvm::StringRef) const { return wanted(pass); }

 private:
  static bool wanted(llvm::StringRef pass) {
    return pass != "Loop Strength Reduction" && pass != "loop-reduce";
  }
};

void compile_or_throw(const Request& request, KontorLlvmSink sink, void* out) {
  initialise();
  std::string log, times_text;
  Gate gate;
  llvm::LLVMContext context;
  context.setOptPassGate(gate);
  context.setDiagnosticHandlerCallBack(collect_diagnostic, &log);
  std::unique_ptr<llvm::Module> module = parse(request, context);
  if (request.verify) check(*module);
  llvm::TargetMachine& machine = kept_machine().get(request);
  set_attributes(*module, machine, request);
  // A global of LLVM: written only where it changes, so that threads that compile do not race for it.
  if (llvm::TimePassesIsEnabled != wants(request, KONTOR_LLVM_TIMES)) {
    llvm::TimePassesIsEnabled = wants(request, KONTOR_LLVM_TIMES);
  }
  llvm::TimePassesHandler times(wants(request, KONTOR_LLVM_TIMES));
  llvm::raw_string_ostream times_stream(times_text);
  times.setOutStream(times_stream);
  optimise(*module, machine, times);
  auto give = [&](KontorLlvmOutput kind, llvm::StringRef text) { sink(out, kind, text.data(), text.size()); };
  if (wants(request, KONTOR_LLVM_IR)) give(KONTOR_LLVM_IR, text_of(*module));
  if (wants(request,
            KONTOR_LLVM_ASSEMBLY)) {  // codegen changes the IR that it is given: ask for assembly of a copy
    std::unique_ptr<llvm::Module> copy = parse(request, context);
    set_attributes(*copy, machine, request);
    llvm::TimePassesHandler silent(false);
    optimise(*copy, machine, silent);
    give(KONTOR_LLVM_ASSEMBLY, emit(*copy, machine, llvm::CodeGenFileType::AssemblyFile));
  }
  llvm::SmallString<0> object = emit(*module, machine, llvm::CodeGenFileType::ObjectFile);
  if (!log.empty()) throw Failure(log);
  if (wants(request, KONTOR_LLVM_TIMES)) {
    times.print();
    llvm::reportAndResetTimings(&times_stream);
    give(KONTOR_LLVM_TIMES, times_stream.str());
  }
  give(KONTOR_LLVM_OBJECT, object);
}

int compile(const Request* request, KontorLlvmSink sink, void* context) {
  try {
    compile_or_throw(*request, sink, context);
    return 0;
  } catch (const std::exception& error) {
    kept_machine().machine.reset();  // a fatal error may have left it in any state
    const bool memory = dynamic_cast<const std::bad_alloc*>(&error) != nullptr;
    const char* what = memory ? "out of memory" : error.what();
    sink(context, KONTOR_LLVM_ERROR, what, std::strlen(what));
    return 1;
  }
}

}  // namespace

extern "C" __attribute__((visibility("default"))) const KontorLlvmModule kontor_llvm_module;
extern "C" const KontorLlvmModule kontor_llvm_module = {KONTOR_LLVM_ABI, LLVM_VERSION_STRING, compile};
