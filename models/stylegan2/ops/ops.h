// The ops on the CPU around their loops: outputs, layouts, types and the choice of a kernel, as cuda.py does it for GPUs.
// cpu.cpp defines `for_each_row` and `for_each` before it includes this file.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "pages.h"

namespace sfe {

using at::Tensor;
using OptionalTensor = std::optional<Tensor>;

template <typename T>
void run(const Args<T>& a, bool channels_last) {
  const auto with_layout = [&](auto k, auto up, auto down) {
    constexpr int K = decltype(k)::value, UP = decltype(up)::value, DOWN = decltype(down)::value;
    if (channels_last) for_each_row<true, K, UP, DOWN>(a);
    else for_each_row<false, K, UP, DOWN>(a);
  };
  using std::integral_constant;
  const auto is = [&](int k, int up, int down) {
    return a.kernel_h == k && a.kernel_w == k && a.up_x == up && a.up_y == up && a.down_x == down && a.down_y == down;
  };
  const integral_constant<int, 0> any;
  const integral_constant<int, 1> one;
  const integral_constant<int, 2> two;
  const integral_constant<int, 4> four;
  // 1 is the pointwise op; the 4×4 cases are StyleGAN2's blur, and its up- and downsampling by two
  if (a.kernel == nullptr) return with_layout(one, one, one);
  if constexpr (sizeof(T) < sizeof(double)) {  // float64 is for checks, where building sooner is worth more than speed
    if (is(4, 1, 1)) return with_layout(four, one, one);
    if (is(4, 2, 1)) return with_layout(four, two, one);
    if (is(4, 1, 2)) return with_layout(four, one, two);
  }
  with_layout(any, any, any);
}

// Fills in what all ops share and runs. x and y: B×C×H×W in the layout that channels_last tells.
void launch(
    const Tensor& x, const Tensor& y, bool channels_last, const OptionalTensor& kernel, at::IntArrayRef up,
    at::IntArrayRef down, at::IntArrayRef pad, double kernel_gain, const OptionalTensor& bias,
    const OptionalTensor& noise, const OptionalTensor& noise_weight, const OptionalTensor& scale, double slope,
    double gain) {
  if (y.numel() == 0) return;
  const auto type = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;  // Accumulator, for the small tensors
  const auto same = [&](const OptionalTensor& t) { return t ? t->to(type).contiguous() : Tensor(); };
  const Tensor bias_ = same(bias), noise_ = same(noise), weight_ = same(noise_weight), scale_ = same(scale);
  const Tensor kernel_ = kernel ? kernel->to(type).contiguous() : Tensor();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "sfe", [&] {
    using Acc = typename Accumulator<scalar_t>::type;
    const auto pointer = [](const Tensor& t) { return t.defined() ? t.const_data_ptr<Acc>() : nullptr; };
    Args<scalar_t> a{};
    a.x = x.const_data_ptr<scalar_t>();
    a.y = y.mutable_data_ptr<scalar_t>();
    a.batch = x.size(0), a.channels = x.size(1);
    a.in_h = x.size(2), a.in_w = x.size(3), a.out_h = y.size(2), a.out_w = y.size(3);
    if (kernel) {
      a.kernel = kernel_.const_data_ptr<Acc>(), a.kernel_h = kernel_.size(0), a.kernel_w = kernel_.size(1);
      a.up_x = up[0], a.up_y = up[1], a.down_x = down[0], a.down_y = down[1], a.pad_x = pad[0], a.pad_y = pad[2];
    }
    a.scale = pointer(scale_), a.bias = pointer(bias_);
    a.noise = pointer(noise_), a.noise_weight = pointer(weight_);
    a.noise_step = noise && noise_.size(0) > 1 ? noise_.stride(0) : 0;
    a.kernel_gain = kernel_gain, a.slope = slope, a.gain = gain;
    run(a, channels_last);
  });
}

// x in a layout that the kernels read: channels_last or contiguous.
Tensor dense(const Tensor& x) {
  return x.dim() == 4 && x.is_contiguous(at::MemoryFormat::ChannelsLast) ? x : x.contiguous();
}

