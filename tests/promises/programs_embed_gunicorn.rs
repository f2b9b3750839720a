//! A program that embeds gunicorn, and a file of Paste Deploy, are served as they are: by the wheel alone where gunicorn is not installed, by
//! name where it is; and what they say is what gunicorn says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use nix::sys::signal::Signal;
use ostler_tests::{Client, Folder, Process, Python, built};

use crate::what_is_installed_serves::{done, wheel};

/// Its answer is what it knows of how it was started.
const SERVE: &str = "
import os, sys
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    multi = environ['wsgi.multithread'], environ['wsgi.multiprocess']
    return [repr([TEXT, __name__, sys.argv[1:], os.getcwd(), os.environ['SET_BY_PROGRAM'], multi]).encode()]

def child_exit(server, worker):
    server.log.info('child_exit for %s', worker.pid)

def main(options):
    class Sentences(Logger):
        def setup(self, cfg):
            super().setup(cfg)
            self.error_log.info('a logger of its own for %s workers', cfg.workers)

    class Standalone(BaseApplication):
        def load_config(self):
            for name, value in options.items():
                if name in self.cfg.settings and value is not None:
                    self.cfg.set(name.lower(), value)
        def load(self):
            return application

    os.environ['SET_BY_PROGRAM'] = 'set'
    print('it starts')
    print('it warns of', TEXT, file=sys.stderr)
    options['logger_class'] = Sentences
    Standalone().run()
    print('never reached')

TEXT = 'first'
if __name__ == '__main__':
    main({'bind': '127.0.0.1:0', 'workers': '2', 'threads': 3, 'timeout': 60, 'worker_class': 'gthread', 'child_exit': child_exit})
";

/// gunicorn's own program, with a command line made by a program.
const COMMAND_LINE: &str = "
import sys
from gunicorn.app.wsgiapp import run
sys.argv[:] = ['gunicorn', '-w1', '--bind=127.0.0.1:0', '--threads', '2', \"site_of_it:make('made')\"]
run()
";

const SITE: &str = "
import logging
def make(greeting, **settings):
    def application(environ, start_response):
        logging.getLogger('site').warning('asked')
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [repr([greeting, settings, environ['wsgi.multithread'], environ['wsgi.multiprocess']]).encode()]
    return application
application = make('plain')
def from_paste(global_conf, greeting):
    return make(greeting, who=global_conf.get('who'))
";

/// The arbiter itself, on a class of its own that has no main guard.
const ARBITER: &str = "
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.arbiter import Arbiter
class Mine(WSGIApplication):
    def load_config(self):
        self.cfg.set('bind', ['127.0.0.1:0'])
        self.app_uri = 'site_of_it'
Arbiter(Mine()).run()
";

/// An environment that holds the wheel, and with `rest` all that the tests' environment of this interpreter holds, too.
struct Installed {
    folder: Folder,
    site: Folder,
}

impl Installed {
    fn new(python: &Python, wheel: &Path, rest: bool) -> Installed {
        let folder = Folder::new();
        let at = folder.join("env");
        done(Command::new(&python.executable).args(["-m", "venv", "--without-pip"]).arg(&at));
        let interpreter = at.join("bin/python");
        let install = ["-m", "pip", "--python", &interpreter.display().to_string(), "install", "--no-index", "-q"];
        done(Command::new(&python.environment().python).args(install).arg(wheel));
        if rest {
            let packages = |python: &Path| {
                let ask = ["-c", "import sysconfig; print(sysconfig.get_path('purelib'), end='')"];
                PathBuf::from(done(Command::new(python).args(ask)))
            };
            let theirs = packages(&python.environment().python);
            let line = format!("import site; site.addsitedir({:?})\n", theirs.display().to_string());
            fs::write(packages(&interpreter).join("rest.pth"), line).expect("the environment is ours");
        }
        let site = Folder::new();
        site.write("serve.py", SERVE);
        site.write("shop/__init__.py", "");
        site.write("shop/serve.py", SERVE);
        site.write("line.py", COMMAND_LINE);
        site.write("arbiter.py", ARBITER);
        site.write("site_of_it.py", SITE);
        Installed { folder, site }
    }

    fn python(&self) -> PathBuf {
        self.folder.join("env/bin/python")
    }

    /// Starts a program in the site's folder.
    fn start(&self, program: &Path, arguments: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.site.path());
        for name in ["VIRTUAL_ENV", "PORT", "WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "NOTIFY_SOCKET"] {
            command.env_remove(name);
        }
        command.env("OSTLER_CONTROL", self.site.join("control.sock")).env("OSTLER_PYTHON", self.python());
        // pserve does not look for modules where it was started.
        command.env("PYTHONPATH", self.site.path()).env("XDG_RUNTIME_DIR", self.site.path());
        Process::start(&mut command, &self.site.path().display().to_string())
    }

    fn ostler(&self, arguments: &[&str]) -> Process {
        self.start(&built("ostler"), arguments)
    }

    /// What `ostler check` says of these arguments.
    fn refusal(&self, arguments: &[&str]) -> String {
        let mut process = self.ostler(&[&["check"], arguments].concat());
        assert_eq!(process.wait().code(), Some(2), "{}", process.log.whole());
        process.log.whole()
    }
}

