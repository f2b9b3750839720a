//! The man page: the options from their table, and what no option says. `make man` writes it; a test fails when they drift.

use clap::Command;
use clap_mangen::{
    Man,
    roff::{Inline, Roff, bold, italic, roman},
};

use super::grammar;
use crate::{exit::Exit, options::SETTINGS};

const DESCRIPTION: [&str; 4] = [
    "ostler serves a WSGI application (PEP 3333) over HTTP/1.1 by several processes. A master holds the sockets and runs \
     no Python; a template, one for each generation, loads the application and forks the workers; the workers answer.",
    "A reload is a transaction. It reads the settings and looks for the interpreter, its packages and the code again. A new generation of workers is ready before the old one gives anything up. If the new one cannot boot, the old one goes on serving, and the log says why, with the traceback. Connections that idle between requests move to the new workers.",
    "A setting is given on the command line, by a variable of the environment or in a settings file. The command line is the strongest and the file the weakest of these; variables that other programs set too, such as PORT, are weaker than the file. `ostler settings` \
     shows what counts and where it came from.",
    "A TIME is in seconds, or a number with ms, s, m, h or d. A SIZE is in bytes, or a number with k, M or G, of 1024. A \
     switch stands alone or takes on or off after an equals sign. Options may be shortened as long as they are \
     unambiguous.",
];

const CONTROL: &str = "All but check, settings, migrate and help speak to a running ostler. They find it by --control or --name, wait for the outcome and print it; their exit status says whether it is what was asked for. A reload that fails prints the reason. scale takes as many \
                       workers more (+N) or fewer (-N), a number (N), or two between which the number follows the load (N..M), at most 512. That holds until \
                       a reload or an upgrade, which take --workers again. Where the number follows the load, +N and -N move it within its range, \
                       and N alone fixes it.";

const STATUS: &str = "status begins with what is wrong, each in a line that begins with an exclamation mark, and ends with 1 if there is something. It shows for each worker its SLOT and PID; its STATE (booting; idle: it would take a connection at \
                      once; working; busy: all of its threads are in calls; draining); its AGE; how many REQUESTS it has answered, \
                      and of these how many ERRORS (5xx); OPEN connections; QUEUED requests, which wait for a thread; memory \
                      SHARED with other processes and PRIVATE; and what it is DOING, with how long each call has lasted. `workers \
                      replaced` counts them by reason. With --json there is more. \
                      With --ready it says in one line whether new clients are to be sent here: not during the boot, nor from a TERM on, although \
                      the site still accepts for --drain-delay.";

/// The master's signals and what they do.
pub const SIGNALS: [(&str, &str); 8] = [
    (
        "TERM",
        "As `ostler stop`: finish the requests under way, and those that wait, within --graceful-timeout; then exit with status 0. A \
         connection that was opened or answered within the last second stays open until that second is over, because its next request may be on \
         its way; that is answered, too.",
    ),
    ("INT, QUIT", "Stop at once; exit with status 0."),
    ("HUP", "As `ostler reload`: start new workers with new code, settings, packages or another interpreter."),
    ("USR1", "As `ostler reopen`: open the log files again, after they were rotated."),
    ("USR2", "As `ostler upgrade`: replace the master's executable in the same process, then reload."),
    ("TTIN", "One worker more, as `ostler scale +1`."),
    ("TTOU", "One worker fewer, as `ostler scale -1`; at least one stays, or the fewest of --workers."),
    (
        "WINCH",
        "With --daemon: stop all workers and serve nothing. HUP starts new ones. Without --daemon it is ignored; the log says so, unless it \
         goes to a terminal, which sends WINCH whenever its window changes.",
    ),
];

/// What they do in a worker.
pub const TO_WORKERS: &str = "The signals are for the master. A worker that gets TERM finishes its requests and is replaced; a worker ignores the other signals.";

/// How a line of the log is made.
pub const LOG: &str = "Each line of the error log holds a time, a level, a process with its id (master, template g1, \
                   worker g1.0, where g1 is generation 1 and 0 the slot), a phrase and keys with values. The phrases and keys are stable; `reason` is the key of why. In the journal of systemd a record is an entry with PRIORITY, OSTLER_PROCESS, OSTLER_PHRASE and a field for each key, such as OSTLER_SLOT. On a terminal a start is three sentences instead, unless --log-level is debug. With --log-format json each line is an object with time, level, process, process_id and phrase, and the keys beside them. The most important phrases:";

