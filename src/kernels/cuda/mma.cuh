// Instructions for tensor-core products of a warp: m16n8k16 on bf16 with f32 sums, ldmatrix, and asynchronous copies to shared memory.
// Layouts: PTX ISA, "Matrix fragments for mma.m16n8k16" and "ldmatrix".
#pragma once
#include "block.cuh"

// Returns an address in shared memory in the form that PTX expects.
#ifndef EMULATED
__device__ __forceinline__ uint32_t shared_address(const void* at) { return static_cast<uint32_t>(__cvta_generic_to_shared(at)); }
#endif

// d [16, 8] += a [16, 16] b [16, 8]. With g = lane / 4 and t = lane % 4, each register holds two neighbors at these (row, column):
//   a: (g, 2t), (g + 8, 2t), (g, 2t + 8), (g + 8, 2t + 8), neighbors along k;  b: (2t, g), (2t + 8, g), neighbors along k;
//   d: (g, 2t), (g, 2t + 1), (g + 8, 2t), (g + 8, 2t + 1).
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EMULATED
    struct Fragments {
        uint32_t a[4], b[2];
    } own = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
    auto half = [](uint32_t pair, int which) { return __bfloat162float({uint16_t(pair >> (16 * which))}); };
    emulator::exchange(own, [&](auto of) {
        int g = emulator::lane() / 4, t = emulator::lane() % 4;
        for (int i = 0; i < 4; i++) {
            int row = g + 8 * (i / 2), column = 2 * t + i % 2;
            float sum = d[i];
            for (int k = 0; k < 16; k++) {
                float x = half(of(row % 8 * 4 + k % 8 / 2).a[row / 8 + 2 * (k / 8)], k % 2);
                float y = half(of(column * 4 + k % 8 / 2).b[k / 8], k % 2);
                sum += x * y;
            }
            d[i] = sum;
        }
        return 0;
    });
#else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Loads four 8 x 8 matrices of bf16. Lane l passes the address of row l % 8 of matrix l / 8. Register i of a lane gets element (lane / 4, 2
// (lane % 4)) of matrix i, or of its transpose, and its right neighbor.
template <bool TRANSPOSED = false>
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const bf16* row) {
#ifdef EMULATED
    emulator::exchange(row, [&](auto of) {
        int g = emulator::lane() / 4, t = emulator::lane() % 4;
        for (int i = 0; i < 4; i++) {
            uint16_t pair[2];
            for (int j = 0; j < 2; j++) {
                int row = TRANSPOSED ? 2 * t + j : g, column = TRANSPOSED ? g : 2 * t + j;
                pair[j] = of(i * 8 + row)[column].bits;
            }
            r[i] = pair[0] | uint32_t(pair[1]) << 16;
        }
        return 0;
    });
#else
    if constexpr (TRANSPOSED)
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row)));
    else
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                     : "r"(shared_address(row)));
#endif
}

// Packs two neighbors into one register, the first in the low half.
__device__ __forceinline__ uint32_t pack(float low, float high) {
#ifdef EMULATED
    return __float2bfloat16(low).bits | uint32_t(__float2bfloat16(high).bits) << 16;
#else
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t*>(&pair);
#endif
}

// Starts an asynchronous copy of 16 bytes to shared memory. If `valid` is false, writes zeros and reads nothing. Both addresses must be
// aligned to 16 bytes.
__device__ __forceinline__ void copy_async(void* to, const void* from, bool valid = true) {
#ifdef EMULATED
    if ((uintptr_t(to) | (valid ? uintptr_t(from) : 0)) % 16) emulator::fail("copy_async needs addresses aligned to 16 bytes");
    uint4 value = {};
    if (valid) memcpy(&value, from, 16);
    emulator::self().open.push_back([=] { memcpy(to, &value, 16); });
#else
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)), "l"(from), "r"(bytes));
#endif
}
// Closes the current group of copies.
__device__ __forceinline__ void copy_commit() {
#ifdef EMULATED
    emulator::Thread& self = emulator::self();
    self.groups.push_back(std::move(self.open));
    self.open.clear();
#else
    asm volatile("cp.async.commit_group;\n");
#endif
}
// Waits until at most N of this thread's groups of copies are in progress. Other threads' copies may be read only after a barrier.
template <int N>
__device__ __forceinline__ void copy_wait() {
#ifdef EMULATED
    auto& groups = emulator::self().groups;
    while (groups.size() > N) {
        for (auto& copy : groups.front()) copy();
        groups.erase(groups.begin());
    }
#else
    asm volatile("cp.async.wait_group %0;\n" ::"n"(N));
#endif
}