/// Its answer, and that it stops well.
fn answer_of(mut process: Process, listens: &str) -> String {
    let line = process.log.find(listens);
    let address = match line.key("address") {
        Some(address) => address.to_owned(),
        None => {
            line.text().split_once(listens).and_then(|(_, rest)| rest.split(' ').next()).expect("an address").into()
        }
    };
    let answer = Client::connect(&address).get("/").text().to_owned();
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0), "{}", process.log.whole());
    answer
}

/// An environment without gunicorn and one with it.
fn both_ways() -> [Installed; 2] {
    let folder = Folder::new();
    let wheel = wheel(&folder);
    [false, true].map(|rest| Installed::new(Python::usual(), &wheel, rest))
}

const OURS: &str = "listening ";
const THEIRS: &str = "Listening at: ";

#[test]
fn a_program_that_embeds_gunicorn_becomes_ostler_where_that_is_not_installed() {
    let folder = Folder::new();
    let wheel = wheel(&folder);
    for python in Python::every() {
        let installed = Installed::new(python, &wheel, false);
        let mut process = installed.start(&installed.python(), &["serve.py", "--for", "us"]);
        let line = process.log.find("serve.py in force: workers=2");
        assert!(line.text().contains(&format!("master[{}]", process.pid())), "the process stays: {line:?}");
        let address = process.log.find(OURS).key("address").expect("it says where").to_owned();
        process.log.find("a logger of its own for 2 workers");
        process.log.find("generation serving");
        let ask = || Client::connect(&address).get("/").text().to_owned();
        let expected =
            format!("'__main__', ['--for', 'us'], '{}', 'set', (True, True)]", installed.site.path().display());
        assert_eq!(ask(), format!("['first', {expected}"), "on CPython {}", python.version);

        // Broken code changes nothing, new code is served, and the function of the program is the hook.
        installed.site.write("serve.py", "broken = (");
        process.signal(Signal::SIGHUP);
        process.log.find("SyntaxError: ");
        assert!(ask().starts_with("['first'"));
        installed.site.write("serve.py", &SERVE.replace("'first'", "'second'"));
        process.signal(Signal::SIGHUP);
        process.log.find("child_exit for ");
        assert_eq!(ask(), format!("['second', {expected}"));
        process.signal(Signal::SIGINT);
        assert_eq!(process.wait().code(), Some(0), "{}", process.log.whole());
        assert_eq!(process.output.whole().trim(), "it starts", "printed once");
        let warned =
            ["first", "second"].map(|text| process.log.whole().matches(&format!("it warns of {text}")).count());
        assert_eq!(warned, [1, 1], "once, and again with a reload:\n{}", process.log.whole());
    }
}