/// The log's phrases that tell how a site fares, and what they mean.
pub const PHRASES: &[(&str, &str)] = &[
    ("generation booting", "A start or a reload begins."),
    ("file changed", "With --reload: which file. A reload follows."),
    (
        "application not loaded",
        "With --reload, at the start: why. Browsers are shown the same, and a change of a file loads it again.",
    ),
    ("hooks lost", "The process that calls the hooks of gunicorn's master has ended. A reload starts it again."),
    ("hook hangs", "A hook of gunicorn's configuration takes longer than 10 s."),
    (
        "key keeper started",
        "The process that has the private keys has read and checked the certificates, and signs for the workers. So it is at the start, by \
         each reload and upgrade, where files have changed, and after `key keeper lost`.",
    ),
    (
        "files within TLS",
        "Said once: whether the kernel makes the records of larger files, which it then sends without a copy (`sendfile`), or the workers, and why.",
    ),
    (
        "key keeper lost",
        "The process that has the private keys has ended. Another one is started at once; handshakes fail until it is there.",
    ),
    (
        "key keeper silent",
        "The process that has the private keys has not answered the master for three seconds, and is killed. Another one is started at once.",
    ),
    (
        "key keeper not started",
        "The one after it could not read the keys, or could not be started. It is tried again. Connections go on, but no handshake comes to an end.",
    ),
    (
        "certificates renewed",
        "The files of --certfile and --keyfile hold other ones, and clients are shown these from now on.",
    ),
    (
        "certificates not renewed",
        "What the files of --certfile and --keyfile hold now is not as it should be: why. Those that were read before stay in use.",
    ),
    ("certificates not watched", "The kernel does not tell of changes of the files, and why. A reload looks at them."),
    (
        "certificate questionable",
        "Something about a certificate or a key is unwise, and some clients may not trust the site: what.",
    ),
    (
        "certificate expires soon",
        "A certificate should have been renewed by now: two weeks before its end, or in the last third of a shorter life. Said once a day.",
    ),
    ("certificate has expired", "Clients do not trust the site any more. Said once a day."),
    (
        "no ticket keys",
        "The system has no random numbers for the keys of session tickets: each connection has a whole handshake.",
    ),
    ("setting passed over", "Something in gunicorn's configuration looks like a mistake; gunicorn ignores it, too."),
    (
        "setting without effect",
        "A setting of gunicorn's was taken that has no meaning here, and why nothing is lost by it.",
    ),
    (
        "setting out of reach",
        "A --worker-connections or --max-memory that was given is more than a limit of the system allows, and that limit.",
    ),
    ("application imported", "How long it took, by which python, and whether the workers share it (preloaded)."),
    (
        "spool directory not writable",
        "Of the application's user, in --spool-directory: bodies that do not stay in memory will be answered with 503.",
    ),
    ("not warmed up", "The page of --warm-up raised an exception; the workers are forked nevertheless."),
    ("not preloaded", "With --preload=auto: what the import left behind that processes must not share."),
    ("worker ready", "It can answer."),
    (
        "file not served",
        "A file below a directory of --static cannot be opened, and why: a link that leads out of it, or permissions. It counts as missing. Or the application has named a file (X-Sendfile, X-Accel-Redirect) that is not below --sendfile-root, or not there.",
    ),
    (
        "no static files",
        "A worker could not open a directory of --static, and why. The application gets the requests for its files; if it is one of --sendfile-root, they are 404.",
    ),
    (
        "answers are compressed",
        "With --compress: whom its length tells what a page holds (BREACH), and what to do about it.",
    ),
    ("smoke tests passed", "The new workers have answered each request of --smoke as they should: how many."),
    (
        "canary waits",
        "A canary is ready, and begins to serve when the serving generation has been watched to the end (--watch): nothing is compared with a release that has not proved itself. `ostler promote` does not wait.",
    ),
    (
        "release booted again",
        "The release on disk was found worse, or called off by a roll-back, and serves again nevertheless: no worker and no template of the generation before it is left.",
    ),
    (
        "canary serving",
        "With --canary: the generation serves beside the old one, with some of the workers, and for how long. The reload has succeeded.",
    ),
    (
        "canary promoted",
        "The rest of its workers follow: its time is over, or `ostler promote` was said. `generation serving` is next.",
    ),
    (
        "canary taken back",
        "The old generation gets all of its workers again, and the canary goes: why. At level info, if somebody asked for it.",
    ),
    (
        "went back",
        "A generation that was watched (--watch) answered worse than the one before, which is the site again: by which figures.",
    ),
    (
        "could not go back",
        "A generation that was watched answered worse than the one before, and that one is not there any more, or has lost its template.",
    ),
    (
        "generation not watched",
        "It has taken over, and the site does not go back by itself any more: why. There is nothing to go back to, or another reload has taken over before \
         the time of --watch was over.",
    ),
    (
        "generation watched",
        "The time of --watch is over, and the generation stays: what the figures say of it, or that there was too little traffic.",
    ),
    ("generation serving", "All of its workers are ready: the start or the reload has succeeded."),
    (
        "generation discarded",
        "It could not boot, or did not pass a smoke test; the reason, and the traceback or what was answered. The generation that served goes on \
         serving.",
    ),
    (
        "scaled",
        "The number of workers changes: to how many, between which numbers it follows the load if it does, and why if the load is the reason. Without a \
         reason it was a signal or `ostler scale`.",
    ),
    (
        "not scaled",
        "With --workers 4..16: requests wait and no worker is idle, but more workers would not help or have no memory: by which figures. At most once a \
         minute.",
    ),
    ("generation draining", "Its workers finish their requests and move their idle connections."),
    (
        "connections handed over",
        "A worker that drained gave its connections to others: how many, with how many packets.",
    ),
    (
        "connections could not move",
        "The exchange between workers gave an error. The connections are served where they are, and move later.",
    ),
    (
        "connections were lost on the exchange",
        "A worker could not open more files, or did not understand what it took.",
    ),
    (
        "generation kept",
        "Its workers have ended; its template waits for `ostler rollback` (see --no-keep-previous). `ostler status` says kept from now on, and \
         draining before.",
    ),
    ("signal ignored", "WINCH without --daemon: it is obeyed only with it."),
    ("generation gone", "All of its processes have ended."),
    (
        "worker replaced",
        "A worker reached a limit, --refork has it replaced, or its connections are to move to a worker that warms; its successor is ready.",
    ),
    (
        "worker warms",
        "A reload while the site is at work: the first new worker answers some requests, and becomes the template of the others.",
    ),
    (
        "template reforked",
        "A worker that had served became the template, and has forked a worker that is ready: what it had loaded is shared. The other workers follow.",
    ),
    (
        "not reforked",
        "A worker was to become the template, and could not: what it holds that must not be shared, or how it ended. It was replaced, and nothing else \
         has changed. It is not tried again in this generation.",
    ),
    (
        "worker lost",
        "A worker died: by what, after how long, the requests that it held and those queued. It is replaced.",
    ),
    (
        "worker distrusted",
        "The master received from a worker what no worker sends: the application has written to the worker's channel. The worker is replaced.",
    ),
    ("template distrusted", "The same of a template, or it named a process that is not its worker."),
    (
        "worker killed",
        "A worker did not become ready, did not end, made no progress, or stayed stopped by a signal, for too long; the requests that \
         it held.",
    ),
    ("worker stopped by a signal", "It is killed unless it continues within --timeout and 5 s more."),
    (
        "worker could not boot",
        "A worker that was to join those that serve failed in its start; the reason and the traceback.",
    ),
    ("template lost", "A template died: by what. The workers go on, and a new generation boots."),
    (
        "template killed",
        "It did not fork a worker in time: a signal has stopped it, or it does not answer. A new generation boots.",
    ),
    ("fork failed", "The system did not let a template fork a worker; the reason and the limit."),
    ("listener made anew", "An application has shut down a listening socket; `exchange made anew` likewise."),
    (
        "process ended that held a listener",
        "A process that an application has started would have kept the address after the stop.",
    ),
    (
        "process of the application lives on",
        "After the stop: a process that an application has started and let go of. It is not ended.",
    ),
    (
        "passed socket not used",
        "systemd has passed a socket that no --bind names, or sockets for another process; which.",
    ),
    ("service manager not told", "NOTIFY_SOCKET names a socket at which nobody listens; why."),
    (
        "no worker answers",
        "None has made progress for half of systemd's WatchdogSec=. systemd starts the site anew if that goes on.",
    ),
    ("new version installed", "Another file is where the master's executable was: `ostler upgrade` changes to it."),
    (
        "site saturated",
        "Clients wait in a listener's queue, how many of how many, and no worker is idle; said at most once a minute.",
    ),
    (
        "worker hangs in its boot",
        "It was not ready within --boot-timeout; its Python stack. Where an import hangs is told by `generation discarded`.",
    ),
    (
        "descriptors lost",
        "The application has closed descriptors of its worker that it had not opened. The worker is replaced.",
    ),
    (
        "standard descriptor closed",
        "The application has closed standard input, output or error of its worker. /dev/null takes that place, so that no client's \
         connection gets what is written there; said once by each worker.",
    ),
    ("application raised", "An exception left the application: the request and the traceback."),
    (
        "field left out",
        "The application sent a field that is the server's own, such as Connection; each is named once.",
    ),
    (
        "body does not have its Content-Length",
        "The application gave fewer or more bytes than it had promised; no more than that are sent.",
    ),
    ("slow request", "A call lasts for longer than --slow-request: the request and the stacks of all threads."),
    (
        "request timed out",
        "A call has lasted for --timeout: the request and the stacks, too; the client gets 504, the worker is replaced.",
    ),
    (
        "request cut",
        "The worker ends before the request does (INT, --graceful-timeout): the request and its client, who gets 503 if nothing was \
         sent yet. `requests cut` says how many more there were.",
    ),
    (
        "interpreter lock held",
        "For a second, no other thread of the worker could run Python: which calls hold the lock, or that a thread of the \
         application's own does. Requests wait, or move to workers that are free.",
    ),
    ("interpreter lock free again", "For how long it was held."),
    (
        "no room to spool",
        "There is no room for a body, or for a response that its client is slow to take: which limit; said at most once a minute.",
    ),
    ("accepting paused", "Connections or descriptors have run out; said at most once a minute."),
    (
        "access log not written",
        "The disk is full, or the reader is slow or has left; said once, until lines can be written again. Of a syslog at most once in 10 s.",
    ),
    ("access log written again", "Lines can be written again; how many were lost."),
    ("access log lines lost", "A worker ended before lines could be written again; how many were lost."),
    (
        "syslog not reached",
        "The syslog of --log-syslog-to does not take messages, and why; said by each process once, and again if it was reached meanwhile, \
         but at most once in 10 s. They are lost, and counted.",
    ),
    ("syslog reached again", "It takes messages again; how many were lost since that was said last."),
    ("log lines lost", "The error log could not be written for a while, and nobody waited for it; how many lines."),
    (
        "request refused",
        "A request that the application does not see: the status, why, the client and the request line.",
    ),
    (
        "TLS broken off",
        "A handshake came to no end, or a record of a client's could not be read: why, and the client. It was told by an alert. Said as often as \
         `request refused`.",
    ),
    (
        "certificates taken",
        "At the level debug: a worker shows these from now on; connections that are open keep what they have.",
    ),
    ("certificates kept", "New ones could not be used by a worker, which shows those from before: why."),
    (
        "request id replaced",
        "With --request-id, at the level debug: a trusted peer's X-Request-ID holds no id; which took its place.",
    ),
    (
        "response cut",
        "A client paused for --write-timeout or fell below --min-rate: how much it has taken, what was left.",
    ),
    (
        "more clients refused or cut",
        "How many lines of these kinds were left out: only the first of a second are written.",
    ),
    (
        "metrics not sent",
        "The statsd of --statsd-host is not there: why; said once, until it has taken some again. What happens meanwhile is lost.",
    ),
    ("metrics not served", "The address of --metrics could not be bound by a reload or an upgrade: why."),
    ("metrics sent again", "It takes them."),
    (
        "master was slow",
        "The master did not look at its events for more than 0.1 s: what took longest. `ostler status --json` has the longest_turn so far.",
    ),
    (
        "another ostler has this name",
        "Neither site was given a --name: where this one's control socket is. Commands find it by --name ostler-PID.",
    ),
    ("signal not obeyed", "What the signal asks for cannot be done now; the reason."),
    ("upgrade failed", "The master goes on as it was; the reason."),
    ("upgraded", "Another executable runs in the master's process."),
    (
        "logs reopened",
        "After USR1. `logs not reopened`: a log could not be opened again, and the old file stays in use.",
    ),
    ("processes left behind", "Processes that did not end at the stop, even after SIGKILL; their ids."),
    ("stopped", "The master exits next."),
];

