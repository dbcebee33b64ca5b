// A TensorFlow operation that puts a tensor where it is wanted while the graph still runs. Fetched, it would come with the others when the
// graph has ended, in memory of its own (to be zeroed, filled, and read once).
//
// TandemHandOver(values: float, table: int32) -> float [0], attribute `place`: the values go to the place of that number in the table.
#include <node_api.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

// From tensorflow/c/kernels.h, which asks for headers that come with no package.
extern "C" {
typedef struct TF_KernelBuilder TF_KernelBuilder;
typedef struct TF_OpKernelConstruction TF_OpKernelConstruction;
typedef struct TF_OpKernelContext TF_OpKernelContext;
TF_KernelBuilder* TF_NewKernelBuilder(const char* operation, const char* device,
                                      void* (*create)(TF_OpKernelConstruction*),
                                      void (*compute)(void*, TF_OpKernelContext*), void (*remove)(void*));
void TF_RegisterKernelBuilder(const char* kernel, TF_KernelBuilder* builder, TF_Status* status);
void TF_OpKernelConstruction_GetAttrInt32(TF_OpKernelConstruction* construction, const char* name, int32_t* value,
                                          TF_Status* status);
void TF_OpKernelConstruction_Failure(TF_OpKernelConstruction* construction, TF_Status* status);
void TF_OpKernelContext_Failure(TF_OpKernelContext* context, TF_Status* status);
void TF_GetInput(TF_OpKernelContext* context, int input, TF_Tensor** tensor, TF_Status* status);
TF_Tensor* TF_AllocateOutput(TF_OpKernelContext* context, int output, TF_DataType type, const int64_t* dims,
                             int dim_count, size_t length, TF_Status* status);
}

namespace {

/** Places that somebody waits for, together. */
struct Stretch {
  Stretch(int32_t run, uint32_t number, uint32_t places) : run(run), number(number), left(places) {}
  /** as whoever waits calls them */
  const int32_t run;
  const uint32_t number;
  /** places of it to which nothing has come */
  std::atomic<uint32_t> left;
};

struct Place {
  /** null: nobody wants what comes there */
  float* target = nullptr;
  std::atomic<bool> finite{true};
  /** null: nobody waits for it */
  std::shared_ptr<Stretch> stretch;
};

/** Where the results of one graph go. */
struct Table {
  explicit Table(std::vector<size_t> sizes) : lengths(std::move(sizes)), places(lengths.size()) {}
  /** in values */
  const std::vector<size_t> lengths;
  std::vector<Place> places;
};

std::mutex tables_mutex;
std::map<int32_t, std::shared_ptr<Table>> tables;
int32_t tables_opened = 0;

/** Hears of each stretch that is whole; null: nobody does. */
napi_threadsafe_function listener = nullptr;

std::shared_ptr<Table> TableOf(int32_t number) {
  const std::lock_guard<std::mutex> lock(tables_mutex);
  const auto found = tables.find(number);
  return found == tables.end() ? nullptr : found->second;
}

// --- TensorFlow's side, on threads of TensorFlow's.

/** Values that are looked at and copied while they are in the cache. */
constexpr size_t kBlock = 4096;
constexpr uint32_t kExponent = 0x7f800000;

/** @returns whether all are finite: neither an infinity nor a NaN, whose exponents are all ones */
__attribute__((optimize("O3"))) bool IsFinite(const float* values, size_t length) {
  uint32_t found = 0;
  for (size_t index = 0; index < length; index++) {
    uint32_t bits;
    std::memcpy(&bits, values + index, sizeof bits);
    found |= static_cast<uint32_t>((bits & kExponent) == kExponent);
  }
  return found == 0;
}

struct Kernel {
  int32_t place = 0;
};

void* CreateKernel(TF_OpKernelConstruction* construction) {
  auto* kernel = new Kernel();
  TF_Status* status = TF_NewStatus();
  TF_OpKernelConstruction_GetAttrInt32(construction, "place", &kernel->place, status);
  if (TF_GetCode(status) != TF_OK) TF_OpKernelConstruction_Failure(construction, status);
  TF_DeleteStatus(status);
  return kernel;
}

void DeleteKernel(void* kernel) { delete static_cast<Kernel*>(kernel); }

/** @returns what is wrong; null: nothing */
const char* HandOver(const Kernel& kernel, const TF_Tensor* values, const TF_Tensor* number) {
  const int32_t name = *static_cast<const int32_t*>(TF_TensorData(number));
  if (name == 0) return nullptr;
  const auto table = TableOf(name);
  const auto place = static_cast<size_t>(kernel.place);
  if (table == nullptr || place >= table->places.size()) return "a tensor is handed over to a table that is not open";
  const size_t length = table->lengths[place];
  if (TF_TensorByteSize(values) != length * sizeof(float)) return "a tensor is handed over to a place of another size";
  const auto* from = static_cast<const float*>(TF_TensorData(values));
  Place& own = table->places[place];
  float* to = own.target;
  // Nobody wants it now.
  if (to == nullptr) return nullptr;
  bool finite = true;
  for (size_t done = 0; done < length; done += kBlock) {
    const size_t count = length - done < kBlock ? length - done : kBlock;
    finite = IsFinite(from + done, count) && finite;
    std::memcpy(to + done, from + done, count * sizeof(float));
  }
  own.finite = finite;
  if (own.stretch != nullptr && own.stretch->left.fetch_sub(1) == 1) {
    const std::lock_guard<std::mutex> lock(tables_mutex);
    auto* whole = new std::shared_ptr<Stretch>(own.stretch);
    if (listener == nullptr || napi_call_threadsafe_function(listener, whole, napi_tsfn_nonblocking) != napi_ok)
      delete whole;
  }
  return nullptr;
}

void Compute(void* kernel, TF_OpKernelContext* context) {
  TF_Status* status = TF_NewStatus();
  TF_Tensor* values = nullptr;
  TF_Tensor* number = nullptr;
  TF_GetInput(context, 0, &values, status);
  if (TF_GetCode(status) == TF_OK) TF_GetInput(context, 1, &number, status);
  if (TF_GetCode(status) == TF_OK) {
    const char* problem = HandOver(*static_cast<Kernel*>(kernel), values, number);
    if (problem != nullptr) TF_SetStatus(status, TF_INTERNAL, problem);
  }
  if (TF_GetCode(status) == TF_OK) {
    const int64_t nothing = 0;
    TF_DeleteTensor(TF_AllocateOutput(context, 0, TF_FLOAT, &nothing, 1, 0, status));
  }
  if (TF_GetCode(status) != TF_OK) TF_OpKernelContext_Failure(context, status);
  if (values != nullptr) TF_DeleteTensor(values);
  if (number != nullptr) TF_DeleteTensor(number);
  TF_DeleteStatus(status);
}

void InferShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeHandle* nothing = TF_ShapeInferenceContextVectorFromSize(context, 0);
  TF_ShapeInferenceContextSetOutput(context, 0, nothing, status);
  TF_DeleteShapeHandle(nothing);
}

