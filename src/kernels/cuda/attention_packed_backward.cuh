// Backward pass of causal attention over a packed batch. Weights are recomputed from the log-sum-exp (Dao et al. 2022, section B.4): with p
// the softmax of the scores and delta = d_out . out, d_score = p (d_out . v - delta). No addition is atomic: every sum has a fixed order.
//
// There are three steps. attend_packed_delta computes delta. attend_packed_backward_queries visits the tiles of the forward pass and writes
// the query part of d_qkv. attend_packed_backward_keys has a separate work list and writes the key and value parts. For tiles of keys that
// many queries see, the host splits the work; the kernel then writes partial sums, which attend_packed_reduce_prefix adds up. Rows
// outside all segments are not written.
//
// All work lists of the third step are int. A tile of keys has up to 64 own tokens of one segment. `query_ranges` lists the ranges of query
// rows that see a tile:
//   query_ranges [s, 3] = {first query row, number of query rows (at least 1), lag}: query i of the range sees key j of the tile if
//                         j <= i + lag.
//   items [m, 5]        = {first key row, number of keys, first query range, end of its query ranges, slot}: one block of threads per
//                         key/value head.
//   sums [r, 4]         = {first key row, number of keys, first slot, number of slots}.
// For each segment and each tile of its own tokens, with k the first of them, the host lists these query ranges: the segment's own tokens
// from k on, {first own row + k, own tokens - k, 0}; and for each segment whose prefix contains the tile, {first own row, own tokens, 64}.
// A tile may be shorter than 64, and must be entirely inside or outside each prefix. An item may have any number of query rows. For speed,
// a tile with more than, say, 1,024 query rows should be split into several items of similar size: a range {row, n, lag} is split at c into
// {row, c, lag} and {row + c, n - c, lag + c}. If a tile has only one item, its slot is -1. If it has several, they have consecutive slots,
// counted from 0 over all tiles, and the tile has a row in `sums`. `partial` is [slots, 2 (keys, values), 64, kv d] in f32 and need not be
// cleared. Items may have any order; the longest should come first for speed.
#pragma once
#include "attention_packed.cuh"

namespace attention {

template <int D>
__device__ __forceinline__ void packed_backward_queries(bf16* d_qkv, const bf16* d_out, const bf16* qkv, const float* lse, const float* delta,
                                                        const int* segments, const int* tiles, int tokens, int q_heads, int kv_heads, float scale) {
    DYNAMIC_SHARED(bf16, shared);  // [2 stages, keys and values, 64, D]
    QueryTile tile(segments, tiles + 2 * blockIdx.x);
    int head = blockIdx.y, stride = (q_heads + 2 * kv_heads) * D, values = kv_heads * D;
    const bf16* keys = qkv + (q_heads + head / (q_heads / kv_heads)) * D;
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    int token = tile.first + warp * 16 + lane / 4;  // this lane's rows are own tokens `token` and `token` + 8
    int counts[2] = {tile.prefix + token + 1, tile.prefix + token + 9};
    // The smallest and largest count of the warp's rows. A warp without rows has nothing to do.
    int least = tile.prefix + tile.first + warp * 16 + 1, most = tile.first + warp * 16 < tile.own ? least + 15 : 0;
    auto query = [&](int i) { return i < tile.own ? size_t(tile.first_row + i) * stride + head * D : 0; };
    auto output = [&](int i) { return (size_t(tile.first_row + i) * q_heads + head) * D; };
    bool has_low = token < tile.own, has_high = token + 8 < tile.own;
    uint32_t q[D / 16][4], d_o[D / 16][4];
    load_rows<D>(q, has_low ? qkv + query(token) : nullptr, has_high ? qkv + query(token + 8) : nullptr);
    load_rows<D>(d_o, has_low ? d_out + output(token) : nullptr, has_high ? d_out + output(token + 8) : nullptr);
    float row_lse[2], row_delta[2];  // missing rows have weight 0
    for (int r = 0; r < 2; r++) {
        bool has = r ? has_high : has_low;
        size_t at = size_t(head) * tokens + tile.first_row + token + 8 * r;
        row_lse[r] = has ? lse[at] * LOG2_E : -minus_infinity();
        row_delta[r] = has ? delta[at] : 0;
    }

    float d_q[D / 8][4] = {}, scale_2 = scale * LOG2_E;
    int steps = (tile.count() + TILE - 1) / TILE;
    copy_keys<D>(shared, keys, tile, 0, stride, values);
    copy_commit();
    for (int step = 0; step < steps; step++) {
        copy_wait<0>();
        __syncthreads();  // the tile is complete for all threads, and none still reads the previous one
        if (step + 1 < steps) copy_keys<D>(shared + (step + 1) % 2 * 2 * TILE * D, keys, tile, (step + 1) * TILE, stride, values);
        copy_commit();
        int first = step * TILE;
        if (first >= most) continue;
        const bf16* now = shared + step % 2 * 2 * TILE * D;
        ONE_BY_ONE for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float s[2][4], d_s[2][4];
            score_chunk<D>(s, q, now, chunk);
            score_chunk<D>(d_s, d_o, now + TILE * D, chunk);
            if (first + TILE > least) mask_chunk(s, first + chunk * CHUNK, counts);
            UNROLL for (int i = 0; i < 8; i++) {
                float p = power_of_two(fmaf(s[i / 4][i % 4], scale_2, -row_lse[i % 4 / 2]));
                d_s[i / 4][i % 4] = p * (d_s[i / 4][i % 4] - row_delta[i % 4 / 2]);
            }
            uint32_t factor[4];
            to_factor(factor, d_s);
            add_chunk<D>(d_q, factor, now, chunk, 0);
        }
    }
    store_rows(d_q, scale, scale, has_low ? d_qkv + query(token) : nullptr, has_high ? d_qkv + query(token + 8) : nullptr, 0);
}

