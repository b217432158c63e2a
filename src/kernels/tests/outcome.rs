//! The outcomes of operations: their errors, and whether these are small enough. Each outcome is written to a file as soon as it is known.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write;

use candle_core::DType;

use super::stock_errors::StockErrors;

/// The verdict on an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The error is small enough.
    Ok,
    /// The error is too large, or an assertion failed.
    Wrong,
    /// The operation returned an error.
    Error,
}

/// The outcome of one operation at one shape.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The part of the tests.
    pub part: &'static str,
    /// The operation and the shape, separated by ` of `.
    pub name: String,
    /// The dtype of weights and activations.
    pub dtype: DType,
    /// The largest error of a row and the mean over rows, each relative to the norm of its row; `None` if none were measured.
    pub errors: Option<[f64; 2]>,
    /// The errors of stock operations: the worst error of the operation at any shape of the part, and the mean for this shape.
    pub stock: Option<[f64; 2]>,
    /// The verdict.
    pub verdict: Verdict,
    /// The reason for the verdict; empty if the operation passed.
    pub note: String,
}

/// The bounds on errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// In f32 relative to the exact values; in bf16 relative to the errors of stock operations.
    Usual,
    /// No bounds: only the errors themselves matter, or that the operations run.
    None,
}

impl Outcome {
    /// Creates the outcome of an operation from the errors of its rows.
    pub fn of_errors(part: &'static str, name: &str, dtype: DType, bounds: Bounds, errors: &[f64]) -> Self {
        let worst = errors.iter().copied().fold(0.0, f64::max);
        let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let mut outcome = Self::with_note(part, name, dtype, Verdict::Ok, "");
        outcome.errors = Some([worst, mean]);
        match (bounds, dtype) {
            (Bounds::None, _) => {}
            // Every row is within 2e-5 of the exact one; nearly all are far closer.
            (Bounds::Usual, DType::F32) => outcome.require(worst < 2e-5, "in f32 the relative error of every row must be below 2e-5"),
            (Bounds::Usual, _) => match StockErrors::stored().of(part, name) {
                None => {
                    outcome.require(false, "stock_errors.tsv has no row for it: run the test stock_errors with RLVR_WRITE_STOCK_ERRORS=1")
                }
                // The worst row's error may be at most twice the worst of stock operations for the same operation at any shape, because
                // under cancellation the error of a single row is a matter of chance. The mean over rows may be at most 1.5 times that of
                // stock operations at the same shape. If stock operations happen to be exact, the bound is a fortieth of a rounding error.
                Some(stock) => {
                    outcome.stock = Some(stock);
                    let is_near = worst <= 2.0 * stock[0] + 1e-4 && mean <= 1.5 * stock[1] + 1e-4;
                    outcome
                        .require(is_near, "the worst error must be within twice that of stock operations, and the mean within 1.5 times");
                }
            },
        }
        outcome
    }

    /// Creates an outcome without errors, with a note.
    pub fn with_note(part: &'static str, name: &str, dtype: DType, verdict: Verdict, note: &str) -> Self {
        Self { part, name: name.to_owned(), dtype, errors: None, stock: None, verdict, note: note.to_owned() }
    }

    fn require(&mut self, condition: bool, otherwise: &str) {
        if !condition {
            self.verdict = Verdict::Wrong;
            self.note = otherwise.to_owned();
        }
    }

    /// Returns the operation, without the shape.
    pub fn operation(&self) -> &str {
        operation(&self.name)
    }

    /// Formats the outcome as a tab-separated line: part, operation, shape, dtype, worst and mean error, those of stock operations,
    /// verdict, and note.
    pub fn line(&self) -> String {
        let shape = self.name.split_once(" of ").map_or("", |(_, shape)| shape);
        let dtype = if self.dtype == DType::BF16 { "bf16" } else { "f32" };
        let mut line = format!("{}\t{}\t{shape}\t{dtype}", self.part, self.operation());
        for errors in [self.errors, self.stock] {
            match errors {
                Some([worst, mean]) => write!(line, "\t{worst:.3e}\t{mean:.3e}"),
                None => write!(line, "\t\t"),
            }
            .expect("a string can be written");
        }
        let note: String = self.note.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        line + &format!("\t{}\t{note}", self.verdict)
    }

    /// Appends the line to the file in `RLVR_OUTCOMES`, or prints it. Called immediately, so that the line survives a crash of a later
    /// operation.
    pub fn write(&self) {
        let line = self.line() + "\n";
        match std::env::var_os("RLVR_OUTCOMES") {
            None => print!("{line}"),
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file in RLVR_OUTCOMES can be written");
            }
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Wrong => "wrong",
            Self::Error => "error",
        })
    }
}

/// Returns the part of a name before the shape.
pub fn operation(name: &str) -> &str {
    name.split(" of ").next().unwrap_or_default()
}

/// Returns the distance of each row of `width` elements from the exact row, relative to the exact row's norm, or to a tenth of the typical
/// norm if that is larger: rows may be exactly 0, such as the gradient of a query that attends to a single key.
pub fn errors(width: usize, exact: &[f64], found: &[f64]) -> Vec<f64> {
    let squares = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    let rows = exact.len().div_ceil(width).max(1);
    let usual = (squares(exact) / rows as f64).sqrt();
    let error = |(exact, found): (&[f64], &[f64])| {
        let distance: f64 = exact.iter().zip(found).map(|(e, f)| (e - f) * (e - f)).sum();
        let norm = squares(exact).sqrt().max(0.1 * usual);
        // NaN must not count as a small error.
        if distance.is_nan() { f64::INFINITY } else { distance.sqrt() / if norm == 0.0 { 1.0 } else { norm } }
    };
    exact.chunks(width).zip(found.chunks(width)).map(error).collect()
}

#[test]
fn outcome_checks_errors_and_formats_one_line() {
    let outcome = |errors: &[f64]| Outcome::of_errors("rows", "clear of 3 x 4", DType::F32, Bounds::Usual, errors);
    assert_eq!(outcome(&[1e-6, 3e-6]).line(), "rows\tclear\t3 x 4\tf32\t3.000e-6\t2.000e-6\t\t\tok\t");
    let wrong = outcome(&[0.0, f64::INFINITY]);
    assert!(
        wrong.verdict == Verdict::Wrong && wrong.line().ends_with("\twrong\tin f32 the relative error of every row must be below 2e-5")
    );
    let unknown = Outcome::of_errors("rows", "nothing of 3 x 4", DType::BF16, Bounds::Usual, &[0.0]);
    assert!(unknown.verdict == Verdict::Wrong && unknown.note.contains("RLVR_WRITE_STOCK_ERRORS=1"), "{}", unknown.note);
    let failed = Outcome::with_note("rows", "clear of 3", DType::BF16, Verdict::Error, "no\tsuch\nkernel");
    assert_eq!(failed.line(), "rows\tclear\t3\tbf16\t\t\t\t\terror\tno such kernel");
    assert_eq!(errors(2, &[3.0, 4.0, 0.0, 0.0], &[3.0, 4.5, f64::NAN, 0.0]), [0.1, f64::INFINITY]);
}