/** @returns whether TensorFlow knows the operation from now on */
bool Register() {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* operation = TF_NewOpDefinitionBuilder("TandemHandOver");
  TF_OpDefinitionBuilderAddAttr(operation, "place: int");
  TF_OpDefinitionBuilderAddInput(operation, "values: float");
  TF_OpDefinitionBuilderAddInput(operation, "table: int32");
  TF_OpDefinitionBuilderAddOutput(operation, "nothing: float");
  TF_OpDefinitionBuilderSetIsStateful(operation, true);
  TF_OpDefinitionBuilderSetShapeInferenceFunction(operation, InferShape);
  TF_RegisterOpDefinition(operation, status);
  // On the host: what a device has computed is copied there by TensorFlow, as soon as it is.
  if (TF_GetCode(status) == TF_OK) {
    TF_KernelBuilder* builder = TF_NewKernelBuilder("TandemHandOver", "CPU", CreateKernel, Compute, DeleteKernel);
    TF_RegisterKernelBuilder("TandemHandOver", builder, status);
  }
  const bool known = TF_GetCode(status) == TF_OK;
  TF_DeleteStatus(status);
  return known;
}

// --- JavaScript's side.

napi_value Throw(napi_env env, const char* message) {
  napi_throw_error(env, nullptr, message);
  return nullptr;
}

// openTable(lengths): a number. Lengths in values.
napi_value OpenTable(napi_env env, napi_callback_info info) {
  napi_value list;
  size_t count = 1;
  uint32_t places = 0;
  napi_get_cb_info(env, info, &count, &list, nullptr, nullptr);
  if (count != 1 || napi_get_array_length(env, list, &places) != napi_ok) return Throw(env, "openTable takes lengths");
  std::vector<size_t> lengths(places);
  for (uint32_t place = 0; place < places; place++) {
    napi_value entry;
    int64_t length = 0;
    napi_get_element(env, list, place, &entry);
    if (napi_get_value_int64(env, entry, &length) != napi_ok || length < 0) return Throw(env, "a length is none");
    lengths[place] = static_cast<size_t>(length);
  }
  const std::lock_guard<std::mutex> lock(tables_mutex);
  tables[++tables_opened] = std::make_shared<Table>(std::move(lengths));
  napi_value number;
  napi_create_int32(env, tables_opened, &number);
  return number;
}

/** @returns the table that the first argument names; null, with an exception, where there is none */
std::shared_ptr<Table> Named(napi_env env, napi_value argument) {
  int32_t number = 0;
  auto table = napi_get_value_int32(env, argument, &number) == napi_ok ? TableOf(number) : nullptr;
  if (table == nullptr) Throw(env, "there is no such table");
  return table;
}

/** The places `[first, end)` of a table. */
struct Range {
  std::shared_ptr<Table> table;
  uint32_t first = 0;
  uint32_t end = 0;
};

