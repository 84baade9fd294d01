// A stand-in for libcuda.so.1: one GPU whose memory is the host's. Streams are lazy, and the rules that a real driver has
// are kept: nothing before cuInit, nothing without a current context, nothing freed twice.
#include "standin.h"
#include <cstdint>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <set>

using standin::fails, standin::mode;

namespace {
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_CONTEXT = 201, ILLEGAL_ADDRESS = 700 };

std::atomic<bool> initialised{false};
std::atomic<int> retained{0};
int context;
thread_local void* current = nullptr;

// For failures that come later: a plan is tried out once as an engine and once as a model, each time with an input and an output
// on both sides.
enum { TRIALS = 2, PIECES_OF_TRIALS = 8 };
std::atomic<int> taken{0};
std::atomic<int> waits{0};

std::mutex guard;
std::set<void*> allocated; // of both kinds of memory

int ready() {
    if (!initialised) return NOT_INITIALIZED;
    return current == &context && retained > 0 ? SUCCESS : INVALID_CONTEXT;
}

int take(void** at, size_t bytes) {
    if (int status = ready()) return status;
    if (bytes == 0) return INVALID_VALUE;
    if (fails("out-of-memory", taken, PIECES_OF_TRIALS)) return OUT_OF_MEMORY;
    // Alignment of the real thing, as far as anybody looks.
    *at = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
    std::lock_guard<std::mutex> lock(guard);
    allocated.insert(*at);
    return SUCCESS;
}

int give(void* at) {
    if (int status = ready()) return status;
    std::lock_guard<std::mutex> lock(guard);
    if (allocated.erase(at) == 0) return INVALID_VALUE;
    std::free(at);
    return SUCCESS;
}
} // namespace

extern "C" {
int cuInit(unsigned flags) {
    if (mode("no-driver")) return 999;
    initialised = flags == 0;
    return SUCCESS;
}
int cuDriverGetVersion(int* version) { *version = 12060; return SUCCESS; }
int cuDeviceGetCount(int* count) { *count = mode("no-device") ? 0 : 1; return initialised ? SUCCESS : NOT_INITIALIZED; }
int cuDeviceGetName(char* name, int length, int device) { std::snprintf(name, size_t(length), "Stand-in GPU"); return device; }
int cuDeviceTotalMem_v2(size_t* bytes, int device) { *bytes = size_t(8) << 30; return device; }
int cuDevicePrimaryCtxSetFlags_v2(int, unsigned flags) { return flags == 4 ? SUCCESS : INVALID_VALUE; }
int cuDevicePrimaryCtxRetain(void** out, int device) { *out = &context; retained++; return device; }
int cuDevicePrimaryCtxRelease_v2(int device) { retained--; return device; }
int cuCtxSetCurrent(void* wanted) { current = wanted; return wanted == &context ? SUCCESS : INVALID_CONTEXT; }
int cuMemGetInfo_v2(size_t* free, size_t* total) { *free = size_t(4) << 30; *total = size_t(8) << 30; return ready(); }
int cuMemAlloc_v2(uint64_t* address, size_t bytes) {
    void* at = nullptr;
    int status = take(&at, bytes);
    *address = reinterpret_cast<uint64_t>(at);
    return status;
}
int cuMemFree_v2(uint64_t address) { return give(reinterpret_cast<void*>(address)); }
int cuMemHostAlloc(void** at, size_t bytes, unsigned) { return take(at, bytes); }
int cuMemFreeHost(void* at) { return give(at); }
int cuStreamCreate(void** stream, unsigned flags) {
    *stream = new standin::Stream;
    return flags == 1 ? ready() : int(INVALID_VALUE);
}
int cuStreamDestroy_v2(void* stream) { delete static_cast<standin::Stream*>(stream); return ready(); }
int cuMemcpyHtoDAsync_v2(uint64_t to, void const* from, size_t bytes, void* stream) {
    static_cast<standin::Stream*>(stream)->work.push_back([=] { std::memcpy(reinterpret_cast<void*>(to), from, bytes); return 0; });
    return ready();
}
int cuMemcpyDtoHAsync_v2(void* to, uint64_t from, size_t bytes, void* stream) {
    static_cast<standin::Stream*>(stream)->work.push_back([=] { std::memcpy(to, reinterpret_cast<void*>(from), bytes); return 0; });
    return ready();
}
int cuStreamSynchronize(void* stream) {
    if (int status = ready()) return status;
    if (mode("slow")) { // 20 ms
        timespec pause{0, 20000000};
        nanosleep(&pause, nullptr);
    }
    int status = fails("lost", waits, TRIALS) ? ILLEGAL_ADDRESS : SUCCESS;
    for (auto& work : static_cast<standin::Stream*>(stream)->work)
        if (status == SUCCESS) status = work();
    static_cast<standin::Stream*>(stream)->work.clear();
    return status;
}
int cuGetErrorName(int status, char const** name) {
    *name = status == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : status == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : nullptr;
    return *name ? SUCCESS : INVALID_VALUE;
}
}
