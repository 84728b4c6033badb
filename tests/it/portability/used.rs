//! What the scripts are written with, against what each version of VRL has.

use std::collections::{BTreeMap, BTreeSet};

use vrl::parser::ast::{
    Assignment, AssignmentTarget, Block, Container, Expr, FunctionCall, Literal, Node, Predicate,
    Query, QueryTarget, RootExpr, Unary,
};
use vrl::parser::{self, Span};
use vrl::path::{OwnedTargetPath, PathPrefix};

/// The oldest minor version of VRL that the scripts have to run in.
const OLDEST: u32 = 16;

/// Functions and the minor version in which each first exists, from the sources of the versions.
const FUNCTIONS: &str = include_str!("../../data/vrl-functions.txt");

/// What the language got later than `OLDEST`, read in the lexers and grammars of the versions.
const LATER: [(&str, u32); 4] = [
    ("\\u{…} in a text", 33),
    ("\\} in a text", 33),
    ("else on a line of its own", 33),
    ("break", 36),
];

/// What every version has and the scripts do without.
const AVOIDED: [(&str, &str); 3] = [
    ("return", "an event is then not pruned"),
    ("a write to metadata", "it is read-only here"),
    ("the event as a whole", "what a source of Vector adds is a part of it"),
];

#[derive(Debug, Default)]
struct Used {
    functions: BTreeSet<String>,
    features: BTreeSet<&'static str>,
}

/// Walks the syntax tree of a source.
struct Walk<'a> {
    source: &'a str,
    used: &'a mut Used,
}

impl Walk<'_> {
    fn feature(&mut self, name: &'static str) {
        self.used.features.insert(name);
    }

    fn text(&self, span: Span) -> &str {
        self.source.get(span.start()..span.end()).unwrap()
    }

    fn block(&mut self, block: Block) {
        self.feature("blocks");
        for expr in block {
            self.expr(expr);
        }
    }

    fn expr(&mut self, expr: Node<Expr>) {
        match expr.into_inner() {
            Expr::Literal(literal) => {
                let span = literal.span();
                match literal.into_inner() {
                    Literal::String(text) => {
                        self.escapes(span);
                        if text.as_literal_string().is_none() {
                            self.feature("templates");
                        }
                    }
                    Literal::Regex(_) => self.feature("regular expressions"),
                    Literal::Timestamp(_) => self.feature("times"),
                    Literal::RawString(_) => self.feature("raw texts"),
                    _ => {}
                }
            }
            Expr::Container(container) => self.container(container.into_inner()),
            Expr::IfStatement(statement) => {
                self.feature("if");
                let statement = statement.into_inner();
                match statement.predicate.into_inner() {
                    Predicate::One(expr) => self.expr(*expr),
                    Predicate::Many(many) => many.into_iter().for_each(|expr| self.expr(expr)),
                }
                if let Some(other) = statement.else_node {
                    let between = Span::new(statement.if_node.end(), other.start());
                    let words = self.text(between).lines().map(|l| l.split('#').next().unwrap());
                    if words
                        .collect::<Vec<_>>()
                        .join("\n")
                        .split("else")
                        .next()
                        .unwrap()
                        .contains('\n')
                    {
                        self.feature("else on a line of its own");
                    }
                    self.block(other.into_inner());
                }
                self.block(statement.if_node.into_inner());
            }
            Expr::Op(op) => {
                let op = op.into_inner();
                self.used.features.insert(op.1.into_inner().as_str());
                self.expr(*op.0);
                self.expr(*op.2);
            }
            Expr::Assignment(assignment) => match assignment.into_inner() {
                Assignment::Single { target, expr, .. } => {
                    self.target(target.into_inner());
                    self.expr(*expr);
                }
                Assignment::Infallible { ok, err, expr, .. } => {
                    self.feature("x, err = …");
                    self.target(ok.into_inner());
                    self.target(err.into_inner());
                    self.expr(*expr);
                }
            },
            Expr::Query(query) => self.query(query.into_inner()),
            Expr::FunctionCall(call) => self.call(call.into_inner()),
            Expr::Variable(_) => {}
            Expr::Unary(unary) => {
                let Unary::Not(not) = unary.into_inner();
                self.feature("!");
                self.expr(*not.into_inner().take().1);
            }
            Expr::Abort(_) => self.feature("abort"),
            Expr::Return(_) => self.feature("return"),
            Expr::Break(_) => self.feature("break"),
        }
    }

    fn escapes(&mut self, span: Span) {
        let text = self.text(span).to_owned();
        let mut chars = text.chars();
        while let Some(ch) = chars.next() {
            if ch == '\\' {
                match chars.next() {
                    Some('u') => self.feature("\\u{…} in a text"),
                    Some('}') => self.feature("\\} in a text"),
                    _ => {}
                }
            }
        }
    }

    fn container(&mut self, container: Container) {
        match container {
            Container::Group(group) => self.expr(group.into_inner().into_inner()),
            Container::Block(block) => self.block(block.into_inner()),
            Container::Array(array) => {
                array.into_inner().into_iter().for_each(|expr| self.expr(expr))
            }
            Container::Object(object) => {
                for (key, value) in object.into_inner() {
                    self.escapes(key.span());
                    self.expr(value);
                }
            }
        }
    }

    fn target(&mut self, target: AssignmentTarget) {
        match target {
            AssignmentTarget::Query(query) => {
                if matches!(*query.target, QueryTarget::External(PathPrefix::Metadata)) {
                    self.feature("a write to metadata");
                }
            }
            AssignmentTarget::External(Some(OwnedTargetPath {
                prefix: PathPrefix::Metadata,
                ..
            })) => {
                self.feature("a write to metadata");
            }
            _ => {}
        }
    }

    fn query(&mut self, query: Query) {
        let is_root = query.path.is_root();
        match query.target.into_inner() {
            QueryTarget::External(PathPrefix::Metadata) => self.feature("metadata"),
            QueryTarget::External(PathPrefix::Event) if is_root => {
                self.feature("the event as a whole")
            }
            QueryTarget::External(PathPrefix::Event) | QueryTarget::Internal(_) => {}
            QueryTarget::FunctionCall(call) => self.call(call),
            QueryTarget::Container(container) => self.container(container),
        }
    }

    fn call(&mut self, call: FunctionCall) {
        self.used.functions.insert(call.ident.to_string());
        if call.abort_on_error {
            self.feature("f!(…)");
        }
        for argument in call.arguments {
            let argument = argument.into_inner();
            if argument.ident.is_some() {
                self.feature("named arguments");
            }
            self.expr(argument.expr);
        }
        if let Some(closure) = call.closure {
            self.feature("closures");
            self.block(closure.into_inner().block.into_inner());
        }
    }
}

