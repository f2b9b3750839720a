//! A room uses those below it, and none above: sys, options, settings, resources, master, cli.

use std::{
    fs,
    path::{Path, PathBuf},
};

const FROM_BELOW: [&str; 6] = ["sys", "options", "settings", "resources", "master", "cli"];

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// What stands behind each `crate::` of a file, up to the end of the statement; its tests may use everything.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.split("crate::").skip(1).map(|behind| behind.split(';').next().unwrap_or_default())
}

#[test]
fn no_room_uses_one_above_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (floor, room) in FROM_BELOW.iter().enumerate() {
        for file in files(&root.join(room)).iter().filter(|file| !file.ends_with("tests.rs")) {
            let text = fs::read_to_string(file).unwrap();
            let used = |above: &&&str| imports(&text).any(|import| import.contains(&format!("{above}::")));
            assert_eq!(FROM_BELOW[floor + 1..].iter().find(used), None, "{}", file.display());
        }
    }
}
