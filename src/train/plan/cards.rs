//! Known GPUs: memory, memory bandwidth and arithmetic speed from public data sheets. None of these figures was measured by this program.
//! Last compared in November 2026 with copies and quotations of the documents that `source` names.

use crate::config::nearest;

/// A GPU as its data sheet describes it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Card {
    /// The name for `--gpu`.
    pub name: &'static str,
    /// The maker's name.
    pub title: &'static str,
    /// Memory in GiB (data sheets call them GB).
    pub memory_gib: u32,
    /// Memory bandwidth in GB/s.
    pub bandwidth: f64,
    /// Dense bf16 products with f32 sums, in TFLOP/s. The data sheets of the L4, H100 and H200 count sparsity and have twice these figures.
    pub tflops: f64,
    /// Compute capability, such as (9, 0).
    pub capability: (u8, u8),
    /// True if error correction takes a part of the memory and is on by default. It is off on the RTX A6000 and the RTX 6000 Ada, whose
    /// drivers report 49,140 MiB; the L40S, with the same memory, has 46,068 MiB.
    pub has_inline_ecc: bool,
    /// The document with these figures, or what the speed is calculated from.
    pub source: &'static str,
}

/// The lowest compute capability that the kernels support: Ampere.
const MIN_CAPABILITY: (u8, u8) = (8, 0);

const GA102: &str = "NVIDIA Ampere GA102 GPU architecture whitepaper";
const ADA: &str = "NVIDIA Ada GPU architecture whitepaper";
/// For GeForce cards whose bf16 figure is calculated. Products with f32 sums run at twice the f32 rate on GeForce cards since Ampere: the
/// whitepapers have 82.6 and 165.2 TFLOP/s for the RTX 4090, 104.8 and 209.5 for the RTX 5090. The A10 and the RTX A6000, which have the
/// chip of the RTX 3090, run them at four times the f32 rate.
const GEFORCE: &str = "GeForce specifications; bf16 calculated as twice the f32 rate, as on the RTX 4090";
/// The RTX 6000 Ada's data sheet has one speed for tensor cores, in fp8 with sparsity: 1,457 TFLOP/s, four times the dense bf16 rate.
const RTX_6000_ADA: &str = "NVIDIA RTX 6000 Ada data sheet; bf16 calculated as a quarter of its fp8 rate with sparsity";

/// All known GPUs, by ascending memory and then speed.
#[rustfmt::skip] // a card is a line
pub const CARDS: [Card; 18] = [
    card("rtx-3060-12", "GeForce RTX 3060 12GB", 12, 360.0, 25.5, (8, 6), GEFORCE),
    card("rtx-4070", "GeForce RTX 4070", 12, 504.0, 58.3, (8, 9), GEFORCE),
    card("t4-16", "T4", 16, 320.0, 65.0, (7, 5), "NVIDIA T4 data sheet (fp16; the card has no bf16)").with_inline_ecc(),
    card("rtx-4060-ti-16", "GeForce RTX 4060 Ti 16GB", 16, 288.0, 44.1, (8, 9), GEFORCE),
    card("rtx-4080", "GeForce RTX 4080", 16, 716.8, 97.5, (8, 9), GEFORCE),
    card("rtx-3090", "GeForce RTX 3090", 24, 936.0, 71.0, (8, 6), GA102),
    card("l4", "L4", 24, 300.0, 121.0, (8, 9), "NVIDIA L4 data sheet").with_inline_ecc(),
    card("a10", "A10", 24, 600.0, 125.0, (8, 6), "NVIDIA A10 data sheet").with_inline_ecc(),
    card("rtx-4090", "GeForce RTX 4090", 24, 1008.0, 165.2, (8, 9), ADA),
    card("rtx-5090", "GeForce RTX 5090", 32, 1792.0, 209.5, (12, 0), "NVIDIA RTX Blackwell GPU architecture whitepaper"),
    card("a100-40", "A100 40GB SXM", 40, 1555.0, 312.0, (8, 0), "NVIDIA A100 data sheet"),
    card("rtx-a6000", "RTX A6000", 48, 768.0, 154.8, (8, 6), GA102),
    card("l40s", "L40S", 48, 864.0, 362.05, (8, 9), "NVIDIA L40S data sheet").with_inline_ecc(),
    card("rtx-6000-ada", "RTX 6000 Ada", 48, 960.0, 364.2, (8, 9), RTX_6000_ADA),
    card("a100-80", "A100 80GB SXM", 80, 2039.0, 312.0, (8, 0), "NVIDIA A100 data sheet"),
    card("h100-pcie", "H100 PCIe", 80, 2000.0, 756.0, (9, 0), "NVIDIA H100 data sheet"),
    card("h100", "H100 SXM", 80, 3350.0, 989.0, (9, 0), "NVIDIA H100 data sheet"),
    card("h200", "H200 SXM", 141, 4800.0, 989.0, (9, 0), "NVIDIA H200 data sheet"),
];