const FILES: [(&str, &str); 5] = [
    ("ostler.toml", "The settings file, in the directory of the start, unless --config names another."),
    ("/etc/ostler.toml, /etc/ostler/NAME.toml", "Those of the systemd units ostler.service and ostler@NAME.service."),
    ("/run/ostler/NAME.sock", "The control socket of a master that root started; see --control for the others."),
    (".venv", "The virtual environment that is used if none is named, in the working directory or beside the file."),
    (
        "PREFIX/lib/ostler/libostler_engine.so",
        "What is loaded into the interpreter. A wheel has it in PREFIX/libexec/ostler, and it may lie beside ostler as well.",
    ),
];

const ENVIRONMENT: [(&str, &str); 12] = [
    (
        "OSTLER_…",
        "Every setting, as in OSTLER_GRACEFUL_TIMEOUT. Several values are separated by commas, those of OSTLER_ENV by \
         line ends. An empty variable says nothing.",
    ),
    (
        "OSTLER_GENERATION, OSTLER_SLOT",
        "Set for the application in each worker: the numbers of its generation and of its place there. No two workers that live have both the \
         same; the one that replaces a worker which has ended may.",
    ),
    ("OSTLER_ENGINE", "The engine's file, if it is in none of the places above."),
    ("NO_COLOR", "If it is set and not empty, nothing is coloured on a terminal; nor is it where TERM is dumb."),
    ("VIRTUAL_ENV", "The virtual environment to use if --python names none."),
    ("PATH", "Where python3 is looked for after that."),
    ("TMPDIR", "Where request bodies above --body-memory are kept, in files without a name."),
    ("RUNTIME_DIRECTORY, XDG_RUNTIME_DIR", "Where the control socket is made and looked for."),
    ("LISTEN_FDS, LISTEN_PID, LISTEN_FDNAMES", "Sockets passed by systemd; see --bind."),
    ("NOTIFY_SOCKET", "Is told when the site is served, reloading and stopping, and what it does."),
    ("FDSTORE", "That systemd keeps the sockets that ostler binds (FileDescriptorStoreMax=), for the next start."),
    (
        "WATCHDOG_USEC, WATCHDOG_PID",
        "How often the same socket is told that the site lives: that its loop goes on, and that a worker answers or none is to.",
    ),
];