#[test]
fn each_way_to_start_and_to_embed_answers_as_under_gunicorn() {
    let [bare, both] = both_ways();
    let code = "import runpy; runpy.run_path('serve.py', run_name='__main__')";
    let module_of_both = ["-m", "shop.serve", "x"];
    let ways: [&[&str]; 5] = [&["serve.py", "x y"], &module_of_both, &["-c", code], &["line.py"], &["arbiter.py"]];
    for way in ways {
        // Where the folder of the site stands in an answer, it is another one.
        let text = |installed: &Installed, process, listens| {
            answer_of(process, listens).replace(&installed.site.path().display().to_string(), "HERE")
        };
        let theirs = text(&both, both.start(&both.python(), way), THEIRS);
        assert_eq!(text(&bare, bare.start(&bare.python(), way), OURS), theirs, "{way:?}, gunicorn absent");
        let quoted: Vec<_> = way.iter().map(|word| format!("\"{word}\"")).collect();
        let config = format!("program:{}", quoted.join(" "));
        for installed in [&bare, &both] {
            assert_eq!(text(installed, installed.ostler(&["--config", &config]), OURS), theirs, "{config}");
        }
    }
}

#[test]
fn gunicorn_as_a_module_is_ostler_where_that_is_not_installed() {
    let [bare, both] = both_ways();
    let way = ["-m", "gunicorn", "-w1", "--bind=127.0.0.1:0", "site_of_it:application"];
    let theirs = answer_of(both.start(&both.python(), &way), THEIRS);
    assert_eq!(answer_of(bare.start(&bare.python(), &way), OURS), theirs);
}

#[test]
fn gunicorn_itself_is_found_first() {
    let folder = Folder::new();
    let installed = Installed::new(Python::usual(), &wheel(&folder), false);
    let find = |before: &str| {
        let ask = format!("{before}; import gunicorn; print(getattr(gunicorn, 'whose', gunicorn.__file__))");
        done(Command::new(installed.python()).args(["-c", &ask]).current_dir(installed.folder.path()))
    };
    assert!(find("pass").contains("/ostler/stand_in/"));
    installed.folder.write("behind/gunicorn.py", "whose = 'their own'");
    assert_eq!(find("import sys; sys.path.append('behind')").trim(), "their own");
    let modules = done(Command::new(installed.python()).args(["-c", "import sys; print(*sys.modules)"]));
    assert!(!modules.contains("ostler"), "an interpreter that does not ask loads nothing: {modules}");
}

#[test]
fn what_is_wrong_with_a_program_is_said() {
    let folder = Folder::new();
    let installed = Installed::new(Python::usual(), &wheel(&folder), false);
    installed.site.write("ends.py", "print('done')");
    installed.site.write("raises.py", "def f():\n    raise ValueError('no')\nf()\n");
    let unknown = "from gunicorn.app.base import BaseApplication\n\
                   class Mine(BaseApplication):\n    def load_config(self):\n        self.cfg.set('wrokers', 1)\nMine().run()\n";
    installed.site.write("unknown.py", unknown);
    installed.site.write("refused.py", &unknown.replace("'wrokers', 1", "'spew', True"));
    installed.site.write("number.py", &unknown.replace("'wrokers', 1", "'workers', 'many'"));
    for (command, phrase) in [
        ("", "no program is named"),
        ("absent.py", "absent.py: could not read it: no such file or directory"),
        ("-m shop.absent", "there is no module shop.absent"),
        ("'serve.py", "a quotation mark is not closed"),
        ("ends.py", "ends.py: the program has ended, and has not called run() of a gunicorn application"),
        ("raises.py", "raises.py, line 2: ValueError: no"),
        ("unknown.py", "unknown.py, line 4: AttributeError: No configuration setting for: wrokers"),
        ("refused.py", "refused.py: spew: ostler has no such setting"),
        ("number.py", "workers in "),
    ] {
        let said = installed.refusal(&["--config", &format!("program:{command}")]);
        assert!(said.contains(phrase), "{command}: {phrase:?} is not in\n{said}");
    }
    // What cannot be run again does not become ostler, and a site that serves does not become another.
    let run = "import threading, serve; t = threading.Thread(target=serve.main, args=({},)); t.start(); t.join()";
    let mut process = installed.start(&installed.python(), &["-c", run]);
    assert_eq!(process.wait().code(), Some(0));
    assert!(process.log.whole().contains("run() works only in the main thread"), "{}", process.log.whole());
    let mut process = installed.ostler(&["check", "arbiter"]);
    assert_ne!(process.wait().code(), Some(0));
    assert!(process.log.whole().contains("ostler serves already"), "{}", process.log.whole());
}

