// Stands in for the driver of an NVIDIA GPU and for cuBLAS, based on the emulator. A program built for GPUs, and its tests, run with it
// unchanged on a machine without a GPU. scripts/cuda-emulated.sh compiles it with kernels.cu into a library with the driver's file name.
//
// Work that is asynchronous on a GPU is deferred: launches, copies and frees stay in a queue until the host waits for them. New and freed
// memory is poisoned, which exposes a host that reads or overwrites it too early. The emulator refuses what a driver refuses. On errors
// that a driver would not notice (memory freed while a transfer uses it, a context released before its objects), it ends the program.
#include "emulator.h"
#include "emulated_activity.h"
#include "emulated_device.h"

using emulated::Activity, emulated::observed;
emulated::Observer emulated_observer = nullptr;

namespace {

// A loaded module of kernels: this program's, or candle's PTX, which is compiled for one GPU generation.
struct Module {
    Context* context;
    bool is_candles;
    std::map<std::string, struct Function> functions;
};
struct Function {
    std::string name;
    Module* module;
    emulator::Kernel kernel;
    size_t shared = 48 << 10;
};

// Appends a line to the file that EMULATED_GPU_LOG names: the kernel's owner (rlvr or candle), a tab, and the kernel's name.
void log_launch(const char* owner, const std::string& name) {
    static FILE* log = [] {
        const char* path = getenv("EMULATED_GPU_LOG");
        return path ? fopen(path, "a") : nullptr;
    }();
    if (log) fprintf(log, "%s\t%s\n", owner, name.c_str()), fflush(log);
}

struct Event {
    uint64_t number = 0;
    float milliseconds = 0;
};

// The clock of events. Only products advance it, and only if EMULATED_GPU_CLOCK is set (emulated_blas.h).
float milliseconds = 0;

char some;  // handles point to it

}  // namespace

#define DRIVER extern "C" __attribute__((visibility("default"))) int
#define ONE_AT_A_TIME std::lock_guard<std::recursive_mutex> lock(everything)

