// The arithmetic of one output element of the custom ops, shared by the CPU loops (cpu.cpp) and the CUDA kernels
// (cuda.cu), so that what the CPU's tests exercise is what runs on a GPU.
//
// All three ops are one function: filter (upsample, pad, FIR, downsample), then scale, noise, bias and leaky ReLU.
// Without a filter the kernel is 1×1; without an activation slope and gain are 1.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <cstring>
#include <type_traits>

#ifdef __CUDACC__
#define SFE_HD __host__ __device__ __forceinline__
#define SFE_UNROLL _Pragma("unroll")
#else
#define SFE_HD inline __attribute__((always_inline))
#define SFE_UNROLL _Pragma("GCC unroll 4")
#endif

namespace sfe {

// Sums run in Acc: float64 for float64, else float32.
template <typename T>
struct Accumulator {
  using type = float;
};
template <>
struct Accumulator<double> {
  using type = double;
};

// V outputs are computed together: neighbouring channels where the layout is channels_last, else pixels of a row (every
// UP-th one, so that their inputs are neighbours). On the CPU V > 1 is a vector register; a CUDA thread takes V = 1.
template <typename Acc, int V>
struct Pack {
  typedef Acc type __attribute__((vector_size(V * sizeof(Acc))));
};
template <typename Acc>
struct Pack<Acc, 1> {
  using type = Acc;
};

// bfloat16 is the upper half of a float32. A CPU converts V of them at once: one by one they would take several times
// as long as the arithmetic.
template <int V>
struct Bfloat16 {
  using Values = typename Pack<float, V>::type;
  using Halves = typename Pack<uint16_t, V>::type;
  using Words = typename Pack<uint32_t, V>::type;

  static SFE_HD Values load(const void* from) {
    Halves halves;
    std::memcpy(&halves, from, sizeof(halves));
    const Words words = __builtin_convertvector(halves, Words) << 16;
    Values values;
    std::memcpy(&values, &words, sizeof(values));
    return values;
  }

