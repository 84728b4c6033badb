//! The modules of a crate, read from its sources, and what a path in one of them means.

use std::collections::BTreeMap;

use syn::{Attribute, Ident, Item, UseTree, Visibility};

use super::macros;

/// A path from the crate's root.
pub(super) type Name = Vec<String>;

/// One module.
#[derive(Default)]
pub(super) struct Module {
    /// What it declares itself, without tests.
    pub(super) items: Vec<Item>,
    uses: Vec<Use>,
}

/// One name that a `use` brings into a module.
#[derive(Clone)]
pub(super) struct Use {
    pub(super) public: bool,
    pub(super) features: Vec<String>,
    pub(super) path: Vec<String>,
    /// `None`: everything that is there (`*`).
    pub(super) name: Option<String>,
}

/// All modules by their path from the root.
pub(super) struct Crate {
    modules: BTreeMap<Name, Module>,
}

impl Crate {
    /// Reads everything from `lib.rs` on.
    pub(super) fn read(files: &BTreeMap<String, String>) -> Self {
        let mut modules = BTreeMap::new();
        let root = syn::parse_file(&files["lib.rs"]).unwrap();
        add(&mut modules, files, Name::new(), root.items);
        Self { modules }
    }

    pub(super) fn modules(&self) -> impl Iterator<Item = (&Name, &Module)> {
        self.modules.iter()
    }

    pub(super) fn module(&self, name: &[String]) -> Option<&Module> {
        self.modules.get(name)
    }

    /// Finds what a path in a module stands for; `None` for what is of another crate.
    pub(super) fn resolve(&self, at: &[String], path: &[String]) -> Option<Name> {
        self.follow(at, path, 0)
    }

    fn follow(&self, at: &[String], path: &[String], depth: usize) -> Option<Name> {
        let mut here = at.to_vec();
        for (n, word) in path.iter().enumerate() {
            match word.as_str() {
                "crate" if n == 0 => here.clear(),
                "self" if n == 0 => {}
                "super" => drop(here.pop()?),
                word => here = self.find(&here, word, depth + 1)?,
            }
        }
        Some(here)
    }

    fn find(&self, at: &[String], word: &str, depth: usize) -> Option<Name> {
        let module = self.modules.get(at).filter(|_| depth < 16)?;
        let child = [at, &[word.to_owned()]].concat();
        let declared = |item: &Item| name_of(item).is_some_and(|name| name == word);
        if self.modules.contains_key(&child) || module.items.iter().any(declared) {
            return Some(child);
        }
        let named = |used: &&Use| used.name.as_deref() == Some(word) && used.path != [word];
        if let Some(used) = module.uses.iter().find(named) {
            return self.follow(at, &used.path, depth + 1);
        }
        let globs = module.uses.iter().filter(|used| used.name.is_none());
        globs
            .filter_map(|used| self.follow(at, &used.path, depth + 1))
            .find_map(|from| self.find(&from, word, depth + 1))
    }
}

impl Module {
    pub(super) fn uses(&self) -> &[Use] {
        &self.uses
    }
}

fn add(
    modules: &mut BTreeMap<Name, Module>,
    files: &BTreeMap<String, String>,
    name: Name,
    items: Vec<Item>,
) {
    let mut module = Module::default();
    for item in items.into_iter().flat_map(macros::expand) {
        if !is_built(attributes(&item)) {
            continue;
        }
        match item {
            Item::Mod(mut inner) => {
                let child = [name.as_slice(), &[inner.ident.to_string()]].concat();
                let items = match inner.content.take() {
                    Some((_, items)) => items,
                    None => {
                        let path = child.join("/");
                        let file = files.get(&format!("{path}.rs"));
                        let file = file.or_else(|| files.get(&format!("{path}/mod.rs")));
                        let text = file.unwrap_or_else(|| panic!("{path} has no file"));
                        syn::parse_file(text).unwrap_or_else(|e| panic!("{path}: {e}")).items
                    }
                };
                add(modules, files, child, items);
                module.items.push(Item::Mod(inner));
            }
            Item::Use(item) => {
                let public = is_public(&item.vis);
                let used =
                    Use { public, features: features(&item.attrs), path: Vec::new(), name: None };
                spread(&item.tree, &used, &mut module.uses);
            }
            item => module.items.push(item),
        }
    }
    modules.insert(name, module);
}

/// Makes one [`Use`] of every name in the tree.
fn spread(tree: &UseTree, so_far: &Use, into: &mut Vec<Use>) {
    let with = |ident: &Ident| {
        let mut longer = so_far.clone();
        longer.path.push(ident.to_string());
        longer
    };
    match tree {
        UseTree::Path(path) => spread(&path.tree, &with(&path.ident), into),
        UseTree::Name(name) if name.ident == "self" => {
            into.push(Use { name: so_far.path.last().cloned(), ..so_far.clone() });
        }
        UseTree::Name(name) => {
            into.push(Use { name: Some(name.ident.to_string()), ..with(&name.ident) });
        }
        UseTree::Rename(name) => {
            into.push(Use { name: Some(name.rename.to_string()), ..with(&name.ident) });
        }
        UseTree::Glob(_) => into.push(so_far.clone()),
        UseTree::Group(group) => group.items.iter().for_each(|tree| spread(tree, so_far, into)),
    }
}

pub(super) fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

/// The tokens of every attribute of that name.
fn named(attrs: &[Attribute], name: &str) -> Vec<String> {
    let those = attrs.iter().filter(|attr| attr.path().is_ident(name));
    those.filter_map(|attr| Some(attr.meta.require_list().ok()?.tokens.to_string())).collect()
}

/// Whether something is part of a build with all features, and shown.
pub(super) fn is_built(attrs: &[Attribute]) -> bool {
    let word =
        |text: &str, word: &str| text.split(|c: char| !c.is_alphanumeric()).any(|w| w == word);
    let excluded = |text: &String| word(text, "test") || word(text, "not");
    let hidden = |text: &String| text == "hidden";
    !named(attrs, "cfg").iter().any(excluded) && !named(attrs, "doc").iter().any(hidden)
}

/// The features that something needs.
pub(super) fn features(attrs: &[Attribute]) -> Vec<String> {
    let conditions = named(attrs, "cfg").into_iter();
    let feature =
        |text: String| Some(text.strip_prefix("feature = \"")?.strip_suffix('"')?.to_owned());
    conditions.filter_map(feature).collect()
}

/// The attributes of an item.
pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
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
        _ => &[],
    }
}

/// The name and visibility of an item that can be exported.
pub(super) fn declared(item: &Item) -> Option<(&Ident, &Visibility)> {
    Some(match item {
        Item::Const(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Fn(item) => (&item.sig.ident, &item.vis),
        Item::Mod(item) => (&item.ident, &item.vis),
        Item::Static(item) => (&item.ident, &item.vis),
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Type(item) => (&item.ident, &item.vis),
        _ => return None,
    })
}

fn name_of(item: &Item) -> Option<String> {
    declared(item).map(|(ident, _)| ident.to_string())
}
