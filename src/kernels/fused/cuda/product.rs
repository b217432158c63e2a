//! Matrix products: cuBLAS's own choice for each shape, or one algorithm whatever the number of rows.
//!
//! Both libraries have matrices by columns: a row-major matrix is the transpose of its column-major reading, so that `c^T = b^T a^T` is asked for.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Mutex;

use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result::gemm_ex, sys as cublas};
use candle_core::cuda_backend::cudarc::cublaslt::{result as lt, result::CublasError, sys};
use candle_core::cuda_backend::cudarc::driver::CudaStream;
use candle_core::{DType, Error, Result, bail};

use super::super::launch::Product;
use super::{address, number};
use crate::kernels::memory::driver::told;
use crate::kernels::shape::Factor;

/// Rows for which the algorithm of batch-invariant products is chosen: small tiles keep all processors busy when few sequences are left.
const CHOSEN_FOR_ROWS: usize = 512;
/// Alignment that tensors have, in bytes.
const ALIGNMENT: u32 = 16;

/// Has cuBLAS sum in f32 throughout: left as it is, it may round the parts of a product that it splits to the dtype of the result.
pub fn sum_in_f32(blas: &CudaBlas) -> Result<()> {
    let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle lives as long as the device, and no product is under way.
    #[allow(unsafe_code)]
    let status = unsafe { cublas::cublasSetMathMode(*blas.handle(), mode) };
    status.result().map_err(|error| told(&error, format!("cuBLAS cannot sum in f32: {error:?}")))
}

/// The product by cuBLAS in the handle's own stream, which is given; cuBLAS chooses its algorithm by all sizes.
pub fn multiply(blas: &CudaBlas, stream: &CudaStream, product: &Product) -> Result<()> {
    let (m, k, n) = product.sizes()?;
    if m * n == 0 {
        return Ok(());
    }
    let operation = |factor: &Factor| match factor.is_transposed {
        true => cublas::cublasOperation_t::CUBLAS_OP_T,
        false => cublas::cublasOperation_t::CUBLAS_OP_N,
    };
    let data = |dtype| {
        Ok(match dtype {
            DType::F32 => cublas::cudaDataType::CUDA_R_32F,
            DType::BF16 => cublas::cudaDataType::CUDA_R_16BF,
            other => bail!("there are no products in {other:?}"),
        })
    };
    let row = |factor: &Factor| number(factor.stored.dim(1)?);
    let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
    let (a, b, c) = (address(&product.a.stored, stream)?, address(&product.b.stored, stream)?, address(product.c, stream)?);
    // SAFETY: `sizes` holds the shapes together, rows are contiguous, and the three tensors live in the stream's memory.
    #[allow(unsafe_code)]
    unsafe {
        gemm_ex(
            *blas.handle(),
            operation(&product.b),
            operation(&product.a),
            number(n)?,
            number(m)?,
            number(k)?,
            std::ptr::from_ref(&alpha).cast(),
            b as *const c_void,
            data(product.b.stored.dtype())?,
            row(&product.b)?,
            a as *const c_void,
            data(product.a.stored.dtype())?,
            row(&product.a)?,
            std::ptr::from_ref(&beta).cast(),
            c as *mut c_void,
            data(product.c.dtype())?,
            number(n)?,
            cublas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            cublas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    }
    .map_err(|error| told(&error, format!("cannot multiply {m} x {k} with {k} x {n}: {error:?}")))
}

/// Products whose sums have one order for each shape of weight: cuBLASLt runs the algorithm that it chose for some number of rows for every number
/// of them, and none that splits the sums.
pub struct Pinned {
    handle: sys::cublasLtHandle_t,
    algorithms: Mutex<HashMap<Kind, sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: cuBLASLt's handles may be used from several threads.
#[allow(unsafe_code)]
unsafe impl Send for Pinned {}
// SAFETY: as above; the table has a lock.
#[allow(unsafe_code)]
unsafe impl Sync for Pinned {}

/// What an algorithm is chosen by: everything but the number of rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    k: usize,
    n: usize,
    transposed: [bool; 2],
    bf16: [bool; 2],
    accumulate: bool,
}

/// The description of a product: its operations, and the layouts of b, a and c as cuBLASLt reads them.
struct Description {
    product: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 3],
}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: all were created by `Description::new` and are used by nobody else. An error could not be told.
        #[allow(unsafe_code)]
        unsafe {
            for layout in self.layouts {
                let _ = lt::destroy_matrix_layout(layout);
            }
            let _ = lt::destroy_matmul_desc(self.product);
        }
    }
}

fn wrong(error: CublasError) -> Error {
    told(&error, format!("cuBLASLt: {error:?}"))
}

