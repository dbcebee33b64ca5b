// Lets an ArrayBuffer's memory go at once, where it would otherwise be for the garbage collector to find.
#include <node_api.h>

namespace {

// letGo(buffer): it is of length 0 from now on.
napi_value LetGo(napi_env env, napi_callback_info info) {
  napi_value buffer;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &buffer, nullptr, nullptr);
  if (count != 1 || napi_detach_arraybuffer(env, buffer) != napi_ok)
    napi_throw_type_error(env, nullptr, "letGo takes an ArrayBuffer that is nobody else's");
  return nullptr;
}

napi_value Initialise(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "letGo", NAPI_AUTO_LENGTH, LetGo, nullptr, &function);
  napi_set_named_property(env, exports, "letGo", function);
  return exports;
}

}  // namespace

NAPI_MODULE(let_go, Initialise)
