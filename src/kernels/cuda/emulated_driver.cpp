// A stand-in for an NVIDIA GPU's driver and for cuBLAS, with the emulator behind it: the program that was built for GPUs runs where there is none,
// from its first call of the driver to its last, and its tests with it. Compiled with kernels.cu into a library by the names that the program
// asks for (scripts/cuda-emulated.sh).
//
// What a GPU does later is done later here too: launches, copies and frees wait in a queue until somebody waits for them, and memory that is new
// or free is poisoned, so that a host that reads too soon or overwrites too early is found out. Of candle's own kernels there are those that the
// fused operations need.
#include "emulator.h"
#include "emulated_activity.h"

#include <dlfcn.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <set>

using Address = unsigned long long;
using emulated::Activity;

extern "C" __attribute__((visibility("default"))) emulated::Observer emulated_observer = nullptr;

namespace {

std::recursive_mutex everything;

struct Fault {
    static constexpr int invalid = 1, out_of_memory = 2, not_found = 500;
};

// What was started and has not run, in order.
std::deque<std::function<void()>> queue;
uint64_t started = 0, done = 0;

void start(std::function<void()> work, Activity activity = {}) {
    if (emulated_observer && activity.kind) {
        work = [work = std::move(work), activity] {
            uint64_t start_ns = emulated::now_ns();
            work();
            emulated_observer(activity, start_ns, emulated::now_ns());
        };
    }
    queue.push_back(std::move(work));
    started++;
}
// Runs what was started up to a number.
void finish(uint64_t number) {
    while (done < number) {
        auto work = std::move(queue.front());
        queue.pop_front();
        done++;
        work();
    }
}

// The device's memory: sizes by address, bytes in use now and at most, and how many there are.
std::map<Address, size_t> allocated;
std::map<Address, size_t> pinned;
uint64_t used = 0, most = 0;
uint64_t total() {
    const char* mib = getenv("EMULATED_GPU_MIB");
    return (mib ? strtoull(mib, nullptr, 10) : 4096) << 20;
}

int allocate(Address* to, size_t bytes) {
    if (used + bytes > total()) return Fault::out_of_memory;
    size_t room = (bytes + 511) / 256 * 256;
    void* memory = aligned_alloc(256, room);
    memset(memory, 0xff, room);
    *to = reinterpret_cast<Address>(memory);
    allocated[*to] = bytes;
    used += bytes, most = std::max(most, used);
    return 0;
}
int release(Address address) {
    auto found = allocated.find(address);
    if (found == allocated.end()) return Fault::invalid;
    size_t bytes = found->second;
    allocated.erase(found);
    used -= bytes;
    start([=] {
        memset(reinterpret_cast<void*>(address), 0xff, bytes);
        free(reinterpret_cast<void*>(address));
    });
    return 0;
}
bool is_pinned(const void* address) {
    auto after = pinned.upper_bound(reinterpret_cast<Address>(address));
    if (after == pinned.begin()) return false;
    auto found = std::prev(after);
    return reinterpret_cast<Address>(address) < found->first + found->second;
}

struct Function {
    emulator::Kernel kernel;
    const char* name;
    size_t shared = 48 << 10;
};
std::map<std::string, Function> functions;

struct Event {
    uint64_t number = 0;
};

// Candle's kernels, each over all elements at once.
template <class... Args>
void add_whole(const std::string& name, void (*kernel)(Args...)) {
    emulator::kernels()[name] = [kernel](void** args) {
        return [kernel, own = emulator::values<Args...>(args, std::index_sequence_for<Args...>{})](dim3, dim3, size_t) {
            std::apply(kernel, own);
        };
    };
}
size_t strided(size_t i, size_t rank, const size_t* dims, const size_t* strides) {
    size_t at = 0;
    for (size_t d = rank; d-- > 0; i /= dims[d]) at += i % dims[d] * strides[d];
    return at;
}
size_t place(size_t i, size_t rank, const size_t* info) { return info ? strided(i, rank, info, info + rank) : i; }

template <class T>
T wide(T value) {
    return value;
}
float wide(__nv_bfloat16 value) { return __bfloat162float(value); }
template <class T>
struct Narrow {
    template <class S>
    static T of(S value) {
        return T(value);
    }
};
template <>
struct Narrow<__nv_bfloat16> {
    template <class S>
    static __nv_bfloat16 of(S value) {
        return __float2bfloat16(float(value));
    }
};

template <class S, class T>
void cast(size_t n, size_t rank, const size_t* info, const S* in, T* out) {
    for (size_t i = 0; i < n; i++) out[i] = Narrow<T>::of(wide(in[place(i, rank, info)]));
}
template <class T>
void copy(size_t n, size_t rank, const size_t* info, const T* in, T* out) {
    for (size_t i = 0; i < n; i++) out[i] = in[place(i, rank, info)];
}
template <class T>
void copy2d(const T* from, T* to, uint32_t rows, uint32_t columns, uint32_t from_row, uint32_t to_row) {
    for (size_t i = 0; i < rows; i++) memmove(to + i * to_row, from + i * from_row, columns * sizeof(T));
}
template <class T>
void affine(size_t n, size_t rank, const size_t* info, const T* in, T* out, T factor, T term) {
    for (size_t i = 0; i < n; i++) out[i] = (in ? in : out)[place(i, rank, info)] * factor + term;
}
template <class T>
void const_set(size_t n, size_t rank, const size_t* info, T value, T* out) {
    for (size_t i = 0; i < n; i++) out[place(i, rank, info)] = value;
}
template <class T>
void index_select(size_t n, size_t, const size_t*, const uint32_t* ids, const T* in, T* out, size_t, size_t rows, size_t count, size_t right) {
    for (size_t i = 0; i < n; i++) {
        size_t left = i / (count * right), id = ids[i / right % count];
        out[i] = in[(left * rows + id) * right + i % right];
    }
}

template <class T>
void add_of(const std::string& dtype) {
    add_whole("ucopy_" + dtype, copy<T>);
    add_whole("copy2d_" + dtype, copy2d<T>);
    add_whole("is_u32_" + dtype, index_select<T>);
    add_whole("const_set_" + dtype, const_set<T>);
}
[[maybe_unused]] const bool added = [] {
    add_of<float>("f32"), add_of<double>("f64"), add_of<uint32_t>("u32"), add_of<uint8_t>("u8"), add_of<__nv_bfloat16>("bf16");
    add_whole("cast_f32_bf16", cast<float, __nv_bfloat16>);
    add_whole("cast_bf16_f32", cast<__nv_bfloat16, float>);
    add_whole("cast_f32_f64", cast<float, double>);
    add_whole("cast_f64_f32", cast<double, float>);
    add_whole("cast_bf16_f64", cast<__nv_bfloat16, double>);
    add_whole("affine_f32", affine<float>);
    return true;
}();

char some;  // what handles point to

}  // namespace

