//! Where the control socket is: the master makes it there, and the commands look for it in the same places.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::unistd::{Gid, getegid, geteuid, getgroups};
use serde::{Deserialize, Serialize};

use super::{identity, parse};
use crate::{
    exit::{Exit, Failure},
    options::{Invocation, Layer, Options},
    sys::names::{self, Others, Place},
};

/// Where a master makes its socket; none with `--control=off`.
pub fn choose(invocation: &Invocation, options: &mut Options, chdir: &Path) -> Result<Option<PathBuf>, Failure> {
    if let Some(path) = named(options, chdir)? {
        return Ok(path);
    }
    let name = options.value("name", super::name)?;
    let own = Path::new("/tmp").join(format!("ostler-{}", geteuid()));
    let directory = match (invocation.variable("RUNTIME_DIRECTORY"), invocation.variable("XDG_RUNTIME_DIR")) {
        // systemd.exec(5): several are separated by colons.
        (Some(ours), _) => PathBuf::from(ours.split(':').next().unwrap_or(ours)),
        _ if geteuid().is_root() => "/run/ostler".into(),
        (None, Some(session)) if is_ours(session) => Path::new(session).join("ostler"),
        _ => own,
    };
    let path = directory.join(format!("{name}.sock"));
    options.found("control", path.to_string_lossy());
    Ok(Some(path))
}

/// Who may connect to the control socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `--control-mode`
    pub mode: u32,
    /// `--control-group`; none for that of the master.
    pub group: Option<u32>,
}

/// For its owner alone.
impl Default for Access {
    fn default() -> Access {
        Access { mode: 0o600, group: None }
    }
}

impl Access {
    /// Whether anybody but the owner may connect.
    pub fn is_shared(self) -> bool {
        self.mode & 0o077 != 0
    }
}

/// Who may connect to it.
pub fn access(options: &mut Options) -> Result<Access, Failure> {
    let group = options.optional("control-group", |text| identity::group(text).and_then(may_give))?.map(Gid::as_raw);
    let usual = if group.is_some() { 0o660 } else { Access::default().mode };
    let mode = options.optional("control-mode", parse::umask)?;
    if group.is_some() && mode.is_some_and(|mode| mode & 0o020 == 0) {
        let why = "its members could not connect. Say --control-mode 660, or leave that out.";
        return Err(options.failure("control-group", &options.given("control-group").texts[0], why));
    }
    if mode.is_none() {
        options.found("control-mode", format!("{usual:03o}"));
    }
    if group.is_none() {
        options.found("control-group", getegid().to_string());
    }
    // The owner may always connect.
    Ok(Access { mode: mode.unwrap_or(usual) | 0o600, group })
}

/// chown(2)
fn may_give(group: Gid) -> Result<Gid, String> {
    let ours = || group == getegid() || getgroups().is_ok_and(|groups| groups.contains(&group));
    match geteuid().is_root() || ours() {
        true => Ok(group),
        false => Err("ostler is neither root's nor a member of that group, and cannot give it a file".into()),
    }
}

/// `su` leaves the variable of whoever called it.
fn is_ours(session: &str) -> bool {
    fs::metadata(session).is_ok_and(|found| found.is_dir() && found.uid() == geteuid().as_raw())
}

/// Where a command finds the socket of a running master. Root looks at no place that somebody else has chosen.
pub fn find(invocation: &Invocation, options: &Options) -> Result<PathBuf, Failure> {
    if geteuid().is_root() {
        refuse_weak_file(options)?;
    }
    let chdir = options.optional("chdir", |text| super::path(&invocation.directory, text))?;
    let chdir = chdir.unwrap_or_else(|| invocation.directory.clone());
    match named(options, &chdir)? {
        Some(Some(path)) => return Ok(path),
        Some(None) => {
            return Err(options.failure("control", "off", "this ostler takes no commands. Signals still work."));
        }
        None => {}
    }
    let name = options.value("name", super::name)?;
    let file = format!("{name}.sock");
    // RuntimeDirectory=ostler-%i of the unit.
    let unit = Path::new("/run").join(format!("ostler-{name}"));
    let places: Vec<_> =
        directories(invocation).into_iter().chain([unit]).map(|directory| directory.join(&file)).collect();
    places.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let looked: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        let others: Vec<_> = instances(invocation).into_iter().map(|(name, _)| name).collect();
        let others = if others.is_empty() { String::new() } else { format!(" There is {}.", others.join(", ")) };
        let message = format!(
            "no ostler called {name} is running: there is no {}. Say --control or --name.{others}{}",
            looked.join(", no "),
            taken()
        );
        Failure::new(Exit::NotRunning, message)
    })
}

/// In /tmp anybody may have made our directory before us.
fn taken() -> String {
    let own = Path::new("/tmp").join(format!("ostler-{}", geteuid()));
    match fs::symlink_metadata(&own).map(|found| found.uid()) {
        Ok(owner) if owner != geteuid().as_raw() => {
            format!(" {} belongs to user {owner}: an ostler of yours has no socket there.", own.display())
        }
        _ => String::new(),
    }
}