/// ostler(1), as troff.
pub fn page() -> String {
    let command = grammar::command();
    let mut options = Vec::new();
    Man::new(command.clone()).render_options_section(&mut options).expect("writing to memory does not fail");
    let options = String::from_utf8(options).expect("the options are made of the table's text");
    let preamble = Roff::new().render();
    let parts = [opening(&command).render(), options, closing().render()];
    preamble.clone() + &parts.concat().replace(&preamble, "")
}

fn opening(command: &Command) -> Roff {
    let mut page = Roff::new();
    page.control("TH", ["ostler", "1", concat!("ostler ", env!("CARGO_PKG_VERSION"))]);
    page.control("SH", ["NAME"]).text([roman(concat!("ostler - ", env!("CARGO_PKG_DESCRIPTION")))]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("ostler"), roman(" [OPTIONS] "), italic("APP")]).control("br", []);
    page.text([bold("ostler"), roman(" "), italic("COMMAND"), roman(" [OPTIONS]")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in DESCRIPTION {
        page.control("PP", []).text([roman(paragraph)]);
    }
    page.control("SH", ["COMMANDS"]);
    for one in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        entry(&mut page, words(one), &format!("{}.", one.get_about().cloned().unwrap_or_default()));
    }
    page.control("PP", []).text([roman(CONTROL)]);
    page.control("PP", []).text([roman(STATUS)]);
    page
}