// An item of the list, and the visits to its tiles of queries: for each query range and each head of the group, 64 rows at a time.
struct KeyItem {
    int first_row, keys, range, end, slot;
    __device__ explicit KeyItem(const int* item) : first_row(item[0]), keys(item[1]), range(item[2]), end(item[3]), slot(item[4]) {}
};
struct Visit {
    const int *range, *end;
    int row, count, lag, head = 0, first = 0;
    __device__ Visit(const int* query_ranges, const KeyItem& item) : range(query_ranges + 3 * item.range), end(query_ranges + 3 * item.end) { look(); }
    __device__ bool valid() const { return range < end; }
    __device__ void look() {
        row = valid() ? range[0] : 0;
        count = valid() ? range[1] : 0;
        lag = valid() ? range[2] : 0;
    }
    __device__ void advance(int heads) {
        first += TILE;
        if (first < count) return;
        first = 0;
        if (++head < heads) return;
        head = 0;
        range += 3;
        look();
    }
};
// Returns the offset of the partial sum of a key (`which` = 0) or value (1).
__device__ __forceinline__ size_t partial_row(int slot, int which, int key, int kv_width) {
    return ((size_t(slot) * 2 + which) * TILE + key) * kv_width;
}

template <int D>
__device__ __forceinline__ void packed_backward_keys(bf16* d_qkv, float* partial, const bf16* d_out, const bf16* qkv, const float* lse,
                                                     const float* delta, const int* items, const int* query_ranges, int tokens, int q_heads, int kv_heads,
                                                     float scale) {
    DYNAMIC_SHARED(bf16, shared);                                       // [2 stages, queries and d_out, 64, D]
    float* rows = reinterpret_cast<float*>(shared + 2 * 2 * TILE * D);  // [2 stages, log-sum-exp and delta, 64]
    KeyItem item(items + 5 * blockIdx.x);
    int head = blockIdx.y, group = q_heads / kv_heads, stride = (q_heads + 2 * kv_heads) * D;
    int warp = threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    int key = warp * 16 + lane / 4;  // this lane's rows are keys `key` and `key` + 8
    bool has_low = key < item.keys, has_high = key + 8 < item.keys;
    auto place_of = [&](int i) { return size_t(item.first_row + i) * stride + (q_heads + head) * D; };
    uint32_t k[D / 16][4], v[D / 16][4];
    {
        const bf16 *low = has_low ? qkv + place_of(key) : nullptr, *high = has_high ? qkv + place_of(key + 8) : nullptr;
        load_rows<D>(k, low, high);
        load_rows<D>(v, low ? low + kv_heads * D : nullptr, high ? high + kv_heads * D : nullptr);
    }

    float pending;  // the thread's value of `rows` for the next visit
    auto start = [&](const Visit& visit, int stage) {
        int own_head = head * group + visit.head, first = visit.row + visit.first, left = visit.count - visit.first;
        bf16* to = shared + stage * 2 * TILE * D;
        copy_tile<D>(to, qkv, [&](int i) { return i < left ? qkv + size_t(first + i) * stride + own_head * D : nullptr; });
        copy_tile<D>(to + TILE * D, d_out, [&](int i) { return i < left ? d_out + (size_t(first + i) * q_heads + own_head) * D : nullptr; });
        int i = threadIdx.x % TILE;
        size_t at = size_t(own_head) * tokens + first + i;
        if (threadIdx.x < TILE)
            pending = i < left ? lse[at] * LOG2_E : -minus_infinity();
        else
            pending = i < left ? delta[at] : 0;
    };
    float d_k[D / 8][4] = {}, d_v[D / 8][4] = {}, scale_2 = scale * LOG2_E;
    Visit now(query_ranges, item);
    if (now.valid()) start(now, 0);
    copy_commit();
    for (int stage = 0; now.valid(); stage ^= 1) {
        rows[stage * 2 * TILE + threadIdx.x] = pending;
        copy_wait<0>();
        __syncthreads();  // this visit's tiles are complete for all threads, and none still reads the previous ones
        const bf16* queries = shared + stage * 2 * TILE * D;
        const float *tile_lse = rows + stage * 2 * TILE, *tile_delta = tile_lse + TILE;
        int lag = now.first + now.lag;
        // The range of chunks that have queries which see any of the warp's keys.
        int begin = max(0, (warp * 16 - lag) / CHUNK), end = warp * 16 < item.keys ? (min(now.count - now.first, TILE) + CHUNK - 1) / CHUNK : 0;
        now.advance(group);
        if (now.valid()) start(now, stage ^ 1);
        copy_commit();
        ONE_BY_ONE for (int chunk = begin; chunk < end; chunk++) {
            float p[2][4], d_s[2][4];
            score_chunk<D>(p, k, queries, chunk);
            score_chunk<D>(d_s, v, queries + TILE * D, chunk);
            UNROLL for (int i = 0; i < 8; i++) {
                int column = chunk * CHUNK + i / 4 * 8 + 2 * (lane % 4) + i % 2;
                float& weight = p[i / 4][i % 4];
                weight = power_of_two(fmaf(weight, scale_2, -tile_lse[column]));
                if (key + i % 4 / 2 * 8 > column + lag) weight = 0;
                d_s[i / 4][i % 4] = weight * (d_s[i / 4][i % 4] - tile_delta[column]);
            }
            uint32_t factor[4];
            to_factor(factor, p);
            add_chunk<D>(d_v, factor, queries + TILE * D, chunk, 0);
            to_factor(factor, d_s);
            add_chunk<D>(d_k, factor, queries, chunk, 0);
        }
    }
    if (item.slot < 0) {
        bf16 *low = has_low ? d_qkv + place_of(key) : nullptr, *high = has_high ? d_qkv + place_of(key + 8) : nullptr;
        store_rows(d_k, scale, scale, low, high, 0);
        store_rows(d_v, 1, 1, low, high, kv_heads * D);
        return;
    }
    UNROLL for (int r = 0; r < 2; r++) {
        if (!(r ? has_high : has_low)) continue;
        float* to_k = partial + partial_row(item.slot, 0, key + 8 * r, kv_heads * D) + head * D + 2 * (lane % 4);
        float* to_v = partial + partial_row(item.slot, 1, key + 8 * r, kv_heads * D) + head * D + 2 * (lane % 4);
        UNROLL for (int n = 0; n < D / 8; n++) {
            *reinterpret_cast<float2*>(to_k + 8 * n) = make_float2(d_k[n][2 * r] * scale, d_k[n][2 * r + 1] * scale);
            *reinterpret_cast<float2*>(to_v + 8 * n) = make_float2(d_v[n][2 * r], d_v[n][2 * r + 1]);
        }
    }
}

