//! Where standard error leads to the journal, each record is one entry with fields. A socket of the test's stands where journald's
//! would, in a mount namespace of the daemon's own.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{IoSliceMut, Read, Seek},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process::{Command, Stdio},
};

use nix::{
    fcntl::{FcntlArg, SealFlag, fcntl},
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};
use ostler_tests::{PATIENCE, Rig, Site};

/// Gives the daemon a namespace in which the folder `journal` lies where journald's socket would, and says that standard error leads
/// there.
const AS_A_SERVICE: &str = "\
if [ -z \"$JOURNAL_STREAM\" ]; then
    JOURNAL_STREAM=$(stat -Lc %d:%i /dev/fd/2) exec unshare UNSHARE \"$0\" \"$@\"
fi
mount -t tmpfs ostler-tests /run && mkdir -p /run/systemd/journal && mount --bind JOURNAL /run/systemd/journal || exit 1";

/// What stands in journald's place.
struct Journal(UnixDatagram);

type Fields = BTreeMap<String, String>;

impl Journal {
    /// One that the daemon will write to; none where the machine allows nobody a mount namespace.
    fn of(rig: Rig) -> Option<(Rig, Journal)> {
        let allowed = |how: &&str| {
            let tried = Command::new("unshare").args([how, "true"]).stderr(Stdio::null()).status();
            tried.is_ok_and(|status| status.success())
        };
        let Some(how) = ["-m", "-rm"].into_iter().find(allowed) else {
            eprintln!("NOT TESTED: the machine allows no mount namespace (unshare -rm)");
            return None;
        };
        let folder = rig.folder().join("journal");
        fs::create_dir(&folder).expect("a private folder is writable");
        let socket = UnixDatagram::bind(folder.join("socket")).expect("the folder is new");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a time-out");
        let statement = AS_A_SERVICE.replace("UNSHARE", how).replace("JOURNAL ", &format!("{} ", folder.display()));
        let site = format!("unix:{}", rig.folder().join("site.sock").display());
        Some((rig.limited(&statement).bind(&site), Journal(socket)))
    }

    /// The next entry with this phrase.
    fn find(&self, phrase: &str) -> Fields {
        std::iter::repeat_with(|| self.next()).find(|fields| is_of(fields, phrase)).expect("an iterator without an end")
    }

    /// The next entry.
    fn next(&self) -> Fields {
        let (mut packet, mut control) = (vec![0; 1 << 20], nix::cmsg_space!([i32; 1]));
        let mut buffers = [IoSliceMut::new(&mut packet)];
        let received = recvmsg::<()>(self.0.as_raw_fd(), &mut buffers, Some(&mut control), MsgFlags::empty());
        let received = received.expect("the daemon writes an entry");
        let passed = received.cmsgs().expect("there was room for one").find_map(|message| match message {
            // SAFETY: the kernel has just made this descriptor for this process.
            ControlMessageOwned::ScmRights(numbers) => Some(unsafe { OwnedFd::from_raw_fd(numbers[0]) }),
            _ => None,
        });
        let length = received.bytes;
        packet.truncate(length);
        if let Some(passed) = passed {
            assert_eq!(length, 0, "a large entry is a file alone");
            packet = contents(File::from(passed));
        }
        fields(&packet)
    }
}

/// journald takes no file that its sender can still change.
fn contents(mut file: File) -> Vec<u8> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    let sealed = SealFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GET_SEALS).expect("a memfd has seals"));
    assert!(sealed.contains(seals), "{sealed:?}");
    let mut text = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut text)).expect("it can be read");
    text
}

fn is_of(fields: &Fields, phrase: &str) -> bool {
    fields.get("OSTLER_PHRASE").is_some_and(|found| found == phrase)
}

/// `NAME=value`, or the name alone and then the value behind its length.
fn fields(mut packet: &[u8]) -> Fields {
    let mut fields = Fields::new();
    while !packet.is_empty() {
        let end = packet.iter().position(|byte| *byte == b'\n').expect("each line has an end");
        let (line, rest) = (String::from_utf8_lossy(&packet[..end]), &packet[end + 1..]);
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => {
                let (length, rest) = rest.split_first_chunk().expect("eight bytes");
                let length = u64::from_le_bytes(*length) as usize;
                assert_eq!(rest[length], b'\n');
                packet = &rest[length + 1..];
                fields.insert(line.to_string(), String::from_utf8_lossy(&rest[..length]).into_owned());
                continue;
            }
        };
        fields.insert(name.into(), value);
        packet = rest;
    }
    fields
}

fn status(site: &Site, path: &str) -> u16 {
    site.get(path).status
}

