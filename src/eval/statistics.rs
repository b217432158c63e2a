//! Statistics of scores: intervals, pass@k, paired comparisons, saturation, and the gain after it and its parts. Pure functions on plain numbers,
//! independent of models, files and grading.
//!
//! Here, a *score* is a number between 0 and 1 for one problem: 0 or 1 for one response, the fraction of correct responses for several. The
//! problems are the sampling unit, so every interval is over problems; responses to the same problem are not independent.

mod gain_parts;
mod interval;
mod paired;
mod samples;
mod saturation;

pub use gain_parts::{GainParts, GradedResponse, StyleChange, gain_parts};
pub use interval::{Estimate, clustered_mean, mean_of, student_interval, wilson};
pub use paired::{Comparison, compare, sign_test};
pub use samples::{pass_at_k, pass_curve};
pub use saturation::{MIN_EVALUATIONS_AFTER, SATURATION_LEVEL, SATURATION_WINDOW, gain_per_problem, post_saturation_gain, saturation_step};
