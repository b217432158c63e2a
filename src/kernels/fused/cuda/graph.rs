//! Records operations as a CUDA graph, which the host starts with one call.
//!
//! Recording uses a separate stream, so that work that other threads start in the GPU's stream runs as usual. Recordings are replayed in the
//! GPU's stream, in program order.

use std::fmt;
use std::sync::Arc;

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::result::graph::launch;
use candle_core::cuda_backend::cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream};
use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::Gpu;
use crate::kernels::fused::launch::{Argument, Grid, Launch, PendingRead, Product, Recorder, Recording};
use crate::kernels::memory::driver::to_error;

/// Records operations for a GPU instead of running them.
pub struct StreamRecorder {
    stream: Arc<CudaStream>,
    gpu: Arc<Gpu>,
}

impl fmt::Debug for StreamRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamRecorder({:?})", self.gpu)
    }
}

impl StreamRecorder {
    /// Creates a recorder with its own stream.
    ///
    /// # Errors
    /// If the context cannot be bound or the stream cannot be created.
    pub fn new(gpu: Arc<Gpu>) -> Result<Self> {
        gpu.bind()?;
        let stream = gpu.cuda.cuda_stream().context().new_stream().w()?;
        Ok(Self { stream, gpu })
    }
}

impl Recorder for StreamRecorder {
    fn record(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        let failed = |error| to_error(&error, format!("cannot record a pass: {error}"));
        self.gpu.bind()?;
        // During recording, the driver refuses some calls from this thread, such as waiting for the GPU, but accepts them from other threads.
        self.stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL).map_err(failed)?;
        let done = run();
        // Always ends the capture, even after an error, so that the stream can record again.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        done?;
        match graph.map_err(failed)? {
            Some(graph) => Ok(Box::new(Graph { graph, gpu: self.gpu.clone() })),
            None => bail!("the recorded pass contains no operations"),
        }
    }
}

impl Launch for StreamRecorder {
    fn device(&self) -> &Device {
        self.gpu.device()
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        self.gpu.launch_in(&self.stream, kernel, grid, arguments)
    }

    fn is_batch_invariant(&self) -> bool {
        self.gpu.is_batch_invariant()
    }

    fn product(&self, product: &Product) -> Result<()> {
        self.gpu.products.multiply(&self.stream, product)
    }

    fn empty(&self, shape: Shape, dtype: DType) -> Result<Tensor> {
        bail!("cannot allocate {shape:?} in {dtype:?} while operations are recorded")
    }

    fn put(&self, _: &[u32]) -> Result<Tensor> {
        bail!("cannot copy from the host while operations are recorded")
    }

    fn put_floats(&self, _: &[f32]) -> Result<Tensor> {
        bail!("cannot copy from the host while operations are recorded")
    }

    fn fetch(&self, _: &Tensor) -> Result<PendingRead> {
        bail!("cannot copy to the host while operations are recorded")
    }
}

/// A recorded graph.
struct Graph {
    graph: CudaGraph,
    gpu: Arc<Gpu>,
}

// SAFETY: any thread may use a graph, but only one thread at a time; `Graph` is not `Sync`.
#[allow(unsafe_code)]
unsafe impl Send for Graph {}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Graph")
    }
}

impl Recording for Graph {
    fn replay(&self) -> Result<()> {
        self.gpu.bind()?;
        let stream = self.gpu.cuda.cuda_stream();
        // SAFETY: the graph exists, and the caller keeps the tensors whose addresses it contains.
        #[allow(unsafe_code)]
        unsafe { launch(self.graph.cu_graph_exec(), stream.cu_stream()) }
            .map_err(|error| to_error(&error, format!("cannot start a recorded pass: {error}")))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // The graph may still be running. An error cannot be returned here; the next operation reports it.
        let _ = self.gpu.cuda.cuda_stream().synchronize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::fused::launch::Argument::{Long, Tensor as At};

    /// A failed recording always ends the capture, so that the recorder can record again, and changes no memory.
    #[test]
    fn stream_recorder_on_a_gpu_can_record_again_after_a_failure() -> Result<()> {
        let Some(gpu) = crate::kernels::tests::gpu() else { return Ok(()) };
        let recorder = StreamRecorder::new(gpu.clone())?;
        let put = |values: &[f32]| gpu.put_floats(values);
        let (target, one) = (put(&[0.0, 10.0])?, put(&[1.0, 1.0])?);
        let add = |machine: &dyn Launch| machine.launch("add_f32", Grid::of(1, 32), &[At(&target), At(&one), Long(2)]);
        let read = || crate::kernels::on_host(&target)?.to_vec1::<f32>();
        add(&*gpu)?;
        let mut failing: [Box<dyn FnMut() -> Result<()>>; 3] = [
            Box::new(|| add(&recorder).and_then(|()| bail!("fails halfway"))),
            Box::new(|| recorder.empty(1.into(), DType::F32).map(drop)),
            // The driver refuses a call that a recording thread must not make, and invalidates the recording.
            Box::new(|| {
                add(&recorder).map(|()| {
                    let _ = recorder.stream.synchronize();
                })
            }),
        ];
        for fail in &mut failing {
            assert!(recorder.record(fail).is_err());
        }
        drop(failing);
        assert_eq!(read()?, [1.0, 11.0], "no part of a failed recording ran");
        let recording = recorder.record(&mut || add(&recorder))?;
        assert_eq!(read()?, [1.0, 11.0], "recording does not run operations");
        recording.replay()?;
        add(&*gpu)?;
        recording.replay()?;
        drop(recording);
        assert_eq!(read()?, [4.0, 14.0]);
        Ok(())
    }
}
