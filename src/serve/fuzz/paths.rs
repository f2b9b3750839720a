//! No path leaves its root, by the kernel or step by step, however it is written and whatever is renamed meanwhile: each file that is found is
//! one of those that lie below the root, told by its inode.
#![no_main]

use std::{
    collections::HashSet,
    fs::{self, File},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, symlink},
    },
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex},
    thread,
    time::Duration,
};

use libfuzzer_sys::fuzz_target;
use ostler_serve::Looker;

/// How long a folder stays a folder, and how long it is a link that leads out.
const SWAPPED: Duration = Duration::from_micros(100);

struct Tree {
    root: PathBuf,
    /// The regular files below the root: device and inode.
    inside: HashSet<(u64, u64)>,
    lookers: Mutex<[Looker; 2]>,
}

static TREE: LazyLock<Tree> = LazyLock::new(|| {
    let place = std::env::current_exe().unwrap().with_file_name("paths-tree");
    let _ = fs::remove_dir_all(&place);
    let root = place.join("root");
    let names = [
        "f",
        "f.gz",
        "b",
        "index.html",
        "a/a",
        "a/index.html",
        "a/b/a",
        "..a",
        "a b",
        "%2e",
        "a%2fb",
        "\\",
        "a/..;",
        "\u{e9}",
        "c.gz",
        "swap/a",
    ];
    for name in names {
        for below in [&root, &place.join("outside")] {
            let path = below.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
    }
    let outside = place.join("outside");
    for (to, name) in [
        (Path::new("a"), "link"),
        (Path::new(".."), "up"),
        (Path::new("../outside"), "out"),
        (Path::new("../outside/a"), "a/out"),
        (&outside, "absolute"),
        (&root, "itself"),
        (Path::new("/proc/self/cwd"), "magic"),
        (Path::new("/"), "slash"),
        (Path::new("loop"), "loop"),
        (Path::new("../outside/f.gz"), "b.gz"),
        (Path::new("../outside/swap"), "door"),
    ] {
        symlink(to, root.join(name)).unwrap();
    }
    let mut inside = HashSet::new();
    gather(&root, &mut inside);
    let lookers = [false, true].map(|step_by_step| Looker::open(&root, step_by_step));
    let [folder, kept, door] = ["swap", "kept", "door"].map(|name| root.join(name));
    thread::spawn(move || {
        loop {
            for (from, to) in [(&folder, &kept), (&door, &folder), (&folder, &door), (&kept, &folder)] {
                fs::rename(from, to).unwrap();
            }
            thread::sleep(SWAPPED);
        }
    });
    Tree { root, inside, lookers: Mutex::new(lookers) }
});

fn gather(folder: &Path, inside: &mut HashSet<(u64, u64)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let about = path.symlink_metadata().unwrap();
        if about.is_dir() {
            gather(&path, inside);
        } else if about.is_file() {
            inside.insert((about.dev(), about.ino()));
        }
    }
}

fn check(file: &File, how: &str) {
    let about = file.metadata().unwrap();
    assert!(about.is_file() && TREE.inside.contains(&(about.dev(), about.ino())), "{how} led out of the root");
}

fuzz_target!(|path: &[u8]| {
    let mut lookers = TREE.lookers.lock().unwrap();
    for looker in &mut *lookers {
        for target in [path, &[b"/static", path].concat(), &[b"/static/", path].concat()] {
            looker.requested(target).iter().for_each(|file| check(file, "a request"));
        }
        for value in [path, &[TREE.root.as_os_str().as_bytes(), b"/", path].concat()] {
            looker.named("X-Sendfile", value).iter().for_each(|file| check(file, "X-Sendfile"));
        }
        for value in [path, &[b"/private/", path].concat()] {
            looker.named("X-Accel-Redirect", value).iter().for_each(|file| check(file, "X-Accel-Redirect"));
        }
    }
});