#[test]
fn a_program_that_runs_as_another_user_does_not_say_what_root_opens() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT TESTED: only root can start a site for another user");
        return;
    }
    let Some(python) = Python::every().iter().find(|python| python.is_public()) else {
        eprintln!("NOT TESTED: no interpreter may be run by every user");
        return;
    };
    let folder = Folder::new();
    folder.write("serve.py", &SERVE.replace("'timeout': 60", "'errorlog': '/var/log/x'"));
    let mut command = Command::new(built("ostler"));
    command.args(["check", "--user", "65534", "--group", "65534", "--config", "program:serve.py", "--python"]);
    let mut process = Process::start(command.arg(&python.executable).current_dir(folder.path()), "weak program");
    assert_eq!(process.wait().code(), Some(2), "{}", process.log.whole());
    let said = process.log.whole();
    assert!(said.contains("errorlog: the file runs as the user of --user, who does not say what root does"), "{said}");
}

const INI: &str = "
[DEFAULT]
who = nobody
[app:main]
use = call:site_of_it:from_paste
greeting = hello from %(__file__)s
[app:other]
use = call:site_of_it:from_paste
greeting = %(who)s
[server:main]
use = egg:SERVER
host = 127.0.0.1
port = 0
workers = 2
threads = 3
[server:wrong]
use = egg:SERVER
wrokers = 2
[server:waitress]
use = egg:SERVER
listen = 127.0.0.1:80
[server:number]
use = egg:SERVER
workers = many
[server:late]
use = egg:SERVER
spew = true
[loggers]
keys = root
[handlers]
keys = out
[formatters]
keys = form
[logger_root]
level = INFO
handlers = out
[handler_out]
class = FileHandler
args = ('%(here)s/site.log',)
formatter = form
[formatter_form]
format = as configured: %(message)s
";

