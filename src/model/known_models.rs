//! Configurations of published models by name, to measure speed and memory without their weights.

use super::config::ModelConfig;

/// The configuration of a published model.
pub struct KnownModel {
    /// Its name in commands.
    pub name: &'static str,
    /// Its name on the Hugging Face hub: `organization/model`.
    pub hub_name: &'static str,
    /// The fields of its `config.json`, as JSON.
    pub config: &'static str,
}

/// Finds a model by its name in commands, or by its name on the hub with or without a revision; `None` if it is unknown.
pub fn by_name(name: &str) -> Option<&'static KnownModel> {
    let hub_name = name.split('@').next().unwrap_or(name);
    KNOWN_MODELS.iter().find(|model| model.name == name || model.hub_name == hub_name)
}

/// Returns all names in commands, separated by commas, for messages.
pub fn names() -> String {
    KNOWN_MODELS.map(|model| model.name).join(", ")
}

impl KnownModel {
    /// Parses the configuration.
    ///
    /// # Errors
    /// As [`ModelConfig::parse`]. Never for the entries of [`KNOWN_MODELS`].
    pub fn read(&self) -> anyhow::Result<ModelConfig> {
        ModelConfig::parse(self.config)
    }
}

/// All known models.
pub const KNOWN_MODELS: [KnownModel; 4] = [
    KnownModel {
        name: "qwen2.5-math-1.5b",
        hub_name: "Qwen/Qwen2.5-Math-1.5B",
        config: r#"{
          "architectures": [
            "Qwen2ForCausalLM"
          ],
          "model_type": "qwen2",
          "hidden_act": "silu",
          "hidden_size": 1536,
          "intermediate_size": 8960,
          "num_hidden_layers": 28,
          "num_attention_heads": 12,
          "num_key_value_heads": 2,
          "max_position_embeddings": 4096,
          "max_window_layers": 21,
          "sliding_window": 4096,
          "use_sliding_window": false,
          "rms_norm_eps": 1e-06,
          "rope_theta": 10000,
          "tie_word_embeddings": true,
          "torch_dtype": "bfloat16",
          "vocab_size": 151936,
          "bos_token_id": 151643,
          "eos_token_id": 151643,
          "initializer_range": 0.02,
          "attention_dropout": 0.0,
          "use_cache": true
        }"#,
    },
    KnownModel {
        name: "qwen2.5-math-7b",
        hub_name: "Qwen/Qwen2.5-Math-7B",
        config: r#"{
          "architectures": [
            "Qwen2ForCausalLM"
          ],
          "model_type": "qwen2",
          "hidden_act": "silu",
          "hidden_size": 3584,
          "intermediate_size": 18944,
          "num_hidden_layers": 28,
          "num_attention_heads": 28,
          "num_key_value_heads": 4,
          "max_position_embeddings": 4096,
          "max_window_layers": 28,
          "sliding_window": 4096,
          "use_sliding_window": false,
          "rms_norm_eps": 1e-06,
          "rope_theta": 10000,
          "tie_word_embeddings": false,
          "torch_dtype": "bfloat16",
          "vocab_size": 152064,
          "bos_token_id": 151643,
          "eos_token_id": 151643
        }"#,
    },
    KnownModel {
        name: "llama-3.2-3b-instruct",
        hub_name: "meta-llama/Llama-3.2-3B-Instruct",
        config: r#"{
          "architectures": [
            "LlamaForCausalLM"
          ],
          "model_type": "llama",
          "attention_bias": false,
          "mlp_bias": false,
          "head_dim": 128,
          "hidden_act": "silu",
          "hidden_size": 3072,
          "intermediate_size": 8192,
          "num_hidden_layers": 28,
          "num_attention_heads": 24,
          "num_key_value_heads": 8,
          "max_position_embeddings": 131072,
          "rms_norm_eps": 1e-05,
          "rope_theta": 500000.0,
          "rope_scaling": {
            "rope_type": "llama3",
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192
          },
          "tie_word_embeddings": true,
          "torch_dtype": "bfloat16",
          "vocab_size": 128256,
          "bos_token_id": 128000,
          "eos_token_id": [
            128001,
            128008,
            128009
          ]
        }"#,
    },
    KnownModel {
        name: "deepseek-r1-distill-qwen-1.5b",
        hub_name: "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        config: r#"{
          "architectures": [
            "Qwen2ForCausalLM"
          ],
          "model_type": "qwen2",
          "hidden_act": "silu",
          "hidden_size": 1536,
          "intermediate_size": 8960,
          "num_hidden_layers": 28,
          "num_attention_heads": 12,
          "num_key_value_heads": 2,
          "max_position_embeddings": 131072,
          "max_window_layers": 21,
          "use_sliding_window": false,
          "rms_norm_eps": 1e-06,
          "rope_theta": 10000,
          "tie_word_embeddings": false,
          "torch_dtype": "bfloat16",
          "vocab_size": 151936,
          "bos_token_id": 151643,
          "eos_token_id": 151643
        }"#,
    },
];

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::testing::shared;

    #[test]
    fn known_models_have_their_published_parameter_counts() {
        let billions = KNOWN_MODELS.each_ref().map(|model| (model.read().unwrap().parameter_count() as f64 / 1e7).round() / 100.0);
        assert_eq!(billions, [1.54, 7.62, 3.21, 1.78]);
        assert_eq!(by_name("Qwen/Qwen2.5-Math-7B@main").map(|model| model.name), Some("qwen2.5-math-7b"));
        assert!(by_name("gpt2").is_none());
    }

    #[test]
    fn known_models_equal_the_published_configurations() {
        for model in &KNOWN_MODELS {
            let Some(path) = shared(&format!("models/{}/config.json", model.name)) else { continue };
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(read(model.config), read(&std::fs::read_to_string(path).unwrap()), "{}", model.name);
        }
    }
}