/// What a source is written with.
fn used(source: &str, used: &mut Used) {
    for root in parser::parse(source).unwrap().0 {
        match root.into_inner() {
            RootExpr::Expr(expr) => Walk { source, used }.expr(expr),
            RootExpr::Error(error) => panic!("{error}"),
        }
    }
}

fn of(source: &str) -> Used {
    let mut found = Used::default();
    used(source, &mut found);
    found
}

fn listed() -> BTreeMap<&'static str, u32> {
    let lines = FUNCTIONS.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, first) = line.split_once(" 0.").unwrap();
            (name, first.parse().unwrap())
        })
        .collect()
}

#[test]
fn the_scripts_use_what_all_versions_have() {
    super::on_large_stack(|| {
        let mut all = Used::default();
        for text in super::scripts().values() {
            used(text, &mut all);
        }
        let functions = listed();
        for name in &all.functions {
            let first = functions.get(name.as_str());
            assert!(first.is_some_and(|first| *first <= OLDEST), "`{name}` is from {first:?}");
        }
        for (feature, first) in LATER {
            assert!(!all.features.contains(feature), "{feature} is from 0.{first}");
        }
        for (feature, why) in AVOIDED {
            assert!(!all.features.contains(feature), "{feature}: {why}");
        }
        // The walk has seen the scripts.
        for feature in
            ["closures", "metadata", "regular expressions", "times", "named arguments", "??"]
        {
            assert!(all.features.contains(feature), "{feature} was not found: {:?}", all.features);
        }
        assert!(all.functions.len() > 25, "{:?}", all.functions);
    });
}

#[test]
fn what_is_looked_for_is_found() {
    super::on_large_stack(|| {
        let features = |source: &str| of(source).features;
        for (source, feature) in [
            (r#"x = "\u{e000}""#, "\\u{…} in a text"),
            (r#"x = { "\u{e000}": 1 }"#, "\\u{…} in a text"),
            (r#"x = "a\}""#, "\\} in a text"),
            ("if .a == 1 { x = 1 }\n# why\nelse { x = 2 }", "else on a line of its own"),
            ("for_each([1]) -> |_i, _v| { break }", "break"),
            ("return 1", "return"),
            ("abort \"x\"", "abort"),
            ("%a = 1", "a write to metadata"),
            ("%a.b |= {}", "a write to metadata"),
            ("x = .", "the event as a whole"),
            ("x = encode_json(.)", "the event as a whole"),
            ("x = %a", "metadata"),
        ] {
            assert!(features(source).contains(feature), "{source}: {:?}", features(source));
        }
        assert!(
            !features("if .a == 1 {\n x = 1\n} else {\n x = 2 }")
                .contains("else on a line of its own")
        );
        let source = "x = { \"a\": [f(g!(.a) ?? h(), b: (1 + i(2)))] }\nif !j(.b) { k().l } else { m([]) -> |_i, v| { n(v) } }\n{ o() }\n.p[0] = q(p()[0])";
        let found: Vec<_> = of(source).functions.into_iter().collect();
        assert_eq!(found.join(""), "fghijkmnopq");
    });
}

#[test]
fn the_list_of_functions_knows_all_that_this_version_has() {
    let functions = listed();
    let unknown: Vec<_> = vrl::stdlib::all()
        .iter()
        .map(|function| function.identifier())
        .filter(|name| !functions.contains_key(name))
        .collect();
    assert_eq!(
        unknown, [""; 0],
        "make tests/data/vrl-functions.txt anew, with this version of vrl"
    );
}