template <class T>
__device__ __forceinline__ void packed_delta(float* delta, const T* d_out, const T* out, int tokens, int q_heads, int width) {
    int head = blockIdx.y * WARPS + threadIdx.x / WARP_SIZE, lane = threadIdx.x % WARP_SIZE;
    if (head >= q_heads) return;
    size_t at = (size_t(blockIdx.x) * q_heads + head) * width;
    float sum = 0;
    for (int i = lane; i < width; i += WARP_SIZE) sum = fmaf(to_float(d_out[at + i]), to_float(out[at + i]), sum);
    sum = warp_sum(sum);
    if (lane == 0) delta[size_t(head) * tokens + blockIdx.x] = sum;
}

template <class T>
__device__ __forceinline__ void packed_reduce(T* d_qkv, const float* partial, const int* sums, int q_heads, int kv_heads, int width) {
    const int* of = sums + 4 * blockIdx.x;
    int key = blockIdx.y, kv_width = kv_heads * width;
    if (key >= of[1]) return;
    T* to = d_qkv + size_t(of[0] + key) * (q_heads + 2 * kv_heads) * width + q_heads * width;
    for (int i = threadIdx.x; i < 2 * kv_width; i += THREADS) {
        float sum = 0;
        for (int slot = of[2]; slot < of[2] + of[3]; slot++) sum += partial[partial_row(slot, i / kv_width, key, kv_width) + i % kv_width];
        to[i] = from_float<T>(sum);
    }
}

}  // namespace attention

