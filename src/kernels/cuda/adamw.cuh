// One AdamW step (Loshchilov and Hutter 2019) with moments in f32 or in 8 bits (Dettmers et al. 2021), and the sum of squares for gradient
// clipping.
#pragma once
#include "block.cuh"

// Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random numbers by address, as in
// src/rng.rs.
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

// The factors of one step, which are the same for every element, for learning rate lr, decays beta1 and beta2, and step number count.
struct AdamwStep {
    float weight_decay_factor;    // 1 - lr weight_decay
    float step_size;              // lr / (1 - beta1^count)
    float beta1;
    float one_minus_beta1;        // computed in f64
    float beta2;
    float one_minus_beta2;        // computed in f64
    float bias_correction2_sqrt;  // sqrt(1 - beta2^count)
    float eps;
    float gradient_scale;

    __device__ __forceinline__ void update(float& parameter, float& first, float& second, float gradient) const {
        gradient *= gradient_scale;
        first = fmaf(first, beta1, one_minus_beta1 * gradient);
        second = fmaf(second, beta2, one_minus_beta2 * gradient * gradient);
        parameter = parameter * weight_decay_factor - step_size * (first / (sqrtf(second) / bias_correction2_sqrt + eps));
    }
};

// Updates master, first and second [n] from gradient [n], and sets weight [n] to the master rounded to T. In f32, weight and master may be
// the same array, which is then written once. Grid: any.
KERNEL(adamw, (T* weight, float* master, float* first, float* second, const float* gradient, long long n, AdamwStep step),
       (weight, master, first, second, gradient, n, step)) {
    constexpr int N = 4;
    bool vectors = aligned(weight, master, first, second, gradient), writes_weight = static_cast<void*>(weight) != master;
    for (long long i = ((long long)blockIdx.x * blockDim.x + threadIdx.x) * N; i < n; i += (long long)gridDim.x * blockDim.x * N) {
        float p[N], m[N], v[N], g[N];
        load(p, master + i, n - i, vectors);
        load(m, first + i, n - i, vectors);
        load(v, second + i, n - i, vectors);
        load(g, gradient + i, n - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) step.update(p[j], m[j], v[j], g[j]);
        store(master + i, p, n - i, vectors);
        store(first + i, m, n - i, vectors);
        store(second + i, v, n - i, vectors);
        if (writes_weight) store(weight + i, p, n - i, vectors);
    }
}