const fn card(
    name: &'static str,
    title: &'static str,
    memory_gib: u32,
    bandwidth: f64,
    tflops: f64,
    capability: (u8, u8),
    source: &'static str,
) -> Card {
    Card { name, title, memory_gib, bandwidth, tflops, capability, has_inline_ecc: false, source }
}

impl Card {
    const fn with_inline_ecc(self) -> Self {
        Self { has_inline_ecc: true, ..self }
    }

    /// Finds a card by its name.
    ///
    /// # Errors
    /// If no card has this name; the message lists the known ones.
    pub fn by_name(name: &str) -> Result<&'static Self, String> {
        let names = CARDS.map(|card| card.name);
        CARDS.iter().find(|card| card.name == name).ok_or_else(|| {
            let near = nearest(name, names).map_or(String::new(), |near| format!(" (did you mean {near}?)"));
            format!("unknown card \"{name}\"{near}; expected one of {}; --gpu-memory GIB plans for any other card", names.join(", "))
        })
    }

    /// Returns the bytes that a program can use. The driver keeps about a fortieth (an H100 of 80 GiB has 78 left), and error correction a
    /// sixteenth where it has no memory of its own.
    pub fn usable_bytes(&self) -> u64 {
        let bytes = u64::from(self.memory_gib) << 30;
        let corrected = if self.has_inline_ecc { bytes / 16 * 15 } else { bytes };
        corrected / 40 * 39
    }

    /// True if the kernels can run on the card.
    pub fn is_supported(&self) -> bool {
        self.capability >= MIN_CAPABILITY
    }

    /// Says why the kernels cannot run on the card; `None` if they can.
    pub fn fault(&self) -> Option<String> {
        let ((major, minor), (required, _)) = (self.capability, MIN_CAPABILITY);
        let fault =
            || format!("the {} has compute capability {major}.{minor}, but the kernels need {required}.0 (Ampere) or newer", self.title);
        (!self.is_supported()).then(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_sorted_and_have_plausible_figures() {
        assert!(CARDS.is_sorted_by_key(|card| card.memory_gib));
        for card in &CARDS {
            assert!((200.0..5000.0).contains(&card.bandwidth) && (20.0..1000.0).contains(&card.tflops), "{card:?}");
            assert_eq!(Card::by_name(card.name), Ok(card), "names are unique");
        }
        let sizes: std::collections::BTreeSet<u32> = CARDS.iter().map(|card| card.memory_gib).collect();
        assert!([12, 16, 24, 48, 80, 141].iter().all(|size| sizes.contains(size)), "{sizes:?}");
    }

    #[test]
    fn by_name_suggests_the_nearest_card() {
        let error = Card::by_name("h1000").unwrap_err();
        assert!(error.starts_with("unknown card \"h1000\" (did you mean h100?); expected one of rtx-3060-12, "), "{error}");
    }

    /// The memory that was free on these cards after CUDA had started.
    #[test]
    fn usable_bytes_are_at_most_those_seen_on_real_cards() {
        for (name, gib) in [("rtx-4090", 23.5), ("h100", 78.0), ("h200", 139.0), ("l4", 22.0)] {
            let usable = Card::by_name(name).unwrap().usable_bytes() as f64 / f64::from(1 << 30);
            assert!((gib - 2.0..=gib).contains(&usable), "{name}: {usable}");
        }
        assert!(Card::by_name("t4-16").unwrap().fault().unwrap().contains("compute capability 7.5"));
        assert_eq!(Card::by_name("rtx-3090").unwrap().fault(), None);
    }
}
