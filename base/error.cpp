// Key functions of the exceptions, so that their type information lives in the library once.
#include <kontor/types.h>

namespace kontor {

Error::Error(const std::string& message) : std::runtime_error(message) {}
Error::~Error() = default;
InternalError::InternalError(const std::string& message) : std::logic_error(message) {}
InternalError::~InternalError() = default;

}  // namespace kontor
