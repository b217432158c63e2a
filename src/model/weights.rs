//! A model's tensors in the layout used for computing: projections with the same input are fused and stored as `[in, out]`. The table of
//! `parameters` defines the tensors and their shapes.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};

use super::config::ModelConfig;
use super::parameters::{Parameter, block, parameters};
use crate::kernels::{Kernels, on_host};

/// All parameters of a decoder. Also used for their gradients.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The token embedding, `[v, w]`.
    pub embedding: Tensor,
    /// The blocks' parameters, one entry per layer.
    pub blocks: Vec<BlockWeights>,
    /// The weight of the final RMSNorm, `[w]`.
    pub norm: Tensor,
    /// The head, `[v, w]`; `None` in a tied model.
    pub head: Option<Tensor>,
}

/// The type of a field in a struct of tensors: a tensor, or an optional one that only some models have.
trait Field: Sized {
    fn take(field: &'static str, tensors: &mut Tensors, layer: Option<usize>) -> Result<Self>;
    fn tensor(&self) -> Option<&Tensor>;
}

/// Tensors by layer and field.
type Tensors = HashMap<(Option<usize>, &'static str), Tensor>;

impl Field for Tensor {
    fn take(field: &'static str, tensors: &mut Tensors, layer: Option<usize>) -> Result<Self> {
        tensors.remove(&(layer, field)).with_context(|| format!("the table of parameters has no {field}"))
    }

    fn tensor(&self) -> Option<&Tensor> {
        Some(self)
    }
}

impl Field for Option<Tensor> {
    fn take(field: &'static str, tensors: &mut Tensors, layer: Option<usize>) -> Result<Self> {
        Ok(tensors.remove(&(layer, field)))
    }

    fn tensor(&self) -> Option<&Tensor> {
        self.as_ref()
    }
}

/// Declares a struct of tensors whose fields are rows of `parameters::block`, in table order.
macro_rules! tensors {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        pub struct $name { $($(#[$doc])* pub $field: $kind,)* }

        impl $name {
            fn take(tensors: &mut Tensors, layer: Option<usize>) -> Result<Self> {
                Ok(Self { $($field: Field::take(stringify!($field), tensors, layer)?,)* })
            }

            /// Returns all tensors with the names of their fields, in table order.
            pub fn entries(&self) -> Vec<(&'static str, &Tensor)> {
                let fields = [$((stringify!($field), self.$field.tensor()),)*];
                fields.into_iter().filter_map(|(field, tensor)| Some((field, tensor?))).collect()
            }
        }
    };
}

tensors! {
    /// The parameters of one block.
    #[derive(Clone, Debug)]
    pub struct BlockWeights {
        /// The weight of the RMSNorm before attention, `[w]`.
        pub attention_norm: Tensor,
        /// The projections of queries, keys and values side by side, `[w, (q + 2 kv) d]`.
        pub qkv: Tensor,
        /// The bias of queries, keys and values, `[(q + 2 kv) d]`; `None` for families without one.
        pub qkv_bias: Option<Tensor>,
        /// The output projection of attention, `[q d, w]`.
        pub output: Tensor,
        /// The weight of the RMSNorm before the feed-forward layer, `[w]`.
        pub mlp_norm: Tensor,
        /// The gate and up projections side by side, `[w, 2 f]`.
        pub gate_up: Tensor,
        /// The down projection, `[f, w]`.
        pub down: Tensor,
    }
}

/// Makes each tensor of the table, in order.
fn make_tensors(table: &[Parameter], mut make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Tensors> {
    table.iter().map(|row| Ok(((row.layer, row.field), make(row)?))).collect()
}

/// Rejects rows of the table that have no field.
fn ensure_all_used(rest: &Tensors) -> Result<()> {
    let unused = rest.keys().map(|(_, field)| *field).next();
    ensure!(unused.is_none(), "the table of parameters has {}, but the weights have no such field", unused.unwrap_or_default());
    Ok(())
}

impl BlockWeights {
    /// Builds a block, calling `make` for each tensor in the order of `entries`.
    ///
    /// # Errors
    /// If `make` fails, or the table does not match the fields.
    pub fn build(config: &ModelConfig, make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Self> {
        const ANY: usize = 0;
        let mut tensors = make_tensors(&block(config, ANY), make)?;
        let built = Self::take(&mut tensors, Some(ANY))?;
        ensure_all_used(&tensors)?;
        Ok(built)
    }

    /// Returns a new block with `change` applied to every tensor.
    ///
    /// # Errors
    /// If `change` fails.
    pub fn map(&self, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        let entries = self.entries().into_iter();
        let mut tensors = entries.map(|(field, tensor)| Ok(((None, field), change(tensor)?))).collect::<Result<_>>()?;
        Self::take(&mut tensors, None)
    }

    /// Returns the tensor of a field.
    ///
    /// # Errors
    /// If the block has no such tensor.
    pub fn get(&self, field: &str) -> Result<&Tensor> {
        let found = self.entries().into_iter().find(|(name, _)| *name == field);
        found.map(|(_, tensor)| tensor).with_context(|| format!("a block has no {field}"))
    }
}

impl Weights {
    /// Builds the weights, calling `make` for each tensor in the order of `parameters`, which is also the order of `entries`.
    ///
    /// # Errors
    /// If `make` fails, or the table does not match the fields.
    pub fn build(config: &ModelConfig, make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Self> {
        let mut tensors = make_tensors(&parameters(config), make)?;
        let blocks = (0..config.layers).map(|layer| BlockWeights::take(&mut tensors, Some(layer))).collect::<Result<_>>()?;
        let built = Self {
            embedding: Field::take("embedding", &mut tensors, None)?,
            blocks,
            norm: Field::take("norm", &mut tensors, None)?,
            head: Field::take("head", &mut tensors, None)?,
        };
        ensure_all_used(&tensors)?;
        Ok(built)
    }

    /// Allocates zeros in f32, for gradients.
    ///
    /// # Errors
    /// If the device has no memory for them.
    pub fn zeros(config: &ModelConfig, kernels: &dyn Kernels) -> Result<Self> {
        Self::build(config, |row| Ok(Tensor::zeros(&row.shape, DType::F32, kernels.device())?))
    }

    /// Returns the bytes of one set of tensors in f32: parameters, gradients, or one of the moments.
    pub fn bytes(config: &ModelConfig) -> u64 {
        (config.parameter_count() * size_of::<f32>()) as u64
    }

    /// Returns all tensors with their names, in the order of `parameters`.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        let mut entries = vec![("embedding".to_owned(), &self.embedding)];
        for (layer, block) in self.blocks.iter().enumerate() {
            entries.extend(block.entries().into_iter().map(|(name, tensor)| (format!("layers.{layer}.{name}"), tensor)));
        }
        entries.push(("norm".to_owned(), &self.norm));
        entries.extend(self.head.iter().map(|head| ("head".to_owned(), head)));
        entries
    }

    /// Returns the matrix that produces the logits, `[v, w]`: the head, or the embedding of a tied model.
    pub fn output_embedding(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// Returns new weights with `change` applied to every tensor.
    ///
    /// # Errors
    /// If `change` fails.
    pub fn map(&self, config: &ModelConfig, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.map_rows(config, |_, tensor| change(tensor))
    }

    /// Returns new weights with `change` applied to every tensor and its row of the table.
    ///
    /// # Errors
    /// If `change` fails, or the tensors do not match the table of `config`.
    pub fn map_rows(&self, config: &ModelConfig, change: impl Fn(&Parameter, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut entries = self.entries().into_iter();
        Self::build(config, |row| {
            let (found, tensor) = entries.next().with_context(|| format!("no tensor {}", row.name()))?;
            ensure!(found == row.name(), "found {found}, but the table of parameters has {}", row.name());
            change(row, tensor)
        })
    }

    /// Returns the weights in f32 on the CPU. Tensors that are already in f32 on the CPU are shared, not copied.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn on_host(&self, config: &ModelConfig) -> Result<Self> {
        self.map(config, |tensor| Ok(on_host(tensor)?.to_dtype(DType::F32)?))
    }

    /// Copies the values of another set in place. This set keeps its device and dtype.
    ///
    /// # Errors
    /// If a tensor has another shape (the message names it and both shapes), or a kernel fails.
    pub fn set(&self, values: &Weights, kernels: &dyn Kernels) -> Result<()> {
        for ((name, target), (_, source)) in self.entries().into_iter().zip(values.entries()) {
            ensure!(target.dims() == source.dims(), "{name} has shape {:?}, expected {:?}", source.dims(), target.dims());
            kernels.set(target, source)?;
        }
        Ok(())
    }

    /// Sets all elements to 0 in place.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn clear(&self, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
    }

    /// Adds another set of the same shapes in place. Both are in f32.
    ///
    /// # Errors
    /// If a kernel fails.
    pub fn add(&self, other: &Weights, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().zip(other.entries()).try_for_each(|((_, target), (_, source))| Ok(kernels.add_into(target, source)?))
    }
}