#define DRIVER extern "C" __attribute__((visibility("default"))) int
#define ONE_AT_A_TIME std::lock_guard<std::recursive_mutex> lock(everything)

DRIVER cuInit(unsigned) {
    // A library of the user's, as the driver loads it.
    [[maybe_unused]] static const bool injected = [] {
        const char* path = getenv("CUDA_INJECTION64_PATH");
        void* library = path ? dlopen(path, RTLD_NOW) : nullptr;
        auto initialize = library ? reinterpret_cast<int (*)()>(dlsym(library, "InitializeInjection")) : nullptr;
        return initialize && initialize();
    }();
    return 0;
}
DRIVER cuGetErrorName(int error, const char** name) {
    *name = error == Fault::out_of_memory ? "CUDA_ERROR_OUT_OF_MEMORY" : error == Fault::not_found ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_INVALID_VALUE";
    return 0;
}
DRIVER cuGetErrorString(int error, const char** words) {
    *words = error == Fault::out_of_memory ? "out of memory" : error == Fault::not_found ? "named symbol not found" : "invalid argument";
    return 0;
}
DRIVER cuDeviceGetCount(int* count) { return *count = 1, 0; }
DRIVER cuDeviceGet(int* device, int number) { return *device = number, number == 0 ? 0 : 101; }
DRIVER cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "emulated GPU"), 0; }
DRIVER cuDeviceGetAttribute(int* value, int attribute, int) {
    // Compute capability 9.0; whatever else is asked, it has one of.
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 1;
    return 0;
}
DRIVER cuDevicePrimaryCtxRetain(void** context, int) { return *context = &some, 0; }
DRIVER cuDevicePrimaryCtxRelease_v2(int) { return 0; }
DRIVER cuCtxGetCurrent(void** context) { return *context = &some, 0; }
DRIVER cuCtxSetCurrent(void*) { return 0; }
DRIVER cuCtxDestroy_v2(void*) { return 0; }
DRIVER cuCtxSynchronize() {
    ONE_AT_A_TIME;
    return finish(started), 0;
}
DRIVER cuStreamCreate(void** stream, unsigned) { return *stream = &some, 0; }
DRIVER cuStreamDestroy_v2(void*) { return 0; }
DRIVER cuStreamSynchronize(void*) { return cuCtxSynchronize(); }
DRIVER cuStreamWaitEvent(void*, void*, unsigned) { return 0; }
DRIVER cuStreamIsCapturing(void*, int* status) { return *status = 0, 0; }
DRIVER cuEventCreate(Event** event, unsigned) { return *event = new Event, 0; }
DRIVER cuEventDestroy_v2(Event* event) { return delete event, 0; }
DRIVER cuEventRecord(Event* event, void*) {
    ONE_AT_A_TIME;
    return event->number = started, 0;
}
DRIVER cuEventSynchronize(Event* event) {
    ONE_AT_A_TIME;
    return finish(event->number), 0;
}

