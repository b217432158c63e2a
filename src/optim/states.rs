//! The optimizer states of single parameters, and how rank 0 reads those of all ranks: one tensor at a time, while it writes a checkpoint.
//! Rank 0 asks the owner of a state for a tensor; the other ranks answer until rank 0 ends.

use std::collections::HashMap;

use anyhow::{Context, Result};
use candle_core::{DType, Shape, Tensor};

use super::{AdamW, MomentDtype, by_name, find, transfer};
use crate::kernels::{Moments, Quantized};

/// A tensor of a parameter's optimizer state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The master weight, f32.
    Master,
    /// The first moment in f32.
    First,
    /// The second moment in f32.
    Second,
    /// The codes of the quantized first moment, u8.
    FirstCodes,
    /// The scales of the quantized first moment, f32.
    FirstScales,
    /// The codes of the quantized second moment, u8.
    SecondCodes,
    /// The scales of the quantized second moment, f32.
    SecondScales,
}

/// All parts; a request names one by its index.
const PARTS: [Part; 7] =
    [Part::Master, Part::First, Part::Second, Part::FirstCodes, Part::FirstScales, Part::SecondCodes, Part::SecondScales];

impl Part {
    /// Returns the part's name in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::First => "first",
            Self::Second => "second",
            Self::FirstCodes => "first.codes",
            Self::FirstScales => "first.scales",
            Self::SecondCodes => "second.codes",
            Self::SecondScales => "second.scales",
        }
    }
}

/// The optimizer state of one parameter.
#[derive(Clone, Debug)]
pub struct ParameterState {
    /// The parameter's name.
    pub name: String,
    /// The master weight in f32, which each step updates and then rounds to the model's dtype; `None` if the model computes in f32.
    pub master: Option<Tensor>,
    /// The two moments.
    pub moments: Moments,
}

impl ParameterState {
    /// Returns the tensors of the moments.
    pub fn moments(&self) -> Vec<(Part, &Tensor)> {
        match &self.moments {
            Moments::Full { first, second } => vec![(Part::First, first), (Part::Second, second)],
            Moments::Quantized { first, second } => vec![
                (Part::FirstCodes, &first.codes),
                (Part::FirstScales, &first.scales),
                (Part::SecondCodes, &second.codes),
                (Part::SecondScales, &second.scales),
            ],
        }
    }

    /// Returns a part; `None` if the state does not have it.
    fn part(&self, part: Part) -> Option<&Tensor> {
        if part == Part::Master {
            return self.master.as_ref();
        }
        self.moments().into_iter().find(|(found, _)| *found == part).map(|(_, tensor)| tensor)
    }
}

impl MomentDtype {
    /// Returns the tensors of both moments of a parameter: their parts, dtypes and shapes.
    fn parts(self, shape: &Shape) -> Vec<(Part, DType, Shape)> {
        let elements = shape.elem_count();
        if !self.quantizes(elements) {
            return [Part::First, Part::Second].map(|part| (part, DType::F32, shape.clone())).into();
        }
        let (codes, scales) = (Shape::from(elements), Shape::from(Quantized::scale_count(elements)));
        vec![
            (Part::FirstCodes, DType::U8, codes.clone()),
            (Part::FirstScales, DType::F32, scales.clone()),
            (Part::SecondCodes, DType::U8, codes),
            (Part::SecondScales, DType::F32, scales),
        ]
    }
}

/// The optimizer states of all ranks, as rank 0 reads them. Holds none of the other ranks' tensors.
pub struct AllStates<'a> {
    optimizer: &'a AdamW,
    parameters: HashMap<&'a str, &'a Tensor>,
}

