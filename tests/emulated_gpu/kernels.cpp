// kernels.cu for the CPU: each kernel as a function for one thread, and a loop over a grid's threads.
#include <cstring>

#include "grid.h"
#include "kernels.cu"

namespace {

template <typename Kernel>
void for_each_thread(Kernel kernel) {
  for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
    for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x)
      for (threadIdx.y = 0; threadIdx.y < blockDim.y; ++threadIdx.y)
        for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x) kernel();
}

}  // namespace

// Runs a kernel of this file, whose parameters are copied from where the pointers point.
extern "C" void emulate(const char* name, void* kernel, Index3 grid, Index3 block, void** parameters) {
  gridDim = grid, blockDim = block;
  if (std::strncmp(name, "act_grad", 8) == 0) {
    const auto function = reinterpret_cast<void (*)(sfe::ActGrad<sfe::Type>, int)>(kernel);
    const auto body = *static_cast<sfe::ActGrad<sfe::Type>*>(parameters[0]);
    const int count = *static_cast<int*>(parameters[1]);
    for_each_thread([&] { function(body, count); });
  } else {
    const auto function = reinterpret_cast<void (*)(sfe::Args<sfe::Type>)>(kernel);
    const auto args = *static_cast<sfe::Args<sfe::Type>*>(parameters[0]);
    for_each_thread([&] { function(args); });
  }
}
