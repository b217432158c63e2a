// Emulates blocks of CUDA threads on the CPU. With this header, a C++ compiler compiles this folder's kernels to run thread by thread
// without a GPU. Tests launch the same sources that nvcc compiles and compare them with the plain CPU versions.
//
// One operating-system thread runs a launch, block after block. The threads of a block are coroutines that yield at barriers and at warp
// intrinsics. Shared memory is poisoned before each block. Copies by cp.async arrive only when a thread waits for them. It is an
// error if not all 32 lanes of a warp reach an intrinsic. Speed is not a goal.
#pragma once
#define EMULATED 1
#undef _FORTIFY_SOURCE  // its longjmp refuses to switch stacks

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __shared__ static thread_local
#define __align__(n) alignas(n)

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Rounds to nearest, ties to even, as the processor does. NaN stays NaN.
struct __nv_bfloat16 {
    uint16_t bits;
};
inline __nv_bfloat16 __float2bfloat16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return {0x7fff};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}
inline float __bfloat162float(__nv_bfloat16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float wide;
    memcpy(&wide, &bits, 4);
    return wide;
}

namespace emulator {

constexpr int WARP = 32;
constexpr size_t STACK = 256 << 10;

// A thread of the block, as a coroutine.
struct Thread {
    ucontext_t context;  // for the first switch; later ones use `jump`, which makes no system call
    jmp_buf jump;
    std::unique_ptr<char[]> stack;
    dim3 index;
    bool started = false, done = false;
    // Number of barriers of its block, and of its warp, that the thread has reached.
    uint64_t block_barrier = 0, warp_barrier = 0;
    // Copies by cp.async: the closed groups, and the open one.
    std::vector<std::vector<std::function<void()>>> groups;
    std::vector<std::function<void()>> open;
};

struct Block {
    std::vector<Thread> threads;
    jmp_buf scheduler;
    size_t current = 0;
    dim3 index, size, grid;
    std::vector<unsigned char> shared;
    // Values that the lanes of each warp exchange, up to 64 bytes each.
    std::vector<std::array<unsigned char, 64>> slots;
    std::function<void()> body;
};

inline thread_local Block* block = nullptr;

[[noreturn]] inline void fail(const char* what) {
    fprintf(stderr, "emulated kernel: %s\n", what);
    abort();
}

inline Thread& self() { return block->threads[block->current]; }
inline void yield() {
    if (!_setjmp(self().jump)) _longjmp(block->scheduler, 1);
}
// Runs the current thread until it yields.
__attribute__((noinline)) inline void resume() {
    if (_setjmp(block->scheduler)) return;
    if (self().started) _longjmp(self().jump, 1);
    self().started = true;
    setcontext(&self().context);
}

// Waits until every thread of [first, last) has reached the same number of barriers as this one.
inline void wait(size_t first, size_t last, uint64_t Thread::*barrier, const char* what) {
    uint64_t reached = ++(self().*barrier);
    for (;;) {
        bool all = true;
        for (size_t i = first; i < last && all; i++) {
            const Thread& other = block->threads[i];
            if (other.done && other.*barrier < reached) fail(what);
            all = other.*barrier >= reached;
        }
        if (all) return;
        yield();
    }
}

inline size_t linear() { return block->current; }
inline size_t lane() { return linear() % WARP; }
inline void warp_barrier() {
    size_t first = linear() / WARP * WARP;
    size_t last = first + WARP;
    if (last > block->threads.size()) fail("a warp intrinsic was called in a warp of fewer than 32 threads");
    wait(first, last, &Thread::warp_barrier, "not all lanes of a warp reached a warp intrinsic");
}

// Exchanges values between lanes: every lane passes a value, and `read` is called with a function that returns a lane's value.
template <class T, class F>
auto exchange(const T& value, F read) {
    static_assert(sizeof(T) <= 64, "lanes exchange at most 64 bytes");
    size_t first = linear() / WARP * WARP;
    memcpy(block->slots[linear()].data(), &value, sizeof(T));
    warp_barrier();
    auto result = read([&](size_t lane) {
        T other;
        memcpy(&other, block->slots[first + lane].data(), sizeof(T));
        return other;
    });
    warp_barrier();
    return result;
}

inline void run_thread() {
    block->body();
    self().done = true;
    for (;;) yield();
}

// Runs `body` for every thread of every block.
inline void run(dim3 grid, dim3 size, size_t shared, const std::function<void()>& body) {
    size_t count = size_t(size.x) * size.y * size.z;
    Block own;
    own.size = size;
    own.grid = grid;
    own.body = body;
    own.threads.resize(count);
    own.slots.resize(count);
    own.shared.resize(shared + 16);
    block = &own;
    for (auto& thread : own.threads) thread.stack.reset(new char[STACK]);
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                own.index = {x, y, z};
                memset(own.shared.data(), 0xff, own.shared.size());  // NaN in every type
                for (size_t i = 0; i < count; i++) {
                    Thread& thread = own.threads[i];
                    thread.index = {unsigned(i % size.x), unsigned(i / size.x % size.y), unsigned(i / size.x / size.y)};
                    thread.started = thread.done = false;
                    thread.block_barrier = thread.warp_barrier = 0;
                    thread.groups.clear();
                    thread.open.clear();
                    getcontext(&thread.context);
                    thread.context.uc_stack.ss_sp = thread.stack.get();
                    thread.context.uc_stack.ss_size = STACK;
                    thread.context.uc_link = nullptr;
                    makecontext(&thread.context, run_thread, 0);
                }
                for (size_t left = count; left;) {
                    left = 0;
                    for (own.current = 0; own.current < count; own.current++) {
                        if (own.threads[own.current].done) continue;
                        resume();
                        left += !own.threads[own.current].done;
                    }
                }
            }
    block = nullptr;
}

