//! Rotary positions in either spelling of `config.json`: `rope_theta` with `rope_scaling`, or transformers 5's `rope_parameters`.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};

use super::{Fields, shown};

/// How positions are stretched beyond the trained window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Positions as they are.
    None,
    /// All positions divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3: low frequencies divided by a factor, high ones kept, a smooth passage between.
    Llama3 {
        /// The divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original / low` are low frequencies.
        low: f64,
        /// Wavelengths below `original / high` are high frequencies.
        high: f64,
        /// The window that the model was first trained with.
        original: f64,
    },
}

/// What only a scaling has; without a type it would be passed over, as transformers does.
const SCALING: [&str; 8] =
    ["factor", "low_freq_factor", "high_freq_factor", "attention_factor", "beta_fast", "beta_slow", "short_factor", "long_factor"];

/// Theta and scaling. Neither has a default: a model with other frequencies than it was trained with still speaks, and worse.
pub(super) fn read(source: &Map<String, Value>, window: usize) -> Result<(f64, RopeScaling)> {
    let spelling = |name: &str| match source.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields).filter(|fields| !fields.is_empty())),
        Some(other) => bail!("{name} in config.json is {}, expected null or an object", shown(other)),
    };
    let (scaling, parameters) = (spelling("rope_scaling")?, spelling("rope_parameters")?);
    match (scaling, parameters) {
        (Some(scaling), Some(parameters)) => {
            let (old, new) = (one(source, scaling, window)?, one(source, parameters, window)?);
            ensure!(
                old == new,
                "rope_scaling and rope_parameters in config.json contradict each other (theta {} with {:?}, theta {} with {:?}): take one out",
                old.0,
                old.1,
                new.0,
                new.1
            );
            Ok(old)
        }
        (Some(fields), None) | (None, Some(fields)) => one(source, fields, window),
        (None, None) => one(source, &Map::new(), window),
    }
}

/// One spelling; what the object lacks may stand beside it.
fn one(source: &Map<String, Value>, object: &Map<String, Value>, window: usize) -> Result<(f64, RopeScaling)> {
    if let Some((kind, _)) = object.iter().find(|(_, value)| value.is_object()) {
        bail!("rope_parameters in config.json differ between kinds of layers ({kind}), which is not supported");
    }
    let given = |name: &str| object.get(name).or_else(|| source.get(name)).filter(|value| !value.is_null());
    let theta = given("rope_theta")
        .context("config.json has neither rope_theta nor rope_parameters.rope_theta; one of them must be given")
        .and_then(|theta| {
            theta
                .as_f64()
                .filter(|theta| *theta > 0.0)
                .with_context(|| format!("rope_theta in config.json is {}, expected a positive number", shown(theta)))
        })?;
    ensure!((1.0..=1e12).contains(&theta), "rope_theta in config.json is {theta}, expected 1 to 1e12");
    if let Some(share) = given("partial_rotary_factor") {
        ensure!(share.as_f64() == Some(1.0), "partial_rotary_factor {share} in config.json is not supported; known is 1.0");
    }
    let kind = match object.get("rope_type").or_else(|| object.get("type")) {
        None => {
            let scales = SCALING.into_iter().find(|name| object.get(*name).is_some_and(|value| !value.is_null()));
            if let Some(name) = scales {
                bail!(
                    "the rope scaling in config.json has {name} but no rope_type, so it would do nothing: give \"rope_type\" (known are default, \
                     linear and llama3), or take {name} out"
                );
            }
            "default"
        }
        Some(kind) => kind.as_str().with_context(|| format!("rope_type in config.json is {kind}, expected text"))?,
    };
    let fields = Fields(object);
    let factor = || {
        let factor = fields.number("factor")?;
        ensure!(factor >= 1.0, "rope scaling's factor in config.json is {factor}, expected at least 1");
        ensure!(factor <= 1e6, "rope scaling's factor in config.json is {factor}, expected at most 1e6");
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
            // transformers takes the outer one first, and the model's window where there is neither.
            const ORIGINAL: &str = "original_max_position_embeddings";
            let outer = Fields(source);
            let original = match (outer.given(ORIGINAL), fields.given(ORIGINAL)) {
                (Some(_), _) => outer.number(ORIGINAL)?,
                (None, Some(_)) => fields.number(ORIGINAL)?,
                (None, None) => window as f64,
            };
            ensure!((1.0..=f64::from(1 << 24)).contains(&original), "{ORIGINAL} in config.json is {original}, expected 1 to {}", 1 << 24);
            RopeScaling::Llama3 { factor: factor()?, low, high, original }
        }
        other => bail!("rope scaling \"{other}\" in config.json is not supported; known are default, linear and llama3"),
    };
    Ok((theta, scaling))
}
