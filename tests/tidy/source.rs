//! The sources as the tidy test sees them: parsed, with what is only there for tests kept apart.

use std::{
    fs, iter,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
};

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::{
    Attribute, Block, ImplItemFn, Item, ItemFn, TraitItemFn,
    spanned::Spanned,
    visit::{self, Visit},
};

/// One Rust file.
pub(crate) struct Source {
    /// Relative to the crate's root: `src/proxy/conn.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    file: syn::File,
    tokens: TokenStream,
    /// Lines of items that are compiled for tests only.
    tests: Vec<RangeInclusive<usize>>,
}

/// Something found in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) what: String,
    pub(crate) line: usize,
}

/// A function with a body.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Lines of its body that are neither blank nor only a comment: what clippy counts, too.
    pub(crate) length: usize,
}

/// Collects the functions of a file.
struct Functions<'a> {
    lines: Vec<&'a str>,
    found: Vec<Function>,
}

/// The crate's root folder.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file's text, by its path from the crate's root.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files under `folder`, by path.
pub(crate) fn sources(folder: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&root().join(folder), &mut files);
    files.sort();
    files.iter().map(|file| Source::read(file)).collect()
}

// === impl Source ===

impl Source {
    fn read(file: &Path) -> Self {
        let path = file.strip_prefix(root()).expect("must lie under the root");
        let path = path.to_str().expect("must be text");
        Self::parse(path, text(path))
    }

    pub(crate) fn parse(path: &str, text: String) -> Self {
        let file = syn::parse_file(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let tokens = TokenStream::from_str(&text).expect("must be tokens, since it is Rust");
        let tests = if is_test_file(path) {
            vec![1..=usize::MAX]
        } else {
            file.items.iter().filter(|item| is_for_tests(item)).map(lines_of).collect()
        };
        Self { path: path.to_owned(), text, file, tokens, tests }
    }

    /// Whether the whole file is compiled for tests only.
    pub(crate) fn is_for_tests(&self) -> bool {
        is_test_file(&self.path)
    }

    /// Whether the module's documentation begins with `Pure.`
    pub(crate) fn is_pure(&self) -> bool {
        self.text.starts_with("//! Pure.")
    }

    /// The path of the module: `crate::proxy::conn` for `src/proxy/conn.rs`.
    pub(crate) fn module(&self) -> String {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        if matches!(path, "lib" | "main") {
            "crate".to_owned()
        } else {
            format!("crate::{}", path.replace('/', "::"))
        }
    }

    /// Lines that are not there for tests.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = &str> {
        (1..).zip(self.text.lines()).filter(|(line, _)| !self.is_test(*line)).map(|(_, text)| text)
    }

    /// Functions that are not there for tests, nested ones and methods included.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut functions = Functions { lines: self.text.lines().collect(), found: Vec::new() };
        functions.visit_file(&self.file);
        functions.found.retain(|function| !self.is_test(function.line));
        functions.found
    }

    /// Every path that shipped code names, in macros too: `use a::{b, c}` names `a::b` and `a::c`. What begins
    /// with `self` or `super` is resolved to `crate::…`.
    pub(crate) fn shipped_paths(&self) -> Vec<Found> {
        let mut found = Vec::new();
        paths(self.tokens.clone(), "", &mut found);
        // Alone, these are visibilities: `pub(super)`.
        let relative = |path: &Found| matches!(path.what.as_str(), "crate" | "self" | "super");
        found.retain(|path| !self.is_test(path.line) && !relative(path));
        let module = self.module();
        for path in &mut found {
            path.what = resolve(&module, &path.what);
        }
        found
    }

    /// Every path that test code names.
    pub(crate) fn test_paths(&self) -> Vec<Found> {
        let mut found = Vec::new();
        paths(self.tokens.clone(), "", &mut found);
        found.retain(|path| self.is_test(path.line));
        found
    }

    /// The names of all functions, those for tests and in macros included.
    pub(crate) fn all_function_names(&self) -> Vec<String> {
        let mut found = Vec::new();
        function_names(self.tokens.clone(), &mut found);
        found
    }

    fn is_test(&self, line: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&line))
    }
}

// === impl Found ===

impl Found {
    /// Whether this is the path `path` or lies in it.
    pub(crate) fn is_in(&self, path: &str) -> bool {
        self.what.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    }

    /// Whether one of the path's names is `name`.
    pub(crate) fn names(&self, name: &str) -> bool {
        self.what.split("::").any(|segment| segment == name)
    }
}

// === impl Functions ===

