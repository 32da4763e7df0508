// Which of the two exceptions an exception is.
#include "base/guard.h"

#include <cxxabi.h>

#include <cstdlib>
#include <memory>
#include <new>
#include <system_error>
#include <typeinfo>

#include "base/error.h"

namespace kontor {

static std::string type_name(const std::exception& e) {
  int status = 0;
  const std::unique_ptr<char, void (*)(void*)> text(
      abi::__cxa_demangle(typeid(e).name(), nullptr, nullptr, &status), std::free);
  return status == 0 ? text.get() : typeid(e).name();
}

void rethrow_as_ours(std::string_view doing) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const InternalError&) {
    throw;
  } catch (const std::bad_alloc&) {
    fail("{}: out of memory", doing);
  } catch (const std::system_error& e) {  // of files too
    fail("{}: {}", doing, e.what());
  } catch (const std::exception& e) {
    broken("{}: {}: {}", doing, type_name(e), e.what());
  }
}

}  // namespace kontor
