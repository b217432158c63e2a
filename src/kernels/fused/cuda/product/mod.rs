//! Matrix products with cuBLASLt. A shape always uses the same algorithm, so a product always has the same bits.
//!
//! An ordinary product uses the fastest of the algorithms that cuBLASLt proposes. They are timed at the first product of a shape, and the
//! choice is stored for later runs. A batch-invariant product uses an algorithm that computes each sum in one sequence and is chosen without
//! timing, so that the bits of a row do not depend on the other rows.
//!
//! After the first product of a shape, products neither allocate nor wait, and the workspace does not move. A CUDA graph may therefore
//! capture products whose shapes have run before.

mod algorithm;
mod algorithm_cache;
mod description;
mod library;
mod shape;
mod timing;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use candle_core::cuda_backend::cudarc::cublas::sys as cublas;
use candle_core::cuda_backend::cudarc::driver::result::memset_d8_async;
use candle_core::cuda_backend::cudarc::driver::sys::CUstreamCaptureStatus;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::cuda_backend::{CudaDevice, WrapErr};
use candle_core::{Result, bail};

use super::address;
use crate::kernels::fused::launch::Product;
use crate::kernels::memory::driver::to_error;
use algorithm::Algorithm;
pub use algorithm_cache::cache_folder;
use algorithm_cache::{AlgorithmCache, Machine, TunedAlgorithm};
use description::{Description, Limits};
use library::{Library, Operands, Workspace};
use shape::Shape;

/// Bytes of workspace: NVIDIA's recommendation for Hopper GPUs, on which algorithms request no more.
const WORKSPACE: usize = 32 << 20;
/// Number of rows for which the algorithm of batch-invariant products is chosen. It favors small tiles, which keep all multiprocessors busy
/// even when few sequences are left.
const CHOSEN_FOR_ROWS: usize = 512;
/// Largest result, in bytes, of a product that is timed if it adds to its target in place, because timing then needs memory for a second
/// result. Larger ones use cuBLASLt's first choice. The limit does not depend on the free memory, because a resumed run may find less.
const MAX_TIMED_IN_PLACE: usize = 256 << 20;
/// Largest number of plans. When it is reached, all are discarded and made again as needed.
const MAX_PLANS: usize = 8192;

/// Limits for ordinary products.
const ORDINARY: Limits = Limits { workspace: WORKSPACE, split: true };
/// Limits for batch-invariant products: no workspace and no split sums, because how a sum is split would depend on the number of rows.
const BATCH_INVARIANT: Limits = Limits { workspace: 0, split: false };

/// Matrix products in one stream of a GPU.
pub struct Products {
    // Fields are dropped in order: descriptions, the library, its workspace, and the stream in which the workspace is freed.
    state: Mutex<State>,
    library: Library,
    workspace: CudaSlice<u8>,
    stream: Arc<CudaStream>,
    batch_invariant: bool,
}

struct State {
    /// Plans by shape, and by whether the product is batch-invariant.
    plans: HashMap<(Shape, bool), Plan>,
    /// Timed choices by bucket: a shape whose number of tokens is rounded up.
    choices: AlgorithmCache,
    /// Buckets that could not be timed. They are not timed later in this process either, because their bits would change during a run.
    untimed: HashSet<Shape>,
    /// Algorithms of batch-invariant products, by shape with [`CHOSEN_FOR_ROWS`] rows.
    batch_invariant: HashMap<Shape, Option<Algorithm>>,
}

/// How to compute the products of a shape.
struct Plan {
    description: Description,
    algorithm: Algorithm,
    workspace: usize,
}

impl Products {
    /// Creates the products of `stream`. `batch_invariant` applies to products of the forward pass. Timed choices are stored in a file in
    /// `folder`, if given.
    ///
    /// # Errors
    /// If cuBLASLt cannot be initialized, or the GPU has no memory for the workspace.
    pub fn new(stream: Arc<CudaStream>, batch_invariant: bool, folder: Option<&Path>) -> Result<Self> {
        let context = stream.context();
        context.bind_to_thread().w()?;
        let (major, minor) = context.compute_capability().w()?;
        let machine = Machine { card: context.name().w()?, capability: format!("{major}.{minor}"), cublaslt: library::version() };
        let library = Library::new()?;
        // SAFETY: algorithms write to the workspace before they read from it.
        #[allow(unsafe_code)]
        let workspace = unsafe { stream.alloc(WORKSPACE) };
        let out_of_memory = |error| {
            let mib = WORKSPACE >> 20;
            let advice =
                "run nvidia-smi to list the processes that use its memory, then stop one or choose another GPU with --device cuda:N";
            to_error(&error, format!("the GPU has no room for the {mib} MiB that matrix products need ({error}): {advice}"))
        };
        let workspace = workspace.map_err(out_of_memory)?;
        let state = State {
            plans: HashMap::new(),
            choices: AlgorithmCache::open(folder, machine),
            untimed: HashSet::new(),
            batch_invariant: HashMap::new(),
        };
        Ok(Self { state: Mutex::new(state), library, workspace, stream, batch_invariant })
    }