Tensor filter(
    const Tensor& x, const Tensor& kernel, at::IntArrayRef up, at::IntArrayRef down, at::IntArrayRef pad,
    double kernel_gain, const OptionalTensor& bias, const OptionalTensor& noise, const OptionalTensor& noise_weight,
    const OptionalTensor& scale, double slope, double gain) {
  const Tensor from = dense(x);
  const auto size = [](int64_t n, int64_t up, int64_t pads, int64_t k, int64_t down) {
    return (n * up + pads - k) / down + 1;
  };
  const int64_t height = size(x.size(2), up[1], pad[2] + pad[3], kernel.size(0), down[1]);
  const int64_t width = size(x.size(3), up[0], pad[0] + pad[1], kernel.size(1), down[0]);
  const bool channels_last = !from.is_contiguous();
  const auto layout = channels_last ? at::MemoryFormat::ChannelsLast : at::MemoryFormat::Contiguous;
  const Tensor y = with_large_pages(at::empty({x.size(0), x.size(1), height, width}, x.options(), layout));
  launch(from, y, channels_last, kernel, up, down, pad, kernel_gain, bias, noise, noise_weight, scale, slope, gain);
  return y;
}

Tensor upfirdn2d(
    const Tensor& x, const Tensor& kernel, at::IntArrayRef up, at::IntArrayRef down, at::IntArrayRef pad,
    double gain) {
  return filter(x, kernel, up, down, pad, gain, {}, {}, {}, {}, 1.0, 1.0);
}

Tensor blur_bias_act(
    const Tensor& x, const Tensor& kernel, at::IntArrayRef pad, const OptionalTensor& bias,
    const OptionalTensor& noise, const OptionalTensor& noise_weight, const OptionalTensor& scale, double blur_gain,
    double slope, double gain) {
  return filter(x, kernel, {1, 1}, {1, 1}, pad, blur_gain, bias, noise, noise_weight, scale, slope, gain);
}

Tensor fused_bias_act(
    const Tensor& x, const OptionalTensor& bias, const OptionalTensor& noise, const OptionalTensor& noise_weight,
    const OptionalTensor& scale, double slope, double gain) {
  const Tensor from = dense(x);
  const auto layout = from.is_contiguous() ? at::MemoryFormat::Contiguous : at::MemoryFormat::ChannelsLast;
  const Tensor y = with_large_pages(at::empty_like(from, {}, layout));
  if (x.dim() == 4) {
    launch(from, y, !from.is_contiguous(), {}, {}, {}, {}, 1.0, bias, noise, noise_weight, scale, slope, gain);
  } else {  // B×C is an image of one pixel, its channels innermost; B×C×… one of a single row
    const int64_t pixels = x.dim() == 2 || x.numel() == 0 ? 1 : x.numel() / (x.size(0) * x.size(1));
    const auto image = [&](const Tensor& t) { return t.view({t.size(0), t.size(1), 1, pixels}); };
    if (x.numel()) launch(image(from), image(y), x.dim() == 2, {}, {}, {}, {}, 1.0, bias, {}, {}, scale, slope, gain);
  }
  return y;
}

Tensor act_grad(const Tensor& grad, const Tensor& y, double slope, double gain) {
  const Tensor y_ = dense(y);
  const Tensor grad_ = y_.is_contiguous() ? grad.contiguous() : grad.contiguous(at::MemoryFormat::ChannelsLast);
  const Tensor result = with_large_pages(at::empty_like(y_));
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, y.scalar_type(), "sfe_act_grad", [&] {
    using Acc = typename Accumulator<scalar_t>::type;
    const auto* from = grad_.const_data_ptr<scalar_t>();
    const auto* at = y_.const_data_ptr<scalar_t>();
    auto* to = result.mutable_data_ptr<scalar_t>();
    for_each(y.numel(), ActGrad<scalar_t>{from, at, to, static_cast<Acc>(slope), static_cast<Acc>(gain)});
  });
  return result;
}

TORCH_LIBRARY_IMPL(sfe, CPU, m) {
  m.impl("upfirdn2d", &upfirdn2d);
  m.impl("blur_bias_act", &blur_bias_act);
  m.impl("fused_bias_act", &fused_bias_act);
  m.impl("act_grad", &act_grad);
}

}  // namespace sfe
