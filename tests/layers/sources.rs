//! The program's modules and what each of them uses, as the parser of Rust sees them: `use` items with their whole trees, paths in code, and
//! paths inside macros. Code under `#[cfg(test)]` is left out. It knows nothing of layers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Attribute, Item, UseTree};

/// A module's name from the crate's root: `["train", "run"]`; the root itself is empty.
pub type Module = Vec<String>;

/// The modules of a crate.
#[derive(Default)]
pub struct Sources {
    files: BTreeMap<Module, SourceFile>,
}

/// One file of the crate.
struct SourceFile {
    path: PathBuf,
    /// Names that the file brings into its scope, with the full path of each; for code, and, where they are public, for others.
    names: BTreeMap<String, Vec<String>>,
    /// Paths in `use` items and in code, from the crate's root where they say so.
    paths: Vec<Vec<String>>,
    has_unsafe: bool,
}

/// One module uses another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Use {
    pub from: Module,
    pub to: Module,
}

impl Sources {
    /// Reads the crate whose root is `lib.rs` in `folder`, and every module that is not for tests.
    pub fn read(folder: &Path) -> Self {
        let mut sources = Self::default();
        sources.add(Vec::new(), &folder.join("lib.rs"), folder);
        sources
    }

    /// Sources given as text, for tests of this file: modules with their contents.
    pub fn of(texts: &[(&str, &str)]) -> Self {
        let mut sources = Self::default();
        for (name, text) in texts {
            let module: Module = name.split("::").filter(|part| !part.is_empty()).map(String::from).collect();
            let (file, _) = SourceFile::parse(&module, Path::new(name), text);
            sources.files.insert(module, file);
        }
        sources
    }

    fn add(&mut self, module: Module, path: &Path, children: &Path) {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (file, declared) = SourceFile::parse(&module, path, &text);
        self.files.insert(module.clone(), file);
        for name in declared {
            let (flat, folder) = (children.join(&name).with_extension("rs"), children.join(&name));
            let file = if flat.exists() { flat } else { folder.join("mod.rs") };
            self.add(joined(&module, &name), &file, &folder);
        }
    }

    /// How many files were read.
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// The file of a module, for messages.
    pub fn path(&self, module: &Module) -> &Path {
        &self.files[module].path
    }

    /// Modules with `unsafe` blocks, functions or implementations.
    pub fn unsafe_modules(&self) -> impl Iterator<Item = &Module> {
        self.files.iter().filter(|(_, file)| file.has_unsafe).map(|(module, _)| module)
    }

    /// Which modules use which. A name that a module passes on (`pub use`) counts as a use of the module that defines it.
    pub fn uses(&self) -> BTreeSet<Use> {
        let mut uses = BTreeSet::new();
        for (module, file) in &self.files {
            for path in &file.paths {
                if let Some(to) = self.definer(path).filter(|to| to != module) {
                    uses.insert(Use { from: module.clone(), to });
                }
            }
        }
        uses
    }

    /// The module that defines what a full path names.
    fn definer(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        // As many steps as there are files: names that pass each other on in a ring end there.
        for _ in 0..self.files.len() {
            let depth = (0..=path.len()).rev().find(|depth| self.files.contains_key(&path[..*depth]))?;
            let (module, rest) = path.split_at(depth);
            let passed_on = rest.first().and_then(|name| self.files[module].names.get(name));
            match passed_on {
                Some(full) if full != &path => path = full.iter().chain(&rest[1..]).cloned().collect(),
                _ => return Some(module.to_vec()),
            }
        }
        None
    }
}

