//! What the declaring macros of this crate declare.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::Item;

/// Returns the items of a known macro, or the item itself.
pub(super) fn expand(item: Item) -> Vec<Item> {
    let Item::Macro(call) = &item else { return vec![item] };
    let tokens: Vec<TokenTree> = call.mac.tokens.clone().into_iter().collect();
    let name = call.mac.path.segments.last().map(|last| last.ident.to_string());
    let text = match name.as_deref() {
        Some("section") => section(&tokens),
        Some("choice") => choice(&tokens),
        Some("metrics_table") => metrics_table(&tokens),
        Some("event_from") => event_from(&tokens),
        Some("reason_codes") => reason_codes(&tokens),
        _ => return vec![item],
    };
    syn::parse_file(&text).unwrap_or_else(|error| panic!("{error}: {text}")).items
}

fn section(tokens: &[TokenTree]) -> String {
    let at = tokens.iter().position(|token| is(token, "struct")).expect("a struct");
    let mut fields = fields(&tokens[at + 2]);
    let derived = tokens.iter().position(|token| is(token, "derived"));
    fields.extend(derived.map(|at| self::fields(&tokens[at + 1])).into_iter().flatten());
    let derives = derives(&tokens[..at]);
    let fields: Vec<_> = fields.iter().map(|(name, of)| format!("pub {name}: {of}")).collect();
    let (name, fields) = (&tokens[at + 1], fields.join(", "));
    let vis = visibility(&tokens[..at]);
    format!("{derives} {vis} struct {name} {{ {fields} }}")
}

fn choice(tokens: &[TokenTree]) -> String {
    let at = tokens.iter().position(|token| is(token, "enum")).expect("an enum");
    let variants = keys(&inside(&tokens[at + 2]));
    let (name, variants, vis) = (&tokens[at + 1], variants.join(", "), visibility(&tokens[..at]));
    format!(
        "#[derive(Clone, Copy, Debug, PartialEq, Eq)] #[non_exhaustive] {vis} enum {name} {{ {variants} }}"
    )
}

fn reason_codes(tokens: &[TokenTree]) -> String {
    format!(
        "#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)] #[non_exhaustive]
        pub enum ReasonCode {{ {} }}
        impl ReasonCode {{
            pub const ALL: &'static [Self] = &[];
            pub const fn as_str(self) -> &'static str {{ \"\" }}
        }}",
        keys(tokens).join(", ")
    )
}

fn event_from(tokens: &[TokenTree]) -> String {
    let lines = tokens.split(|token| is(token, ",")).filter(|line| !line.is_empty());
    let types = lines.map(|line| {
        let of = line.iter().take_while(|token| !is(token, ":")).cloned();
        of.collect::<TokenStream>()
    });
    types
        .map(|of| format!("impl From<{of}> for Incoming {{}} impl From<{of}> for EventBatch {{}}"))
        .collect()
}

fn metrics_table(tokens: &[TokenTree]) -> String {
    let lines = tokens.split(|token| is(token, ",")).filter(|line| line.len() > 4);
    lines.map(|line| format!("pub const {}: &str = {};", line[2], line[4])).collect()
}

/// The names before `=`, one for each part between commas.
fn keys(tokens: &[TokenTree]) -> Vec<String> {
    let assigned = tokens.windows(2).filter(|two| is(&two[1], "="));
    assigned.map(|two| two[0].to_string()).filter(|name| name != "doc").collect()
}

/// Names and types of `name: Type as Form = default` and `name: Type = value`.
fn fields(group: &TokenTree) -> Vec<(String, String)> {
    let mut rest = inside(group).into_iter().peekable();
    let mut found = Vec::new();
    while let Some(token) = rest.next() {
        if is(&token, "#") {
            rest.next();
            continue;
        }
        let name = token.to_string();
        rest.next();
        let mut of = TokenStream::new();
        while let Some(token) = rest.next_if(|token| !is(token, "as") && !is(token, "=")) {
            of.extend([token]);
        }
        // Commas between `as` and `=` are the form's own.
        rest.by_ref().find(|token| is(token, "="));
        rest.by_ref().find(|token| is(token, ","));
        found.push((name, of.to_string()));
    }
    found
}

fn derives(tokens: &[TokenTree]) -> String {
    let derive =
        |token: &&TokenTree| token.to_string().trim_start_matches('[').trim().starts_with("derive");
    tokens.iter().find(derive).map_or(String::new(), |derive| format!("#{derive}"))
}

fn visibility(tokens: &[TokenTree]) -> String {
    let at = tokens.iter().position(|token| is(token, "pub"));
    let tokens = at.map_or(&[][..], |at| &tokens[at..]);
    tokens.iter().map(ToString::to_string).collect()
}

fn inside(group: &TokenTree) -> Vec<TokenTree> {
    match group {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
            group.stream().into_iter().collect()
        }
        other => panic!("{other} is no block"),
    }
}

fn is(token: &TokenTree, text: &str) -> bool {
    !matches!(token, TokenTree::Group(_) | TokenTree::Literal(_)) && token.to_string() == text
}