// Kernels by name. A kernel copies its arguments, passed as pointers to values as for cuLaunchKernel, and returns a launch over a grid, a
// block size and bytes of dynamic shared memory.
using Launch = std::function<void(dim3, dim3, size_t)>;
using Kernel = std::function<Launch(void**)>;
inline std::map<std::string, Kernel>& kernels() {
    static std::map<std::string, Kernel> all;
    return all;
}
template <class... Args, size_t... I>
std::tuple<Args...> values(void** args, std::index_sequence<I...>) {
    return {*static_cast<Args*>(args[I])...};
}
template <class... Args>
int add(const char* name, void (*kernel)(Args...)) {
    kernels()[name] = [kernel](void** args) {
        return [kernel, own = values<Args...>(args, std::index_sequence_for<Args...>{})](dim3 grid, dim3 size, size_t shared) {
            run(grid, size, shared, [&] { std::apply(kernel, own); });
        };
    };
    return 0;
}

}  // namespace emulator

#define threadIdx (emulator::self().index)
#define blockIdx (emulator::block->index)
#define blockDim (emulator::block->size)
#define gridDim (emulator::block->grid)

inline void __syncthreads() {
    emulator::wait(0, emulator::block->threads.size(), &emulator::Thread::block_barrier, "not all threads of the block reached a barrier");
}
inline void __syncwarp(unsigned = ~0u) { emulator::warp_barrier(); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return emulator::exchange(value, [&](auto of) { return of(lane & 31); });
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulator::exchange(value, [&](auto of) { return of((emulator::lane() ^ mask) & 31); });
}
template <class T>
T __shfl_down_sync(unsigned, T value, int by) {
    return emulator::exchange(value, [&](auto of) { return emulator::lane() + by < 32 ? of(emulator::lane() + by) : value; });
}
template <class T>
T __shfl_up_sync(unsigned, T value, int by) {
    return emulator::exchange(value, [&](auto of) { return int(emulator::lane()) >= by ? of(emulator::lane() - by) : value; });
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    return emulator::exchange(predicate, [&](auto of) {
        unsigned bits = 0;
        for (int lane = 0; lane < 32; lane++) bits |= unsigned(of(lane) != 0) << lane;
        return bits;
    });
}

template <class T>
T atomicAdd(T* to, T value) {
    T old = *to;
    *to += value;
    return old;
}
inline unsigned atomicMax(unsigned* to, unsigned value) {
    unsigned old = *to;
    *to = old > value ? old : value;
    return old;
}

// Rounds the result, even if the compiler contracts other operations.
inline float rounded(float x) {
    volatile float stored = x;
    return stored;
}
inline float __fmul_rn(float x, float y) { return rounded(x * y); }
inline float __fadd_rn(float x, float y) { return rounded(x + y); }
inline float __fsub_rn(float x, float y) { return rounded(x - y); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline unsigned __float_as_uint(float x) {
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
inline float __uint_as_float(unsigned x) {
    float value;
    memcpy(&value, &x, 4);
    return value;
}
inline int __ffs(unsigned bits) { return __builtin_ffs(int(bits)); }
inline int __clz(unsigned bits) { return bits ? __builtin_clz(bits) : 32; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
template <class T>
T __ldg(const T* at) {
    return *at;
}
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}

// Launches a kernel. Returns 0, or -1 if no kernel has this name.
extern "C" __attribute__((weak)) int emulate(const char* name, const unsigned* grid, const unsigned* size, size_t shared, void** args) {
    auto found = emulator::kernels().find(name);
    if (found == emulator::kernels().end()) return -1;
    found->second(args)({grid[0], grid[1], grid[2]}, {size[0], size[1], size[2]}, shared);
    return 0;
}

// Returns the name of a kernel by its number; null after the last.
extern "C" __attribute__((weak)) const char* emulated_kernel(size_t number) {
    if (number >= emulator::kernels().size()) return nullptr;
    return std::next(emulator::kernels().begin(), number)->first.c_str();
}
