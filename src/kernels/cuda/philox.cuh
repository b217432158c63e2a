// Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): numbers by address, as src/draw.rs has it.
#pragma once
#include "block.cuh"

__device__ __forceinline__ uint4 philox(uint4 counter, unsigned key0, unsigned key1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        unsigned high0 = __umulhi(0xd2511f53u, counter.x), low0 = 0xd2511f53u * counter.x;
        unsigned high1 = __umulhi(0xcd9e8d57u, counter.z), low1 = 0xcd9e8d57u * counter.z;
        counter = make_uint4(high1 ^ counter.y ^ key0, low1, high0 ^ counter.w ^ key1, low0);
        key0 += 0x9e3779b9u, key1 += 0xbb67ae85u;
    }
    return counter;
}

// The upper 24 bits of a word as a number in [0, 1).
__device__ __forceinline__ float unit(unsigned word) { return float(word >> 8) * 5.9604644775390625e-8f; }
