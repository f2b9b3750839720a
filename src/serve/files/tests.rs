//! Folders hold their files in, by the kernel and step by step.

use std::{
    fs,
    io::Read,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    thread,
};

use super::*;

/// A private folder: `root` holds files and links, and `secret` lies beside it.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Tree {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("ostler-files-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
        let place = std::env::temp_dir().join(name);
        fs::create_dir_all(place.join("root/a/b")).unwrap();
        fs::create_dir_all(place.join("outside/b")).unwrap();
        for name in ["root/f", "root/a/f", "root/a/b/f"] {
            fs::write(place.join(name), "inside").unwrap();
        }
        for name in ["secret", "outside/f", "outside/b/f"] {
            fs::write(place.join(name), "secret").unwrap();
        }
        for (to, name) in [("a", "inner"), ("../f", "a/up"), ("../secret", "out"), ("../outside", "outer")] {
            symlink(to, place.join("root").join(name)).unwrap();
        }
        symlink(place.join("secret"), place.join("root/absolute")).unwrap();
        symlink("/proc/self/root", place.join("root/magic")).unwrap();
        symlink("loop", place.join("root/loop")).unwrap();
        Tree(place)
    }

    fn root(&self) -> PathBuf {
        self.0.join("root")
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(directory: &Directory, way: &str) -> Result<String, Errno> {
    let mut text = String::new();
    directory.open_file(way.as_bytes())?.read_to_string(&mut text).map_err(|_| Errno::EISDIR)?;
    Ok(text)
}

fn open(root: &Path, links: bool) -> Directory {
    Directory::open(root, links).expect("it is there")
}

#[test]
fn links_are_followed_within_the_folder_and_not_out_of_it() {
    let tree = Tree::new();
    let bounded = open(&tree.root(), false);
    for way in ["f", "a/f", "a/b/f", "inner/f", "inner/b/f", "a/up"] {
        assert_eq!(read(&bounded, way).as_deref(), Ok("inside"), "{way}");
    }
    for way in [
        "out",
        "outer/f",
        "outer/b/f",
        "absolute",
        "magic/etc/passwd",
        "loop",
        "../secret",
        "a/../../secret",
        "/etc/passwd",
    ] {
        assert!(read(&bounded, way).is_err(), "{way}");
    }
    let steps = open(&tree.root(), false).step_by_step();
    for way in ["f", "a/f", "a/b/f"] {
        assert_eq!(read(&steps, way).as_deref(), Ok("inside"), "{way}");
    }
    for way in ["inner/f", "a/up", "out", "outer/f", "absolute", "magic/etc/passwd", "loop"] {
        assert!(read(&steps, way).is_err(), "{way}");
    }
    for free in [open(&tree.root(), true), open(&tree.root(), true).step_by_step()] {
        assert_eq!(read(&free, "out").as_deref(), Ok("secret"));
        assert_eq!(read(&free, "outer/b/f").as_deref(), Ok("secret"));
    }
}

/// While a folder becomes a link that leads out and a folder again, what is read is the folder's or nothing.
#[test]
fn no_rename_in_the_middle_of_a_way_leads_out() {
    let tree = Tree::new();
    let (bounded, steps) = (open(&tree.root(), false), open(&tree.root(), false).step_by_step());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let [folder, kept, link] = ["a", "kept", "outer"].map(|name| tree.root().join(name));
            let rename = |from: &Path, to: &Path| fs::rename(from, to).expect("it is ours");
            while !over.load(Relaxed) {
                rename(&folder, &kept);
                rename(&link, &folder);
                rename(&folder, &link);
                rename(&kept, &folder);
            }
        });
        let mut found = 0;
        for _ in 0..20_000 {
            for directory in [&bounded, &steps] {
                for way in ["a/f", "a/b/f", "a/up"] {
                    let read = read(directory, way);
                    found += u32::from(read.is_ok());
                    if read.is_ok_and(|text| text != "inside") {
                        over.store(true, Relaxed);
                        panic!("{way} led out");
                    }
                }
            }
        }
        over.store(true, Relaxed);
        assert!(found > 0, "it is there at times");
    });
}

#[test]
fn a_folder_that_was_removed_is_followed_to_its_path() {
    let tree = Tree::new();
    let mut directory = open(&tree.root(), false);
    assert!(!directory.follow());
    fs::remove_dir_all(tree.root()).unwrap();
    assert!(!directory.follow());
    fs::create_dir(tree.root()).unwrap();
    fs::write(tree.root().join("f"), "again").unwrap();
    assert_eq!(read(&directory, "f"), Err(Errno::ENOENT));
    assert!(directory.follow());
    assert_eq!(read(&directory, "f").as_deref(), Ok("again"));
    assert!(!directory.follow());
}
