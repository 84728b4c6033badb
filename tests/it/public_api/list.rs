//! Everything that can be named from outside, in one text.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use syn::{GenericArgument, Item, Path, PathArguments, Type};

use super::crates::{Crate, Name, attributes, declared, features, is_public};
use super::text::{implemented, lines, needs, trait_of};

/// The paths under which something is exported, each with the features that it needs.
type Paths = BTreeSet<(String, String)>;

/// Lists every exported item with its paths, members, and implemented traits.
pub(super) fn exported(of: &Crate) -> String {
    let mut found = BTreeMap::new();
    let mut foreign = BTreeSet::new();
    walk(of, &[], "", &[], &mut found, &mut foreign);
    let mut items = BTreeMap::new();
    for (module, item) in of.modules().flat_map(|(name, m)| m.items.iter().map(move |i| (name, i)))
    {
        let Some((ident, _)) = declared(item) else { continue };
        let name = [module.as_slice(), &[ident.to_string()]].concat();
        if let (Some(paths), Some(lines)) = (found.get(&name), lines(item)) {
            items.insert(name, (paths.clone(), lines));
        }
    }
    for (module, item) in of.modules().flat_map(|(name, m)| m.items.iter().map(move |i| (name, i)))
    {
        let Item::Impl(item) = item else { continue };
        let Type::Path(this) = &*item.self_ty else { continue };
        let Some(name) = of.resolve(module, &words(&this.path)) else { continue };
        let named = trait_of(item).into_iter().flat_map(paths);
        let mut own = named.filter_map(|path| of.resolve(module, &words(path)));
        if own.any(|name| !found.contains_key(&name)) || trait_of(item).is_some_and(is_drop) {
            continue;
        }
        if let Some((_, (_, members))) = items.get_mut(&name) {
            members
                .extend(implemented(item).into_iter().map(|l| l + &needs(&features(&item.attrs))));
        }
    }
    let mut text: String = foreign.into_iter().collect();
    let mut sections: Vec<_> = items.into_values().collect();
    sections.sort_by(|(one, _), (other, _)| first(one).cmp(first(other)));
    for (paths, (head, members)) in sections {
        for (path, needs) in paths.iter().rev() {
            writeln!(text, "{path}{needs}").unwrap();
        }
        writeln!(text, "    {head}").unwrap();
        for member in members {
            writeln!(text, "        {member}").unwrap();
        }
        text.push('\n');
    }
    text
}

fn first(paths: &Paths) -> &str {
    paths.last().map_or("", |(path, _)| path)
}

/// A trait's path, and those of the types that it is generic over.
fn paths(path: &Path) -> Vec<&Path> {
    let arguments = path.segments.iter().filter_map(|segment| match &segment.arguments {
        PathArguments::AngleBracketed(arguments) => Some(&arguments.args),
        _ => None,
    });
    let types = arguments.flatten().filter_map(|argument| match argument {
        GenericArgument::Type(Type::Path(of)) => Some(&of.path),
        _ => None,
    });
    std::iter::once(path).chain(types).collect()
}

fn is_drop(path: &Path) -> bool {
    path.is_ident("Drop")
}

fn words(path: &Path) -> Vec<String> {
    path.segments.iter().map(|segment| segment.ident.to_string()).collect()
}

/// Notes what a module exports, under the path by which it is reached.
fn walk(
    of: &Crate,
    module: &[String],
    path: &str,
    needed: &[String],
    found: &mut BTreeMap<Name, Paths>,
    foreign: &mut BTreeSet<String>,
) {
    let Some(here) = of.module(module) else { return };
    let below =
        |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}::{name}") };
    let with = |more: Vec<String>| {
        let mut all = needed.to_vec();
        all.extend(more.into_iter().filter(|one| !needed.contains(one)));
        all
    };
    for item in &here.items {
        let Some((ident, vis)) = declared(item) else { continue };
        if !is_public(vis) {
            continue;
        }
        let name = [module, &[ident.to_string()]].concat();
        let (path, needed) = (below(&ident.to_string()), with(features(attributes(item))));
        match item {
            Item::Mod(_) => walk(of, &name, &path, &needed, found, foreign),
            _ => drop(found.entry(name).or_default().insert((path, needs(&needed)))),
        }
    }
    for used in here.uses().iter().filter(|used| used.public) {
        let needed = with(used.features.clone());
        let target = of.resolve(module, &used.path);
        match (&used.name, target) {
            (Some(name), Some(target)) if of.module(&target).is_some() => {
                walk(of, &target, &below(name), &needed, found, foreign);
            }
            (Some(name), Some(target)) => {
                found.entry(target).or_default().insert((below(name), needs(&needed)));
            }
            (None, Some(target)) => walk(of, &target, path, &needed, found, foreign),
            (name, None) => {
                let name = name.as_deref().unwrap_or("*");
                foreign.insert(format!("{} = {}\n", below(name), used.path.join("::")));
            }
        }
    }
}