impl Functions<'_> {
    fn add(&mut self, name: &syn::Ident, block: &Block) {
        let (open, close) = (block.brace_token.span.open(), block.brace_token.span.close());
        let body = self.lines[open.start().line..close.end().line].iter();
        let length = body
            .map(|line| line.trim())
            .filter(|line| !line.is_empty() && !line.starts_with("//"))
            .count()
            .saturating_sub(1); // the line of the closing brace
        self.found.push(Function {
            name: name.to_string(),
            line: name.span().start().line,
            length,
        });
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        self.add(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.add(&function.sig.ident, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

// === helpers ===

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("must be readable").path();
        if path.is_dir() {
            if !path.ends_with("node_modules") && !path.ends_with("target") {
                collect(&path, files);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.starts_with("benches/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
}

fn lines_of(item: &Item) -> RangeInclusive<usize> {
    let span = item.span();
    span.start().line..=span.end().line
}

/// Whether an item of a file carries `#[cfg(test)]`.
#[allow(clippy::wildcard_enum_match_arm, reason = "syn's enum, which grows with the language")]
fn is_for_tests(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    };
    attributes.iter().any(|attribute| {
        let condition = attribute.parse_args::<syn::Ident>();
        attribute.path().is_ident("cfg") && condition.is_ok_and(|condition| condition == "test")
    })
}

/// Collects every path in `tokens`, each under `prefix` (that of the braces they stand in).
fn paths(tokens: TokenStream, prefix: &str, found: &mut Vec<Found>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let (mut path, line) = match token {
            // `use a::{b as c}` names no `a::c`.
            TokenTree::Ident(name) if name == "as" && !prefix.is_empty() => return,
            TokenTree::Ident(name) => (name.to_string(), name.span().start().line),
            TokenTree::Group(group) => {
                // Only the braces of a `use` list carry a prefix on.
                paths(group.stream(), "", found);
                continue;
            }
            TokenTree::Punct(_) | TokenTree::Literal(_) => continue,
        };
        path = if prefix.is_empty() { path } else { format!("{prefix}::{path}") };
        let mut list = None;
        while is_colon(tokens.peek()) {
            let mut ahead = tokens.clone();
            ahead.next();
            if !is_colon(ahead.peek()) {
                break;
            }
            ahead.next();
            match ahead.next() {
                Some(TokenTree::Ident(name)) => path = format!("{path}::{name}"),
                Some(TokenTree::Group(group)) if is_list(&group) => list = Some(group),
                Some(_) | None => break,
            }
            tokens.nth(2);
        }
        match list {
            Some(list) => paths_in_list(&list, &path, found),
            None => found.push(Found { what: path, line }),
        }
    }
}

/// Collects every name that stands behind `fn`.
fn function_names(tokens: TokenStream, found: &mut Vec<String>) {
    let mut behind_fn = false;
    for token in tokens {
        match token {
            TokenTree::Ident(name) if behind_fn => {
                found.push(name.to_string());
                behind_fn = false;
            }
            TokenTree::Ident(name) => behind_fn = name == "fn",
            TokenTree::Group(group) => function_names(group.stream(), found),
            TokenTree::Punct(_) | TokenTree::Literal(_) => behind_fn = false,
        }
    }
}

/// Collects the paths of a `use` list: `{self, b, c::{d, e}}`.
fn paths_in_list(list: &Group, prefix: &str, found: &mut Vec<Found>) {
    let mut entry = TokenStream::new();
    let mut tokens = list.stream().into_iter();
    loop {
        let token = tokens.next();
        match token {
            Some(TokenTree::Punct(comma)) if comma.as_char() == ',' => {}
            Some(token) => {
                entry.extend(iter::once(token));
                continue;
            }
            None if entry.is_empty() => return,
            None => {}
        }
        paths(std::mem::take(&mut entry), prefix, found);
    }
}

fn is_colon(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

fn is_list(group: &Group) -> bool {
    group.delimiter() == Delimiter::Brace
}

/// The path as seen from the crate's root.
fn resolve(module: &str, path: &str) -> String {
    let path = path.strip_suffix("::self").unwrap_or(path);
    let (first, rest) = path.split_once("::").unwrap_or((path, ""));
    match first {
        "self" => format!("{module}::{rest}"),
        "super" => {
            let parent = module.rsplit_once("::").map_or("crate", |(parent, _)| parent);
            if rest.is_empty() { parent.to_owned() } else { resolve_in(parent, rest) }
        }
        _ => path.to_owned(),
    }
}

fn resolve_in(module: &str, rest: &str) -> String {
    if rest == "super" || rest.starts_with("super::") {
        resolve(module, rest)
    } else {
        format!("{module}::{rest}")
    }
}
