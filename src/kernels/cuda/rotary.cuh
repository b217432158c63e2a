// Rotary position embedding (Su et al. 2021) in the half-split form: element i of a head turns with element i + half.
#pragma once
#include "block.cuh"

// Turns the first `heads` heads, each of 2 half elements, of every row of qkv [t, row] in place; cos and sin [p, half] are looked up at
// positions [t]. Sign -1 turns back, which is the gradient. Grid: t; a thread has VECTOR<T> pairs of a head at a time.
KERNEL(rotate, (T* qkv, const float* cos, const float* sin, const int* positions, int row, int heads, int half, float sign),
       (qkv, cos, sin, positions, row, heads, half, sign)) {
    constexpr int N = VECTOR<T>;
    qkv += (long long)blockIdx.x * row;
    long long at = (long long)positions[blockIdx.x] * half;
    cos += at, sin += at;
    bool vectors = half % N == 0 && aligned(qkv, cos, sin);
    int pieces = (half + N - 1) / N;
    for (int piece = threadIdx.x; piece < heads * pieces; piece += blockDim.x) {
        int i = piece % pieces * N;
        T* first = qkv + piece / pieces * 2 * half + i;
        T* second = first + half;
        float x[N], y[N], c[N], s[N];
        load(x, first, half - i, vectors);
        load(y, second, half - i, vectors);
        load(c, cos + i, half - i, vectors);
        load(s, sin + i, half - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float turned = x[j] * c[j] - y[j] * s[j] * sign;
            y[j] = y[j] * c[j] + x[j] * s[j] * sign;
            x[j] = turned;
        }
        store(first, x, half - i, vectors);
        store(second, y, half - i, vectors);
    }
}