impl AdamW {
    /// Returns the states of all ranks to rank 0. The other ranks call [`send_states`](Self::send_states) at the same time, which returns at
    /// [`AllStates::end`]. `parameters` are those of the model.
    pub fn all_states<'a>(&'a self, parameters: &'a [(String, &'a Tensor)]) -> AllStates<'a> {
        AllStates { optimizer: self, parameters: by_name(parameters) }
    }

    /// Sends this rank's states to rank 0, tensor by tensor, when rank 0 reads them.
    ///
    /// # Errors
    /// If the device or the connection fails, for example because rank 0 has ended.
    pub fn send_states(&self) -> Result<()> {
        loop {
            let mut request = Request::END;
            self.owners.world().communicator().exchange(0, &[], &mut request)?;
            if request == Request::END {
                return Ok(());
            }
            let tensor = self.requested(Request::decode(request)?).context("rank 0 asked for an optimizer state that this rank lacks")?;
            transfer::send(self.owners.world(), 0, tensor)?;
        }
    }

    fn requested(&self, Request { parameter, part }: Request) -> Option<&Tensor> {
        let (name, _) = self.owners.iter().nth(parameter)?;
        self.state(name)?.part(part)
    }
}

impl AllStates<'_> {
    /// Returns the names of the trained parameters, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.optimizer.owners.iter().map(|(name, _)| name)
    }

    /// Returns the tensors of both moments of a trained parameter: their parts, dtypes and shapes.
    ///
    /// # Errors
    /// If there is no such parameter.
    pub fn moments(&self, name: &str) -> Result<Vec<(Part, DType, Shape)>> {
        Ok(self.optimizer.settings.states.parts(find(&self.parameters, name, "weight")?.shape()))
    }

    /// True if a parameter has a master weight.
    ///
    /// # Errors
    /// If a trained parameter is missing.
    pub fn have_masters(&self) -> Result<bool> {
        let mut dtypes = self.names().map(|name| Ok(find(&self.parameters, name, "weight")?.dtype()));
        dtypes.try_fold(false, |found, dtype: Result<DType>| Ok(found || dtype? != DType::F32))
    }

    /// Returns a tensor of a parameter's state: on the device if rank 0 owns it, otherwise on the host, received from its owner. `None` if
    /// the parameter is frozen, or its state does not have this part.
    ///
    /// # Errors
    /// If the parameter is missing, or the connection fails.
    pub fn read(&self, name: &str, part: Part) -> Result<Option<Tensor>> {
        let owners = &self.optimizer.owners;
        let Some((parameter, (_, owner))) = owners.iter().enumerate().find(|(_, (owned, _))| *owned == name) else { return Ok(None) };
        if owner == owners.world().rank() {
            return Ok(self.optimizer.state(name).and_then(|state| state.part(part)).cloned());
        }
        let Some((dtype, shape)) = self.shape_of(name, part)? else { return Ok(None) };
        owners.world().communicator().exchange(owner, &Request { parameter, part }.encode()?, &mut [])?;
        transfer::receive(owners.world(), owner, dtype, &shape).map(Some)
    }

    /// Returns the dtype and shape of a part of a trained parameter's state; `None` if the state does not have it.
    fn shape_of(&self, name: &str, part: Part) -> Result<Option<(DType, Shape)>> {
        let weight = find(&self.parameters, name, "weight")?;
        if part == Part::Master {
            return Ok((weight.dtype() != DType::F32).then(|| (DType::F32, weight.shape().clone())));
        }
        Ok(self.moments(name)?.into_iter().find(|(found, ..)| *found == part).map(|(_, dtype, shape)| (dtype, shape)))
    }

    /// Tells the other ranks that rank 0 has read all that it needs.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn end(self) -> Result<()> {
        let world = self.optimizer.owners.world();
        (1..world.size()).try_for_each(|rank| world.communicator().exchange(rank, &Request::END, &mut []))
    }
}

/// Rank 0's request for one tensor.
struct Request {
    /// The index of the parameter among the trained ones.
    parameter: usize,
    part: Part,
}

impl Request {
    /// The message after the last request.
    const END: [u8; 8] = [u8::MAX; 8];

    fn encode(&self) -> Result<[u8; 8]> {
        let numbers = [u32::try_from(self.parameter)?, self.part as u32].map(u32::to_le_bytes);
        Ok(std::array::from_fn(|index| numbers[index / 4][index % 4]))
    }

    fn decode(bytes: [u8; 8]) -> Result<Self> {
        let number = |first: usize| u32::from_le_bytes(std::array::from_fn(|index| bytes[first + index])) as usize;
        let part = *PARTS.get(number(4)).context("rank 0 asked for an unknown part of an optimizer state")?;
        Ok(Self { parameter: number(0), part })
    }
}