impl Description {
    fn new(kind: &Kind, m: usize) -> Result<Self> {
        let dtype = |bf16: bool| if bf16 { sys::cudaDataType::CUDA_R_16BF } else { sys::cudaDataType::CUDA_R_32F };
        let Kind { k, n, transposed: [a_transposed, b_transposed], bf16: [factors, result], .. } = *kind;
        // Rows and columns by columns are those by rows swapped; a transposed factor is stored the other way round.
        let layout = |bf16: bool, rows: usize, columns: usize, transposed: bool| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            lt::create_matrix_layout(dtype(bf16), columns as u64, rows as u64, columns as i64).map_err(wrong)
        };
        let layouts = [layout(factors, k, n, b_transposed)?, layout(factors, m, k, a_transposed)?, layout(result, m, n, false)?];
        let product = lt::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F).map_err(wrong)?;
        let description = Self { product, layouts };
        let operations = [
            (sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSA, b_transposed),
            (sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_TRANSB, a_transposed),
        ];
        for (attribute, transposed) in operations {
            let operation = i32::from(transposed);
            // SAFETY: the attribute is an enumeration of 4 bytes.
            #[allow(unsafe_code)]
            unsafe { lt::set_matmul_desc_attribute(product, attribute, std::ptr::from_ref(&operation).cast(), size_of::<i32>()) }
                .map_err(wrong)?;
        }
        Ok(description)
    }
}

impl Pinned {
    /// Products on the current GPU.
    pub fn new() -> Result<Self> {
        Ok(Self { handle: lt::create_handle().map_err(wrong)?, algorithms: Mutex::default() })
    }

    /// The product, in a stream; its rows have the same bits however many there are.
    pub fn multiply(&self, stream: &CudaStream, product: &Product) -> Result<()> {
        let (m, k, n) = product.sizes()?;
        if m * n == 0 {
            return Ok(());
        }
        let is_bf16 = |dtype: DType| dtype == DType::BF16;
        let kind = Kind {
            k,
            n,
            transposed: [product.a.is_transposed, product.b.is_transposed],
            bf16: [is_bf16(product.a.stored.dtype()), is_bf16(product.c.dtype())],
            accumulate: product.accumulate,
        };
        let algorithm = self.algorithm(&kind)?;
        let description = Description::new(&kind, m)?;
        let (alpha, beta) = (1.0f32, if product.accumulate { 1.0f32 } else { 0.0 });
        let (a, b, c) = (address(&product.a.stored, stream)?, address(&product.b.stored, stream)?, address(product.c, stream)?);
        let [b_layout, a_layout, c_layout] = description.layouts;
        // SAFETY: `sizes` holds the shapes together, rows are contiguous, the algorithm needs no workspace, and the tensors live in the stream's
        // memory.
        #[allow(unsafe_code)]
        unsafe {
            lt::matmul(
                self.handle,
                description.product,
                std::ptr::from_ref(&alpha).cast(),
                std::ptr::from_ref(&beta).cast(),
                b as *const c_void,
                b_layout,
                a as *const c_void,
                a_layout,
                c as *const c_void,
                c_layout,
                c as *mut c_void,
                c_layout,
                &raw const algorithm,
                std::ptr::null_mut(),
                0,
                stream.cu_stream().cast(),
            )
        }
        .map_err(|error| told(&error, format!("cannot multiply {m} x {k} with {k} x {n} by one algorithm for all rows: {error:?}")))
    }

    fn algorithm(&self, kind: &Kind) -> Result<sys::cublasLtMatmulAlgo_t> {
        let Ok(mut algorithms) = self.algorithms.lock() else { bail!("another product panicked") };
        if let Some(algorithm) = algorithms.get(kind) {
            return Ok(*algorithm);
        }
        let algorithm = self.choose(kind)?;
        algorithms.insert(*kind, algorithm);
        Ok(algorithm)
    }

    fn choose(&self, kind: &Kind) -> Result<sys::cublasLtMatmulAlgo_t> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let description = Description::new(kind, CHOSEN_FOR_ROWS)?;
        let [b, a, c] = description.layouts;
        let preference = lt::create_matmul_pref().map_err(wrong)?;
        // No workspace, and no reduction of sums that were split.
        let (none, alignment) = (0u64, ALIGNMENT);
        let wanted = [
            (Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &raw const none as *const c_void, size_of::<u64>()),
            (Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &raw const none as *const c_void, size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &raw const alignment as *const c_void, size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &raw const alignment as *const c_void, size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &raw const alignment as *const c_void, size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &raw const alignment as *const c_void, size_of::<u32>()),
        ];
        // SAFETY: each attribute has the size that is given, and everything described lives to the end of the block.
        #[allow(unsafe_code)]
        let found = unsafe {
            let set = wanted
                .into_iter()
                .try_for_each(|(attribute, value, size)| lt::set_matmul_pref_attribute(preference, attribute, value, size));
            let found = set.and_then(|()| lt::get_matmul_algo_heuristic(self.handle, description.product, b, a, c, c, preference));
            let _ = lt::destroy_matmul_pref(preference);
            found
        };
        let Kind { k, n, .. } = kind;
        Ok(found.map_err(|error| told(&error, format!("there is no product of one order of sums for {k} x {n}: {error:?}")))?.algo)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: created by `new`, and used by nobody else.
        #[allow(unsafe_code)]
        unsafe {
            let _ = lt::destroy_handle(self.handle);
        }
    }
}
