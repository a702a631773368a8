// libcuda.so for one GPU that a CPU plays. A module's image is the path of a compiled kernels.cpp. What a real GPU refuses
// is refused: a start without the GPU's context, and a grid or a block beyond the limits.
#include <dlfcn.h>

#include <map>
#include <memory>
#include <string>

#if __has_include(<cuda.h>)
#include <cuda.h>  // holds the functions below to the real ones' signatures
#else
typedef int CUresult, CUdevice;
typedef struct CUctx_st* CUcontext;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUstream_st* CUstream;
constexpr int CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1, CUDA_ERROR_INVALID_DEVICE = 101,
              CUDA_ERROR_INVALID_IMAGE = 200, CUDA_ERROR_INVALID_CONTEXT = 201, CUDA_ERROR_NOT_FOUND = 500;
#endif

namespace {

struct Index3 {
  unsigned x, y, z;
};
struct Function {
  std::string name;
  void* kernel;
  void (*emulate)(const char*, void*, Index3, Index3, void**);
};
const CUcontext CONTEXT = reinterpret_cast<CUcontext>(0x5fe);  // nobody looks into it
constexpr unsigned MAX_THREADS = 256;                          // __launch_bounds__ of kernels.cu
thread_local int depth = 0;                                    // how often this thread has pushed the context

}  // namespace

extern "C" {

long launches = 0;

CUresult cuInit(unsigned flags) { return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  *context = CONTEXT;
  return device == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  if (context != CONTEXT) return CUDA_ERROR_INVALID_CONTEXT;
  ++depth;
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  --depth;
  *context = CONTEXT;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  *module = static_cast<CUmodule>(dlopen(static_cast<const char*>(image), RTLD_NOW | RTLD_LOCAL));
  return *module ? CUDA_SUCCESS : CUDA_ERROR_INVALID_IMAGE;
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  static std::map<std::pair<void*, std::string>, std::unique_ptr<Function>> functions;
  if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  void* const kernel = dlsym(module, name);
  if (!kernel) return CUDA_ERROR_NOT_FOUND;
  auto& entry = functions[{module, name}];
  if (!entry) {
    const auto emulate = reinterpret_cast<decltype(Function::emulate)>(dlsym(module, "emulate"));
    entry = std::make_unique<Function>(Function{name, kernel, emulate});
  }
  *function = reinterpret_cast<CUfunction>(entry.get());
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(
    CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, unsigned shared_memory, CUstream, void** parameters, void** extra) {
  if (depth == 0) return CUDA_ERROR_INVALID_CONTEXT;
  const auto within = [](unsigned n, unsigned limit) { return n >= 1 && n <= limit; };
  const bool fits = within(grid_x, 2147483647) && within(grid_y, 65535) && within(grid_z, 1) && within(block_x, 1024) &&
                    within(block_y, 1024) && within(block_z, 1) && block_x * block_y * block_z <= MAX_THREADS;
  if (!fits || shared_memory || extra) return CUDA_ERROR_INVALID_VALUE;
  ++launches;
  const auto* f = reinterpret_cast<Function*>(function);
  f->emulate(f->name.c_str(), f->kernel, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, parameters);
  return CUDA_SUCCESS;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  static const std::map<int, const char*> texts = {
      {CUDA_ERROR_INVALID_VALUE, "invalid argument"},       {CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"},
      {CUDA_ERROR_INVALID_IMAGE, "device kernel image is invalid"},
      {CUDA_ERROR_INVALID_CONTEXT, "invalid device context"}, {CUDA_ERROR_NOT_FOUND, "named symbol not found"}};
  const auto found = texts.find(error);
  *text = found == texts.end() ? nullptr : found->second;
  return CUDA_SUCCESS;
}

}  // extern "C"
