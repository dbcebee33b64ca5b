// Linked into tfjs-node's binding and run when it is loaded, before TensorFlow's first operation.
#include <malloc.h>

#include <cstdlib>

namespace absl {
inline namespace lts_20250814 {
enum class LogSeverityAtLeast : int;
// Exported by libtensorflow_framework; its headers are not in the wheel.
void SetMinLogLevel(LogSeverityAtLeast);
}  // namespace lts_20250814
}  // namespace absl

namespace {

// TensorFlow greets with four lines about the processor, before it reads TF_CPP_MIN_LOG_LEVEL. Errors still come through.
void QuietLogs() {
  const char* wish = std::getenv("TF_CPP_MIN_LOG_LEVEL");
  const int level = wish == nullptr || *wish == '\0' ? 2 : std::atoi(wish);
  absl::SetMinLogLevel(static_cast<absl::LogSeverityAtLeast>(level));
}

// Activations of tens of MB come and go every step. malloc keeps their pages rather than return them to the kernel, which
// would zero and map them anew each time.
void KeepPages() {
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // the most that glibc takes
  mallopt(M_TRIM_THRESHOLD, 2147483647);
  mallopt(M_TOP_PAD, 64 << 20);
  mallopt(M_ARENA_MAX, 1);
}

__attribute__((constructor)) void OnLoad() {
  QuietLogs();
  KeepPages();
}

}  // namespace