DRIVER cuMemAlloc_v2(Address* to, size_t bytes) {
    ONE_AT_A_TIME;
    return allocate(to, bytes);
}
DRIVER cuMemAllocAsync(Address* to, size_t bytes, void*) { return cuMemAlloc_v2(to, bytes); }
DRIVER cuMemFreeAsync(Address address, void*) {
    ONE_AT_A_TIME;
    return release(address);
}
DRIVER cuMemFree_v2(Address address) { return cuMemFreeAsync(address, nullptr); }
DRIVER cuMemHostAlloc(void** to, size_t bytes, unsigned) {
    ONE_AT_A_TIME;
    *to = aligned_alloc(256, (bytes + 511) / 256 * 256);
    pinned[reinterpret_cast<Address>(*to)] = bytes;
    return 0;
}
DRIVER cuMemFreeHost(void* memory) {
    ONE_AT_A_TIME;
    finish(started);
    pinned.erase(reinterpret_cast<Address>(memory));
    return free(memory), 0;
}
DRIVER cuMemGetInfo_v2(size_t* free_bytes, size_t* total_bytes) { return *total_bytes = total(), *free_bytes = total() - used, 0; }
DRIVER cuDeviceGetDefaultMemPool(void** pool, int) { return *pool = &some, 0; }
DRIVER cuMemPoolSetAttribute(void*, int, void*) { return 0; }
DRIVER cuMemPoolTrimTo(void*, size_t) { return 0; }
DRIVER cuMemPoolGetAttribute(void*, int attribute, uint64_t* value) { return *value = attribute == 8 ? most : used, 0; }

DRIVER cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, void*) {
    ONE_AT_A_TIME;
    void* target = reinterpret_cast<void*>(to);
    if (is_pinned(from)) {
        start([=] { memcpy(target, from, bytes); }, {Activity::copy_to_device, "", bytes});
    } else {
        std::vector<char> staged(static_cast<const char*>(from), static_cast<const char*>(from) + bytes);
        start([=] { memcpy(target, staged.data(), bytes); }, {Activity::copy_to_device, "", bytes});
    }
    return 0;
}
DRIVER cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, void*) {
    ONE_AT_A_TIME;
    start([=] { memcpy(to, reinterpret_cast<void*>(from), bytes); }, {Activity::copy_to_host, "", bytes});
    if (!is_pinned(to)) finish(started);
    return 0;
}
DRIVER cuMemcpyDtoDAsync_v2(Address to, Address from, size_t bytes, void*) {
    ONE_AT_A_TIME;
    start([=] { memmove(reinterpret_cast<void*>(to), reinterpret_cast<void*>(from), bytes); }, {Activity::copy_on_device, "", bytes});
    return 0;
}
DRIVER cuMemcpyPeerAsync(Address to, void*, Address from, void*, size_t bytes, void*) { return cuMemcpyDtoDAsync_v2(to, from, bytes, nullptr); }
DRIVER cuMemsetD8Async(Address to, unsigned char value, size_t bytes, void*) {
    ONE_AT_A_TIME;
    return start([=] { memset(reinterpret_cast<void*>(to), value, bytes); }, {Activity::fill, "", bytes}), 0;
}

DRIVER cuModuleLoadData(void** module, const void*) { return *module = &some, 0; }
DRIVER cuModuleLoad(void** module, const char*) { return *module = &some, 0; }
DRIVER cuModuleUnload(void*) { return 0; }
DRIVER cuModuleGetFunction(Function** function, void*, const char* name) {
    ONE_AT_A_TIME;
    auto kernel = emulator::kernels().find(name);
    if (kernel == emulator::kernels().end()) {
        fprintf(stderr, "the emulated GPU has no kernel %s\n", name);
        return Fault::not_found;
    }
    *function = &functions.try_emplace(name, Function{kernel->second, kernel->first.c_str()}).first->second;
    return 0;
}
DRIVER cuFuncSetAttribute(Function* function, int attribute, int value) {
    // Most dynamic shared memory, of which a block of compute capability 9.0 has 227 KiB.
    if (attribute == 8 && value > 227 << 10) return Fault::invalid;
    if (attribute == 8) function->shared = value;
    return 0;
}
DRIVER cuLaunchKernel(Function* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared, void*,
                      void** arguments, void**) {
    ONE_AT_A_TIME;
    bool fits = gx && gy && gz && gy <= 65535 && gz <= 65535 && bx * by * bz >= 1 && bx * by * bz <= 1024 && shared <= function->shared;
    if (!fits) return Fault::invalid;
    emulator::Launch launch = function->kernel(arguments);
    start([=] { launch({gx, gy, gz}, {bx, by, bz}, shared); }, {Activity::kernel, function->name, 0, gx * gy * gz, bx * by * bz});
    return 0;
}

#include "emulated_blas.h"

// What the program links and these tests do not use.
#define UNUSED(name) \
    DRIVER name() { return 0; }
UNUSED(curandCreateGenerator)
UNUSED(curandDestroyGenerator)
UNUSED(curandSetPseudoRandomGeneratorSeed)
UNUSED(curandSetStream)
UNUSED(cublasDgemmStridedBatched)
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
