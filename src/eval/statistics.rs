//! The statistics that stand beside every score: intervals, pass@k, paired comparisons, saturation and what comes after it.
//! Pure functions on plain numbers; they know neither models, nor files, nor how a response was graded.
//!
//! Throughout, a *score* lies in 0..=1 and belongs to one problem: 0 or 1 for one greedy response, the share of right ones for several
//! samples. Problems are the unit that was drawn, so every interval is over problems; samples of one problem are not independent of each other.

mod interval;
mod paired;
mod samples;
mod saturation;

pub use interval::{Estimate, clustered_mean, mean_of, student_interval, wilson};
pub use paired::{Comparison, compare, sign_test};
pub use samples::{pass_at_k, pass_curve};
pub use saturation::{MIN_EVALUATIONS_AFTER, SATURATION_LEVEL, SATURATION_WINDOW, gain_per_problem, post_saturation_gain, saturation_step};
