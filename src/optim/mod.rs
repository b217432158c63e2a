//! AdamW over f32 masters, the clip of the global gradient norm, and learning-rate schedules. Knows parameters and gradients, and nothing of
//! where gradients come from.

use anyhow::Result;
use candle_core::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::kernels::{Kernels, Parameter, Step};

/// The optimizer's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimSettings {
    /// Learning rate after warm-up.
    pub lr: f64,
    /// Updates over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// What it does after that.
    pub schedule: Schedule,
    /// Updates at the end over which the schedule falls, after a constant rate; 0 lets it fall from the end of warm-up on.
    pub decay_steps: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 turns clipping off.
    pub clip_norm: f64,
    /// Parameters that stay as they are: names or beginnings of names, such as "layers.0.qkv".
    pub freeze: Vec<String>,
}

impl Default for OptimSettings {
    /// The published run's.
    fn default() -> Self {
        Self {
            lr: 1e-6,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            decay_steps: 0,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.01,
            clip_norm: 1.0,
            freeze: Vec::new(),
        }
    }
}

/// The course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Stays.
    Constant,
    /// Falls linearly, to 0 just after the last update.
    Linear,
    /// Falls along half a cosine, to 0 just after the last update.
    Cosine,
}

impl OptimSettings {
    /// The learning rate of update `step` (from 1) of `total`.
    pub fn learning_rate(&self, step: u64, total: u64) -> f64 {
        if step <= self.warmup_steps {
            return self.lr * step as f64 / self.warmup_steps as f64;
        }
        let falling = total.saturating_sub(self.warmup_steps);
        let falling = if self.decay_steps == 0 { falling } else { self.decay_steps.min(falling) };
        let left = ((total.saturating_sub(step) + 1) as f64 / falling.max(1) as f64).min(1.0);
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Linear => self.lr * left,
            Schedule::Cosine => self.lr * 0.5 * (1.0 - (std::f64::consts::PI * left).cos()),
        }
    }

    fn is_frozen(&self, name: &str) -> bool {
        self.freeze.iter().any(|prefix| name.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
    }
}

/// AdamW's state.
#[derive(Clone, Debug)]
pub struct AdamW {
    /// The settings.
    pub settings: OptimSettings,
    /// First moments, shaped as the parameters and in their order.
    pub first: Vec<Tensor>,
    /// Second moments.
    pub second: Vec<Tensor>,
    /// Parameters in f32, where they are in another dtype: what is updated, and rounded to theirs.
    pub masters: Vec<Option<Tensor>>,
    /// Steps taken.
    pub count: u64,
}

impl AdamW {
    /// Zero moments for named parameters. Names in `freeze` that match no parameter are errors.
    pub fn new(settings: OptimSettings, kernels: &dyn Kernels, parameters: &[(String, &Tensor)]) -> Result<Self> {
        for pattern in &settings.freeze {
            let one = OptimSettings { freeze: vec![pattern.clone()], ..OptimSettings::default() };
            if !parameters.iter().any(|(name, _)| one.is_frozen(name)) {
                let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
                anyhow::bail!("optim.freeze: no parameter is called \"{pattern}\"; known are {}", names.join(", "));
            }
        }
        let zeros = || parameters.iter().map(|(_, tensor)| Ok(Tensor::zeros(tensor.shape(), DType::F32, kernels.device())?));
        let master = |(_, tensor): &(String, &Tensor)| (tensor.dtype() != DType::F32).then(|| tensor.to_dtype(DType::F32)).transpose();
        let masters = parameters.iter().map(master).collect::<candle_core::Result<_>>()?;
        Ok(Self { settings, first: zeros().collect::<Result<_>>()?, second: zeros().collect::<Result<_>>()?, masters, count: 0 })
    }