DRIVER cuInit(unsigned) { return emulated::inject(), 0; }
DRIVER cuDriverGetVersion(int* version) { return *version = int(setting("EMULATED_GPU_DRIVER", 13000)), 0; }
struct Words {
    int fault;
    const char *name, *words;
};
const Words& words_of(int fault) {
    static const Words all[] = {{Fault::out_of_memory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
                                {46, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
                                {Fault::no_device, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
                                {Fault::no_context, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
                                {214, "CUDA_ERROR_ECC_UNCORRECTABLE", "uncorrectable ECC error encountered"},
                                {Fault::not_found, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
                                {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
                                {Fault::not_recorded, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
                                {Fault::invalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
                                {Fault::invalid, "CUDA_ERROR_INVALID_VALUE", "invalid argument"}};
    for (const Words& words : all)
        if (words.fault == fault) return words;
    return std::end(all)[-1];
}
DRIVER cuGetErrorName(int fault, const char** name) { return *name = words_of(fault).name, 0; }
DRIVER cuGetErrorString(int fault, const char** words) { return *words = words_of(fault).words, 0; }
DRIVER cuDeviceGetCount(int* count) { return *count = int(devices()), 0; }
DRIVER cuDeviceGet(int* device, int number) { return *device = number, number < int(devices()) ? 0 : Fault::no_device; }
DRIVER cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "emulated GPU"), 0; }
DRIVER cuDeviceGetAttribute(int* value, int attribute, int) {
    // Attributes 75 and 76 are the compute capability; every other attribute is 1.
    const char* capability = getenv("EMULATED_GPU_CAPABILITY");
    int major = 9, minor = 0;
    if (capability) sscanf(capability, "%d.%d", &major, &minor);
    *value = attribute == 75 ? major : attribute == 76 ? minor : 1;
    return 0;
}
DRIVER cuDevicePrimaryCtxRetain(Context** context, int device) {
    ONE_AT_A_TIME;
    *context = &contexts[device];
    return (*context)->references++, 0;
}
DRIVER cuDevicePrimaryCtxRelease_v2(int device) {
    ONE_AT_A_TIME;
    Context* context = &contexts[device];
    if (--context->references) return 0;
    for (Stream* stream : streams)
        if (stream->context == context) fail("a context is released before one of its streams");
    for (auto* all : {&allocated, &pinned})
        for (auto& [address, memory] : *all)
            if (memory.context == context) fail("a context is released before its memory is freed");
    return 0;
}
DRIVER cuCtxGetCurrent(Context** context) { return *context = current, 0; }
DRIVER cuCtxSetCurrent(Context* context) { return current = context, 0; }
DRIVER cuCtxDestroy_v2(void*) { return Fault::invalid; }
DRIVER cuCtxSynchronize() {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    if (int fault = not_while_recording()) return fault;
    return finish(started), 0;
}
DRIVER cuStreamCreate(Stream** stream, unsigned) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    return streams.insert(*stream = new Stream{current}), 0;
}
DRIVER cuStreamDestroy_v2(Stream* stream) {
    ONE_AT_A_TIME;
    if (!streams.erase(stream)) fail("a stream is destroyed twice");
    if (here == stream) here = nullptr;
    return delete stream, lost();
}
DRIVER cuStreamSynchronize(Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    if (int fault = not_while_recording(stream)) return fault;
    return finish(started), 0;
}
DRIVER cuStreamWaitEvent(Stream* stream, void*, unsigned) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    return not_while_recording(stream);
}
DRIVER cuEventCreate(Event** event, unsigned) { return *event = new Event, 0; }
DRIVER cuEventDestroy_v2(Event* event) { return delete event, 0; }
DRIVER cuEventRecord(Event* event, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    if (int fault = not_while_recording(stream)) return fault;
    return event->number = started, event->milliseconds = milliseconds, 0;
}
DRIVER cuEventSynchronize(Event* event) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    return finish(event->number), 0;
}
DRIVER cuEventQuery(Event* event) {
    ONE_AT_A_TIME;
    return done >= event->number ? lost() : Fault::not_ready;
}
DRIVER cuEventElapsedTime_v2(float* elapsed, Event* begin, Event* end) { return *elapsed = end->milliseconds - begin->milliseconds, 0; }

DRIVER cuMemAllocAsync(Address* to, size_t bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    if (int fault = not_while_recording(stream)) return fault;
    return allocate(to, bytes);
}
DRIVER cuMemAlloc_v2(Address* to, size_t bytes) {
    ONE_AT_A_TIME;
    if (int fault = not_while_recording()) return fault;
    return cuMemAllocAsync(to, bytes, nullptr);
}
DRIVER cuMemFreeAsync(Address address, Stream* stream) {
    ONE_AT_A_TIME;
    if (stream && !streams.count(stream)) fail("memory is freed in a destroyed stream");
    here = stream;
    if (int fault = not_while_recording(stream)) return fault;
    // A thread may drop a tensor while another device is current. If no context is current, the memory is never freed.
    int fault = current && current->references ? lost() : Fault::no_context;
    if (fault) return allocated.erase(address), fault;
    return release(address);
}
DRIVER cuMemFree_v2(Address address) { return cuMemFreeAsync(address, nullptr); }
DRIVER cuMemHostAlloc(void** to, size_t bytes, unsigned) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    *to = aligned_alloc(256, (bytes + 511) / 256 * 256);
    pinned[reinterpret_cast<Address>(*to)] = {bytes, current};
    return 0;
}
DRIVER cuMemFreeHost(void* memory) {
    ONE_AT_A_TIME;
    auto found = pinned.find(reinterpret_cast<Address>(memory));
    if (found == pinned.end()) fail("host memory that was not allocated is freed");
    if (!found->second.context->references) fail("host memory is freed after its context was released");
    for (auto& [number, place] : transfers)
        if (memory_of(pinned, reinterpret_cast<void*>(place.first)) == &found->second && !lost()) fail("host memory is freed before a transfer has used it");
    pinned.erase(found);
    return free(memory), lost();
}
DRIVER cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    *total_bytes = total();
    return *free_bytes = total() - std::min(total(), others() + current->used), 0;
}
// A pool is represented by its device's context.
DRIVER cuDeviceGetDefaultMemPool(Context** pool, int device) { return *pool = &contexts[device], 0; }
DRIVER cuMemPoolSetAttribute(void*, int, void*) { return 0; }
DRIVER cuMemPoolTrimTo(void*, size_t) { return lost(); }
DRIVER cuMemPoolGetAttribute(Context* pool, int attribute, uint64_t* value) { return *value = attribute == 8 ? pool->peak : pool->used, lost(); }

DRIVER cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    void* target = reinterpret_cast<void*>(to);
    if (memory_of(pinned, from)) {
        start(observed({Activity::copy_to_device, "", bytes}, [=] { memcpy(target, from, bytes); }));
        transfers[started] = {reinterpret_cast<Address>(from), bytes};
    } else {
        std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
        start(observed({Activity::copy_to_device, "", bytes}, [=] { memcpy(target, staged.data(), bytes); }));
    }
    return 0;
}
// A driver may return before the bytes have arrived, even in pageable host memory. This one always does, and a host that reads too early
// finds NaN.
DRIVER cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    memset(to, 0xff, bytes);
    start(observed({Activity::copy_to_host, "", bytes}, [=] { memcpy(to, reinterpret_cast<void*>(from), bytes); }));
    transfers[started] = {reinterpret_cast<Address>(to), bytes};
    return 0;
}
DRIVER cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    auto work = [=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); };
    return start(observed({Activity::copy_on_device, "", bytes}, work)), 0;
}
DRIVER cuMemcpyPeerAsync(Address to, void*, Address from, void*, size_t bytes, Stream* stream) { return cuMemcpyDtoDAsync_v2(to, from, bytes, stream); }
DRIVER cuMemsetD8Async(Address to, unsigned char value, size_t bytes, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    return start(observed({Activity::fill, "", bytes}, [=] { memset(reinterpret_cast<void*>(to), value, bytes); })), 0;
}