impl SourceFile {
    /// The file, and the modules that it declares.
    fn parse(module: &Module, path: &Path, text: &str) -> (Self, Vec<String>) {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut collector = Collector::default();
        collector.visit_file(&parsed);
        let Collector { uses, paths, declared, has_unsafe, .. } = collector;
        let children: BTreeMap<&String, Module> = declared.iter().map(|name| (name, joined(module, name))).collect();
        let mut names: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, path) in &uses {
            let child = || Some(children.get(&path[0])?.iter().chain(&path[1..]).cloned().collect());
            let full = absolute(module, path).or_else(child);
            names.extend(full.map(|full| (name.clone(), full)));
        }
        let below = |start: Option<&Vec<String>>, path: &[String]| Some(start?.iter().chain(&path[1..]).cloned().collect());
        let full = |path: &Vec<String>| {
            let named = || below(names.get(&path[0]).or_else(|| children.get(&path[0])), path);
            absolute(module, path).or_else(named)
        };
        let paths = paths.iter().filter_map(full).collect();
        (Self { path: path.to_owned(), names, paths, has_unsafe }, declared)
    }
}

fn joined(module: &Module, name: &str) -> Module {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// A path that begins with `crate`, `self` or `super`, from the crate's root.
fn absolute(module: &Module, path: &[String]) -> Option<Vec<String>> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    match path[0].as_str() {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
        "super" => Some(module[..module.len().checked_sub(ups)?].iter().chain(&path[ups..]).cloned().collect()),
        _ => None,
    }
}

/// Walks a file's syntax.
#[derive(Default)]
struct Collector {
    /// Names brought into scope, each with its path as written.
    uses: Vec<(String, Vec<String>)>,
    paths: Vec<Vec<String>>,
    declared: Vec<String>,
    has_unsafe: bool,
}

impl Collector {
    /// Every name of a `use` item, below the path `before`.
    fn tree(&mut self, before: &[String], tree: &UseTree, passed_on: bool) {
        let with = |name: String| before.iter().cloned().chain([name]).collect::<Vec<_>>();
        match tree {
            UseTree::Path(path) => self.tree(&with(path.ident.to_string()), &path.tree, passed_on),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.tree(before, item, passed_on)),
            UseTree::Name(name) if name.ident == "self" => self.named(before[before.len() - 1].clone(), before.to_vec(), passed_on),
            UseTree::Name(name) => self.named(name.ident.to_string(), with(name.ident.to_string()), passed_on),
            UseTree::Rename(rename) => self.named(rename.rename.to_string(), with(rename.ident.to_string()), passed_on),
            UseTree::Glob(_) => self.named("*".to_owned(), before.to_vec(), passed_on),
        }
    }

    /// A name that a `use` item brings into scope. One that is only passed on to others is no use of what it names.
    fn named(&mut self, name: String, path: Vec<String>, passed_on: bool) {
        if !passed_on {
            self.paths.push(path.clone());
        }
        self.uses.push((name, path));
    }

    /// Every `a::b::c` in the tokens of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut colons) = (Vec::new(), 0);
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.ended(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                other => {
                    self.ended(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.ended(&mut path);
    }

    fn ended(&mut self, path: &mut Vec<String>) {
        if path.len() > 1 {
            self.paths.push(std::mem::take(path));
        }
        path.clear();
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && matches!(&attribute.meta, syn::Meta::List(list) if list.tokens.to_string() == "test")
    })
}

impl<'ast> Visit<'ast> for Collector {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if is_for_tests(attributes) {
            return;
        }
        match item {
            Item::Use(item) => {
                let passed_on = !matches!(item.vis, syn::Visibility::Inherited);
                self.tree(&[], &item.tree, passed_on);
            }
            Item::Mod(item) if item.content.is_none() => self.declared.push(item.ident.to_string()),
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        if !is_for_tests(&item.attrs) {
            self.has_unsafe |= matches!(item.sig.safety, syn::Safety::Unsafe(_));
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.has_unsafe |= matches!(item.sig.safety, syn::Safety::Unsafe(_));
        visit::visit_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.has_unsafe |= item.unsafety.is_some();
        visit::visit_item_impl(self, item);
    }

    fn visit_expr_unsafe(&mut self, block: &'ast syn::ExprUnsafe) {
        self.has_unsafe = true;
        visit::visit_expr_unsafe(self, block);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }
}