    /// The parameters as they are updated, in f32: masters where there are any.
    pub fn masters<'a>(&'a self, parameters: &[(String, &'a Tensor)]) -> Vec<&'a Tensor> {
        parameters.iter().zip(&self.masters).map(|((_, tensor), master)| master.as_ref().unwrap_or(tensor)).collect()
    }

    /// One update in place with learning rate `lr`; parameters and gradients in the order of `new`. Gives the gradient's global norm before clipping (frozen parameters left out); a norm that
    /// is not finite is an error and changes nothing.
    pub fn step(
        &mut self,
        kernels: &dyn Kernels,
        parameters: &[(String, &Tensor)],
        gradients: &[(String, &Tensor)],
        lr: f64,
    ) -> Result<f64> {
        let settings = &self.settings;
        let trained = |name: &str| !settings.is_frozen(name);
        let mut squares = 0.0;
        for (name, gradient) in gradients.iter().filter(|(name, _)| trained(name)) {
            let sum = kernels.sum_of_squares(gradient)?;
            anyhow::ensure!(sum.is_finite(), "the gradient of {name} is not finite; the weights were left as they were");
            squares += sum;
        }
        let norm = squares.sqrt();
        // PyTorch's clip_grad_norm_ adds 1e-6 to the norm.
        let scale = if settings.clip_norm > 0.0 { (settings.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        self.count += 1;
        let step = Step {
            lr: lr as f32,
            beta1: settings.beta1,
            beta2: settings.beta2,
            eps: settings.eps as f32,
            weight_decay: settings.weight_decay as f32,
            gradient_scale: scale as f32,
            count: self.count,
        };
        for (index, ((name, weight), (_, gradient))) in parameters.iter().zip(gradients).enumerate() {
            if trained(name) {
                let (first, second) = (&self.first[index], &self.second[index]);
                kernels.adamw(&Parameter { weight, master: self.masters[index].as_ref(), first, second, gradient }, &step)?;
            }
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Cpu;
    use crate::model::{ModelConfig, Weights};

    #[test]
    fn schedules_start_and_end_where_they_say() {
        let settings = |schedule| OptimSettings { lr: 2.0, warmup_steps: 4, schedule, ..OptimSettings::default() };
        assert_eq!(settings(Schedule::Constant).learning_rate(1, 10), 0.5);
        assert_eq!(settings(Schedule::Constant).learning_rate(10, 10), 2.0);
        assert_eq!(settings(Schedule::Linear).learning_rate(5, 10), 2.0);
        assert!((settings(Schedule::Linear).learning_rate(10, 10) - 2.0 / 6.0).abs() < 1e-12);
        assert_eq!(settings(Schedule::Cosine).learning_rate(5, 10), 2.0);
        let late = OptimSettings { decay_steps: 2, ..settings(Schedule::Linear) };
        assert_eq!([8, 9, 10].map(|step| late.learning_rate(step, 10)), [2.0, 2.0, 1.0]);
        assert!(settings(Schedule::Cosine).learning_rate(10, 10) < 0.15);
    }

    #[test]
    fn a_step_equals_the_formula_worked_by_hand() -> Result<()> {
        let config = ModelConfig::parse(
            r#"{"model_type": "llama", "hidden_size": 2, "intermediate_size": 1, "num_hidden_layers": 1, "num_attention_heads": 1,
            "vocab_size": 1, "max_position_embeddings": 4, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": true}"#,
        )?;
        let (weights, gradients) = (Weights::zeros(&config, &Cpu)?, Weights::zeros(&config, &Cpu)?);
        let set = |w: &Weights, values: [f32; 2]| crate::kernels::cpu::update(&w.norm, [], |x, []| x.copy_from_slice(&values));
        set(&weights, [1.0, -2.0])?;
        set(&gradients, [3.0, 4.0])?;
        let settings = OptimSettings { weight_decay: 0.1, freeze: vec!["layers.0".into()], ..OptimSettings::default() };
        let mut optimizer = AdamW::new(settings, &Cpu, &weights.entries())?;
        assert_eq!(optimizer.step(&Cpu, &weights.entries(), &gradients.entries(), 0.01)?, 5.0);
        // Clipped gradient (0.6, 0.8): the first step moves each element by lr, after the decay of lr * 0.1.
        let found = weights.norm.to_vec1::<f32>()?;
        let expected = [1.0 * 0.999 - 0.01, -2.0 * 0.999 - 0.01];
        assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
        Ok(())
    }
}
