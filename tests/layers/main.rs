//! The order that `src/lib.rs` draws, held against the sources: imports go down the layers, and no modules of one module import each other in
//! a circle.
#![allow(clippy::unwrap_used)] // a test that cannot go on has failed

mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use sources::{Module, Sources, Use};

/// Rooms from the bottom up; rooms of one layer do not know each other.
const LAYERS: [&[&str]; 14] = [
    &["input", "interrupt", "output", "usage"],
    &["draw", "flow", "lanes", "config"],
    &["data", "text", "verify", "kernels"],
    &["objective"],
    &["model", "reward"],
    &["optim", "rollout"],
    &["checkpoint", "metrics"],
    &["tiny"],
    &["eval", "source"],
    &["report"],
    &["train"],
    &["bench", "study"],
    &["cli"],
    &["testing"],
];

fn program() -> Sources {
    let sources = Sources::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(sources.count() > 200, "{} files", sources.count());
    sources
}

#[test]
fn imports_go_down() {
    let sources = program();
    let layer: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(height, rooms)| rooms.iter().map(move |room| (*room, height))).collect();
    let height = |module: &Module| {
        module
            .first()
            .map(|room| *layer.get(room.as_str()).unwrap_or_else(|| panic!("{room} has no layer: add it to LAYERS and to src/lib.rs")))
    };
    let uses = sources.uses();
    let goes_up = |used: &&Use| used.from[0] != used.to[0] && height(&used.to) >= height(&used.from);
    let within = |used: &&Use| !used.from.is_empty() && !used.to.is_empty();
    let wrong: Vec<String> = uses.iter().filter(within).filter(goes_up).map(|used| told(&sources, used)).collect();
    assert!(wrong.is_empty(), "imports that do not go down:\n{}", wrong.join("\n"));
}

/// Modules whose files call each other because what they read or compare is recursive: a term holds commands, whose arguments are terms; a list is
/// compared by comparing its items.
const RECURSIVE: [&str; 3] = ["verify::compare", "verify::read", "verify::value"];

#[test]
fn no_modules_import_each_other_in_a_circle() {
    let sources = program();
    let parent = |circle: &Vec<Use>| RECURSIVE.into_iter().find(|parent| circle[0].from.join("::").starts_with(&format!("{parent}::")));
    let circles = circles(&sources.uses());
    let recursive: BTreeSet<&str> = circles.iter().filter_map(parent).collect();
    assert_eq!(recursive, RECURSIVE.into(), "RECURSIVE names a module without circles");
    let circle = |circle: &Vec<Use>| circle.iter().map(|used| told(&sources, used)).collect::<Vec<_>>().join("\n");
    let wrong: Vec<String> = circles.iter().filter(|circle| parent(circle).is_none()).map(circle).collect();
    assert!(wrong.is_empty(), "circles:\n{}", wrong.join("\n\n"));
}

/// Exactly one room may hold unsafe code.
#[test]
fn unsafe_code_lives_in_the_kernels() {
    let sources = program();
    let rooms: BTreeSet<&String> = sources.unsafe_modules().map(|module| &module[0]).collect();
    assert_eq!(rooms, BTreeSet::from([&"kernels".to_owned()]));
}

fn told(sources: &Sources, used: &Use) -> String {
    format!("  {} uses {}", sources.path(&used.from).display(), sources.path(&used.to).display())
}

/// Circles among the children of each module, a child standing for all below it. A module and its own children are one subject: their uses of
/// each other make no circle.
fn circles(uses: &BTreeSet<Use>) -> BTreeSet<Vec<Use>> {
    // By parent: which child uses which, with one use that shows it.
    let mut families: BTreeMap<Module, Family> = BTreeMap::new();
    for used in uses {
        let shared = used.from.iter().zip(&used.to).take_while(|(from, to)| from == to).count();
        if let (Some(from), Some(to)) = (used.from.get(shared), used.to.get(shared)) {
            let family = families.entry(used.from[..shared].to_vec()).or_default();
            family.entry(from.clone()).or_default().entry(to.clone()).or_insert_with(|| used.clone());
        }
    }
    families.values().flat_map(|family| family.keys().filter_map(|child| way_back(family, child))).collect()
}

/// Which of a module's children use which.
type Family = BTreeMap<String, BTreeMap<String, Use>>;

/// The shortest way from a child back to itself, as a ring that begins with its least use.
fn way_back(family: &Family, start: &String) -> Option<Vec<Use>> {
    let (mut ways, mut seen) = (vec![(start, Vec::new())], BTreeSet::new());
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for (child, way) in ways {
            for (next, used) in family.get(child).into_iter().flatten() {
                let mut way: Vec<Use> = way.iter().chain([used]).cloned().collect();
                if next == start {
                    let least = (0..way.len()).min_by_key(|index| &way[*index])?;
                    way.rotate_left(least);
                    return Some(way);
                }
                if seen.insert(next) {
                    longer.push((next, way));
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn uses_are_found_in_every_spelling() {
    let sources = Sources::of(&[
        ("", "pub mod cli; pub mod eval; pub mod model; pub mod train;"),
        (
            "eval",
            "mod run; mod score; pub use run::{run, Run as Evaluation}; pub use self::score::Score; use crate::{model::{self, Decoder}};",
        ),
        (
            "eval::run",
            "#[cfg(test)] use crate::cli::main; use super::Score; pub struct Run; #[cfg(test)] mod tests { use crate::train::Run; }",
        ),
        (
            "eval::score",
            "pub struct Score; #[cfg(test)] fn f() { crate::train::run() } fn g() {} fn h() -> crate::model::Decoder { todo!() }",
        ),
        ("model", "pub struct Decoder; // crate::cli::main\n#[cfg(feature = \"cuda\")] use crate::train::Run;"),
        (
            "train",
            "pub use crate::cli::Given; use crate::eval; fn f() { println!(\"{}\", [eval::Score::MEAN, super::model::WIDTH]) } fn g() { use crate::eval::Evaluation; }",
        ),
        ("cli", "pub struct Given; fn f() { let run: Box<dyn Fn(crate::train::Given)>; }"),
    ]);
    let name = |module: Module| module.join("::");
    let found: Vec<(String, String)> = sources.uses().into_iter().map(|used| (name(used.from), name(used.to))).collect();
    let expected = [
        // A name that `train` only passes on is its definer's.
        ("eval", "model"),
        ("eval::run", "eval::score"),
        ("eval::score", "model"),
        ("model", "train"),
        ("train", "eval"),
        ("train", "eval::run"),
        ("train", "eval::score"),
        ("train", "model"),
    ];
    assert_eq!(found, expected.map(|(from, to)| (from.to_owned(), to.to_owned())));
}

#[test]
fn circles_are_found_among_siblings_at_any_height() {
    let check = |uses: &[(&str, &str)], expected: usize| {
        let module = |name: &str| name.split("::").map(String::from).collect::<Module>();
        let uses = uses.iter().map(|(from, to)| Use { from: module(from), to: module(to) }).collect();
        assert_eq!(circles(&uses).len(), expected, "{uses:?}");
    };
    check(&[("a", "b"), ("b", "c")], 0);
    check(&[("a", "b"), ("b", "c"), ("c", "a")], 1);
    check(&[("a::x", "b"), ("b", "a::y")], 1);
    check(&[("a::x", "a::y"), ("a::y", "a::z::deep"), ("a::z", "a::x")], 1);
    check(&[("a", "a::x"), ("a::x", "a")], 0);
    check(&[("a", "b"), ("b", "a"), ("c::x", "c::y"), ("c::y", "c::x")], 2);
}
