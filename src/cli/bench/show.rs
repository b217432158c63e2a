//! Prints measurements as tables.

use super::case::CaseReport;
use crate::bench::{Ceilings, Machine, Measurement};
use crate::metrics::table;

/// Maximum number of operations listed per measurement.
const SHOWN_OPERATIONS: usize = 12;

/// Prints the machine, and its ceilings if they were measured.
pub fn machine(machine: &Machine, ceilings: Option<&Ceilings>) {
    let Some(ceilings) = ceilings else {
        return message!("{}, {} kernels in {}", machine.device, machine.kernels, machine.dtype);
    };
    let [rows, k, n] = ceilings.widest;
    let giga = |rate: f64| format!("{:.1}", rate / 1e9);
    message!(
        "{}, {} kernels in {}: {} GB/s for copies; {} GFLOP/s for matrix products of {side} x {side} x {side}, {} for {rows} x {k} x {n}",
        machine.device,
        machine.kernels,
        machine.dtype,
        giga(ceilings.copy_bytes_per_s),
        giga(ceilings.square_flops),
        giga(ceilings.widest_flops),
        side = ceilings.square_side,
    );
}

/// Prints all measurements in one table, and their times by operation in another. Prints nothing if there are none.
pub fn measurements(cases: &[CaseReport]) {
    let all = || cases.iter().flat_map(|case| case.measurements.iter().map(move |measurement| (case, measurement)));
    if all().next().is_none() {
        return;
    }
    let ms = |seconds: f64| format!("{:.1}", seconds * 1e3);
    let whole_percent = |share: Option<f64>| share.map_or_else(String::new, |share| format!("{:.0}%", share * 100.0));
    let name = |case: &CaseReport, measurement: &Measurement| {
        case.name.iter().chain([&measurement.work]).map(String::as_str).collect::<Vec<_>>().join(" ")
    };
    let row = |(case, measurement): (&CaseReport, &Measurement)| {
        vec![
            name(case, measurement),
            ms(measurement.median_s),
            ms(measurement.min_s),
            ms(measurement.max_s),
            format!("{:.0}", measurement.tokens_per_s),
            format!("{:.1}", measurement.flops / 1e9),
            whole_percent(measurement.share_of_ceiling),
            whole_percent(measurement.utilisation),
            whole_percent(measurement.share_of_least),
            measurement.peak_bytes.map_or_else(|| "unknown".to_owned(), |bytes| format!("{:.2}", bytes as f64 / 1e9)),
        ]
    };
    let header = ["workload", "median ms", "min", "max", "tokens/s", "GFLOP/s", "of matmul peak", "MFU", "of roofline", "peak GB"];
    print_result!("{}", table(&header, &all().map(row).collect::<Vec<_>>()));
    let operations = all().flat_map(|(case, measurement)| {
        let total: f64 = measurement.breakdown.iter().map(|time| time.seconds).sum();
        measurement.breakdown.iter().take(SHOWN_OPERATIONS).map(move |time| {
            let share = Some(time.seconds / total);
            vec![name(case, measurement), time.operation.to_owned(), time.count.to_string(), ms(time.seconds), whole_percent(share)]
        })
    });
    let operations: Vec<Vec<String>> = operations.collect();
    if !operations.is_empty() {
        print_result!("\n{}", table(&["workload", "operation", "calls", "ms", "share"], &operations));
    }
}