/// A command and what it takes, apart from options.
fn words(command: &Command) -> Vec<Inline> {
    let mut words = vec![bold(command.get_name())];
    if command.get_arguments().any(|arg| arg.get_id() == "json") {
        words.push(roman(" [--json]"));
    }
    if command.get_arguments().any(|arg| arg.get_id() == "ready") {
        words.push(roman(" [--ready]"));
    }
    for arg in command.get_positionals() {
        let name = arg.get_value_names().unwrap_or_default().join(" ");
        let [open, close] = if arg.is_required_set() { ["", ""] } else { ["[", "]"] };
        words.extend([roman(format!(" {open}")), italic(name), roman(close)]);
    }
    words
}

fn closing() -> Roff {
    let mut page = Roff::new();
    page.control("SH", ["SIGNALS"]);
    entries(&mut page, &SIGNALS);
    page.control("PP", []).text([roman(TO_WORKERS)]);
    page.control("SH", ["EXIT STATUS"]);
    for (exit, meaning) in Exit::MEANINGS {
        entry(&mut page, vec![bold((exit as u8).to_string())], meaning);
    }
    page.control("SH", ["LOG"]).text([roman(LOG)]);
    entries(&mut page, PHRASES);
    page.control("SH", ["FILES"]);
    entries(&mut page, &FILES);
    page.control("SH", ["ENVIRONMENT"]);
    entries(&mut page, &ENVIRONMENT);
    for setting in SETTINGS {
        if let Some(foreign) = setting.foreign {
            entry(&mut page, vec![bold(foreign)], &format!("As --{}, but weaker than the file.", setting.name));
        }
    }
    page.control("SH", ["EXAMPLES"]);
    for (typed, what) in grammar::EXAMPLES {
        entry(&mut page, vec![bold(typed)], &format!("{what}."));
    }
    page.control("SH", ["SEE ALSO"]).text([bold("gunicorn"), roman("(1), "), bold("systemd.service"), roman("(5)")]);
    page
}

