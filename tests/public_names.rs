//! The public names of each crate, as text that is reviewed: a change shows up in `public-names/*.txt`.
//!
//! With the lint `unreachable_pub`, every `pub` item that compiles without a warning can be reached from outside, so the
//! source alone tells. `DB_MUTEX_BLESS=1 cargo test --test public_names` writes the lists anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use syn::{Fields, FnArg, ImplItem, Item, TraitItem, Type, Visibility};

const CRATES: &[(&str, &str)] = &[
    ("db-mutex", "src"),
    ("db-mutex-core", "core/src"),
    ("db-mutex-may-block", "may-block/src"),
    ("db-mutex-sql-support", "sql-support/src"),
    ("db-mutex-sqlite", "backend-sqlite/src"),
    ("db-mutex-mysql", "backend-mysql/src"),
    ("db-mutex-postgres", "backend-postgres/src"),
    ("db-mutex-conformance", "conformance-tests/src"),
    ("db-mutex-macros", "macros/src"),
];

#[test]
fn the_public_names_are_as_reviewed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut drifted = Vec::new();
    for (name, source) in CRATES {
        let mut names = BTreeSet::new();
        for file in sources(&root.join(source)) {
            let text = fs::read_to_string(&file).expect("a source file can be read");
            let parsed = syn::parse_file(&text).expect("a source file that compiles can be parsed");
            collect(&parsed.items, &mut names);
        }
        let found: String = names.iter().map(|name| format!("{name}\n")).collect();
        let list = root.join("public-names").join(name).with_extension("txt");
        if std::env::var_os("DB_MUTEX_BLESS").is_some() {
            fs::write(&list, &found).expect("the list can be written");
        }
        let reviewed = fs::read_to_string(&list).unwrap_or_default();
        if reviewed != found {
            let known: BTreeSet<_> = reviewed.lines().map(str::to_owned).collect();
            let new: Vec<_> = names.difference(&known).cloned().collect();
            let gone: Vec<_> = known.difference(&names).cloned().collect();
            drifted.push(format!("{name}: new {new:#?}, gone {gone:#?}"));
        }
    }
    let advice = "review the change, and write the lists anew with DB_MUTEX_BLESS=1";
    assert!(drifted.is_empty(), "the public names have changed; {advice}\n{}", drifted.join("\n"));
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("a source folder can be read").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

fn collect(items: &[Item], names: &mut BTreeSet<String>) {
    for item in items {
        if let Item::Mod(item) = item
            && let Some((_, inside)) = &item.content
        {
            collect(inside, names);
        }
        let mut add = |name: String| _ = names.insert(name);
        match item {
            Item::Struct(item) if is_public(&item.vis) => {
                add(format!("struct {}", item.ident));
                fields(&item.fields).for_each(|field| add(format!("field {}.{field}", item.ident)));
            }
            Item::Enum(item) if is_public(&item.vis) => {
                add(format!("enum {}", item.ident));
                for variant in &item.variants {
                    let inside: Vec<_> = variant.fields.iter().filter_map(|field| field.ident.as_ref()).collect();
                    let inside: Vec<_> = inside.iter().map(ToString::to_string).collect();
                    add(format!("variant {}::{} {{ {} }}", item.ident, variant.ident, inside.join(", "))
                        .replace(" {  }", ""));
                }
            }
            Item::Trait(item) if is_public(&item.vis) => {
                add(format!("trait {}", item.ident));
                for method in &item.items {
                    if let TraitItem::Fn(method) = method {
                        let kind = if method.default.is_some() { "provided" } else { "required" };
                        add(format!("{kind} {}::{}", item.ident, signature(&method.sig)));
                    }
                }
            }
            Item::Impl(item) if item.trait_.is_none() => {
                let Type::Path(of) = &*item.self_ty else { continue };
                let of = of.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
                for inside in &item.items {
                    match inside {
                        ImplItem::Fn(method) if is_public(&method.vis) => {
                            add(format!("fn {of}::{}", signature(&method.sig)));
                        }
                        ImplItem::Const(constant) if is_public(&constant.vis) => {
                            add(format!("const {of}::{}", constant.ident));
                        }
                        _ => {}
                    }
                }
            }
            Item::Fn(item) if is_public(&item.vis) => add(format!("fn {}", signature(&item.sig))),
            Item::Const(item) if is_public(&item.vis) => add(format!("const {}", item.ident)),
            Item::Type(item) if is_public(&item.vis) => add(format!("type {}", item.ident)),
            Item::Macro(item) if item.attrs.iter().any(|attribute| attribute.path().is_ident("macro_export")) => {
                item.ident.iter().for_each(|name| add(format!("macro {name}!")));
            }
            Item::Mod(item) if is_public(&item.vis) => add(format!("mod {}", item.ident)),
            _ => {}
        }
    }
}

fn is_public(visibility: &Visibility) -> bool {
    matches!(visibility, Visibility::Public(_))
}

fn fields(fields: &Fields) -> impl Iterator<Item = String> {
    fields
        .iter()
        .filter(|field| is_public(&field.vis))
        .filter_map(|field| field.ident.as_ref().map(ToString::to_string))
}

/// The name and those of the parameters, for what they take is in the documentation.
fn signature(signature: &syn::Signature) -> String {
    let parameters = signature.inputs.iter().map(|input| match input {
        FnArg::Receiver(receiver) => match (&receiver.reference, &receiver.mutability) {
            (Some(_), Some(_)) => "&mut self".to_owned(),
            (Some(_), None) => "&self".to_owned(),
            (None, _) => "self".to_owned(),
        },
        FnArg::Typed(typed) => match &*typed.pat {
            syn::Pat::Ident(name) => name.ident.to_string(),
            _ => "_".to_owned(),
        },
    });
    let parameters: Vec<_> = parameters.collect();
    let kind = if signature.asyncness.is_some() { " async" } else { "" };
    format!("{}({}){kind}", signature.ident, parameters.join(", "))
}
