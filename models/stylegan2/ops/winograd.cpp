// 3×3 convs of inference on the CPU by Winograd's F(4×4, 3×3) (Lavin & Gray, arXiv 1509.09308): float32, channels_last.
//
// A tile of 4×4 outputs needs a 6×6 window of inputs; transformed, its conv is 36 products per pair of channels instead
// of 144. Each thread computes a block of tiles: input transform, 36 matrix products and output transform, so that
// intermediate results stay in its cache. The operations around such convs are fused: a scale and a shift of the input
// (BN; the style of a modulated conv), and demodulation, noise, bias, activation and residual of the output.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <algorithm>

#include "pages.h"
#include "winograd.h"

namespace sfe {
namespace {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

struct Conv {
  const float *x, *weight, *bias, *in_scale, *in_shift, *out_scale, *noise, *noise_weight, *prelu, *residual;
  float* y;
  int64_t batch, height, width, in, out;  // of the input; channels of both
  int64_t in_step, noise_step;            // from one image's to the next's, 0 if they share
  float gain;
  int64_t tiles_y, tiles_x, panels;
};

// Bᵀ d along one axis: six numbers to six.
inline void transform_in(const Channels* d, int64_t step, Channels* t, int64_t t_step) {
  const Channels d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step], d5 = d[5 * step];
  const Channels a = d4 - 4.f * d2, b = d3 - 4.f * d1, e = d4 - d2, f = 2.f * (d3 - d1);
  t[0] = 4.f * d0 - 5.f * d2 + d4;
  t[t_step] = a + b;
  t[2 * t_step] = a - b;
  t[3 * t_step] = e + f;
  t[4 * t_step] = e - f;
  t[5 * t_step] = 4.f * d1 - 5.f * d3 + d5;
}

// Aᵀ m along one axis: six numbers to four.
inline void transform_out(const Channels* m, int64_t step, Channels* t, int64_t t_step) {
  const Channels a = m[step] + m[2 * step], b = m[step] - m[2 * step];
  const Channels c = m[3 * step] + m[4 * step], d = m[3 * step] - m[4 * step];
  t[0] = m[0] + a + c;
  t[t_step] = b + 2.f * d;
  t[2 * t_step] = a + 4.f * c;
  t[3 * t_step] = b + 8.f * d + m[5 * step];
}

// G w along one axis: three numbers to six.
inline void transform_weight(const Channels* w, int64_t step, Channels* t, int64_t t_step) {
  const Channels w0 = w[0], w1 = w[step], w2 = w[2 * step];
  const Channels a = (w0 + w2) * (-1.f / 6), b = w1 * (1.f / 6), c = w0 * (1.f / 24) + w2 * (1.f / 6);
  t[0] = w0 * 0.25f;
  t[t_step] = a - b;
  t[2 * t_step] = a + b;
  t[3 * t_step] = c + b * 0.5f;
  t[4 * t_step] = c - b * 0.5f;
  t[5 * t_step] = w2;
}

// v: 36×tiles×in. Outside the image is 0, whatever the input's scale and shift.
void input_tile(const Conv& p, int64_t tile, float* v, int64_t f_stride) {
  const int64_t b = tile / (p.tiles_y * p.tiles_x), at = tile % (p.tiles_y * p.tiles_x);
  const int64_t top = at / p.tiles_x * 4 - 1, left = at % p.tiles_x * 4 - 1;
  const bool inside = top >= 0 && left >= 0 && top + 6 <= p.height && left + 6 <= p.width;
  const float* x = p.x + ((b * p.height + top) * p.width + left) * p.in;
  for (int64_t c = 0; c < p.in; c += STEP) {
    Channels d[36], t[36];
    const Channels one = Channels{} + 1.f;
    const Channels scale = p.in_scale ? load<Channels>(p.in_scale + b * p.in_step + c) : one;
    const Channels shift = p.in_shift ? load<Channels>(p.in_shift + c) : Channels{};
    for (int i = 0; i < 6; ++i) {
      for (int j = 0; j < 6; ++j) {
        const bool in = inside || (top + i >= 0 && top + i < p.height && left + j >= 0 && left + j < p.width);
        d[i * 6 + j] = in ? load<Channels>(x + (i * p.width + j) * p.in + c) * scale + shift : Channels{};
      }
    }
    for (int j = 0; j < 6; ++j) transform_in(d + j, 6, t + j, 6);
    for (int i = 0; i < 6; ++i) transform_in(t + i * 6, 1, d + i * 6, 1);
    for (int f = 0; f < 36; ++f) store(v + f * f_stride + c, d[f]);
  }
}

void output_tile(const Conv& p, int64_t tile, const float* m, int64_t f_stride) {
  const int64_t b = tile / (p.tiles_y * p.tiles_x), at = tile % (p.tiles_y * p.tiles_x);
  const int64_t top = at / p.tiles_x * 4, left = at % p.tiles_x * 4;
  const int64_t rows = std::min<int64_t>(4, p.height - top), columns = std::min<int64_t>(4, p.width - left);
  for (int64_t c = 0; c < p.out; c += STEP) {
    Channels d[36], t[24], y[16];
    for (int f = 0; f < 36; ++f) d[f] = load<Channels>(m + f * f_stride + c);
    for (int j = 0; j < 6; ++j) transform_out(d + j, 6, t + j, 6);
    for (int i = 0; i < 4; ++i) transform_out(t + i * 6, 1, y + i * 4, 1);
    const Channels bias = p.bias ? load<Channels>(p.bias + c) : Channels{};
    const Channels scale = p.out_scale ? load<Channels>(p.out_scale + b * p.out + c) : Channels{} + 1.f;
    const Channels slope = p.prelu ? load<Channels>(p.prelu + c) : Channels{} + 1.f;
    for (int i = 0; i < rows; ++i) {
      for (int j = 0; j < columns; ++j) {
        const int64_t pixel = (top + i) * p.width + left + j;
        const int64_t to = (b * p.height * p.width + pixel) * p.out + c;
        Channels v = y[i * 4 + j] * scale + bias;
        if (p.noise) v += p.noise[b * p.noise_step + pixel] * *p.noise_weight;
        v = (v > 0.f ? v : v * slope) * p.gain;
        if (p.residual) v += load<Channels>(p.residual + to);
        store(p.y + to, v);
      }
    }
  }
}

// The block of tiles that a thread takes at a time: large enough to use each weight often, small enough for the cache.
int64_t block_size(int64_t tiles, int64_t in, int64_t out) {
  const int64_t wanted = std::clamp<int64_t>((in + out) / 8, 28, 112), threads = at::get_num_threads();
  const int64_t blocks = ((tiles + wanted - 1) / wanted + threads - 1) / threads * threads;  // the same for each thread
  return (tiles + blocks - 1) / blocks;
}

Tensor winograd_conv(
    const Tensor& x, const Tensor& weight, const OptionalTensor& bias, const OptionalTensor& in_scale,
    const OptionalTensor& in_shift, const OptionalTensor& out_scale, const OptionalTensor& noise,
    const OptionalTensor& noise_weight, const OptionalTensor& prelu, const OptionalTensor& residual, double gain) {
  const auto layout = at::MemoryFormat::ChannelsLast;
  const int64_t out = weight.size(1) * PANEL;
  const Tensor from = x.contiguous(layout);
  const Tensor y = with_large_pages(at::empty({x.size(0), out, x.size(2), x.size(3)}, x.options(), layout));
  const auto dense = [](const OptionalTensor& t) { return t ? t->contiguous() : Tensor(); };
  const Tensor bias_ = dense(bias), in_scale_ = dense(in_scale), in_shift_ = dense(in_shift), noise_ = dense(noise);
  const Tensor out_scale_ = dense(out_scale), noise_weight_ = dense(noise_weight), prelu_ = dense(prelu);
  const Tensor residual_ = residual ? residual->contiguous(layout) : Tensor();
  const auto pointer = [](const Tensor& t) { return t.defined() ? t.const_data_ptr<float>() : nullptr; };
  Conv p{};
  p.x = from.const_data_ptr<float>(), p.y = y.mutable_data_ptr<float>(), p.weight = weight.const_data_ptr<float>();
  p.bias = pointer(bias_), p.in_scale = pointer(in_scale_), p.in_shift = pointer(in_shift_);
  p.out_scale = pointer(out_scale_), p.noise = pointer(noise_), p.noise_weight = pointer(noise_weight_);
  p.prelu = pointer(prelu_), p.residual = pointer(residual_);
  p.batch = x.size(0), p.in = x.size(1), p.height = x.size(2), p.width = x.size(3);
  p.out = out;
  p.in_step = p.in_scale && in_scale_.dim() == 2 ? p.in : 0;
  p.noise_step = p.noise && noise_.size(0) > 1 ? noise_.stride(0) : 0;
  p.gain = gain;
  p.tiles_y = (p.height + 3) / 4, p.tiles_x = (p.width + 3) / 4, p.panels = weight.size(1);

  const int64_t tiles = p.batch * p.tiles_y * p.tiles_x;
  if (tiles == 0) return y;
  const int64_t block = block_size(tiles, p.in, out), blocks = (tiles + block - 1) / block;
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    // an odd number of cache lines apart, so that the 36 do not fall on one set of the cache
    const int64_t v_stride = block * p.in + 16, m_stride = block * out + 16;
    const Tensor buffer = with_large_pages(at::empty({36 * (v_stride + m_stride)}, x.options()));
    float* const v = buffer.mutable_data_ptr<float>();
    float* const m = v + 36 * v_stride;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i * block, count = std::min(block, tiles - first);
      for (int64_t t = 0; t < count; ++t) input_tile(p, first + t, v + t * p.in, v_stride);
      for (int64_t f = 0; f < 36; ++f) {
        multiply(count, p.in, p.panels, v + f * v_stride, p.weight + f * p.in * out, m + f * m_stride);
      }
      for (int64_t t = 0; t < count; ++t) output_tile(p, first + t, m + t * out, m_stride);
    }
  });
  return y;
}