// Sets partials [chunks] to the sum of squares, in f64, of each chunk of per_chunk elements of gradient [n]. Grid: chunks.
extern "C" __global__ void __launch_bounds__(1024) sum_of_squares(double* partials, const float* gradient, long long n, long long per_chunk) {
    constexpr int N = 4;
    long long first = blockIdx.x * per_chunk, end = first + per_chunk < n ? first + per_chunk : n;
    bool vectors = aligned(gradient + first);
    double sum = 0;
    for (long long i = first + threadIdx.x * N; i < end; i += blockDim.x * N) {
        float g[N];
        load(g, gradient + i, end - i, vectors);
#pragma unroll
        for (int j = 0; j < N; j++) sum += double(g[j]) * double(g[j]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}
EXPORT(sum_of_squares)

// out [1] = the sum of partials [n]. Grid: 1.
extern "C" __global__ void __launch_bounds__(1024) sum_doubles(double* out, const double* partials, int n) {
    double sum = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) sum += partials[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) *out = sum;
}
EXPORT(sum_doubles)

// Number of elements that share a scale and are processed by one warp; also the number of codes in a map.
constexpr int QUANTIZATION_BLOCK = 256;

// Returns the code of the largest value of map [256] (ascending) that is at most x; 0 if there is none.
__device__ __forceinline__ int code_below(const float* map, float x) {
    int code = 0;
#pragma unroll
    for (int half = QUANTIZATION_BLOCK / 2; half; half /= 2)
        if (map[code + half] <= x) code += half;
    return code;
}
// Returns the code of the value nearest to x.
__device__ __forceinline__ int nearest_code(const float* map, float x) {
    int code = code_below(map, x);
    return code + 1 < QUANTIZATION_BLOCK && map[code + 1] - x < x - map[code] ? code + 1 : code;
}
// Rounds x >= 0 stochastically to the code below or above. The probability of the upper one grows linearly with x, so the expected value is
// x. `chance` is uniform in [0, 65536). Only x = 0 has code 0.
__device__ __forceinline__ int stochastic_code(const float* map, float x, unsigned chance) {
    int code = code_below(map, x);
    if (code + 1 == QUANTIZATION_BLOCK || x <= 0) return code;
    if (code == 0) return 1;
    return code + (float(chance) < (x - map[code]) / (map[code + 1] - map[code]) * 65536.0f);
}

// AdamW with 8-bit moments. first and second [n] are codes of first_map and second_map [256], scaled by first_scale and second_scale
// [ceil(n / 256)], one scale per 256 elements. The initial state is all zeros. Grid: any; a warp processes 256 elements at a time.
//
// The maps are ascending. For e from 0 to 6, the decade 10^-e [0.1, 1] has 2^(6 - e) codes of either sign in the first map and 2^(7 - e) in
// the second, at the centers of equal parts. With 0 and 1, each map has 256 values.
//   std::vector<float> map = {0, 1};
//   for (int e = 0; e < 7; e++) {
//       int parts = 1 << ((is_signed ? 6 : 7) - e);
//       for (int part = 0; part < parts; part++) {
//           double value = pow(10, -e) * (0.1 + 0.9 * (part + 0.5) / parts);
//           map.push_back(value);
//           if (is_signed) map.push_back(-value);
//       }
//   }
//   std::sort(map.begin(), map.end());
//
// A second moment changes by thousandths of its value per step, but neighboring codes differ by hundredths or more. Rounded to the nearest
// code, it would neither decay nor grow except where gradients jump. Stochastic rounding is correct on average. The random numbers depend
// only on the element and on `count`, the step's number, so runs are reproducible. A nonzero moment never becomes 0, because its element
// would then jump by first / eps.
KERNEL(adamw_8bit,
       (T* weight, float* master, uint8_t* first, float* first_scale, uint8_t* second, float* second_scale, const float* gradient,
        const float* first_map, const float* second_map, long long n, AdamwStep step, unsigned count),
       (weight, master, first, first_scale, second, second_scale, gradient, first_map, second_map, n, step, count)) {
    constexpr int N = QUANTIZATION_BLOCK / WARP_SIZE;
    using Codes = Pack<uint8_t, N>;
    __shared__ float maps[2][QUANTIZATION_BLOCK];
    for (int i = threadIdx.x; i < QUANTIZATION_BLOCK; i += blockDim.x) {
        maps[0][i] = first_map[i];
        maps[1][i] = second_map[i];
    }
    __syncthreads();
    bool vectors = aligned(weight, master, gradient, first, second), writes_weight = static_cast<void*>(weight) != master;
    long long lane = threadIdx.x % WARP_SIZE, warps = blockDim.x / WARP_SIZE, block = blockIdx.x * warps + threadIdx.x / WARP_SIZE;
    for (; block * QUANTIZATION_BLOCK < n; block += gridDim.x * warps) {
        long long i = block * QUANTIZATION_BLOCK + lane * N, left = n - i;
        float p[N], m[N], v[N], g[N];
        load(p, master + i, left, vectors);
        load(g, gradient + i, left, vectors);
        Codes m_codes = {}, v_codes = {};
        if (vectors && left >= N) {
            m_codes = *reinterpret_cast<const Codes*>(first + i);
            v_codes = *reinterpret_cast<const Codes*>(second + i);
        } else {
            for (int j = 0; j < N && j < left; j++) m_codes.values[j] = first[i + j], v_codes.values[j] = second[i + j];
        }
        float m_scale = first_scale[block], v_scale = second_scale[block], m_top = 0, v_top = 0;
#pragma unroll
        for (int j = 0; j < N; j++) {
            m[j] = j < left ? maps[0][m_codes.values[j]] * m_scale : 0.0f;
            v[j] = j < left ? maps[1][v_codes.values[j]] * v_scale : 0.0f;
            step.update(p[j], m[j], v[j], g[j]);
            m_top = fmaxf(m_top, fabsf(m[j]));
            v_top = fmaxf(v_top, v[j]);
        }
        store(master + i, p, left, vectors);
        if (writes_weight) store(weight + i, p, left, vectors);
        m_top = warp_max(m_top), v_top = warp_max(v_top);
        if (lane == 0) first_scale[block] = m_top, second_scale[block] = v_top;
        uint4 random = philox(make_uint4(unsigned(i), unsigned(i >> 32), count, 0), 0x8b175u, 0xadau);
        unsigned words[4] = {random.x, random.y, random.z, random.w};
#pragma unroll
        for (int j = 0; j < N; j++) {
            m_codes.values[j] = nearest_code(maps[0], m_top > 0 ? m[j] / m_top : 0.0f);
            v_codes.values[j] = stochastic_code(maps[1], v_top > 0 ? v[j] / v_top : 0.0f, words[j / 2] >> (16 * (j % 2)) & 0xffff);
        }
        if (vectors && left >= N) {
            *reinterpret_cast<Codes*>(first + i) = m_codes;
            *reinterpret_cast<Codes*>(second + i) = v_codes;
        } else {
            for (int j = 0; j < N && j < left; j++) first[i + j] = m_codes.values[j], second[i + j] = v_codes.values[j];
        }
    }
}
