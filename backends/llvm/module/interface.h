// The C interface of libkontor-llvm.so, the module that holds LLVM. It is opened only when something must be compiled.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { KONTOR_LLVM_ABI = 1 };

/// What a compile hands back through its sink.
enum KontorLlvmOutput {
  KONTOR_LLVM_OBJECT,    ///< a relocatable ELF object
  KONTOR_LLVM_IR,        ///< optimised IR text
  KONTOR_LLVM_ASSEMBLY,  ///< assembly text
  KONTOR_LLVM_TIMES,     ///< a table of the time of each pass
  KONTOR_LLVM_ERROR      ///< the log of a failure
};

struct KontorLlvmRequest {
  const char* ir;        ///< IR text, ending in 0
  size_t ir_size;        ///< without the 0
  const char* entry;     ///< name of the function that is kept; all others become internal
  const char* cpu;       ///< LLVM's name of the instruction set, such as x86-64-v4
  const char* features;  ///< such as "+avx512bf16", or empty
  const char* tune;      ///< LLVM's name of the processor to schedule for; empty: this host's
  unsigned vector_bits;  ///< preferred vector width
  unsigned outputs;      ///< bits (1 << KontorLlvmOutput) of the texts wanted besides the object
  int verify;            ///< check the IR before optimising
};

/// Called once for each output, during the compile.
typedef void (*KontorLlvmSink)(void* context, enum KontorLlvmOutput kind, const char* data, size_t size);

/// Returns 0, or 1 after an error went to the sink. May be called from several threads at once.
typedef int (*KontorLlvmCompile)(const struct KontorLlvmRequest* request, KontorLlvmSink sink, void* context);

/// What the symbol `kontor_llvm_module` points to.
struct KontorLlvmModule {
  uint32_t abi;
  const char* version;  ///< of LLVM
  KontorLlvmCompile compile;
};

#ifdef __cplusplus
}
#endif