/// Where any master makes its socket.
fn directories(invocation: &Invocation) -> Vec<PathBuf> {
    let root = geteuid().is_root();
    let safe = |place: &PathBuf| !root || Place::anywhere(place).is_ok_and(|at| at.weaknesses(Others::All).is_empty());
    let ours =
        invocation.variable("RUNTIME_DIRECTORY").map(|ours| PathBuf::from(ours.split(':').next().unwrap_or(ours)));
    let session = invocation.variable("XDG_RUNTIME_DIR").filter(|session| !root && is_ours(session));
    let places = [
        ours.filter(safe),
        session.map(|session| Path::new(session).join("ostler")),
        Some("/run/ostler".into()),
        Some(Path::new("/tmp").join(format!("ostler-{}", geteuid()))).filter(|_| !root),
    ];
    places.into_iter().flatten().collect()
}

/// The sockets in all of these places, by the names of their masters. Some may have been left behind.
pub fn instances(invocation: &Invocation) -> Vec<(String, PathBuf)> {
    let inside = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |socket: PathBuf| Some((socket.file_name()?.to_str()?.strip_suffix(".sock")?.to_owned(), socket));
    let shared = directories(invocation).into_iter().flat_map(|directory| inside(&directory).collect::<Vec<_>>());
    let of_units = inside(Path::new("/run")).filter_map(|directory| {
        let name = directory.file_name()?.to_str()?.strip_prefix("ostler-")?;
        let socket = directory.join(format!("{name}.sock"));
        socket.exists().then_some(socket)
    });
    let mut found: Vec<_> = shared.chain(of_units).filter_map(named).collect();
    found.sort();
    found.dedup();
    found
}

/// A command of root's that goes to another master than root thinks does harm.
fn refuse_weak_file(options: &Options) -> Result<(), Failure> {
    let from_file = |name| match &options.given(name).layer {
        Layer::File(path, _) => Some(path),
        _ => None,
    };
    let Some(file) = ["control", "name"].into_iter().find_map(from_file) else { return Ok(()) };
    let weaknesses = Place::anywhere(file).map(|place| place.weaknesses(Others::All)).unwrap_or_default();
    match weaknesses.is_empty() {
        true => Ok(()),
        false => {
            let what = format!("root does not let {} say where its commands go", file.display());
            let mend = names::mended(&weaknesses);
            Err(Failure::new(Exit::System, format!("{what}: {mend} --control PATH names the socket without it.")))
        }
    }
}

/// What `--control` says, if anything.
fn named(options: &Options, chdir: &Path) -> Result<Option<Option<PathBuf>>, Failure> {
    options.optional("control", |text| match text {
        "off" => Ok(None),
        _ => super::path(chdir, text).map(Some),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli, fixture::Folder};

    fn found(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Result<PathBuf, Failure> {
        let invocation = folder.invocation(arguments, environment);
        let typed = cli::parse(&invocation.arguments)?.texts;
        find(&invocation, &Options::gather(&invocation, &typed)?)
    }

    fn chosen(folder: &Folder, arguments: &[&str], environment: &[(&str, &str)]) -> Option<PathBuf> {
        let invocation = folder.invocation(arguments, environment);
        let typed = cli::parse(&invocation.arguments).unwrap().texts;
        let mut options = Options::gather(&invocation, &typed).unwrap();
        choose(&invocation, &mut options, folder.path()).unwrap()
    }

    #[test]
    fn a_command_looks_where_the_master_makes_it() {
        for (arguments, directories) in [
            (&["-n", "site"] as &[&str], "HERE"),
            (&["-n", "site"], "HERE:/elsewhere"),
            (&["--control", "site.sock"], "/elsewhere"),
        ] {
            let folder = Folder::new();
            let directories = directories.replace("HERE", &folder.path().to_string_lossy());
            let environment = [("RUNTIME_DIRECTORY", directories.as_str())];
            let path = chosen(&folder, &[arguments, &["a"]].concat(), &environment);
            assert_eq!(path, Some(folder.path().join("site.sock")));
            let socket = folder.file("site.sock", "");
            assert_eq!(found(&folder, &[&["stop"], arguments].concat(), &environment), Ok(socket));
        }
    }

    #[test]
    fn outside_systemd_it_lies_in_a_directory_of_our_own() {
        let folder = Folder::new();
        let session = folder.path().to_string_lossy().into_owned();
        let expected = match geteuid().is_root() {
            true => PathBuf::from("/run/ostler/ostler.sock"),
            false => folder.path().join("ostler/ostler.sock"),
        };
        assert_eq!(chosen(&folder, &["a"], &[("XDG_RUNTIME_DIR", &session)]), Some(expected));
        folder.file("ostler/lone.sock", "");
        let socket = found(&folder, &["stop", "-n", "lone"], &[("XDG_RUNTIME_DIR", &session)]);
        match geteuid().is_root() {
            true => {
                assert!(socket.unwrap_err().message.contains("there is no /run/ostler/lone.sock, no /run/ostler-lone"))
            }
            false => assert_eq!(socket, Ok(folder.path().join("ostler/lone.sock"))),
        }
    }

    #[test]
    fn a_master_that_is_not_there_is_named() {
        let folder = Folder::new();
        let failure = found(&folder, &["stop", "-n", "nobody-s"], &[]).unwrap_err();
        assert_eq!(failure.exit, Exit::NotRunning);
        assert!(
            failure.message.starts_with("no ostler called nobody-s is running: there is no /run/ostler/nobody-s.sock")
        );
        let off = found(&folder, &["stop", "--control", "off"], &[]).unwrap_err();
        assert!(off.message.contains("takes no commands"), "{off}");
        assert_eq!(chosen(&folder, &["a", "--control=off"], &[]), None);
    }
}
