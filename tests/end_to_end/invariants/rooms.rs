//! Who may know whom: read from the manifests, and from the gateway's source, which names no provider.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::{none, project_files, root, text};

/// Each room and the rooms that it may know.
const MAY_KNOW: [(&str, &[&str]); 9] = [
    ("postern-chance", &[]),
    ("postern-proto", &[]),
    ("postern-chassis", &["postern-proto"]),
    // What callers link must not drag the services along.
    ("postern-client", &["postern-proto"]),
    ("postern-smtp-service", &["postern-chassis", "postern-proto"]),
    ("postern-outlook-service", &["postern-chassis", "postern-proto"]),
    // The connectors only to start them in its own process: where it may name them, the words below show.
    (
        "postern-gateway",
        &["postern-chassis", "postern-outlook-service", "postern-proto", "postern-smtp-service"],
    ),
    (
        "postern-sandbox",
        &[
            "postern-chassis",
            "postern-gateway",
            "postern-outlook-service",
            "postern-proto",
            "postern-smtp-service",
        ],
    ),
    (
        "postern-tests",
        &[
            "postern-chance",
            "postern-chassis",
            "postern-client",
            "postern-gateway",
            "postern-outlook-service",
            "postern-proto",
            "postern-sandbox",
            "postern-smtp-service",
        ],
    ),
];

/// Libraries that only these rooms may use, tests excepted.
const KEPT_BY: [(&str, &[&str]); 4] = [
    ("async-nats", &["postern-gateway"]),
    ("lettre", &["postern-smtp-service"]),
    // The gateway's is for callers who want answers posted to them.
    ("reqwest", &["postern-gateway", "postern-outlook-service", "postern-smtp-service"]),
    ("rusqlite", &["postern-gateway"]),
];

/// The rooms that test.
const TESTS: [&str; 2] = ["postern-sandbox", "postern-tests"];

/// The words of providers, which the gateway does not know.
const PROVIDERS: [&str; 6] = ["smtp", "outlook", "graph", "microsoft", "azure", "entra"];

/// The files of the gateway that may name them: one starts the connectors in the gateway's process, one asks people for
/// what a connection of each kind needs.
const NAMING: [&str; 2] = ["gateway/src/all_in_one.rs", "gateway/src/console/kinds.rs"];

/// The members of the workspace and all that each depends on, for whatever purpose.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let workspace = manifest(Path::new("Cargo.toml"));
    let members = workspace["workspace"]["members"].as_array().expect("the workspace has members").clone();
    members
        .iter()
        .map(|member| {
            let path = Path::new(member.as_str().expect("a member is a folder")).join("Cargo.toml");
            let manifest = manifest(&path);
            let name = manifest["package"]["name"].as_str().expect("a package has a name").to_owned();
            let mut named = BTreeSet::new();
            collect(&manifest, &mut named);
            (name, named)
        })
        .collect()
}

fn manifest(path: &Path) -> toml::Table {
    text(path).expect("a manifest is text").parse().expect("a manifest is TOML")
}

/// The names in each table of dependencies, those of targets included. A renamed package counts as what it is.
fn collect(table: &toml::Table, named: &mut BTreeSet<String>) {
    for (key, value) in table {
        let Some(inner) = value.as_table() else { continue };
        if matches!(key.as_str(), "dependencies" | "dev-dependencies" | "build-dependencies") {
            named.extend(inner.iter().map(|(name, wanted)| {
                wanted.get("package").and_then(toml::Value::as_str).unwrap_or(name).to_owned()
            }));
        } else {
            collect(inner, named);
        }
    }
}

#[test]
fn no_room_depends_on_one_that_it_may_not_know() {
    let found = dependencies();
    let rooms: BTreeSet<_> = found.keys().map(String::as_str).collect();
    let expected: BTreeSet<_> = MAY_KNOW.iter().map(|(room, _)| *room).collect();
    assert_eq!(rooms, expected, "MAY_KNOW lists every room");
    let mut breaches = Vec::new();
    for (room, may_know) in MAY_KNOW {
        let known = found[room].iter().filter(|name| rooms.contains(name.as_str()));
        let crossed = known.filter(|name| !may_know.contains(&name.as_str()));
        breaches.extend(crossed.map(|name| format!("{room} depends on {name}")));
    }
    none("rooms know only whom they may", &breaches);
}

#[test]
fn what_speaks_to_a_provider_or_to_the_disk_stays_in_its_room() {
    let found = dependencies();
    for (library, keeper) in
        KEPT_BY.iter().flat_map(|(library, keepers)| keepers.iter().map(move |k| (library, k)))
    {
        assert!(
            found[*keeper].contains(*library),
            "{keeper} uses {library}; if it no longer does, say so here"
        );
    }
    let mut breaches = Vec::new();
    for (room, named) in found.iter().filter(|(room, _)| !TESTS.contains(&room.as_str())) {
        let taken = KEPT_BY
            .iter()
            .filter(|(library, keepers)| named.contains(*library) && !keepers.contains(&room.as_str()));
        breaches.extend(
            taken.map(|(library, keepers)| {
                format!("{room} uses {library}, which is for {}", keepers.join(", "))
            }),
        );
    }
    none("a library of one room is used in that room", &breaches);
}

#[test]
fn the_gateway_names_no_provider() {
    let mut breaches = Vec::new();
    let mut read = 0;
    for path in project_files() {
        let name = path.display().to_string();
        if !name.starts_with("gateway/src/")
            || path.extension().is_none_or(|e| e != "rs")
            || NAMING.contains(&name.as_str())
        {
            continue;
        }
        // Tests stand in files of that name, or at the end of the file that they test.
        if path.ends_with("tests.rs") {
            continue;
        }
        read += 1;
        let source = text(&path).expect("source is text");
        let tested = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in tested.lines().enumerate() {
            breaches.extend(providers_in(line).map(|word| format!("{name}:{}: {word}", number + 1)));
        }
    }
    assert!(read > 5, "the gateway has sources: {read} below {}", root().display());
    none("the gateway names no provider", &breaches);
}

/// The providers that a line names, as words of text or as parts of a name.
fn providers_in(line: &str) -> impl Iterator<Item = &'static str> {
    let lower = line.to_ascii_lowercase();
    PROVIDERS.into_iter().filter(move |word| {
        lower.match_indices(word).any(|(start, _)| {
            let end = start + word.len();
            let own = line.as_bytes();
            // A word begins after what is no letter, or with a capital after a small letter, as in `NewSmtp`.
            let begins = start == 0
                || !own[start - 1].is_ascii_alphabetic()
                || (own[start].is_ascii_uppercase() && own[start - 1].is_ascii_lowercase());
            let ends = own.get(end).is_none_or(|next| !next.is_ascii_lowercase())
                || own[start..end].iter().all(u8::is_ascii_uppercase);
            begins && ends
        })
    })
}

#[test]
fn a_provider_is_found_as_a_word_and_not_inside_one() {
    let found = |line| providers_in(line).collect::<Vec<_>>();
    for line in ["use postern_proto::smtp;", "NewSmtpServer", "SMTP", "fn smtp_settings()", "// by Smtp."] {
        assert_eq!(found(line), ["smtp"], "{line}");
    }
    assert_eq!(found("an Outlook entry of Microsoft's"), ["outlook", "microsoft"]);
    for line in ["a paragraph", "graphics", "central entrance", "the entrails", "photograph"] {
        assert!(found(line).is_empty(), "{line}");
    }
}