/** @returns those that the first three arguments name; without a table, and with an exception, where there are none */
Range RangeOf(napi_env env, const napi_value* arguments) {
  Range range;
  auto table = Named(env, arguments[0]);
  if (table == nullptr) return range;
  if (napi_get_value_uint32(env, arguments[1], &range.first) != napi_ok ||
      napi_get_value_uint32(env, arguments[2], &range.end) != napi_ok || range.end > table->lengths.size())
    Throw(env, "hand-over is not called so");
  else
    range.table = std::move(table);
  return range;
}

// aim(table, first, end, vector): what comes to those places goes into the vector, one behind the other.
napi_value Aim(napi_env env, napi_callback_info info) {
  napi_value arguments[4];
  size_t count = 4;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const Range range = RangeOf(env, arguments);
  if (range.table == nullptr) return nullptr;
  size_t room = 0;
  void* data = nullptr;
  napi_typedarray_type type = napi_int8_array;
  if (napi_get_typedarray_info(env, arguments[3], &type, &room, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float32_array)
    return Throw(env, "aim is not called so");
  auto* place = static_cast<float*>(data);
  for (uint32_t index = range.first; index < range.end; index++) {
    const size_t length = range.table->lengths[index];
    if (length > room) return Throw(env, "the places do not fit into the vector");
    range.table->places[index].target = place;
    range.table->places[index].finite = true;
    place += length;
    room -= length;
  }
  return nullptr;
}

// await(table, first, end, run, number): the listener hears of it when something has come to all of those places. After `aim`.
napi_value Await(napi_env env, napi_callback_info info) {
  napi_value arguments[5];
  size_t count = 5;
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  const Range range = RangeOf(env, arguments);
  if (range.table == nullptr) return nullptr;
  uint32_t number = 0;
  int32_t run = 0;
  if (napi_get_value_int32(env, arguments[3], &run) != napi_ok ||
      napi_get_value_uint32(env, arguments[4], &number) != napi_ok || range.first >= range.end)
    return Throw(env, "await is not called so");
  const auto stretch = std::make_shared<Stretch>(run, number, range.end - range.first);
  for (uint32_t index = range.first; index < range.end; index++) range.table->places[index].stretch = stretch;
  return nullptr;
}

void Tell(napi_env env, napi_value callback, void*, void* data) {
  const std::unique_ptr<std::shared_ptr<Stretch>> stretch(static_cast<std::shared_ptr<Stretch>*>(data));
  if (env == nullptr) return;
  napi_value undefined, arguments[2];
  napi_get_undefined(env, &undefined);
  napi_create_int32(env, (*stretch)->run, &arguments[0]);
  napi_create_uint32(env, (*stretch)->number, &arguments[1]);
  napi_call_function(env, undefined, callback, 2, arguments, nullptr);
}

void Forget(napi_env, void*, void*) {
  const std::lock_guard<std::mutex> lock(tables_mutex);
  listener = nullptr;
}

// listen(callback): is called, on the thread that calls this, with run and number of each stretch that is whole. Once in a process.
napi_value Listen(napi_env env, napi_callback_info info) {
  napi_value callback, name;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &callback, nullptr, nullptr);
  napi_create_string_utf8(env, "tandem hand-over", NAPI_AUTO_LENGTH, &name);
  const std::lock_guard<std::mutex> lock(tables_mutex);
  if (count != 1 || listener != nullptr ||
      napi_create_threadsafe_function(env, callback, nullptr, name, 0, 1, nullptr, Forget, nullptr, Tell, &listener) !=
          napi_ok)
    return Throw(env, "somebody listens already");
  // Nobody stays for it.
  napi_unref_threadsafe_function(env, listener);
  return nullptr;
}

// landed(table): the first place whose values are not all finite, or −1. Nothing that still comes is taken.
napi_value Landed(napi_env env, napi_callback_info info) {
  napi_value argument;
  size_t count = 1;
  napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr);
  const auto table = count == 1 ? Named(env, argument) : nullptr;
  if (table == nullptr) return nullptr;
  int32_t faulty = -1;
  for (size_t index = 0; index < table->places.size(); index++) {
    Place& place = table->places[index];
    if (faulty < 0 && !place.finite) faulty = static_cast<int32_t>(index);
    place.finite = true;
    place.target = nullptr;
    place.stretch = nullptr;
  }
  napi_value result;
  napi_create_int32(env, faulty, &result);
  return result;
}

napi_value Initialise(napi_env env, napi_value exports) {
  static const bool known = Register();
  if (!known) return Throw(env, "TensorFlow does not take the operation TandemHandOver");
  const struct {
    const char* name;
    napi_callback call;
  } functions[] = {{"openTable", OpenTable}, {"aim", Aim}, {"await", Await}, {"landed", Landed}, {"listen", Listen}};
  for (const auto& [name, call] : functions) {
    napi_value function;
    napi_create_function(env, name, NAPI_AUTO_LENGTH, call, nullptr, &function);
    napi_set_named_property(env, exports, name, function);
  }
  return exports;
}

}  // namespace

NAPI_MODULE(hand_over, Initialise)
