//! How the project's files look: a purpose at the top, a size that can be read, nothing of one machine.

use std::path::Path;

use super::{none, project_files, text};

/// Past this a file is usually two.
const MOST_LINES: usize = 400;

/// Files that are longer, each with the reason why it is one. A file that has become short goes from here.
const LONG: [(&str, &str); 0] = [];

/// Folders that only one machine has. Written apart, so that this file does not hold them.
const OF_ONE_MACHINE: [&str; 4] =
    [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

fn sources() -> Vec<(String, String)> {
    let sources: Vec<_> = project_files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| (path.display().to_string(), text(&path).expect("source is text")))
        .collect();
    assert!(sources.len() > 20, "the project has sources: {}", sources.len());
    sources
}

#[test]
fn every_source_file_opens_with_what_it_is_for() {
    let mut breaches = Vec::new();
    for (name, source) in sources() {
        match source.lines().take_while(|line| line.starts_with("//!")).count() {
            0 => breaches.push(format!("{name} has no //! at its top")),
            1..=8 => {}
            lines => {
                breaches.push(format!("{name} opens with {lines} lines of //!: what is it for, in five"))
            }
        }
    }
    none("a source file opens with a few lines of //!", &breaches);
}

#[test]
fn no_source_file_is_too_long_to_be_read() {
    let mut breaches = Vec::new();
    for (name, source) in sources() {
        let lines = source.lines().count();
        match LONG.iter().find(|(long, _)| *long == name) {
            None if lines > MOST_LINES => {
                breaches.push(format!("{name} has {lines} lines: it is usually two"))
            }
            Some(_) if lines <= MOST_LINES => breaches.push(format!("{name} is listed as long, and is not")),
            _ => {}
        }
    }
    none("a source file has at most 400 lines", &breaches);
}

#[test]
fn modules_lie_beside_their_folders() {
    let breaches: Vec<_> = project_files()
        .iter()
        .filter(|path| path.ends_with(Path::new("mod.rs")))
        .map(|path| path.display().to_string())
        .collect();
    none("there is foo.rs beside foo/, and no mod.rs", &breaches);
}

#[test]
fn nothing_names_a_folder_of_one_machine() {
    let mut breaches = Vec::new();
    for path in project_files() {
        let Some(text) = text(&path) else { continue };
        for (number, line) in text.lines().enumerate() {
            let found = OF_ONE_MACHINE.iter().filter(|folder| line.contains(*folder));
            breaches.extend(found.map(|folder| format!("{}:{}: {folder}", path.display(), number + 1)));
        }
    }
    none("the project is of no one machine", &breaches);
}
