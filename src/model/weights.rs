//! The tensors of a model, laid out for computing: projections that share their input are fused, and stored `[in, out]`. Which there are, and
//! their shapes, is what `parameters` says.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};

use super::config::ModelConfig;
use super::parameters::{Parameter, block, parameters};
use crate::kernels::{Kernels, on_host};

/// All parameters of a decoder; the same structure holds their gradients.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `[v, w]`
    pub embedding: Tensor,
    /// One per layer.
    pub blocks: Vec<BlockWeights>,
    /// `[w]`
    pub norm: Tensor,
    /// `[v, w]`; none where the embedding serves as head.
    pub head: Option<Tensor>,
}

/// A field of a structure of tensors: a tensor, or one that only some families have.
trait Field: Sized {
    fn take(field: &'static str, tensors: &mut Tensors, layer: Option<usize>) -> Result<Self>;
    fn tensor(&self) -> Option<&Tensor>;
}

/// Tensors by their layer and field.
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

/// Declares a structure of tensors whose fields are rows of `parameters::block`, in the table's order.
macro_rules! tensors {
    ($(#[$about:meta])* pub struct $name:ident { $($(#[$doc:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        pub struct $name { $($(#[$doc])* pub $field: $kind,)* }

        impl $name {
            fn take(tensors: &mut Tensors, layer: Option<usize>) -> Result<Self> {
                Ok(Self { $($field: Field::take(stringify!($field), tensors, layer)?,)* })
            }

            /// Every tensor with its field's name, in one fixed order.
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
        /// `[w]`
        pub attention_norm: Tensor,
        /// `[w, (q + 2 kv) d]`: queries, keys, values side by side.
        pub qkv: Tensor,
        /// `[(q + 2 kv) d]`
        pub qkv_bias: Option<Tensor>,
        /// `[q d, w]`
        pub output: Tensor,
        /// `[w]`
        pub mlp_norm: Tensor,
        /// `[w, 2 f]`: gate and up side by side.
        pub gate_up: Tensor,
        /// `[f, w]`
        pub down: Tensor,
    }
}

/// Makes each tensor of the table, in its order.
fn made(table: &[Parameter], mut make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Tensors> {
    table.iter().map(|row| Ok(((row.layer, row.field), make(row)?))).collect()
}

/// Refuses a row of the table that no field has taken.
fn ensure_all_taken(rest: &Tensors) -> Result<()> {
    let untaken = rest.keys().map(|(_, field)| *field).next();
    ensure!(untaken.is_none(), "the table of parameters has {}, the weights have no such field", untaken.unwrap_or_default());
    Ok(())
}

impl BlockWeights {
    /// Builds a block by asking `make` for each tensor, in the order of `entries`.
    pub fn build(config: &ModelConfig, make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Self> {
        const ANY: usize = 0;
        let mut tensors = made(&block(config, ANY), make)?;
        let built = Self::take(&mut tensors, Some(ANY))?;
        ensure_all_taken(&tensors)?;
        Ok(built)
    }

    /// The same structure with `change` of every tensor.
    pub fn map(&self, change: impl Fn(&Tensor) -> candle_core::Result<Tensor>) -> Result<Self> {
        let entries = self.entries().into_iter();
        let mut tensors = entries.map(|(field, tensor)| Ok(((None, field), change(tensor)?))).collect::<Result<_>>()?;
        Self::take(&mut tensors, None)
    }

    /// The tensor of that field.
    ///
    /// # Errors
    /// When the block has none.
    pub fn get(&self, field: &str) -> Result<&Tensor> {
        let found = self.entries().into_iter().find(|(name, _)| *name == field);
        found.map(|(_, tensor)| tensor).with_context(|| format!("a block has no {field}"))
    }
}

impl Weights {
    /// Builds the structure by asking `make` for each tensor, in the order of `parameters`, which is that of `entries`.
    pub fn build(config: &ModelConfig, make: impl FnMut(&Parameter) -> Result<Tensor>) -> Result<Self> {
        let mut tensors = made(&parameters(config), make)?;
        let blocks = (0..config.layers).map(|layer| BlockWeights::take(&mut tensors, Some(layer))).collect::<Result<_>>()?;
        let built = Self {
            embedding: Field::take("embedding", &mut tensors, None)?,
            blocks,
            norm: Field::take("norm", &mut tensors, None)?,
            head: Field::take("head", &mut tensors, None)?,
        };
        ensure_all_taken(&tensors)?;
        Ok(built)
    }

    /// All zeros, in f32: gradients.
    pub fn zeros(config: &ModelConfig, kernels: &dyn Kernels) -> Result<Self> {
        Self::build(config, |row| Ok(Tensor::zeros(&row.shape, DType::F32, kernels.device())?))
    }

    /// Bytes of one set in f32, be it parameters, gradients or moments.
    pub fn bytes(config: &ModelConfig) -> u64 {
        (config.parameters() * size_of::<f32>()) as u64
    }

    /// Every tensor with its name, in one fixed order.
    pub fn entries(&self) -> Vec<(String, &Tensor)> {
        let mut entries = vec![("embedding".to_owned(), &self.embedding)];
        for (layer, block) in self.blocks.iter().enumerate() {
            entries.extend(block.entries().into_iter().map(|(name, tensor)| (format!("layers.{layer}.{name}"), tensor)));
        }
        entries.push(("norm".to_owned(), &self.norm));
        entries.extend(self.head.iter().map(|head| ("head".to_owned(), head)));
        entries
    }

    /// The matrix that makes logits, `[v, w]`.
    pub fn output_embedding(&self) -> &Tensor {
        self.head.as_ref().unwrap_or(&self.embedding)
    }

    /// The same structure with `change` of every tensor.
    pub fn map(&self, config: &ModelConfig, change: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Self> {
        self.map_rows(config, |_, tensor| change(tensor))
    }

    /// The same, where `change` depends on the tensor's row of the table.
    pub fn map_rows(&self, config: &ModelConfig, change: impl Fn(&Parameter, &Tensor) -> Result<Tensor>) -> Result<Self> {
        let mut entries = self.entries().into_iter();
        Self::build(config, |row| {
            let (found, tensor) = entries.next().with_context(|| format!("no tensor {}", row.name()))?;
            ensure!(found == row.name(), "{found} stands where the table of parameters has {}", row.name());
            change(row, tensor)
        })
    }

    /// The same weights in f32 on the CPU; shared, not copied, where they are that already.
    pub fn on_host(&self, config: &ModelConfig) -> Result<Self> {
        self.map(config, |tensor| Ok(on_host(tensor)?.to_dtype(DType::F32)?))
    }

    /// Takes over the values of another set, in place, on whatever device and in whatever dtype this one is.
    ///
    /// # Errors
    /// When a tensor has another shape; its name and both shapes are said.
    pub fn set(&self, values: &Weights, kernels: &dyn Kernels) -> Result<()> {
        for ((name, target), (_, source)) in self.entries().into_iter().zip(values.entries()) {
            ensure!(target.dims() == source.dims(), "{name} has the shape {:?}, expected {:?}", source.dims(), target.dims());
            kernels.set(target, source)?;
        }
        Ok(())
    }

    /// Sets every element to 0, in place.
    pub fn clear(&self, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().try_for_each(|(_, tensor)| Ok(kernels.clear(tensor)?))
    }

    /// Adds another set of the same shapes, f32, in place.
    pub fn add(&self, other: &Weights, kernels: &dyn Kernels) -> Result<()> {
        self.entries().into_iter().zip(other.entries()).try_for_each(|((_, target), (_, source))| Ok(kernels.add_into(target, source)?))
    }
}
