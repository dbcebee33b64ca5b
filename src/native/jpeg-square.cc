// A JPEG's square in a thread of libuv's pool: decoded by libtensorflow's libjpeg-turbo, scaled by a triangle filter. A Node addon with
// one function, whose only caller is src/data/jpeg-square.ts.
#include <emmintrin.h>
#include <node_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

// Exported by libtensorflow_cc, whose wheel lacks this header (tensorflow/core/lib/jpeg/jpeg_mem.h).
namespace tensorflow {
namespace jpeg {

struct UncompressFlags {
  int ratio = 1;
  int components = 0;
  bool fancy_upscaling = true;
  bool try_recover_truncated_jpeg = false;
  float min_acceptable_fraction = 1.0;
  int stride = 0;
  int dct_method = 0;  // JDCT_ISLOW, as in Pillow
  bool crop = false;
  int crop_x = 0;
  int crop_y = 0;
  int crop_width = 0;
  int crop_height = 0;
};

uint8_t* Uncompress(const void* data, int size, const UncompressFlags& flags, int64_t* warnings,
                    std::function<uint8_t*(int, int, int)> allocate);

}  // namespace jpeg
}  // namespace tensorflow

namespace {

typedef uint8_t u8x16 __attribute__((vector_size(16)));
typedef uint16_t u16x8 __attribute__((vector_size(16)));
typedef uint32_t u32x4 __attribute__((vector_size(16)));
typedef uint64_t u64x2 __attribute__((vector_size(16)));

constexpr int kChannels = 3;
// Pixels that one of the result is made of, at most: the filter reaches less than two to either side.
constexpr int kTaps = 4;
// Vectors are read and written whole, so up to this many bytes past the end of a picture.
constexpr int kPadding = 16;

// What each pixel along an axis is made of.
struct Filter {
  int from = 0;
  int to = 0;
  std::vector<int> first;
  // kTaps for each, of sum 65535, in 1/65536
  std::vector<uint16_t> weights;
  // the same, as `Across` takes them: two taps in a vector, four lanes each
  std::vector<u16x8> pairs;
};

// The triangle filter of Pillow's BILINEAR and torchvision's antialias: half-pixel centres, widened by the scale where that is above 1.
Filter TriangleFilter(int from, int to) {
  Filter filter{from, to, std::vector<int>(to), std::vector<uint16_t>(to * kTaps), std::vector<u16x8>(to * kTaps / 2)};
  const double scale = static_cast<double>(from) / to;
  const double reach = std::max(1.0, scale);
  for (int i = 0; i < to; i++) {
    const double centre = (i + 0.5) * scale;
    const int lowest = static_cast<int>(std::floor(centre - reach + 0.5));
    const int first = std::max(0, std::min(lowest, from - kTaps));
    double shares[kTaps];
    double sum = 0;
    for (int tap = 0; tap < kTaps; tap++) {
      shares[tap] = std::max(0.0, 1 - std::abs(first + tap + 0.5 - centre) / reach);
      sum += shares[tap];
    }
    // Rounded so that what one has too much the next has too little: the sum is exact.
    uint16_t* weights = &filter.weights[i * kTaps];
    double exact = 0;
    int given = 0;
    for (int tap = 0; tap < kTaps; tap++) {
      exact += shares[tap] / sum * 65535;
      weights[tap] = static_cast<uint16_t>(std::lround(exact) - given);
      given += weights[tap];
    }
    for (int pair = 0; pair < kTaps / 2; pair++) {
      const uint16_t a = weights[2 * pair], b = weights[2 * pair + 1];
      filter.pairs[i * kTaps / 2 + pair] = u16x8{a, a, a, a, b, b, b, b};
    }
    filter.first[i] = first;
  }
  return filter;
}

// Many pictures of a data set have the same sides.
const Filter& FilterOf(int from, int to) {
  thread_local Filter last;
  if (last.from != from || last.to != to) last = TriangleFilter(from, to);
  return last;
}

inline u16x8 Product(u16x8 a, u16x8 b) { return (u16x8)_mm_mulhi_epu16((__m128i)a, (__m128i)b); }

// One line of the result before it is scaled across: values in 1/256. `stride` bytes from one line to the next.
void Down(const uint8_t* lines, size_t stride, int width, const uint16_t* weights, uint16_t* sums) {
  u16x8 weight[kTaps];
  for (int tap = 0; tap < kTaps; tap++) weight[tap] = u16x8{} + weights[tap];
  const u8x16 zero = {0};
  for (int x = 0; x < width; x += 16) {
    // Half of what is lost on average by the products, here and across, which round down.
    u16x8 low = u16x8{} + 2;
    u16x8 high = u16x8{} + 2;
    for (int tap = 0; tap < kTaps; tap++) {
      u8x16 bytes;
      std::memcpy(&bytes, lines + tap * stride + x, 16);
      low += Product((u16x8)_mm_unpacklo_epi8((__m128i)zero, (__m128i)bytes), weight[tap]);
      high += Product((u16x8)_mm_unpackhi_epi8((__m128i)zero, (__m128i)bytes), weight[tap]);
    }
    std::memcpy(sums + x, &low, 16);
    std::memcpy(sums + x + 8, &high, 16);
  }
}

// One pixel, its four taps in two halves that are still to be added.
inline u16x8 Across(const uint16_t* sums, const u16x8* pairs) {
  // One half rounds to the nearest.
  u16x8 sum = {130, 130, 130, 130, 0, 0, 0, 0};
  for (int pair = 0; pair < kTaps / 2; pair++, sums += 2 * kChannels) {
    uint64_t a, b;
    std::memcpy(&a, sums, 8);
    std::memcpy(&b, sums + kChannels, 8);
    sum += Product((u16x8)(u64x2){a, b}, pairs[pair]);
  }
  return sum;
}

inline u16x8 Halves(u16x8 a, u16x8 b) {
  return (u16x8)_mm_unpacklo_epi64((__m128i)a, (__m128i)b) + (u16x8)_mm_unpackhi_epi64((__m128i)a, (__m128i)b);
}

// Scales `[from, from, 3]` to `[to, to, 3]`, where to is a multiple of 4 and from in [4, 2·to). Integers throughout: the same bytes
// everywhere, within 1 of the exact ones. `stride` bytes from one line of pixels to the next.
void Scale(const uint8_t* pixels, size_t stride, int from, int to, uint8_t* result) {
  const Filter& filter = FilterOf(from, to);
  const int width = from * kChannels;
  thread_local std::vector<uint16_t> sums;
  sums.resize(width + kPadding);
  for (int y = 0; y < to; y++) {
    Down(pixels + filter.first[y] * stride, stride, width, &filter.weights[y * kTaps], sums.data());
    uint8_t* target = result + static_cast<size_t>(y) * to * kChannels;
    for (int x = 0; x < to; x += 4, target += 4 * kChannels) {
      u16x8 pixel[4];
      for (int i = 0; i < 4; i++)
        pixel[i] = Across(&sums[filter.first[x + i] * kChannels], &filter.pairs[(x + i) * kTaps / 2]);
      const __m128i left = _mm_srli_epi16((__m128i)Halves(pixel[0], pixel[1]), 8);
      const __m128i right = _mm_srli_epi16((__m128i)Halves(pixel[2], pixel[3]), 8);
      const u32x4 packed = (u32x4)_mm_packus_epi16(left, right);
      // The fourth byte of each is the next one's first.
      for (int i = 0; i < 4; i++) {
        const uint32_t bytes = packed[i];
        std::memcpy(target + i * kChannels, &bytes, 4);
      }
    }
  }
}

struct Job {
  napi_async_work work;
  napi_deferred deferred;
  // what keeps the file and the target in memory
  napi_ref held[2];
  const void* file;
  size_t bytes;
  int ratio, left, top, width, x, from, to;
  std::unique_ptr<uint8_t[]> result;
};

void Execute(napi_env, void* data) {
  Job* job = static_cast<Job*>(data);
  tensorflow::jpeg::UncompressFlags flags;
  flags.components = kChannels;
  flags.ratio = job->ratio;
  flags.crop = true;
  flags.crop_x = job->left;
  flags.crop_y = job->top;
  flags.crop_width = job->width;
  flags.crop_height = job->from;
  thread_local std::vector<uint8_t> memory;
  int64_t warnings = 0;
  const uint8_t* pixels = tensorflow::jpeg::Uncompress(
      job->file, static_cast<int>(job->bytes), flags, &warnings, [](int width, int height, int channels) {
        memory.resize(static_cast<size_t>(width) * height * channels + kPadding);
        return memory.data();
      });
  if (pixels == nullptr || warnings > 0) return;
  job->result.reset(new uint8_t[static_cast<size_t>(job->to) * job->to * kChannels + kPadding]);
  const size_t stride = static_cast<size_t>(job->width) * kChannels;
  Scale(pixels + job->x * kChannels, stride, job->from, job->to, job->result.get());
}

void Complete(napi_env env, napi_status status, void* data) {
  std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value target = nullptr;
  napi_value done = nullptr;
  void* bytes = nullptr;
  size_t length = 0;
  const size_t whole = static_cast<size_t>(job->to) * job->to * kChannels;
  // A thread that is being ended has no values any more.
  const bool is_done = status == napi_ok && job->result != nullptr &&
                       napi_get_reference_value(env, job->held[1], &target) == napi_ok && target != nullptr &&
                       napi_get_typedarray_info(env, target, nullptr, &length, &bytes, nullptr, nullptr) == napi_ok &&
                       length == whole;
  if (is_done) std::memcpy(bytes, job->result.get(), whole);
  napi_get_boolean(env, is_done, &done);
  for (napi_ref held : job->held) napi_delete_reference(env, held);
  napi_delete_async_work(env, job->work);
  napi_resolve_deferred(env, job->deferred, done);
}

// decodeSquare(file, target, ratio, left, top, width, x, from, to): Promise<boolean>
napi_value DecodeSquare(napi_env env, napi_callback_info info) {
  constexpr int kArrays = 2;
  constexpr int kNumbers = 7;
  napi_value arguments[kArrays + kNumbers];
  size_t count = kArrays + kNumbers;
  auto job = std::make_unique<Job>();
  napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr);
  void* file = nullptr;
  bool are_right = count == kArrays + kNumbers && napi_get_typedarray_info(env, arguments[0], nullptr, &job->bytes, &file, nullptr,
                                                          nullptr) == napi_ok;
  job->file = file;
  int* const numbers[kNumbers] = {&job->ratio, &job->left, &job->top, &job->width, &job->x, &job->from, &job->to};
  for (int i = 0; i < kNumbers; i++)
    are_right = are_right && napi_get_value_int32(env, arguments[kArrays + i], numbers[i]) == napi_ok;
  are_right = are_right && job->to > 0 && job->to % 4 == 0 && job->from >= kTaps && job->from < 2 * job->to;
  are_right = are_right && job->x >= 0 && job->x + job->from <= job->width;
  if (!are_right) {
    napi_throw_type_error(env, nullptr, "decodeSquare is not called so");
    return nullptr;
  }
  napi_value promise, name;
  napi_create_promise(env, &job->deferred, &promise);
  napi_create_string_utf8(env, "decodeSquare", NAPI_AUTO_LENGTH, &name);
  for (int i = 0; i < kArrays; i++) napi_create_reference(env, arguments[i], 1, &job->held[i]);
  napi_create_async_work(env, nullptr, name, Execute, Complete, job.get(), &job->work);
  napi_queue_async_work(env, job->work);
  job.release();
  return promise;
}

napi_value Initialise(napi_env env, napi_value exports) {
  napi_value function;
  napi_create_function(env, "decodeSquare", NAPI_AUTO_LENGTH, DecodeSquare, nullptr, &function);
  napi_set_named_property(env, exports, "decodeSquare", function);
  return exports;
}

}  // namespace

NAPI_MODULE(jpeg_square, Initialise)
