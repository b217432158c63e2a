//! Describes a product, and the criteria for its algorithms, to cuBLASLt.
//!
//! cuBLASLt's matrices are column-major. Read this way, a row-major matrix is its transpose, so the call computes `out^T = b^T a^T`. The bias
//! `[n]` then has one element per row of `out^T`, as cuBLASLt expects.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublaslt::{result as lt, result::CublasError, sys};
use candle_core::{DType, Error, Result};

use super::shape::Shape;
use crate::kernels::memory::driver::to_error;

/// Limits for algorithms.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest workspace, in bytes.
    pub workspace: usize,
    /// Whether sums may be split into partial sums that are computed in parallel (split-K). These are added in f32 and in a fixed order:
    /// schemes that add in place or in the result's dtype are never allowed.
    pub split: bool,
}

/// A product as cuBLASLt sees it. The descriptors are destroyed on drop.
pub struct Description {
    /// Compute type, transpositions and bias.
    pub product: sys::cublasLtMatmulDesc_t,
    /// The layouts of b, a and out.
    pub layouts: [sys::cublasLtMatrixLayout_t; 3],
    /// The shape described.
    pub shape: Shape,
}

// SAFETY: a description is plain data that only its owner changes.
#[allow(unsafe_code)]
unsafe impl Send for Description {}

impl Drop for Description {
    fn drop(&mut self) {
        // SAFETY: `Description::new` created them, and nothing else uses them. An error cannot be returned here.
        #[allow(unsafe_code)]
        unsafe {
            for layout in self.layouts {
                let _ = lt::destroy_matrix_layout(layout);
            }
            let _ = lt::destroy_matmul_desc(self.product);
        }
    }
}

/// Converts an error of cuBLASLt to a typed error if callers can react to it.
pub fn library_error(error: CublasError) -> Error {
    to_error(&error, format!("cuBLASLt: {error:?}"))
}

impl Description {
    /// Describes a product of this shape. The address of the bias, if there is one, is needed to search for algorithms.
    ///
    /// # Errors
    /// If cuBLASLt refuses a descriptor.
    pub fn new(shape: &Shape, bias: Option<u64>) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let data = |dtype: DType| if dtype == DType::BF16 { sys::cudaDataType::CUDA_R_16BF } else { sys::cudaDataType::CUDA_R_32F };
        let Shape { m, k, n, a_transposed, b_transposed, factors, result, .. } = *shape;
        // Row-major becomes column-major with rows and columns swapped. A transposed factor is stored with rows and columns swapped again.
        let layout = |dtype: DType, rows: usize, columns: usize, transposed: bool| {
            let (rows, columns) = if transposed { (columns, rows) } else { (rows, columns) };
            lt::create_matrix_layout(data(dtype), columns as u64, rows as u64, columns as i64).map_err(library_error)
        };
        let layouts = [layout(factors, k, n, b_transposed)?, layout(factors, m, k, a_transposed)?, layout(result, m, n, false)?];
        let product =
            lt::create_matmul_desc(sys::cublasComputeType_t::CUBLAS_COMPUTE_32F, sys::cudaDataType::CUDA_R_32F).map_err(library_error)?;
        let mut description = Self { product, layouts, shape: *shape };
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, &i32::from(b_transposed))?;
        description.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, &i32::from(a_transposed))?;
        if let Some(bias) = bias {
            description.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            description.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)?;
        }
        Ok(description)
    }

    /// Sets the address of the bias for the next product.
    ///
    /// # Errors
    /// If cuBLASLt refuses it.
    pub fn set_bias(&mut self, bias: u64) -> Result<()> {
        self.set(sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER, &bias)
    }

    fn set<T>(&mut self, attribute: sys::cublasLtMatmulDescAttributes_t, value: &T) -> Result<()> {
        // SAFETY: the library copies the value and checks its size.
        #[allow(unsafe_code)]
        unsafe { lt::set_matmul_desc_attribute(self.product, attribute, std::ptr::from_ref(value).cast(), size_of::<T>()) }
            .map_err(library_error)
    }
}

/// Criteria for the search for algorithms. Destroyed on drop.
pub struct Preference(pub sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: `Preference::new` created it, and nothing else uses it.
        #[allow(unsafe_code)]
        unsafe {
            let _ = lt::destroy_matmul_pref(self.0);
        }
    }
}

impl Preference {
    /// Creates criteria for algorithms that compute products of this shape within the limits.
    ///
    /// # Errors
    /// If cuBLASLt refuses a criterion.
    pub fn new(shape: &Shape, limits: Limits) -> Result<Self> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        use sys::cublasLtReductionScheme_t::{CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, CUBLASLT_REDUCTION_SCHEME_NONE};
        let preference = Self(lt::create_matmul_pref().map_err(library_error)?);
        let (workspace, alignment, result) = (limits.workspace as u64, shape.alignment() as u32, shape.result_alignment() as u32);
        let schemes = if limits.split { CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE } else { CUBLASLT_REDUCTION_SCHEME_NONE } as u32;
        let wanted = [
            (Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, (&raw const workspace).cast::<c_void>(), size_of::<u64>()),
            (Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, (&raw const schemes).cast(), size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, (&raw const alignment).cast(), size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, (&raw const alignment).cast(), size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, (&raw const result).cast(), size_of::<u32>()),
            (Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, (&raw const result).cast(), size_of::<u32>()),
        ];
        for (attribute, value, size) in wanted {
            // SAFETY: each value has the given size, and the library copies it.
            #[allow(unsafe_code)]
            unsafe { lt::set_matmul_pref_attribute(preference.0, attribute, value, size) }.map_err(library_error)?;
        }
        Ok(preference)
    }
}
