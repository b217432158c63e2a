//! Records operations of the emulator, with the values of their arguments and handles to their tensors.

use std::fmt;
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Result, Shape, Tensor, bail};

use super::Emulator;
use crate::kernels::fused::launch::{Argument, Grid, Launch, Product, Recorder, Recording};

type Operation = Box<dyn Fn(&Emulator) -> Result<()> + Send>;

/// Records operations instead of running them.
pub struct EmulatedRecorder {
    emulator: Arc<Emulator>,
    operations: Mutex<Vec<Operation>>,
}

struct Recorded {
    emulator: Arc<Emulator>,
    operations: Vec<Operation>,
}

impl fmt::Debug for EmulatedRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmulatedRecorder")
    }
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} recorded operations", self.operations.len())
    }
}

impl EmulatedRecorder {
    /// Creates a recorder without operations.
    pub fn new(emulator: Arc<Emulator>) -> Self {
        Self { emulator, operations: Mutex::default() }
    }

    fn push(&self, operation: impl Fn(&Emulator) -> Result<()> + Send + 'static) -> Result<()> {
        let Ok(mut operations) = self.operations.lock() else { bail!("another launch panicked") };
        operations.push(Box::new(operation));
        Ok(())
    }
}

impl Recorder for EmulatedRecorder {
    fn record(&self, run: &mut dyn FnMut() -> Result<()>) -> Result<Box<dyn Recording>> {
        let done = run();
        let Ok(mut operations) = self.operations.lock() else { bail!("another launch panicked") };
        let operations = std::mem::take(&mut *operations);
        done.map(|()| Box::new(Recorded { emulator: self.emulator.clone(), operations }) as Box<dyn Recording>)
    }
}

impl Recording for Recorded {
    fn replay(&self) -> Result<()> {
        self.operations.iter().try_for_each(|operation| operation(&self.emulator))
    }
}

impl Launch for EmulatedRecorder {
    fn device(&self) -> &Device {
        self.emulator.device()
    }

    fn launch(&self, kernel: &str, grid: Grid, arguments: &[Argument]) -> Result<()> {
        /// An argument that outlives the call.
        enum Owned {
            Tensor(Tensor),
            Value(Argument<'static>),
        }
        impl Owned {
            fn argument(&self) -> Argument<'_> {
                match self {
                    Self::Tensor(tensor) => Argument::Tensor(tensor),
                    Self::Value(value) => *value,
                }
            }
        }
        let own = |argument: &Argument| {
            Ok(match *argument {
                Argument::Tensor(tensor) => Owned::Tensor(tensor.clone()),
                Argument::Int(value) => Owned::Value(Argument::Int(value)),
                Argument::Long(value) => Owned::Value(Argument::Long(value)),
                Argument::Unsigned(value) => Owned::Value(Argument::Unsigned(value)),
                Argument::Float(value) => Owned::Value(Argument::Float(value)),
                Argument::Floats(_) => bail!("cannot record {kernel}: struct arguments cannot be recorded"),
            })
        };
        let (kernel, arguments) = (kernel.to_owned(), arguments.iter().map(own).collect::<Result<Vec<_>>>()?);
        self.push(move |emulator| emulator.launch(&kernel, grid, &arguments.iter().map(Owned::argument).collect::<Vec<_>>()))
    }

    fn product(&self, product: &Product) -> Result<()> {
        let Product { ref a, ref b, bias, addend, out, forward } = *product;
        let (a, b, bias, addend, out) = (a.clone(), b.clone(), bias.cloned(), addend.cloned(), out.clone());
        self.push(move |emulator| {
            let (a, b) = (a.clone(), b.clone());
            emulator.product(&Product { a, b, bias: bias.as_ref(), addend: addend.as_ref(), out: &out, forward })
        })
    }

    fn empty(&self, shape: Shape, _: DType) -> Result<Tensor> {
        bail!("cannot allocate {shape:?} while operations are recorded")
    }
}
