// The arithmetic of one output element of the custom ops, shared by the CPU loops (cpu.cpp) and the CUDA kernels
// (kernels.cu), so that what the CPU's tests exercise is what runs on a GPU. Include vector_cpu.h or vector_cuda.h before.
//
// All three ops are one function: filter (upsample, pad, FIR, downsample), then scale, noise, bias and leaky ReLU.
// Without a filter the kernel is 1×1; without an activation slope and gain are 1.
//
// V outputs are computed together: neighbouring channels where the layout is channels_last, else pixels of a row (every
// UP-th one, so that their inputs are neighbours; a GPU's threads take one pixel each).
#pragma once

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

template <typename T>
struct Args {
  using Acc = typename Accumulator<T>::type;
  const T* x;  // B×C×in_h×in_w, contiguous or channels_last
  T* y;        // B×C×out_h×out_w in the same layout
  int batch, channels, in_h, in_w, out_h, out_w;
  const Acc* kernel;  // kernel_h×kernel_w
  int kernel_h, kernel_w, up_x, up_y, down_x, down_y, pad_x, pad_y;
  const Acc* scale;         // B×C or null
  const Acc* bias;          // C or null
  const Acc* noise;         // out_h×out_w, for each of the batch if noise_step is not 0, or null
  const Acc* noise_weight;  // one number
  Index noise_step;
  Acc kernel_gain, slope, gain;
};

// The first tap of a window starting at `start` of the upsampled image that reads a pixel, not an inserted zero.
SFE_INLINE int first_tap(int start, int up) {
  const int past = start % up;
  return past == 0 ? 0 : past > 0 ? up - past : -past;
}

// Computes V outputs from pixel (oy, ox), channel c of image b. K, UP and DOWN are the kernel's size and the factors
// where they are known when compiling, else 0. V > 1 across pixels needs DOWN = 1, and windows within the image's width.
template <int V, bool CHANNELS_LAST, int K, int UP, int DOWN, typename T>
SFE_INLINE void element(const Args<T>& a, int b, int c, int oy, int ox) {
  using Acc = typename Accumulator<T>::type;
  using Values = typename Pack<Acc, V>::type;
  const Index pixel = CHANNELS_LAST ? a.channels : 1;  // step from one pixel to the next in memory
  const Index plane = static_cast<Index>(b) * a.channels * a.in_h * a.in_w +
                      (CHANNELS_LAST ? c : static_cast<Index>(c) * a.in_h * a.in_w);
  const T* const x = a.x + plane;

  Values sum{};
  if constexpr (K == 1) {
    sum = load<V, Acc>(x + (static_cast<Index>(oy) * a.in_w + ox) * pixel);
  } else {
    const int kernel_h = K ? K : a.kernel_h, kernel_w = K ? K : a.kernel_w;
    const int up_x = UP ? UP : a.up_x, up_y = UP ? UP : a.up_y;
    const int top = oy * (DOWN ? DOWN : a.down_y) - a.pad_y, left = ox * (DOWN ? DOWN : a.down_x) - a.pad_x;
    const int ky0 = first_tap(top, up_y), kx0 = first_tap(left, up_x);
    const int iy0 = (top + ky0) / up_y, ix0 = (left + kx0) / up_x;
    const T* row = x + (static_cast<Index>(iy0) * a.in_w + ix0) * pixel;
    const auto taps = [&](auto outside) {
      SFE_UNROLL
      for (int ky = ky0, iy = iy0; ky < kernel_h; ky += up_y, ++iy, row += a.in_w * pixel) {
        if (outside(iy, a.in_h)) continue;
        SFE_UNROLL
        for (int kx = kx0, ix = ix0; kx < kernel_w; kx += up_x, ++ix) {
          if (outside(ix, a.in_w)) continue;
          // a convolution reads the kernel from its end
          const Acc tap = a.kernel[(kernel_h - 1 - ky) * kernel_w + kernel_w - 1 - kx];
          sum += load<V, Acc>(row + (ix - ix0) * pixel) * tap;
        }
      }
    };
    if (iy0 >= 0 && ix0 >= 0 && top + kernel_h <= a.in_h * up_y && left + kernel_w <= a.in_w * up_x) {
      taps([](int, int) { return false; });
    } else {
      taps([](int i, int size) { return i < 0 || i >= size; });
    }
    sum *= a.kernel_gain;
  }

  // bias and scale run along with V in channels_last, noise does where V are pixels
  if (a.scale) {
    const Acc* scale = a.scale + static_cast<Index>(b) * a.channels + c;
    if constexpr (CHANNELS_LAST) sum *= load<V, Acc>(scale);
    else sum *= load<1, Acc>(scale);
  }
  const Index out = static_cast<Index>(oy) * a.out_w + ox;
  if (a.noise) {  // comes with UP = 1 only
    const Acc* noise = a.noise + b * a.noise_step + out;
    if constexpr (CHANNELS_LAST) sum += load<1, Acc>(noise) * load<1, Acc>(a.noise_weight);
    else sum += load<V, Acc>(noise) * load<1, Acc>(a.noise_weight);
  }
  if (a.bias) {
    if constexpr (CHANNELS_LAST) sum += load<V, Acc>(a.bias + c);
    else sum += load<1, Acc>(a.bias + c);
  }
  sum = select<Acc, V>(sum, sum, sum * a.slope) * a.gain;

  const Index size = static_cast<Index>(a.out_h) * a.out_w;
  if constexpr (CHANNELS_LAST) store<V, 1, Acc>(a.y + (b * size + out) * a.channels + c, sum);
  else store<V, (UP > 1 ? UP : 1), Acc>(a.y + (static_cast<Index>(b) * a.channels + c) * size + out, sum);
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
  SFE_INLINE void at(Index i) const {
    const auto values = load<V, Acc>(grad + i) * gain;
    store<V, 1, Acc>(result + i, select<Acc, V>(load<V, Acc>(y + i), values, values * slope));
  }
};

}  // namespace sfe
