//! Items as lines of text.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use syn::punctuated::Punctuated;
use syn::{
    Attribute, Expr, Field, Fields, ImplItem, Item, ItemImpl, Path, Signature, Token, TraitItem,
};

use super::crates::{features, is_built, is_public};

/// The item's own line, and those of what it holds.
pub(super) fn lines(item: &Item) -> Option<(String, Vec<String>)> {
    Some(match item {
        Item::Const(item) => {
            (format!("const {}: {}{}", item.ident, tidy(&item.ty), value(&item.expr)), vec![])
        }
        Item::Fn(item) => (signature(&item.sig), vec![]),
        Item::Static(item) => (format!("static {}: {}", item.ident, tidy(&item.ty)), vec![]),
        Item::Type(item) => {
            (format!("type {}{} = {}", item.ident, tidy(&item.generics), tidy(&item.ty)), vec![])
        }
        Item::Struct(item) => {
            let head =
                format!("struct {}{}{}", item.ident, tidy(&item.generics), traits(&item.attrs));
            (head, fields(&item.fields, is_shown))
        }
        Item::Enum(item) => {
            let head =
                format!("enum {}{}{}", item.ident, tidy(&item.generics), traits(&item.attrs));
            let variants = item.variants.iter().filter(|variant| is_built(&variant.attrs));
            let lines = variants.map(|variant| {
                let held = fields(&variant.fields, |_| true).join(", ");
                match &variant.fields {
                    Fields::Named(_) => format!("{} {{ {held} }}", variant.ident),
                    Fields::Unnamed(_) => format!("{}({held})", variant.ident),
                    Fields::Unit => variant.ident.to_string(),
                }
            });
            (head, lines.collect())
        }
        Item::Trait(item) => {
            let above = tidy(&item.supertraits);
            let colon = if above.is_empty() { "" } else { ": " };
            let head = format!("trait {}{}{colon}{above}", item.ident, tidy(&item.generics));
            let inner = item.items.iter().filter_map(|item| match item {
                TraitItem::Fn(item) => Some(signature(&item.sig)),
                TraitItem::Const(item) => Some(format!("const {}: {}", item.ident, tidy(&item.ty))),
                TraitItem::Type(item) => Some(format!("type {}", item.ident)),
                _ => None,
            });
            (head, inner.collect())
        }
        _ => return None,
    })
}

/// What an implementation adds to its type: public methods, or a trait with its types.
pub(super) fn implemented(item: &ItemImpl) -> Vec<String> {
    if let Some(of) = trait_of(item) {
        let types = item.items.iter().filter_map(|item| match item {
            ImplItem::Type(item) => Some(format!("{} = {}", item.ident, tidy(&item.ty))),
            _ => None,
        });
        let types = types.collect::<Vec<_>>().join(", ");
        let types = if types.is_empty() { types } else { format!(" ({types})") };
        return vec![format!("impl{} {}{types}", tidy(&item.generics), tidy(of))];
    }
    let shown = item.items.iter().filter_map(|item| match item {
        ImplItem::Fn(item) if is_public(&item.vis) && is_built(&item.attrs) => {
            Some(format!("{}{}", signature(&item.sig), needs(&features(&item.attrs))))
        }
        ImplItem::Const(item) if is_public(&item.vis) && is_built(&item.attrs) => {
            Some(format!("const {}: {}", item.ident, tidy(&item.ty)))
        }
        _ => None,
    });
    shown.collect()
}

/// The trait of an implementation.
pub(super) fn trait_of(item: &ItemImpl) -> Option<&Path> {
    item.trait_.as_ref().map(|(path, _)| path)
}

/// The features that something needs, behind its line.
pub(super) fn needs(features: &[String]) -> String {
    if features.is_empty() { String::new() } else { format!(" [{}]", features.join(", ")) }
}

fn is_shown(field: &Field) -> bool {
    is_public(&field.vis)
}

fn fields(fields: &Fields, shown: impl Fn(&Field) -> bool) -> Vec<String> {
    let line = |field: &Field| match &field.ident {
        Some(ident) => format!("{ident}: {}", tidy(&field.ty)),
        None => tidy(&field.ty),
    };
    let mut lines: Vec<_> = fields.iter().filter(|field| shown(field)).map(line).collect();
    if fields.iter().any(|field| !shown(field)) {
        lines.push("..".to_owned());
    }
    lines
}

fn signature(sig: &Signature) -> String {
    tidy(sig)
}

fn value(expr: &Expr) -> String {
    match expr {
        Expr::Lit(literal) => format!(" = {}", tidy(literal)),
        _ => String::new(),
    }
}

/// Derived traits, and whether there may be more fields or variants one day.
fn traits(attrs: &[Attribute]) -> String {
    let mut all = Vec::new();
    for attr in attrs.iter().filter(|attr| attr.path().is_ident("derive")) {
        let derived = attr.parse_args_with(Punctuated::<Path, Token![,]>::parse_terminated);
        all.extend(derived.unwrap().iter().map(tidy));
    }
    all.sort();
    let open = attrs.iter().any(|attr| attr.path().is_ident("non_exhaustive"));
    let open = if open { " (non-exhaustive)" } else { "" };
    if all.is_empty() { open.to_owned() } else { format!(": {}{open}", all.join(" + ")) }
}

/// Tokens as people write them.
pub(super) fn tidy(tokens: &impl ToTokens) -> String {
    let mut out = String::new();
    write(tokens.to_token_stream(), &mut out);
    out
}

fn write(tokens: TokenStream, out: &mut String) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                separate(out, open);
                out.push_str(open);
                write(group.stream(), out);
                out.truncate(out.trim_end_matches([' ', ',']).len());
                out.push_str(close);
            }
            // Whether a parameter is changed inside is nobody else's matter.
            TokenTree::Ident(word) if word == "mut" && out.ends_with(['(', ' ']) => {}
            other => {
                let text = other.to_string();
                separate(out, &text);
                out.push_str(&text);
                if matches!(text.as_str(), "," | ";" | "=") || (text == ":" && !out.ends_with("::"))
                {
                    out.push(' ');
                }
            }
        }
    }
    let end = out.trim_end().len();
    out.truncate(end);
}

/// Puts a blank between two words, and on both sides of what joins them.
fn separate(out: &mut String, next: &str) {
    if next == ":" && out.ends_with(": ") {
        out.pop();
    }
    let last = out.chars().next_back().unwrap_or(' ');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = next.starts_with(|c| word(c) || c == '\'' || c == '"');
    let joins = matches!(next, "+" | "=" | "-") || (next == "&" && last == '>');
    let after = matches!(last, '+') || (last == '>' && out.ends_with("->"));
    let behind_type = matches!(last, ')' | '>' | ']') && starts;
    let blank = (word(last) && starts) || joins || after || behind_type;
    if blank && last != ' ' {
        out.push(' ');
    }
}
