// A driver of NVIDIA's for machines that have no GPU of theirs: it has one device, of compute capability 9.0, whose memory is
// main memory and whose launches do nothing. What it is for, and what it cannot show, stands in run.sh.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int Result;
typedef uint64_t Pointer;

enum { SUCCESS = 0, OUT_OF_MEMORY = 2 };

// What was compiled and how often it was launched; no program has as many kernels.
static struct Kernel { char name[256]; long launches; } kernels[4096];
static int count;

// Where the code of the kernels is kept, and at the end a line for each: its number, its launches and its name.
static FILE *create(const char *name) {
  char path[4096];
  const char *folder = getenv("WITHOUT_GPU_KERNELS");
  snprintf(path, sizeof path, "%s/%s", folder ? folder : ".", name);
  return folder ? fopen(path, "w") : NULL;
}

__attribute__((destructor)) static void report(void) {
  FILE *file = count ? create("launches") : NULL;
  if (!file) return;
  for (int i = 0; i < count; i++) fprintf(file, "%05d %ld %s\n", i, kernels[i].launches, kernels[i].name);
  fclose(file);
}

// The device.
Result cuInit(unsigned flags) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
Result cuDeviceGetCount(int *count) { *count = 1; return SUCCESS; }
Result cuDeviceGet(int *device, int index) { *device = 0; return SUCCESS; }
Result cuDeviceGetName(char *name, int length, int device) { strncpy(name, "no GPU", length); return SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = (size_t)16 << 30; return SUCCESS; }
Result cuMemGetInfo_v2(size_t *free, size_t *total) { *free = *total = (size_t)16 << 30; return SUCCESS; }
Result cuDeviceCanAccessPeer(int *can, int device, int peer) { *can = 0; return SUCCESS; }
Result cuDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 1: case 2: case 3: *value = 1024; break;   // threads of a block; its first two dimensions
    case 4: *value = 64; break;                     // its third
    case 5: *value = 2147483647; break;             // blocks of a grid
    case 6: case 7: *value = 65535; break;
    case 8: *value = 49152; break;                  // shared memory of a block
    case 97: *value = 232448; break;                // where it is asked for
    case 81: *value = 233472; break;                // of a multiprocessor
    case 10: *value = 32; break;                    // threads of a warp
    case 12: *value = 65536; break;                 // registers of a block
    case 14: *value = 512; break;                   // alignment of textures
    case 16: *value = 132; break;                   // multiprocessors
    case 38: *value = 50 << 20; break;              // second cache
    case 39: *value = 2048; break;                  // threads of a multiprocessor
    case 75: *value = 9; break;                     // compute capability
    case 76: *value = 0; break;
    default: *value = 1;
  }
  return SUCCESS;
}

// Contexts, streams and events: one of each, and all that is asked for has happened.
static int thing;
Result cuDevicePrimaryCtxRetain(void **context, int device) { *context = &thing; return SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int device) { return SUCCESS; }
Result cuCtxSetCurrent(void *context) { return SUCCESS; }
Result cuCtxGetCurrent(void **context) { *context = &thing; return SUCCESS; }
Result cuCtxSynchronize(void) { return SUCCESS; }
Result cuStreamCreate(void **stream, unsigned flags) { *stream = &thing; return SUCCESS; }
Result cuStreamDestroy_v2(void *stream) { return SUCCESS; }
Result cuStreamSynchronize(void *stream) { return SUCCESS; }
Result cuStreamWaitEvent(void *stream, void *event, unsigned flags) { return SUCCESS; }
Result cuEventCreate(void **event, unsigned flags) { *event = &thing; return SUCCESS; }
Result cuEventRecord(void *event, void *stream) { return SUCCESS; }
Result cuEventSynchronize(void *event) { return SUCCESS; }
Result cuEventQuery(void *event) { return SUCCESS; }
Result cuEventElapsedTime(float *ms, void *start, void *end) { *ms = 1; return SUCCESS; }
Result cuEventElapsedTime_v2(float *ms, void *start, void *end) { *ms = 1; return SUCCESS; }
Result cuEventDestroy_v2(void *event) { return SUCCESS; }

// Memory, which begins as zeros.
static Result reserve(Pointer *pointer, size_t bytes) {
  void *memory;
  if (posix_memalign(&memory, 512, bytes ? bytes : 512)) return OUT_OF_MEMORY;
  memset(memory, 0, bytes);
  *pointer = (Pointer)memory;
  return SUCCESS;
}
Result cuMemAlloc_v2(Pointer *pointer, size_t bytes) { return reserve(pointer, bytes); }
Result cuMemAllocAsync(Pointer *pointer, size_t bytes, void *stream) { return reserve(pointer, bytes); }
Result cuMemAllocHost_v2(void **pointer, size_t bytes) { return reserve((Pointer *)pointer, bytes); }
Result cuMemFree_v2(Pointer pointer) { free((void *)pointer); return SUCCESS; }
Result cuMemFreeAsync(Pointer pointer, void *stream) { free((void *)pointer); return SUCCESS; }
Result cuMemFreeHost(void *pointer) { free(pointer); return SUCCESS; }
Result cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t bytes, void *stream) { memcpy((void *)to, from, bytes); return SUCCESS; }
Result cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t bytes, void *stream) {
  // A single number is 4: the programs ask a device for 1 + 1 + 1 + 1 before they use it.
  float four = 4;
  memcpy(to, bytes == sizeof four ? (void *)&four : (void *)from, bytes);
  return SUCCESS;
}
Result cuMemcpy2DAsync_v2(const void *copy, void *stream) { return SUCCESS; }

// Kernels.
Result cuModuleLoadData(void **module, const void *image) {
  if (count == sizeof kernels / sizeof *kernels) return OUT_OF_MEMORY;
  char name[16];
  snprintf(name, sizeof name, "%05d.ptx", count);
  FILE *file = create(name);
  if (file) { fputs(image, file); fclose(file); }
  *module = &kernels[count++];
  return SUCCESS;
}
Result cuModuleUnload(void *module) { return SUCCESS; }
Result cuModuleGetFunction(void **function, void *module, const char *name) {
  strncpy(((struct Kernel *)module)->name, name, sizeof kernels->name - 1);
  *function = module;
  return SUCCESS;
}
Result cuFuncSetAttribute(void *function, int attribute, int value) { return SUCCESS; }
Result cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z, unsigned units_x, unsigned units_y, unsigned units_z,
                      unsigned shared, void *stream, void **arguments, void **extra) {
  ((struct Kernel *)function)->launches++;
  return SUCCESS;
}
Result cuTensorMapEncodeTiled(void) { return SUCCESS; }
Result cuTensorMapEncodeIm2col(void) { return SUCCESS; }
Result cuGetErrorName(Result error, const char **name) { *name = error ? "OUT_OF_MEMORY" : "SUCCESS"; return SUCCESS; }
Result cuGetErrorString(Result error, const char **text) { return cuGetErrorName(error, text); }