// delta [q, t] (f32): the dot product of each head's rows of d_out and out, both [t, q d]; any width. Grid (t, q / 4 rounded up), block
// 128.
extern "C" __global__ void attend_packed_delta_bf16(float* delta, const bf16* d_out, const bf16* out, int tokens, int q_heads, int width) {
    attention::packed_delta(delta, d_out, out, tokens, q_heads, width);
}
EXPORT(attend_packed_delta_bf16)
extern "C" __global__ void attend_packed_delta_f32(float* delta, const float* d_out, const float* out, int tokens, int q_heads, int width) {
    attention::packed_delta(delta, d_out, out, tokens, q_heads, width);
}
EXPORT(attend_packed_delta_f32)

// The query part of d_qkv [t, (q + 2 kv) d]. Segments and tiles are those of the forward pass.
// Grid (m tiles, q), block 128, shared memory 512 d bytes: 32 KiB for d = 64, 64 KiB for d = 128.
#define ATTEND_PACKED_BACKWARD_QUERIES(D)                                                                                                          \
    extern "C" __global__ void __launch_bounds__(128) attend_packed_backward_queries_bf16_d##D(                                                    \
        bf16* d_qkv, const bf16* d_out, const bf16* qkv, const float* lse, const float* delta, const int* segments, const int* tiles, int tokens,  \
        int q_heads, int kv_heads, int, float scale) {                                                                                             \
        attention::packed_backward_queries<D>(d_qkv, d_out, qkv, lse, delta, segments, tiles, tokens, q_heads, kv_heads, scale);                   \
    }                                                                                                                                              \
    EXPORT(attend_packed_backward_queries_bf16_d##D)
ATTEND_PACKED_BACKWARD_QUERIES(64)
ATTEND_PACKED_BACKWARD_QUERIES(128)
#undef ATTEND_PACKED_BACKWARD_QUERIES

// The key and value parts of d_qkv, or partial sums, from the lists described above.
// Grid (m items, kv), block 128 (each warp computes 16 keys), shared memory 512 d + 1,024 bytes: 33,792 for d = 64, 66,560 for d = 128.
#define ATTEND_PACKED_BACKWARD_KEYS(D)                                                                                                             \
    extern "C" __global__ void __launch_bounds__(128) attend_packed_backward_keys_bf16_d##D(                                                       \
        bf16* d_qkv, float* partial, const bf16* d_out, const bf16* qkv, const float* lse, const float* delta, const int* items,                   \
        const int* query_ranges, int tokens, int q_heads, int kv_heads, int, float scale) {                                                              \
        attention::packed_backward_keys<D>(d_qkv, partial, d_out, qkv, lse, delta, items, query_ranges, tokens, q_heads, kv_heads, scale);               \
    }                                                                                                                                              \
    EXPORT(attend_packed_backward_keys_bf16_d##D)
ATTEND_PACKED_BACKWARD_KEYS(64)
ATTEND_PACKED_BACKWARD_KEYS(128)
#undef ATTEND_PACKED_BACKWARD_KEYS

// Adds the partial sums of the tiles in `sums`, slot by slot, and writes the key and value parts of d_qkv. Grid (r, 64), block 128.
extern "C" __global__ void attend_packed_reduce_prefix_bf16(bf16* d_qkv, const float* partial, const int* sums, int q_heads, int kv_heads,
                                                            int width) {
    attention::packed_reduce(d_qkv, partial, sums, q_heads, kv_heads, width);
}
EXPORT(attend_packed_reduce_prefix_bf16)
extern "C" __global__ void attend_packed_reduce_prefix_f32(float* d_qkv, const float* partial, const int* sums, int q_heads, int kv_heads,
                                                           int width) {
    attention::packed_reduce(d_qkv, partial, sums, q_heads, kv_heads, width);
}
EXPORT(attend_packed_reduce_prefix_f32)

// The second and third step in f32, for any width that is a multiple of 4 and at most 128. The grids are the same; block 128, no dynamic
// shared memory.
extern "C" __global__ void __launch_bounds__(128)
    attend_packed_backward_queries_f32(float* d_qkv, const float* d_out, const float* qkv, const float* lse, const float* delta, const int* segments,
                                       const int* tiles, int tokens, int q_heads, int kv_heads, int width, float scale) {
    attention::QueryTile tile(segments, tiles + 2 * blockIdx.x);
    int head = blockIdx.y, stride = (q_heads + 2 * kv_heads) * width, values = kv_heads * width, lane = threadIdx.x % WARP_SIZE;
    const float* keys = qkv + (q_heads + head / (q_heads / kv_heads)) * width;
    auto key = [&](int position) { return keys + size_t(tile.row(position)) * stride; };
    for (int i = tile.first + threadIdx.x / WARP_SIZE; i < min(tile.first + attention::TILE, tile.own); i += attention::WARPS) {
        size_t row = tile.first_row + i;
        const float *query = qkv + row * stride + head * width, *d_row = d_out + (row * q_heads + head) * width;
        float row_lse = lse[head * size_t(tokens) + row], row_delta = delta[head * size_t(tokens) + row], d_query[attention::PARTS] = {};
        int count = tile.prefix + i + 1;
        for (int first = 0; first < count; first += WARP_SIZE) {
            float d_score = 0;
            if (first + lane < count) {
                const float* own = key(first + lane);
                float weight = expf(attention::dot(query, own, width) * scale - row_lse);
                d_score = weight * (attention::dot(d_row, own + values, width) - row_delta);
            }
            for (int j = 0; j < WARP_SIZE && first + j < count; j++)
                attention::add_row(d_query, __shfl_sync(ALL, d_score, j), key(first + j), width);
        }
        attention::store_row(d_qkv + row * stride + head * width, d_query, scale, width);
    }
}
EXPORT(attend_packed_backward_queries_f32)

extern "C" __global__ void __launch_bounds__(128)
    attend_packed_backward_keys_f32(float* d_qkv, float* partial, const float* d_out, const float* qkv, const float* lse, const float* delta,
                                    const int* items, const int* query_ranges, int tokens, int q_heads, int kv_heads, int width, float scale) {
    attention::KeyItem item(items + 5 * blockIdx.x);
    int head = blockIdx.y, group = q_heads / kv_heads, stride = (q_heads + 2 * kv_heads) * width, kv_width = kv_heads * width;
    int lane = threadIdx.x % WARP_SIZE;
    for (int j = threadIdx.x / WARP_SIZE; j < item.keys; j += attention::WARPS) {
        size_t at = size_t(item.first_row + j) * stride + (q_heads + head) * width;
        float d_key[attention::PARTS] = {}, d_value[attention::PARTS] = {};
        for (attention::Visit visit(query_ranges, item); visit.valid(); visit.advance(group)) {
            int own_head = head * group + visit.head, end = min(visit.first + attention::TILE, visit.count);
            auto query = [&](int i) { return qkv + size_t(visit.row + i) * stride + own_head * width; };
            auto d_row = [&](int i) { return d_out + (size_t(visit.row + i) * q_heads + own_head) * width; };
            for (int first = visit.first; first < end; first += WARP_SIZE) {
                float weight = 0, d_score = 0;
                int i = first + lane;
                if (i < end && j <= i + visit.lag) {
                    size_t of = size_t(own_head) * tokens + visit.row + i;
                    weight = expf(attention::dot(query(i), qkv + at, width) * scale - lse[of]);
                    d_score = weight * (attention::dot(d_row(i), qkv + at + kv_width, width) - delta[of]);
                }
                ONE_BY_ONE for (int other = 0; other < WARP_SIZE && first + other < end; other++) {
                    attention::add_row(d_key, __shfl_sync(ALL, d_score, other), query(first + other), width);
                    attention::add_row(d_value, __shfl_sync(ALL, weight, other), d_row(first + other), width);
                }
            }
        }
        float *to_key = d_qkv + at, *to_value = to_key + kv_width;
        if (item.slot >= 0) {
            to_key = partial + attention::partial_row(item.slot, 0, j, kv_width) + head * width;
            to_value = partial + attention::partial_row(item.slot, 1, j, kv_width) + head * width;
        }
        attention::store_row(to_key, d_key, scale, width);
        attention::store_row(to_value, d_value, 1, width);
    }
}
EXPORT(attend_packed_backward_keys_f32)
