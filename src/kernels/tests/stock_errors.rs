//! The errors of stock operations in bf16, which bound those of the fused kernels. They are measured on the CPU, where stock operations are
//! slow, and stored in the table `stock_errors.tsv`. After adding an operation or a shape, rewrite it with
//! `RLVR_WRITE_STOCK_ERRORS=1 cargo test --lib stock_errors`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Result};

use super::outcome::{Bounds, operation};
use super::{LONG, PARTS, Part, run};
use crate::kernels::Stock;

/// The errors of stock operations, by part and name: the worst row's error and the mean.
#[derive(Debug, Default, PartialEq)]
pub struct StockErrors(BTreeMap<(String, String), [f64; 2]>);

impl StockErrors {
    /// The stored table.
    pub fn stored() -> &'static Self {
        static STORED: OnceLock<StockErrors> = OnceLock::new();
        STORED.get_or_init(|| {
            let row = |line: &str| {
                let columns: Vec<&str> = line.split('\t').collect();
                let [part, name, worst, mean] = columns[..] else { panic!("stock_errors.tsv: expected four columns, found {line:?}") };
                let number = |text: &str| text.parse().expect("stock_errors.tsv: columns three and four must be numbers");
                ((part.to_owned(), name.to_owned()), [number(worst), number(mean)])
            };
            Self(include_str!("stock_errors.tsv").lines().map(row).collect())
        })
    }

    /// Returns the worst error of the operation at any shape of the part, and the mean for this shape; `None` if the table lacks the name.
    pub fn of(&self, part: &str, name: &str) -> Option<[f64; 2]> {
        let [_, mean] = self.0.get(&(part.to_owned(), name.to_owned()))?;
        let same = self.0.iter().filter(|((other, named), _)| other == part && operation(named) == operation(name));
        Some([same.map(|(_, [worst, _])| *worst).fold(0.0, f64::max), *mean])
    }

    fn measured(parts: &[Part]) -> Result<Self> {
        let kernels = Stock::new(Device::Cpu, DType::BF16);
        let mut table = Self::default();
        for outcome in parts.iter().flat_map(|part| run(&kernels, *part, Bounds::None)) {
            let errors = outcome.errors.unwrap_or_else(|| panic!("{}: {}", outcome.name, outcome.note));
            let before = table.0.insert((outcome.part.to_owned(), outcome.name.clone()), errors);
            assert_eq!(before, None, "{} occurs twice", outcome.name);
        }
        Ok(table)
    }

    fn text(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, ((part, name), [worst, mean])| {
            writeln!(text, "{part}\t{name}\t{worst:.3e}\t{mean:.3e}").expect("a string can be written");
            text
        })
    }
}

/// Rounding to the 8 significant bits of bf16 causes errors of about 1 in 500, and a few times more under cancellation; a wrong formula causes
/// far larger ones. The table is valid on any machine: another order of summation changes it by only a few rounding errors.
#[test]
fn stock_errors_are_small_in_bf16_and_the_table_is_current() -> Result<()> {
    let is_written = std::env::var("RLVR_WRITE_STOCK_ERRORS").is_ok_and(|value| value == "1");
    let parts = if is_written { [&PARTS[..], &[LONG]].concat() } else { PARTS.to_vec() };
    let measured = StockErrors::measured(&parts)?;
    for ((_, name), [_, mean]) in &measured.0 {
        assert!(*mean < 1e-2, "{name}: the mean relative error of its rows is {mean:.1e}");
    }
    if is_written {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels/tests/stock_errors.tsv");
        return Ok(std::fs::write(path, measured.text())?);
    }
    let stored = StockErrors::stored();
    let short = stored.0.iter().filter(|((part, _), _)| PARTS.iter().any(|(name, _)| name == part));
    let names = |rows: Vec<&(String, String)>| rows.into_iter().cloned().collect::<Vec<_>>();
    assert_eq!(
        names(short.map(|(name, _)| name).collect()),
        names(measured.0.keys().collect()),
        "stock_errors.tsv has other operations or shapes: run this test with RLVR_WRITE_STOCK_ERRORS=1 to rewrite it"
    );
    for (name, found) in &measured.0 {
        for (found, stored) in found.iter().zip(stored.0[name]) {
            assert!((found - stored).abs() <= 0.25 * stored + 1e-4, "{name:?}: found {found:.3e}, but stock_errors.tsv has {stored:.3e}");
        }
    }
    Ok(())
}