DRIVER cuModuleLoadData(Module** module, const unsigned* image) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    // The magic number of a fatbin, which has code for several GPU generations. PTX is text.
    constexpr unsigned fatbin = 0xba55ed50;
    return *module = new Module{current, *image != fatbin, {}}, 0;
}
DRIVER cuModuleLoad(Module**, const char*) { return Fault::not_found; }
DRIVER cuModuleUnload(Module* module) {
    ONE_AT_A_TIME;
    if (!module->context->references) fail("kernels are unloaded after their context was released");
    return delete module, 0;
}
DRIVER cuModuleGetFunction(Function** function, Module* module, const char* name) {
    ONE_AT_A_TIME;
    if (int fault = enter()) return fault;
    auto kernel = emulator::kernels().find(name);
    if (kernel == emulator::kernels().end()) {
        fprintf(stderr, "the emulated GPU has no kernel %s\n", name);
        return Fault::not_found;
    }
    *function = &module->functions.try_emplace(name, Function{name, module, kernel->second}).first->second;
    return 0;
}
DRIVER cuFuncSetAttribute(Function* function, int attribute, int value) {
    if (int fault = enter()) return fault;
    // Largest dynamic shared memory per block: 227 KiB for compute capability 9.0.
    if (attribute == 8 && value > 227 << 10) return Fault::invalid;
    if (attribute == 8) function->shared = value;
    return 0;
}
DRIVER cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, Stream* stream,
                      void** arguments, void**) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    if (!is_recording()) counts.launches++;
    if (function->module->context != current) return Fault::no_context;
    bool fits = gx && gy && gz && gy <= 65535 && gz <= 65535 && bx * by * bz >= 1 && bx * by * bz <= 1024 && shared <= function->shared;
    if (!fits) return Fault::invalid;
    log_launch(function->module->is_candles ? "candle" : "rlvr", function->name);
    emulator::Launch launch = function->kernel(arguments);
    Activity activity{Activity::kernel, emulated::interned(function->name), 0, gx * gy * gz, bx * by * bz};
    start(observed(activity, [=] { launch({gx, gy, gz}, {bx, by, bz}, shared); }));
    return 0;
}

DRIVER cuStreamIsCapturing(Stream* stream, int* status) {
    ONE_AT_A_TIME;
    return *status = !stream || !stream->recording ? 0 : stream->recording->is_invalidated ? 2 : 1, 0;
}
DRIVER cuStreamBeginCapture_v2(Stream* stream, int mode) {
    ONE_AT_A_TIME;
    return begin(stream, mode);
}
DRIVER cuStreamEndCapture(Stream* stream, Graph** graph) {
    ONE_AT_A_TIME;
    return end(stream, graph);
}
DRIVER cuGraphInstantiateWithFlags(Graph** executable, Graph* graph, unsigned long long) { return *executable = new Graph(*graph), 0; }
DRIVER cuGraphDestroy(Graph* graph) { return delete graph, 0; }
DRIVER cuGraphExecDestroy(Graph* executable) {
    ONE_AT_A_TIME;
    return delete executable, 0;
}
DRIVER cuGraphLaunch(Graph* executable, Stream* stream) {
    ONE_AT_A_TIME;
    if (int fault = enter(stream)) return fault;
    if (int fault = not_while_recording(stream)) return fault;
    counts.graphs++;
    // Reads the graph when it runs, as a GPU does. This detects a graph that is destroyed too early.
    start([=] {
        for (auto& work : executable->operations) work();
    });
    return 0;
}
// For tests: returns the numbers of launches, products, allocations and graphs since the start.
DRIVER emulated_gpu_counts(uint64_t* four) {
    ONE_AT_A_TIME;
    four[0] = counts.launches, four[1] = counts.products, four[2] = counts.allocations, four[3] = counts.graphs;
    return 0;
}

#include "emulated_candle.h"
#include "emulated_blas.h"

// Functions that the program links to but the tests do not call.
#define UNUSED(name) \
    DRIVER name() { return 0; }
UNUSED(curandCreateGenerator)
UNUSED(curandDestroyGenerator)
UNUSED(curandSetPseudoRandomGeneratorSeed)
UNUSED(curandSetStream)
UNUSED(cublasDgemmStridedBatched)
UNUSED(cublasGemmEx)
UNUSED(cublasGemmStridedBatchedEx)
UNUSED(cudaFuncSetAttribute)
UNUSED(cudaGetDevice)
UNUSED(__cudaGetKernel)
UNUSED(__cudaLaunchKernel)
UNUSED(__cudaLaunchKernel_ptsz)
UNUSED(__cudaPopCallConfiguration)
UNUSED(__cudaPushCallConfiguration)
UNUSED(__cudaRegisterFatBinary)
UNUSED(__cudaRegisterFatBinaryEnd)
UNUSED(__cudaRegisterFunction)
UNUSED(__cudaRegisterVar)
UNUSED(__cudaUnregisterFatBinary)