Tensor winograd_weight(const Tensor& weight) {
  const Tensor from = weight.contiguous();
  const int64_t in = weight.size(1), panels = weight.size(0) / PANEL;
  const Tensor result = with_large_pages(at::empty({36, panels, in, PANEL}, weight.options()));
  const float* w = from.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, panels * in, 64, [&](int64_t begin, int64_t end) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t first = 0; first < PANEL; first += STEP) {
        Channels d[9], t[18], u[36];
        for (int o = 0; o < STEP; ++o) {
          const float* kernel = w + ((n / in * PANEL + first + o) * in + n % in) * 9;
          for (int k = 0; k < 9; ++k) d[k][o] = kernel[k];
        }
        for (int j = 0; j < 3; ++j) transform_weight(d + j, 3, t + j, 3);
        for (int i = 0; i < 6; ++i) transform_weight(t + i * 3, 1, u + i * 6, 1);
        for (int f = 0; f < 36; ++f) store_past_caches(to + (f * panels * in + n) * PANEL + first, u[f]);
      }
    }
    stored();
  });
  return result;
}

}  // namespace

TORCH_LIBRARY_IMPL(sfe, CPU, m) {
  m.impl("winograd_weight", &winograd_weight);
  m.impl("winograd_conv", &winograd_conv);
}

}  // namespace sfe