    /// Returns true if products of the forward pass are batch-invariant.
    pub fn is_batch_invariant(&self) -> bool {
        self.batch_invariant
    }

    /// Starts a product in `stream`: the GPU's stream, or one that records work for replay in the GPU's stream.
    ///
    /// # Errors
    /// If sizes, dtypes or alignments do not match, cuBLASLt has no algorithm for the product, or the device reports an error.
    pub fn multiply(&self, stream: &CudaStream, product: &Product) -> Result<()> {
        let shape = Shape::of(product)?;
        let operands = self.operands(product, &shape)?;
        if shape.m * shape.n == 0 || (shape.k == 0 && shape.addend && !shape.bias && operands.addend == operands.out) {
            return Ok(());
        }
        self.stream.context().bind_to_thread().w()?;
        let Ok(mut state) = self.state.lock() else { bail!("another product panicked") };
        let key = (shape, self.batch_invariant && product.forward);
        if !state.plans.contains_key(&key) {
            let plan = self.plan(&mut state, stream, &shape, key.1, &operands)?;
            if state.plans.len() >= MAX_PLANS {
                state.plans.clear();
            }
            state.plans.insert(key, plan);
        }
        let Some(Plan { description, algorithm, workspace }) = state.plans.get_mut(&key) else { bail!("{shape} has no plan") };
        self.library.run(description, algorithm, &operands, self.part(*workspace), stream.cu_stream().cast())
    }

    /// Returns the addresses of the product's matrices, checked for alignment.
    fn operands(&self, product: &Product, shape: &Shape) -> Result<Operands> {
        let at = |tensor| address(tensor, &self.stream);
        let (a, b, out) = (at(&product.a.stored)?, at(&product.b.stored)?, at(product.out)?);
        let addend = product.addend.map_or(Ok(out), at)?;
        let (factors, results) = (shape.alignment() as u64, shape.result_alignment() as u64);
        let begins = [(a, factors), (b, factors), (addend, results), (out, results)];
        if let Some((address, alignment)) = begins.iter().find(|(address, alignment)| address % alignment != 0) {
            bail!("cannot multiply {shape}: a matrix starts at address {address:#x}, which is not a multiple of {alignment}");
        }
        Ok(Operands { a, b, bias: product.bias.map(at).transpose()?, addend, out })
    }

    /// Returns the first `bytes` bytes of the workspace.
    fn part(&self, bytes: usize) -> Workspace {
        match bytes {
            0 => Workspace { address: 0, bytes: 0 },
            // All work is in one stream, in order, so dropping the guard has nothing to wait for.
            bytes => Workspace { address: self.workspace.device_ptr(&self.stream).0, bytes },
        }
    }

    /// Plans the products of a shape. Uses the algorithm chosen for the shape's bucket, or for [`CHOSEN_FOR_ROWS`] rows if batch-invariant.
    /// If that algorithm does not support this number of rows, uses cuBLASLt's first algorithm that does. Both depend only on the shape.
    fn plan(&self, state: &mut State, stream: &CudaStream, shape: &Shape, batch_invariant: bool, operands: &Operands) -> Result<Plan> {
        let mut description = Description::new(shape, operands.bias)?;
        let (chosen, limits) = match batch_invariant {
            true => (self.batch_invariant_algorithm(state, shape, operands)?, BATCH_INVARIANT),
            false => (self.tuned_algorithm(state, stream, shape, &mut description, operands)?, ORDINARY),
        };
        if let Some(algorithm) = chosen
            && let Some(workspace) = self.library.check(&description, &algorithm)?
            && workspace <= limits.workspace
        {
            return Ok(Plan { description, algorithm, workspace });
        }
        match self.library.candidates(&description, limits)?.first() {
            Some(first) => {
                tracing::debug!(%shape, batch_invariant, chosen = chosen.is_some(), "using cuBLASLt's first choice of algorithm");
                Ok(Plan { description, algorithm: first.algorithm, workspace: first.workspace })
            }
            None if batch_invariant => bail!("cuBLASLt has no algorithm for {shape} that computes each sum in one sequence"),
            None => bail!("cuBLASLt has no algorithm for {shape}"),
        }
    }

