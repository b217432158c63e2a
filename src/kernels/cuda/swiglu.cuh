// SwiGLU, the activation of the feed-forward layer: silu(gate) * up, where one product computes [gate | up].
//
// Grids: (any, any); x strides over pieces of VECTOR<T> columns, y over rows.
#pragma once
#include "block.cuh"

// Computes out [rows, f] from gate_up [rows, 2 f].
KERNEL(swiglu_forward, (T* out, const T* gate_up, long long rows, int f), (out, gate_up, rows, f)) {
    constexpr int N = VECTOR<T>;
    bool vectors = f % N == 0 && aligned(out, gate_up);
    for (long long row = blockIdx.y; row < rows; row += gridDim.y)
        for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < f; i += (long long)gridDim.x * blockDim.x * N) {
            const T* at = gate_up + row * 2 * f + i;
            float gate[N], up[N];
            load(gate, at, f - i, vectors);
            load(up, at + f, f - i, vectors);
#pragma unroll
            for (int j = 0; j < N; j++) up[j] *= gate[j] * (1.0f / (1.0f + expf(-gate[j])));
            store(out + row * f + i, up, f - i, vectors);
        }
}

// Computes the gradient d_gate_up [rows, 2 f] of gate_up from the gradient dy [rows, f] of the output. d_gate_up may be gate_up.
KERNEL(swiglu_backward, (T* d_gate_up, const T* dy, const T* gate_up, long long rows, int f), (d_gate_up, dy, gate_up, rows, f)) {
    constexpr int N = VECTOR<T>;
    bool vectors = f % N == 0 && aligned(d_gate_up, dy, gate_up);
    for (long long row = blockIdx.y; row < rows; row += gridDim.y)
        for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < f; i += (long long)gridDim.x * blockDim.x * N) {
            long long at = row * 2 * f + i;
            float gate[N], up[N], d[N];
            load(gate, gate_up + at, f - i, vectors);
            load(up, gate_up + at + f, f - i, vectors);
            load(d, dy + row * f + i, f - i, vectors);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float sigmoid = 1.0f / (1.0f + expf(-gate[j])), silu = gate[j] * sigmoid;
                gate[j] = d[j] * up[j] * (sigmoid + silu * (1.0f - sigmoid));
                up[j] = d[j] * silu;
            }
            store(d_gate_up + at, gate, f - i, vectors);
            store(d_gate_up + at + f, up, f - i, vectors);
        }
}
