//! Outcomes of operations: how far off each was, whether that is near enough, and a row of each in a file as soon as it is known.

use std::fmt::{self, Write as _};
use std::fs::OpenOptions;
use std::io::Write;

use candle_core::DType;

use super::stock_errors::StockErrors;

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Near enough.
    Ok,
    /// Too far off, or not as it must be.
    Wrong,
    /// It gave an error.
    Error,
}

/// One operation at one shape.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The part of the tests.
    pub part: &'static str,
    /// The operation, ` of `, and the shape.
    pub name: String,
    /// The dtype of weights and activations.
    pub dtype: DType,
    /// The error of the worst row, and the mean over rows, as shares of the row.
    pub errors: Option<[f64; 2]>,
    /// The same for stock operations: the worst of the operation in any shape of the part, the mean of this shape.
    pub stock: Option<[f64; 2]>,
    /// What it came to.
    pub verdict: Verdict,
    /// Why, in words.
    pub note: String,
}

/// What rows are held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bounds {
    /// In f32 to the exact values, in bf16 to the errors of stock operations.
    Usual,
    /// To nothing: the errors themselves are wanted, or only that the operations run.
    None,
}

impl Outcome {
    /// An operation that left rows with these errors.
    pub fn of_errors(part: &'static str, name: &str, dtype: DType, bounds: Bounds, errors: &[f64]) -> Self {
        let worst = errors.iter().copied().fold(0.0, f64::max);
        let mean = errors.iter().sum::<f64>() / errors.len().max(1) as f64;
        let mut outcome = Self::told(part, name, dtype, Verdict::Ok, "");
        outcome.errors = Some([worst, mean]);
        match (bounds, dtype) {
            (Bounds::None, _) => {}
            // Every row is within 2e-5 of the exact one; nearly all are far closer.
            (Bounds::Usual, DType::F32) => outcome.hold(worst < 2e-5, "in f32 no row may be off by 2e-5 of itself"),
            (Bounds::Usual, _) => match StockErrors::carried().of(part, name) {
                None => outcome.hold(false, "stock_errors.tsv has no row for it: RLVR_WRITE_STOCK_ERRORS=1 writes it again"),
                // No row is further off than twice the worst that stock operations give for the operation in any shape (where much cancels, a
                // row's error is luck), and in each shape rows are no further off on average than half as much again. Where stock operations
                // happen to be exact, a fortieth of a rounding.
                Some(stock) => {
                    outcome.stock = Some(stock);
                    let is_near = worst <= 2.0 * stock[0] + 1e-4 && mean <= 1.5 * stock[1] + 1e-4;
                    outcome.hold(is_near, "rows may be off by twice stock's worst, and by half more than stock's on average");
                }
            },
        }
        outcome
    }

    /// One that is told in words.
    pub fn told(part: &'static str, name: &str, dtype: DType, verdict: Verdict, note: &str) -> Self {
        Self { part, name: name.to_owned(), dtype, errors: None, stock: None, verdict, note: note.to_owned() }
    }

    fn hold(&mut self, holds: bool, otherwise: &str) {
        if !holds {
            self.verdict = Verdict::Wrong;
            self.note = otherwise.to_owned();
        }
    }

    /// The operation, without the shape.
    pub fn operation(&self) -> &str {
        operation(&self.name)
    }

    /// Tab-separated: part, operation, shape, dtype, worst and mean error, those of stock operations, verdict, and a note.
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

    /// Appends the line to the file that `RLVR_OUTCOMES` names, else prints it: what was found is there, whatever comes after.
    pub fn tell(&self) {
        let line = self.line() + "\n";
        match std::env::var_os("RLVR_OUTCOMES") {
            None => print!("{line}"),
            Some(path) => {
                let file = OpenOptions::new().create(true).append(true).open(path);
                file.and_then(|mut file| file.write_all(line.as_bytes())).expect("the file that RLVR_OUTCOMES names can be written");
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

/// What stands before the shape in a name.
pub fn operation(name: &str) -> &str {
    name.split(" of ").next().unwrap_or_default()
}

/// The distance of each row of `width` from the exact one, as a share of the exact row's norm, or of a tenth of the usual row's where that is
/// more: the gradient of a query that sees one key is 0, and is what is left of a difference.
pub fn errors(width: usize, exact: &[f64], found: &[f64]) -> Vec<f64> {
    let squares = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>();
    let rows = exact.len().div_ceil(width).max(1);
    let usual = (squares(exact) / rows as f64).sqrt();
    let error = |(exact, found): (&[f64], &[f64])| {
        let distance: f64 = exact.iter().zip(found).map(|(e, f)| (e - f) * (e - f)).sum();
        let norm = squares(exact).sqrt().max(0.1 * usual);
        // A NaN must not pass as small.
        if distance.is_nan() { f64::INFINITY } else { distance.sqrt() / if norm == 0.0 { 1.0 } else { norm } }
    };
    exact.chunks(width).zip(found.chunks(width)).map(error).collect()
}

#[test]
fn an_outcome_is_judged_and_told_in_one_line() {
    let judged = |errors: &[f64]| Outcome::of_errors("rows", "clear of 3 x 4", DType::F32, Bounds::Usual, errors);
    assert_eq!(judged(&[1e-6, 3e-6]).line(), "rows\tclear\t3 x 4\tf32\t3.000e-6\t2.000e-6\t\t\tok\t");
    let wrong = judged(&[0.0, f64::INFINITY]);
    assert!(wrong.verdict == Verdict::Wrong && wrong.line().ends_with("\twrong\tin f32 no row may be off by 2e-5 of itself"));
    let unknown = Outcome::of_errors("rows", "nothing of 3 x 4", DType::BF16, Bounds::Usual, &[0.0]);
    assert!(unknown.verdict == Verdict::Wrong && unknown.note.contains("RLVR_WRITE_STOCK_ERRORS=1"), "{}", unknown.note);
    let failed = Outcome::told("rows", "clear of 3", DType::BF16, Verdict::Error, "no\tsuch\nkernel");
    assert_eq!(failed.line(), "rows\tclear\t3\tbf16\t\t\t\t\terror\tno such kernel");
    assert_eq!(errors(2, &[3.0, 4.0, 0.0, 0.0], &[3.0, 4.5, f64::NAN, 0.0]), [0.1, f64::INFINITY]);
}
