//! Reads the rotary settings of `config.json` in either form: `rope_theta` with `rope_scaling`, or transformers 5's `rope_parameters`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{Fields, excerpt};

/// How rotary frequencies are scaled to extend the context length beyond that of pre-training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// No scaling.
    None,
    /// Divides all positions by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: divides low frequencies by a factor, keeps high frequencies, and interpolates between them.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Frequencies with wavelengths above `original / low` tokens are low.
        low: f64,
        /// Frequencies with wavelengths below `original / high` tokens are high.
        high: f64,
        /// The context length of pre-training, in tokens.
        original: f64,
    },
}

/// Fields that only a scaled model has. If `rope_type` is missing, transformers ignores them; here they are an error.
const SCALING: [&str; 8] =
    ["factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "short_factor", "long_factor"];

/// Reads theta and the scaling. Theta has no default, and an incomplete scaling is an error, because a model with wrong frequencies still
/// produces text, only worse.
pub(super) fn read(source: &Map<String, Value>, context_length: usize) -> Result<(f64, RopeScaling)> {
    let form = |name: &str| match source.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields).filter(|fields| !fields.is_empty())),
        Some(other) => bail!("{name} in config.json is {}, expected null or an object", excerpt(other)),
    };
    let (scaling, parameters) = (form("rope_scaling")?, form("rope_parameters")?);
    match (scaling, parameters) {
        (Some(scaling), Some(parameters)) => {
            let (old, new) = (read_form(source, scaling, context_length)?, read_form(source, parameters, context_length)?);
            ensure!(
                old == new,
                "rope_scaling and rope_parameters in config.json contradict each other (theta {} with {:?}, theta {} with {:?}): remove one",
                old.0,
                old.1,
                new.0,
                new.1
            );
            Ok(old)
        }
        (Some(fields), None) | (None, Some(fields)) => read_form(source, fields, context_length),
        (None, None) => read_form(source, &Map::new(), context_length),
    }
}

/// Reads one form. A field missing from `object` may be at the top level of `source`.
fn read_form(source: &Map<String, Value>, object: &Map<String, Value>, context_length: usize) -> Result<(f64, RopeScaling)> {
    if let Some((kind, _)) = object.iter().find(|(_, value)| value.is_object()) {
        bail!("rope_parameters in config.json differ between layer types ({kind}), which is not supported");
    }
    let get = |name: &str| object.get(name).or_else(|| source.get(name)).filter(|value| !value.is_null());
    let theta = get("rope_theta").context("config.json has neither rope_theta nor rope_parameters.rope_theta; set one of them").and_then(
        |theta| {
            theta
                .as_f64()
                .filter(|theta| *theta > 0.0)
                .with_context(|| format!("rope_theta in config.json is {}, expected a positive number", excerpt(theta)))
        },
    )?;
    ensure!((1.0..=1e12).contains(&theta), "rope_theta in config.json is {theta}, expected 1 to 1e12");
    if let Some(share) = get("partial_rotary_factor") {
        ensure!(share.as_f64() == Some(1.0), "partial_rotary_factor {share} in config.json is not supported; expected 1.0");
    }
    let kind = match object.get("rope_type").or_else(|| object.get("type")) {
        None => {
            let scaling_field = SCALING.into_iter().find(|name| object.get(*name).is_some_and(|value| !value.is_null()));
            if let Some(name) = scaling_field {
                bail!(
                    "the rope scaling in config.json has {name} but no rope_type, so it would have no effect: add \"rope_type\" (default, \
                     linear or llama3), or remove {name}"
                );
            }
            "default"
        }
        Some(kind) => kind.as_str().with_context(|| format!("rope_type in config.json is {kind}, expected a string"))?,
    };
    let fields = Fields(object);
    let factor = || {
        let factor = fields.number("factor")?;
        ensure!(factor >= 1.0, "factor of the rope scaling in config.json is {factor}, expected at least 1");
        ensure!(factor <= 1e6, "factor of the rope scaling in config.json is {factor}, expected at most 1e6");
        Ok(factor)
    };
    let scaling = match kind {
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: factor()? },
        "llama3" => {
            let (low, high) = (fields.number("low_freq_factor")?, fields.number("high_freq_factor")?);
            for (name, factor) in [("low_freq_factor", low), ("high_freq_factor", high)] {
                ensure!((1e-3..=1e6).contains(&factor), "{name} in config.json is {factor}, expected 0.001 to 1e6");
            }
            ensure!(high > low, "high_freq_factor {high} in config.json must be above low_freq_factor {low}");
            // As in transformers, the top-level field takes precedence, and the default is the model's context length.
            const ORIGINAL: &str = "original_max_position_embeddings";
            let outer = Fields(source);
            let original = match (outer.get(ORIGINAL), fields.get(ORIGINAL)) {
                (Some(_), _) => outer.number(ORIGINAL)?,
                (None, Some(_)) => fields.number(ORIGINAL)?,
                (None, None) => context_length as f64,
            };
            ensure!((1.0..=f64::from(1 << 24)).contains(&original), "{ORIGINAL} in config.json is {original}, expected 1 to {}", 1 << 24);
            RopeScaling::Llama3 { factor: factor()?, low, high, original }
        }
        other => bail!("rope scaling \"{other}\" in config.json is not supported; expected default, linear or llama3"),
    };
    Ok((theta, scaling))
}
