//! Gathers the languages: each file `locales/{language}.txt` is one, so that adding a file adds a language.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

#[allow(clippy::disallowed_methods, reason = "cargo tells a build script where to write by a variable")]
fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=locales");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("locales");
    let files = std::fs::read_dir(&folder)?.map(|file| Ok(file?.path()));
    let mut files = files.collect::<Result<Vec<PathBuf>, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut code = String::from("[\n");
    for file in &files {
        let language =
            file.file_stem().and_then(|stem| stem.to_str()).ok_or("a language's file has a name")?;
        writeln!(code, "    ({language:?}, include_str!({file:?})),")?;
    }
    code.push_str("]\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    Ok(std::fs::write(out.join("locales.rs"), code)?)
}