fn entries(page: &mut Roff, entries: &[(&str, &str)]) {
    for (term, text) in entries {
        entry(page, vec![bold(*term)], text);
    }
}

fn entry(page: &mut Roff, term: Vec<Inline>, text: &str) {
    page.control("TP", []).text(term).text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        path::{Path, PathBuf},
    };

    use super::*;

    #[test]
    fn the_committed_page_is_what_the_table_says() {
        let committed = include_str!("../../../man/ostler.1");
        assert!(committed == page(), "man/ostler.1 is old. Write it anew: make man");
    }

    /// All that is written in Rust below a directory, but for this file.
    fn source(directory: &Path) -> String {
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let text = |path: PathBuf| match path.extension() {
            _ if path.is_dir() => source(&path),
            Some(extension) if extension == "rs" && !path.ends_with("cli/manual.rs") => {
                fs::read_to_string(path).unwrap()
            }
            _ => String::new(),
        };
        entries.map(text).collect()
    }

    #[test]
    fn the_phrases_are_those_of_the_log() {
        let source = source(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")));
        for (phrase, _) in PHRASES {
            assert!(
                [", ", "("].iter().any(|before| source.contains(&format!("{before}\"{phrase}\""))),
                "nobody logs {phrase:?}"
            );
        }
    }

    #[test]
    fn the_page_holds_every_part() {
        let page = page();
        for heading in ["COMMANDS", "OPTIONS", "SIGNALS", "EXIT STATUS", "LOG", "FILES", "ENVIRONMENT", "EXAMPLES"] {
            assert!(page.contains(&format!(".SH {heading}\n")) || page.contains(&format!(".SH \"{heading}\"\n")));
        }
        for setting in SETTINGS {
            assert!(page.contains(&setting.variable()), "{}", setting.name);
        }
        assert_eq!(page.matches(".ds Aq").count(), Roff::new().render().matches(".ds Aq").count());
    }
}