    /// Returns the algorithm of batch-invariant products of this shape with any number of rows; `None` if there is none.
    fn batch_invariant_algorithm(&self, state: &mut State, shape: &Shape, operands: &Operands) -> Result<Option<Algorithm>> {
        let shape = shape.of_tokens(CHOSEN_FOR_ROWS);
        if let Some(chosen) = state.batch_invariant.get(&shape) {
            return Ok(*chosen);
        }
        let candidates = self.library.candidates(&Description::new(&shape, operands.bias)?, BATCH_INVARIANT)?;
        let chosen = candidates.first().map(|first| first.algorithm);
        state.batch_invariant.insert(shape, chosen);
        Ok(chosen)
    }

    /// Returns the fastest algorithm for the shape's bucket; `None` if the bucket cannot be timed. Times the algorithms if there is no choice
    /// yet, which fails if `stream` is capturing a graph.
    fn tuned_algorithm(
        &self,
        state: &mut State,
        stream: &CudaStream,
        shape: &Shape,
        description: &mut Description,
        operands: &Operands,
    ) -> Result<Option<Algorithm>> {
        let bucket = shape.bucket();
        if let Some(choice) = state.choices.get(&bucket) {
            return Ok(Some(choice.algorithm));
        }
        if state.untimed.contains(&bucket) {
            return Ok(None);
        }
        if stream.capture_status().w()? != CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            bail!("cannot capture {shape} in a CUDA graph before it has run once: products cannot be timed during capture");
        }
        if let Some(choice) = self.time(shape, description, operands)? {
            return Ok(Some(state.choices.insert(&bucket, choice).algorithm));
        }
        state.untimed.insert(bucket);
        Ok(None)
    }

    /// Times cuBLASLt's algorithms on these operands and returns the fastest; `None` if they cannot be timed.
    fn time(&self, shape: &Shape, description: &mut Description, operands: &Operands) -> Result<Option<TunedAlgorithm>> {
        let candidates = self.library.candidates(description, ORDINARY)?;
        // Timing must not change the addend.
        let bytes = shape.m * shape.n * shape.result.size_in_bytes();
        let in_place = shape.addend && operands.addend == operands.out;
        if in_place && bytes > MAX_TIMED_IN_PLACE {
            return Ok(None);
        }
        // SAFETY: nothing reads this memory.
        #[allow(unsafe_code)]
        let scratch = in_place.then(|| unsafe { self.stream.alloc::<u8>(bytes) });
        let out = match &scratch {
            None => operands.out,
            Some(Ok(scratch)) => scratch.device_ptr(&self.stream).0,
            Some(Err(error)) => {
                tracing::warn!(%shape, "not enough memory to time a product ({error}): this run uses cuBLASLt's first choice of algorithm");
                return Ok(None);
            }
        };
        let operands = Operands { out, ..*operands };
        let run = |index: usize| {
            let candidate = &candidates[index];
            self.library.run(description, &candidate.algorithm, &operands, self.part(candidate.workspace), self.stream.cu_stream().cast())
        };
        let Some(times) = timing::measure(&self.stream, candidates.len(), || self.overwrite_workspace(), run)? else { return Ok(None) };
        let Some(index) = timing::fastest(&times) else { return Ok(None) };
        tracing::debug!(%shape, index, algorithms = candidates.len(), milliseconds = times[index], first = times[0], "timed a product");
        Ok(Some(TunedAlgorithm { algorithm: candidates[index].algorithm, microseconds: times[index] * 1e3 }))
    }

    /// Overwrites the workspace, which evicts the operands from the device's cache.
    fn overwrite_workspace(&self) -> Result<()> {
        let Workspace { address, bytes } = self.part(WORKSPACE);
        // SAFETY: the workspace has this many bytes, and its contents do not matter between products.
        #[allow(unsafe_code)]
        (0..2).try_for_each(|value| unsafe { memset_d8_async(address, value, bytes, self.stream.cu_stream()) }.w())
    }
}

impl Drop for Products {
    fn drop(&mut self) {
        // The library and the workspace must exist until all work in the stream has finished. Waiting also binds the context to this thread.
        // An error cannot be returned here.
        let _ = self.stream.synchronize();
    }
}

/// Makes cuBLAS, which candle's stock operations use, accumulate in f32 only. By default it may round the partial sums of a split product to
/// the result's dtype.
///
/// # Errors
/// If cuBLAS refuses the math mode.
pub fn sum_in_f32(cuda: &CudaDevice) -> Result<()> {
    let mode = cublas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    let blas = cuda.cublas_handle();
    // SAFETY: the handle lives as long as the device, and no product is in progress.
    #[allow(unsafe_code)]
    let status = unsafe { cublas::cublasSetMathMode(*blas.handle(), mode) };
    status.result().map_err(|error| to_error(&error, format!("cannot make cuBLAS sum in f32: {error:?}")))
}

#[cfg(test)]
mod tests;