  static SFE_HD void store(void* to, Values values) {
    Words words;
    std::memcpy(&words, &values, sizeof(words));
    words = (words + 0x7fff + ((words >> 16) & 1)) >> 16;  // to the nearest, of two equally near to the even one
    words = values == values ? words : Words{} + 0x7fc0;   // NaN, which rounding might have made an infinity
    const Halves halves = __builtin_convertvector(words, Halves);
    std::memcpy(to, &halves, sizeof(halves));
  }
};

template <int V, typename T, typename Acc = typename Accumulator<T>::type>
SFE_HD typename Pack<Acc, V>::type load(const T* from) {
  typename Pack<Acc, V>::type values;
  if constexpr (V == 1) {
    values = static_cast<Acc>(*from);
  } else if constexpr (sizeof(T) == sizeof(Acc)) {
    std::memcpy(&values, from, sizeof(values));
  } else if constexpr (std::is_same_v<T, c10::BFloat16>) {
    values = Bfloat16<V>::load(from);
  } else {
    for (int v = 0; v < V; ++v) values[v] = static_cast<Acc>(from[v]);
  }
  return values;
}

template <int V, int STEP, typename T, typename Acc = typename Accumulator<T>::type>
SFE_HD void store(T* to, typename Pack<Acc, V>::type values) {
  if constexpr (V == 1) {
    *to = static_cast<T>(values);
  } else if constexpr (sizeof(T) == sizeof(Acc) && STEP == 1) {
    std::memcpy(to, &values, sizeof(values));
  } else if constexpr (std::is_same_v<T, c10::BFloat16> && STEP == 1) {
    Bfloat16<V>::store(to, values);
  } else {
    for (int v = 0; v < V; ++v) to[v * STEP] = static_cast<T>(values[v]);
  }
}

template <typename T>
struct Args {
  using Acc = typename Accumulator<T>::type;
  const T* x;  // B×C×in_h×in_w, contiguous or channels_last
  T* y;        // B×C×out_h×out_w in the same layout
  int batch, channels, in_h, in_w, out_h, out_w;
  const Acc* kernel;  // kernel_h×kernel_w, flipped and multiplied by its gain
  int kernel_h, kernel_w, up_x, up_y, down_x, down_y, pad_x, pad_y;
  const Acc* scale;         // B×C or null
  const Acc* bias;          // C or null
  const Acc* noise;         // out_h×out_w, for each of the batch if noise_step is not 0, or null
  const Acc* noise_weight;  // one number
  int64_t noise_step;
  Acc slope, gain;
};

// The first tap of a window starting at `start` of the upsampled image that lies on a pixel, not on an inserted zero.
SFE_HD int first_tap(int start, int up) {
  const int past = start % up;
  return past == 0 ? 0 : past > 0 ? up - past : -past;
}

// Computes V outputs from pixel (oy, ox), channel c of picture b. K, UP and DOWN are the kernel's size and the factors
// where they are known when compiling, else 0. V > 1 across pixels needs DOWN = 1, and windows within the image's width.
template <int V, bool CHANNELS_LAST, int K, int UP, int DOWN, typename T>
SFE_HD void element(const Args<T>& a, int b, int c, int oy, int ox) {
  using Acc = typename Accumulator<T>::type;
  using Values = typename Pack<Acc, V>::type;
  const int64_t pixel = CHANNELS_LAST ? a.channels : 1;  // the way from one pixel to the next in memory
  const int64_t plane = static_cast<int64_t>(b) * a.channels * a.in_h * a.in_w +
                        (CHANNELS_LAST ? c : static_cast<int64_t>(c) * a.in_h * a.in_w);
  const T* const x = a.x + plane;

  Values sum{};
  if constexpr (K == 1) {
    sum = load<V>(x + (static_cast<int64_t>(oy) * a.in_w + ox) * pixel);
  } else {
    const int kernel_h = K ? K : a.kernel_h, kernel_w = K ? K : a.kernel_w;
    const int up_x = UP ? UP : a.up_x, up_y = UP ? UP : a.up_y;
    const int top = oy * (DOWN ? DOWN : a.down_y) - a.pad_y, left = ox * (DOWN ? DOWN : a.down_x) - a.pad_x;
    const int ky0 = first_tap(top, up_y), kx0 = first_tap(left, up_x);
    const int iy0 = (top + ky0) / up_y, ix0 = (left + kx0) / up_x;
    const T* row = x + (static_cast<int64_t>(iy0) * a.in_w + ix0) * pixel;
    const auto taps = [&](auto outside) {
      SFE_UNROLL
      for (int ky = ky0, iy = iy0; ky < kernel_h; ky += up_y, ++iy, row += a.in_w * pixel) {
        if (outside(iy, a.in_h)) continue;
        SFE_UNROLL
        for (int kx = kx0, ix = ix0; kx < kernel_w; kx += up_x, ++ix) {
          if (!outside(ix, a.in_w)) sum += a.kernel[ky * kernel_w + kx] * load<V>(row + (ix - ix0) * pixel);
        }
      }
    };
    if (iy0 >= 0 && ix0 >= 0 && top + kernel_h <= a.in_h * up_y && left + kernel_w <= a.in_w * up_x) {
      taps([](int, int) { return false; });
    } else {
      taps([](int i, int size) { return i < 0 || i >= size; });
    }
  }

  // bias and scale run along with V in channels_last, noise does where V are pixels
  if (a.scale) {
    const Acc* scale = a.scale + static_cast<int64_t>(b) * a.channels + c;
    if constexpr (CHANNELS_LAST) sum *= load<V>(scale);
    else sum *= load<1>(scale);
  }
  const int64_t out = static_cast<int64_t>(oy) * a.out_w + ox;
  if (a.noise) {  // comes with UP = 1 only
    const Acc* noise = a.noise + b * a.noise_step + out;
    if constexpr (CHANNELS_LAST) sum += load<1>(noise) * load<1>(a.noise_weight);
    else sum += load<V>(noise) * load<1>(a.noise_weight);
  }
  if (a.bias) {
    if constexpr (CHANNELS_LAST) sum += load<V>(a.bias + c);
    else sum += load<1>(a.bias + c);
  }
  sum = (sum > Acc(0) ? sum : sum * a.slope) * a.gain;

  const int64_t size = static_cast<int64_t>(a.out_h) * a.out_w;
  if constexpr (CHANNELS_LAST) store<V, 1>(a.y + (b * size + out) * a.channels + c, sum);
  else store<V, (UP > 1 ? UP : 1)>(a.y + (static_cast<int64_t>(b) * a.channels + c) * size + out, sum);
}

// The gradient at the activation's input from that at its output y, whose sign is the input's.
template <typename T>
struct ActGrad {
  using Acc = typename Accumulator<T>::type;
  const T* grad;
  const T* y;
  T* result;
  Acc slope, gain;

  // V numbers from number i on.
  template <int V>
  SFE_HD void at(int64_t i) const {
    const auto values = load<V>(grad + i) * gain;
    store<V, 1>(result + i, load<V>(y + i) > Acc(0) ? values : values * slope);
  }
};

}  // namespace sfe
