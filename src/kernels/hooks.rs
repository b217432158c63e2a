//! Wraps any [`Kernels`] with hooks before and after each operation.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

use candle_core::Result;

use super::Kernels;

/// Hooks around operations. `operation` is the name of the method of [`Kernels`], such as `attend_packed`.
pub trait OperationHooks: Debug + Send + Sync {
    /// Called before an operation starts.
    ///
    /// # Errors
    /// If the operation must not start. The caller of the operation gets this error.
    fn before(&self, _operation: &'static str) -> Result<()> {
        Ok(())
    }

    /// Called after an operation was started successfully. `begin` is the time just before; the device may not have finished it yet.
    ///
    /// # Errors
    /// If the operation is to fail. The caller of the operation gets this error instead of the result.
    fn after(&self, _operation: &'static str, _begin: Instant, _kernels: &dyn Kernels) -> Result<()> {
        Ok(())
    }
}

/// Kernels that call hooks around each operation.
#[derive(Clone, Debug)]
pub struct HookedKernels {
    pub(super) kernels: Arc<dyn Kernels>,
    hooks: Arc<dyn OperationHooks>,
}

impl HookedKernels {
    /// Wraps `kernels` with `hooks`.
    pub fn new(kernels: Arc<dyn Kernels>, hooks: Arc<dyn OperationHooks>) -> Self {
        Self { kernels, hooks }
    }

    pub(super) fn with_hooks<T>(&self, operation: &'static str, compute: impl FnOnce(&dyn Kernels) -> Result<T>) -> Result<T> {
        self.hooks.before(operation)?;
        let begin = Instant::now();
        let result = compute(&*self.kernels)?;
        self.hooks.after(operation, begin, &*self.kernels)?;
        Ok(result)
    }
}

/// Declares the given trait and implements it for [`HookedKernels`]. Methods before `operations:` are forwarded, methods after it are
/// forwarded between hooks, and the pass after `passes:` is run operation by operation, each between hooks.
macro_rules! operations {
    (
        $(#[$about:meta])*
        pub trait $trait:ident: $first:ident $(+ $other:ident)* {
            $($(#[$about_fact:meta])* fn $fact:ident(&self) -> $fact_type:ty;)*

            operations:

            $(
                $(#[$about_operation:meta])*
                fn $operation:ident $(<$lifetime:lifetime>)? (&self $(, $argument:ident: $type:ty)* $(,)?) -> $result:ty;
            )*

            passes:

            $(#[$about_pass:meta])*
            fn $pass:ident(&self, $step:ident: $step_type:ty, $layers:ident: $layers_type:ty) -> $pass_result:ty;
        }
    ) => {
        $(#[$about])*
        pub trait $trait: $first $(+ $other)* {
            $($(#[$about_fact])* fn $fact(&self) -> $fact_type;)*

            $($(#[$about_operation])* fn $operation $(<$lifetime>)? (&self $(, $argument: $type)*) -> $result;)*

            $(#[$about_pass])*
            fn $pass(&self, $step: $step_type, $layers: $layers_type) -> $pass_result;
        }

        impl $trait for HookedKernels {
            $(fn $fact(&self) -> $fact_type { self.kernels.$fact() })*

            $(fn $operation $(<$lifetime>)? (&self $(, $argument: $type)*) -> $result {
                self.with_hooks(stringify!($operation), |kernels| kernels.$operation($($argument),*))
            })*

            fn $pass(&self, $step: $step_type, $layers: $layers_type) -> $pass_result {
                pass::run_eagerly(self, $step, $layers)
            }
        }
    };
}
pub(super) use operations;
