//! The map in src/README.md: a room of a crate uses those below it, and none above.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ostler_tests::repository;

/// The rooms of each crate, from below.
const CRATES: [(&str, &[&str]); 3] = [
    ("src/daemon", &["sys", "options", "settings", "migrate", "resources", "master", "cli"]),
    ("src/http", &["refusal", "syntax", "target", "head", "answer", "representation", "proxy", "h1", "uwsgi"]),
    (
        "src/serve",
        &[
            "moment",
            "log_limits",
            "transport",
            "poll",
            "storage",
            "files",
            "compression",
            "shared",
            "request",
            "response",
            "connection",
            "exchange",
            "intake",
            "life",
            "calls",
            "threads",
            "application",
            "event_loop",
        ],
    ),
];

#[test]
fn rooms_use_only_those_below_them() {
    for (folder, rooms) in CRATES {
        for (floor, room) in rooms.iter().enumerate() {
            let place = repository(folder).join(room);
            let files = [files(&place.with_extension("rs")), files(&place)].concat();
            assert!(!files.is_empty(), "{folder}/{room} is empty");
            for file in files.iter().filter(|file| !file.iter().any(|part| part == "tests" || part == "tests.rs")) {
                let text = fs::read_to_string(file).unwrap();
                let used = |above: &&&str| imports(&text).any(|import| names(import, above));
                assert_eq!(rooms[floor + 1..].iter().find(used), None, "{}", file.display());
            }
        }
    }
}

#[test]
fn each_folder_is_a_room() {
    for (folder, rooms) in CRATES {
        for entry in fs::read_dir(repository(folder)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap();
            let known = rooms.contains(&name) || ["tests", "benches", "fuzz"].contains(&name);
            assert!(known || !path.is_dir(), "{folder}/{name} has no place among the rooms");
        }
    }
}

/// The file of this path, or the files of this folder.
fn files(path: &Path) -> Vec<PathBuf> {
    match fs::read_dir(path) {
        Ok(entries) => entries.flat_map(|entry| files(&entry.unwrap().path())).collect(),
        Err(_) => path.is_file().then(|| path.to_owned()).into_iter().collect(),
    }
}

/// What stands behind each `crate::` of a file, up to the end of the statement; its tests may use everything.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    text.split("crate::").skip(1).map(|behind| behind.split(';').next().unwrap_or_default())
}

/// Whether an import names this room; `ahead::` does not name `head`.
fn names(import: &str, room: &str) -> bool {
    let path = format!("{room}::");
    import.match_indices(&path).any(|(at, _)| !import[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}