#[test]
fn a_file_of_paste_deploy_is_served_as_by_gunicorn() {
    let [_, installed] = both_ways();
    installed.site.write("ours.ini", &INI.replace("SERVER", "ostler"));
    installed.site.write("theirs.ini", &INI.replace("SERVER", "gunicorn#main"));
    let tests = Python::usual().environment().path.join("bin");
    let [gunicorn, pserve] = ["gunicorn", "pserve"].map(|name| tests.join(name).display().to_string());
    let python = installed.python();
    let alike = |answer: String| answer.replace("theirs.ini", "ours.ini");

    for words in [&["ours.ini"][..], &["ours.ini#other"], &["ours.ini#other", "--paste-global", "who=you"]] {
        let words = [&["--bind", "127.0.0.1:0", "--threads", "2", "--paste"], words].concat();
        let theirs = answer_of(installed.start(&python, &[&[gunicorn.as_str()], &words[..]].concat()), THEIRS);
        let mut ours = installed.ostler(&words);
        assert_eq!(answer_of_running(&ours), theirs, "{words:?}");
        ours.signal(Signal::SIGTERM);
        assert_eq!(ours.wait().code(), Some(0));
        let logged = installed.site.read("site.log").matches("as configured: asked").count();
        assert_eq!(logged, 2, "once by each of the two");
        fs::remove_file(installed.site.join("site.log")).expect("it was just read");
    }

    for words in [&[][..], &["-n", "other"]] {
        let theirs = [&[pserve.as_str(), "theirs.ini"], words].concat();
        let theirs = answer_of(installed.start(&python, &theirs), THEIRS);
        let ours = answer_of(installed.start(&python, &[&[pserve.as_str(), "ours.ini"], words].concat()), OURS);
        assert_eq!(ours, alike(theirs), "{words:?}");
    }
    for (name, sentence) in [
        ("wrong", "[server:...] sets wrokers, which is no setting of gunicorn's; the nearest is workers"),
        ("waitress", "[server:...] sets listen, which is no setting of gunicorn's; the nearest is bind"),
        ("number", "[server:...] sets workers: invalid literal"),
        ("late", "spew: ostler has no such setting"),
    ] {
        let mut process = installed.start(&python, &[&pserve, "ours.ini", "--server-name", name]);
        assert_eq!(process.wait().code(), Some(2));
        let said = process.log.whole();
        assert!(said.contains(sentence) && said.contains("/ours.ini: "), "{sentence:?} is not in\n{said}");
        assert!(!said.contains("Traceback") && !said.contains("pserve"), "{said}");
    }
    let mut process = installed.start(&python, &[&pserve, "ours.ini", "--reload"]);
    let line = process.log.find("ostler cannot be watched by hupper: leave --reload out");
    process.signal(Signal::SIGINT);
    process.wait();
    assert!(!process.log.whole().contains("Traceback"), "{line:?} {}", process.log.whole());

    // A reload reads the file anew; one that is broken changes nothing.
    let process = installed.start(&python, &[&pserve, "ours.ini"]);
    let address = process.log.find(OURS).key("address").expect("it says where").to_owned();
    process.log.find("generation serving");
    installed.site.write("ours.ini", "[app:main]\nnonsense\n");
    process.signal(Signal::SIGHUP);
    process.log.find("generation discarded");
    installed.site.write("ours.ini", &INI.replace("SERVER", "ostler").replace("hello from", "good day from"));
    process.signal(Signal::SIGHUP);
    process.log.find("generation serving");
    process.log.find("worker drained");
    process.log.find("worker drained");
    assert!(Client::connect(&address).get("/").text().starts_with("['good day from"));
}

fn answer_of_running(process: &Process) -> String {
    let address = process.log.find(OURS).key("address").expect("it says where").to_owned();
    Client::connect(&address).get("/").text().to_owned()
}

#[test]
fn what_is_wrong_with_a_file_of_paste_deploy_is_said() {
    let [bare, both] = both_ways();
    both.site.write("ours.ini", INI);
    both.site.write("broken.ini", "[app:main]\nuse = call:site_of_it:from_paste\nnonsense\n");
    both.site.write("gunicorn.conf.py", "paste = 'ours.ini'\n");
    for (words, phrase) in [
        (&["--paste", "absent.ini"][..], "absent.ini: could not read it: no such file or directory"),
        (&["--paste", "ours.ini#absent"], "ours.ini: there is no section [app:absent]"),
        (&["--paste", "broken.ini"], "broken.ini, line 3: this is neither a section nor a key with a value"),
        (&["--paste", ""], "--paste: expected a file"),
        (&["--paste", "ours.ini", "shop:app"], "APP: --paste names the application already"),
        (&["shop:app"], "gunicorn.conf.py, line 1: it stands on the command line or in OSTLER_PASTE only"),
    ] {
        let said = both.refusal(words);
        assert!(said.contains(phrase), "{words:?}: {phrase:?} is not in\n{said}");
    }
    bare.site.write("ours.ini", INI);
    let said = bare.refusal(&["--paste", "ours.ini"]);
    assert!(
        said.contains("--paste needs PasteDeploy, which is not installed. Say `pip install PasteDeploy`."),
        "{said}"
    );
}
