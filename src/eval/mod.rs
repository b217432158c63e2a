//! Evaluation: generates responses to held-out problems, grades them and computes scores. Independent of training.

pub mod conditions;
pub mod endpoint;
pub mod generator;
pub mod local;
pub mod paired;
pub mod published;
pub mod record;
pub mod run;
pub mod score;
pub mod sets;
pub mod settings;
pub mod statistics;
pub mod store;
pub mod text_stats;

pub use conditions::Conditions;
pub use endpoint::{Endpoint, EndpointSettings, Prompts};
pub use generator::{EvalRequest, FailedRequests, GenerationConfig, Generator, Identity, OnResponse, Response};
pub use local::LocalModel;
pub use record::Answer;
pub use run::{Evaluator, Pass};
pub use score::Score;
pub use sets::EvalSet;
pub use settings::EvalSettings;
pub use store::Store;
