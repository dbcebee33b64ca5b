// Pages of a file in the place of pages of memory: what one process writes there, all that have put the file's pages somewhere see. A
// WebAssembly memory's too, whose address stands still as long as it lives, so that its kernels work on what processes share.
#include <node_api.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

namespace {

// putPages(place, file, position): what was in the place is gone. `file` −1: fresh pages, of this process alone.
napi_value PutPages(napi_env env, napi_callback_info info) {
  napi_value arguments[3];
  size_t count = 3;
  void* place = nullptr;
  size_t length = 0;
  int32_t file = 0;
  int64_t position = 0;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  if (count != 3 || napi_get_typedarray_info(env, arguments[0], nullptr, &length, &place, nullptr, nullptr) != napi_ok ||
      napi_get_value_int32(env, arguments[1], &file) != napi_ok ||
      napi_get_value_int64(env, arguments[2], &position) != napi_ok) {
    napi_throw_type_error(env, nullptr, "putPages is not called so");
    return nullptr;
  }
  const int kind = file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  // Both must begin on a page: the kernel says so otherwise.
  if (mmap(place, length, PROT_READ | PROT_WRITE, kind | MAP_FIXED, file, position) == MAP_FAILED)
    napi_throw_error(env, nullptr, std::strerror(errno));
  return nullptr;
}

napi_value Initialise(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "putPages", NAPI_AUTO_LENGTH, PutPages, nullptr, &function);
  napi_set_named_property(env, exports, "putPages", function);
  return exports;
}

}  // namespace

NAPI_MODULE(shared_pages, Initialise)