#[test]
fn a_traceback_is_one_entry_with_its_priority_and_fields() {
    let Some((rig, journal)) = Journal::of(Rig::new("corners.py")) else { return };
    let mut site = rig.start_silently();
    let ready = journal.find("worker ready");
    assert_eq!((ready["PRIORITY"].as_str(), ready["SYSLOG_IDENTIFIER"].as_str()), ("6", "ostler"));
    assert!(ready["MESSAGE"].starts_with("master: worker ready generation=1 slot=0 pid="), "{ready:?}");
    assert_eq!((ready["OSTLER_GENERATION"].as_str(), ready["OSTLER_SLOT"].as_str()), ("1", "0"));
    assert_eq!(status(&site, "/raising?a%0Ab"), 500);
    let raised = journal.find("application raised");
    let message = &raised["MESSAGE"];
    assert!(
        message.starts_with("worker g1.0: application raised request=\"GET /raising?a%0Ab\"\nTraceback"),
        "{message}"
    );
    assert!(message.ends_with("RuntimeError: raised by the page"), "{message}");
    for (name, value) in [
        ("PRIORITY", "3"),
        ("OSTLER_GENERATION", "1"),
        ("OSTLER_SLOT", "0"),
        ("OSTLER_PROCESS", "worker g1.0"),
        ("OSTLER_REQUEST", "GET /raising?a%0Ab"),
    ] {
        assert_eq!(raised[name], value, "{name}");
    }
    assert!(raised["CODE_FILE"].ends_with(".rs") && raised["CODE_LINE"].parse::<u32>().is_ok(), "{raised:?}");
    site.stop();
    assert_eq!(journal.find("stopped")["OSTLER_PROCESS"], "master");
    assert_eq!(site.whole_log(), "", "nothing is written twice");
}

#[test]
fn what_the_application_writes_to_the_log_at_once_is_one_entry() {
    let Some((rig, journal)) = Journal::of(Rig::with_source(
        "import sys\ndef application(environ, start_response):\n    environ['wsgi.errors'].write('one\\n  two\\n')\n    \
         print('<4>beware\\nof it', file=sys.stderr)\n    \
         environ['wsgi.errors'].write('x' * 1_000_000 + '\\n')\n    start_response('200 OK', [])\n    return []\n",
    )) else {
        return;
    };
    let site = rig.flag("--request-id").start_silently();
    journal.find("generation serving");
    let mut client = site.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Request-ID: 4711\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let first = journal.next();
    assert_eq!((first["MESSAGE"].as_str(), first["OSTLER_REQUEST_ID"].as_str()), ("one\n  two", "4711"));
    let second = journal.next();
    for (name, value) in [
        ("MESSAGE", "beware\nof it"),
        ("PRIORITY", "4"),
        ("OSTLER_REQUEST_ID", "4711"),
        ("OSTLER_PROCESS", "worker g1.0"),
        ("OSTLER_SLOT", "0"),
    ] {
        assert_eq!(second[name], value, "{name}");
    }
    assert_eq!(journal.next()["MESSAGE"].len(), 1_000_000);
}

#[test]
fn a_start_that_fails_is_an_entry_for_those_who_look_for_errors() {
    let Some((rig, journal)) = Journal::of(Rig::new("corners.py").option("--workers", "none")) else { return };
    assert_eq!(rig.refuse().code, 2);
    let entry = journal.next();
    assert_eq!(entry["PRIORITY"], "3");
    assert!(entry["MESSAGE"].contains("--workers: \"none\""), "{entry:?}");
}

#[test]
fn a_journal_that_is_full_stops_nothing_and_what_was_lost_is_counted() {
    let Some((rig, journal)) = Journal::of(Rig::new("corners.py")) else { return };
    let site = rig.start_silently();
    let room: usize = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen").unwrap().trim().parse().unwrap();
    let (requests, mut client) = (room + 50, site.connect());
    for _ in 0..requests {
        assert_eq!(client.get("/raising").status, 500);
    }
    let (mut told, mut lost) = (0, 0);
    while told + lost < requests {
        let entry = journal.next();
        told += usize::from(is_of(&entry, "application raised"));
        if is_of(&entry, "log lines lost") {
            lost += entry["OSTLER_LINES"].parse::<usize>().expect("a number");
        }
    }
    assert_eq!((told + lost, lost > 0), (requests, true));
}

/// journald takes `<0>` at the begin of a line for its level, and shows lines of that level on every terminal of the machine.
#[test]
fn no_client_can_give_a_line_of_the_access_log_another_level() {
    let rig = Rig::with_source("def app(environ, start_response):\n    start_response('200 OK', [])\n    return []\n")
        .option("--access-logfile", "-")
        .option("--access-logformat", "%({x-level}i)s %(U)s");
    let site = rig.limited("{ export JOURNAL_STREAM=$(stat -Lc %d:%i /dev/fd/3); } 3>&1").start();
    let forged = "GET /forged HTTP/1.1\r\nHost: a\r\nX-Level: <0>\r\n\r\n";
    assert_eq!(site.connect().send(forged).answer().status, 200);
    assert_eq!(site.output("/forged").text(), "<6><0> /forged");
}
