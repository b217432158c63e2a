// The part of emulated_driver.cpp, which includes it, that stands in for cuBLAS and cuBLASLt: products with plain loops, in the queue.
#pragma once

namespace {

// Matrices by columns, as cuBLAS has them.
struct Matrix {
    const void* at;
    int type;
    long long row_stride, column_stride;

    static Matrix of(const void* at, int type, bool transposed, long long leading) {
        return transposed ? Matrix{at, type, leading, 1} : Matrix{at, type, 1, leading};
    }
    float operator()(long long row, long long column) const {
        long long i = row * row_stride + column * column_stride;
        return type == 0 ? static_cast<const float*>(at)[i] : wide(static_cast<const __nv_bfloat16*>(at)[i]);
    }
    void set(long long row, long long column, float value) const {
        long long i = row * row_stride + column * column_stride;
        if (type == 0)
            static_cast<float*>(const_cast<void*>(at))[i] = value;
        else
            static_cast<__nv_bfloat16*>(const_cast<void*>(at))[i] = __float2bfloat16(value);
    }
};
int multiply(Matrix a, Matrix b, Matrix c, long long m, long long n, long long k, float alpha, float beta) {
    for (int type : {a.type, b.type, c.type})
        if (type != 0 && type != 14) return 15;  // not supported
    start([=] {
        std::vector<float> left(k), right(k * n);
        for (long long j = 0; j < n; j++)
            for (long long l = 0; l < k; l++) right[j * k + l] = b(l, j);
        for (long long i = 0; i < m; i++) {
            for (long long l = 0; l < k; l++) left[l] = a(i, l);
            for (long long j = 0; j < n; j++) {
                float sum = 0;
                for (long long l = 0; l < k; l++) sum += left[l] * right[j * k + l];
                c.set(i, j, beta == 0 ? alpha * sum : alpha * sum + beta * c(i, j));
            }
        }
    });
    return 0;
}

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t leading;
};
struct Description {
    int transposed[2] = {0, 0};
};
struct Found {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

}  // namespace

DRIVER cublasCreate_v2(void** handle) { return *handle = &some, 0; }
DRIVER cublasDestroy_v2(void*) { return end_handle(), 0; }
DRIVER cublasSetMathMode(void*, int) { return 0; }
DRIVER cublasSetStream_v2(void*, void*) { return 0; }
DRIVER cublasGemmEx(void*, int a_operation, int b_operation, int m, int n, int k, const float* alpha, const void* a, int a_type, int lda, const void* b,
                    int b_type, int ldb, const float* beta, void* c, int c_type, int ldc, int, int) {
    ONE_AT_A_TIME;
    if (!are_here({a, b, c})) return 13;  // the execution failed
    // A leading dimension below the rows that are stored is refused.
    if (lda < (a_operation ? k : m) || ldb < (b_operation ? n : k) || ldc < m) return 7;
    auto left = Matrix::of(a, a_type, a_operation, lda), right = Matrix::of(b, b_type, b_operation, ldb), result = Matrix::of(c, c_type, false, ldc);
    return multiply(left, right, result, m, n, k, *alpha, *beta);
}
DRIVER cublasLtCreate(void** handle) { return *handle = &some, 0; }
DRIVER cublasLtDestroy(void*) { return end_handle(), 0; }
DRIVER cublasLtMatrixLayoutCreate(Layout** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
    return *layout = new Layout{type, rows, columns, leading}, leading >= int64_t(rows) ? 0 : 7;
}
DRIVER cublasLtMatrixLayoutDestroy(Layout* layout) { return delete layout, 0; }
DRIVER cublasLtMatmulDescCreate(Description** description, int, int) { return *description = new Description, 0; }
DRIVER cublasLtMatmulDescDestroy(Description* description) { return delete description, 0; }
DRIVER cublasLtMatmulDescSetAttribute(Description* description, int attribute, const int* value, size_t bytes) {
    if ((attribute != 3 && attribute != 4) || bytes != sizeof(int)) return 7;
    return description->transposed[attribute - 3] = *value, 0;
}
DRIVER cublasLtMatmulPreferenceCreate(void** preference) { return *preference = &some, 0; }
DRIVER cublasLtMatmulPreferenceDestroy(void*) { return 0; }
DRIVER cublasLtMatmulPreferenceSetAttribute(void*, int attribute, const void*, size_t bytes) {
    // The workspace has 8 bytes, all else that is asked for 4.
    return bytes == (attribute == 1 ? 8 : 4) ? 0 : 7;
}
DRIVER cublasLtMatmulAlgoGetHeuristic(void*, Description*, Layout*, Layout*, Layout*, Layout*, void*, int, Found* found, int* count) {
    return *found = {}, *count = 1, 0;
}
DRIVER cublasLtMatmul(void*, Description* description, const float* alpha, const void* a, Layout* a_layout, const void* b, Layout* b_layout,
                      const float* beta, const void* c, Layout* c_layout, void* d, Layout* d_layout, const void*, void*, size_t, void*) {
    ONE_AT_A_TIME;
    if (!are_here({a, b, c, d})) return 13;  // the execution failed
    auto rows = [](Layout* layout, bool transposed) { return transposed ? layout->columns : layout->rows; };
    auto columns = [](Layout* layout, bool transposed) { return transposed ? layout->rows : layout->columns; };
    bool a_transposed = description->transposed[0], b_transposed = description->transposed[1];
    uint64_t m = rows(a_layout, a_transposed), k = columns(a_layout, a_transposed), n = columns(b_layout, b_transposed);
    bool meets = rows(b_layout, b_transposed) == k && d_layout->rows == m && d_layout->columns == n && c == d && c_layout == d_layout;
    if (!meets) return 7;
    auto left = Matrix::of(a, a_layout->type, a_transposed, a_layout->leading), right = Matrix::of(b, b_layout->type, b_transposed, b_layout->leading);
    return multiply(left, right, Matrix::of(d, d_layout->type, false, d_layout->leading), m, n, k, *alpha, *beta);
}
