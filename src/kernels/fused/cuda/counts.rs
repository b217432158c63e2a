//! Counts the requests to an emulated GPU (`scripts/cuda-emulated.sh`), for tests.

use std::ops::Sub;

/// The numbers of requests since the program started. The operations in a replayed recording are not counted one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Counts {
    /// Kernels launched.
    pub launches: u64,
    /// Matrix products.
    pub products: u64,
    /// Allocations.
    pub allocations: u64,
    /// Replays of recorded passes.
    pub graphs: u64,
}

impl Sub for Counts {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            launches: self.launches - earlier.launches,
            products: self.products - earlier.products,
            allocations: self.allocations - earlier.allocations,
            graphs: self.graphs - earlier.graphs,
        }
    }
}

/// Returns the counts; `None` on a real GPU.
pub fn emulated_counts() -> Option<Counts> {
    type Count = unsafe extern "C" fn(*mut Counts) -> i32;
    let mut counts = Counts { launches: 0, products: 0, allocations: 0, graphs: 0 };
    // SAFETY: if the emulated driver is loaded, it exports a function of this name, which writes four numbers.
    #[allow(unsafe_code)]
    unsafe {
        let loaded = libloading::os::unix::Library::this();
        let count = loaded.get::<Count>(b"emulated_gpu_counts\0").ok()?;
        count(&raw mut counts);
    }
    Some(counts)
}
