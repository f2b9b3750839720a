//! Applications that do odd or large things, or go beyond PEP 3333, are served; and where they fail, the log says why.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use ostler_tests::{Gate, Rig};

const HELLO: &str = "
def application(environ, start_response):
    start_response('200 OK', [])
    return [b'hello']
";

/// Reads a body in Django's two ways.
const DJANGO: &str = "
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def body(request):
    return HttpResponse(request.body)

def form(request):
    return HttpResponse(f\"{request.POST['a']} {request.POST['b']}\")

urlpatterns = [path('body', body), path('form', form)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'], SECRET_KEY='-')
application = get_wsgi_application()
";

#[test]
fn a_field_that_is_left_out_is_named_once() {
    let site = Rig::with_source(
        "def application(environ, start_response):
    start_response('200', {'Connection': 'keep-alive', 'Keep-Alive': 'timeout=5', 'X-Kept': 'yes'}.items())
    return [bytearray(b'event: hello')]",
    )
    .start();
    let mut client = site.connect();
    for _ in 0..3 {
        let answer = client.get("/events");
        assert_eq!((answer.text(), answer.field("x-kept")), ("event: hello", Some("yes")));
        assert_eq!((answer.field("connection"), answer.field("keep-alive")), (None, None));
    }
    let line = site.log("field left out");
    assert_eq!((line.key("field"), line.key("request")), (Some("connection"), Some("GET /events")));
    assert_eq!(site.log("field left out").key("field"), Some("keep-alive"));
    assert_eq!(site.logged("field left out"), 2);
}

#[test]
fn django_reads_a_chunked_body() {
    let site = Rig::with_source(DJANGO).start();
    let head = "Host: a\r\nTransfer-Encoding: chunked\r\n";
    let mut client = site.connect();
    client.send(format!("POST /body HTTP/1.1\r\n{head}\r\n3\r\nby \r\n6\r\nchunks\r\n0\r\n\r\n"));
    assert_eq!(client.answer().text(), "by chunks");
    let form = "Content-Type: application/x-www-form-urlencoded\r\n";
    client.send(format!("POST /form HTTP/1.1\r\n{head}{form}\r\n5\r\na=one\r\n6\r\n&b=two\r\n0\r\n\r\n"));
    assert_eq!(client.answer().text(), "one two");
}

#[test]
fn what_an_import_raises_is_told_whatever_it_is() {
    let long = "raise ValueError('x' * 150_000 + ' the reason')";
    let control = "raise ValueError('\\0' * 150_000 + ' the reason')";
    let unsayable = "
class Unsayable(Exception):
    def __str__(self):
        raise SystemExit(9)
raise Unsayable";
    let deep = "
import sys
sys.setrecursionlimit(10_000)
def down(depth):
    if depth:
        up(depth - 1)
    raise ValueError('at the bottom')
def up(depth):
    down(depth)
down(4_000)";
    let chain = "
error = ValueError('the first')
for number in range(2_000):
    try:
        raise KeyError(number) from error
    except KeyError as caught:
        error = caught
raise error";
    let group = "raise BaseExceptionGroup('several', [ValueError('the first'), KeyboardInterrupt()])";
    let group = format!("import sys\nif sys.version_info < (3, 11): raise ValueError('several')\n{group}");
    let note = "error = ValueError('the reason')\nerror.__notes__ = ['a note']\nraise error";
    for (source, phrases) in [
        (long, vec!["ValueError: xxx", "bytes left out", "the reason\"", "in <module>"]),
        (control, vec!["bytes left out", "the reason\"", "in <module>"]),
        ("raise ValueError('\\ud800 is no character')", vec!["ValueError: \\\\ud800 is no character\"", "in <module>"]),
        (unsayable, vec!["Unsayable: <", "in <module>"]),
        ("raise ValueError('Import', b'2', None)", vec!["ValueError: ('Import', b'2', None)", "in <module>"]),
        (deep, vec!["could not import ./app.py: ValueError: at the bottom", "in down"]),
        (chain, vec!["could not import ./app.py: KeyError: 1999", "in <module>"]),
        (&group, vec!["several", "in <module>"]),
        (note, vec!["could not import ./app.py: ValueError: the reason\""]),
        ("import sys; sys.exit('no settings')", vec!["SystemExit: no settings", "in <module>"]),
        ("raise KeyboardInterrupt", vec!["could not import ./app.py: KeyboardInterrupt", "in <module>"]),
        ("import os; os.closerange(3, 1000)", vec!["closed descriptors that it had not opened"]),
    ] {
        let refused = Rig::with_source(source).refuse();
        for phrase in phrases {
            assert!(refused.error.contains(phrase), "{phrase:?} is not in\n{}", refused.error);
        }
    }
}

#[test]
fn what_looking_for_the_application_raises_is_told() {
    let lazy = "
class Lazy:
    @property
    def application(self):
        raise RuntimeError('not yet')
holder = Lazy()";
    let refused = Rig::with_source(lazy).application("./app.py:holder.application").refuse();
    refused.says(11, &["looking for ./app.py:holder.application raised RuntimeError: not yet", "in application"]);
}

#[test]
fn what_a_call_raises_is_told_whatever_it_is() {
    let site = Rig::with_source(
        "
class Unsayable(Exception):
    def __str__(self):
        raise KeyboardInterrupt
RAISES = {'/surrogate': ValueError('\\ud800 is no character'), '/unsayable': Unsayable(), '/exit': SystemExit(3),
    '/generator': GeneratorExit(), '/interrupt': KeyboardInterrupt(), '/long': ValueError('x' * 200_000 + ' the reason')}
def application(environ, start_response):
    raise RAISES[environ['PATH_INFO']]
",
    )
    .start();
    for (page, last) in [
        ("/surrogate", r"ValueError: \ud800 is no character"),
        ("/unsayable", "Unsayable: <"),
        ("/exit", "SystemExit: 3"),
        ("/generator", "GeneratorExit"),
        ("/interrupt", "KeyboardInterrupt"),
        ("/long", "the reason"),
    ] {
        assert_eq!(site.get(page).status, 500, "{page}");
        assert_eq!(site.log("application raised").key("request"), Some(&*format!("GET {page}")));
        site.log("in application");
        site.log(last);
    }
    assert_eq!(site.logged("worker lost"), 0);
}

#[test]
fn an_import_may_change_any_signal_handler() {
    let all = "
import signal
for number in signal.valid_signals():
    try:
        signal.signal(number, signal.ACTION)
    except OSError:
        pass";
    let reaping = "
import os, signal
def reap(*_):
    try:
        os.waitpid(-1, 0)
    except OSError:
        pass
signal.signal(signal.SIGCHLD, reap)";
    for source in [
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)".to_owned(),
        all.replace("ACTION", "SIG_IGN"),
        all.replace("ACTION", "SIG_DFL"),
        reaping.to_owned(),
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())".to_owned(),
        "import signal; signal.setitimer(signal.ITIMER_REAL, 0.1)".to_owned(),
        "import signal; signal.signal(signal.SIGPROF, print); signal.setitimer(signal.ITIMER_PROF, 0.01, 0.01)"
            .to_owned(),
        "import faulthandler; faulthandler.disable()".to_owned(),
    ] {
        for preload in ["auto", "off"] {
            let later = "
import time
def application(environ, start_response):
    time.sleep(0.2)
    start_response('200 OK', [])
    return [b'hello']
";
            let site = Rig::with_source(&format!("{source}\n{later}")).flag(&format!("--preload={preload}")).start();
            assert_eq!(site.get("/").text(), "hello");
            let worker = site.log("worker ready").number("pid");
            kill(Pid::from_raw(worker), Signal::SIGTERM).expect("it lives");
            site.log("worker drained");
            assert_eq!(site.get("/").text(), "hello");
            assert_eq!(site.logged("template lost") + site.logged("worker lost"), 0, "{source}");
        }
    }
}

#[test]
fn a_process_that_the_import_has_forked_is_no_second_template() {
    for preload in ["auto", "off"] {
        let forks = "import os\nchild = os.fork()\nif child: os.waitpid(child, 0)\n";
        let mut site = Rig::with_source(&format!("{forks}{HELLO}")).flag(&format!("--preload={preload}")).start();
        assert_eq!(site.get("/").text(), "hello");
        site.stop();
        assert_eq!(site.whole_log().matches("application imported").count(), 1);
    }
}

/// The first request waits at a gate, so that the others are not on the main thread.
const THREADS: &str = "
import json, sys, threading, time
sys.setrecursionlimit(100_000)

def work():
    time.sleep(0.3)
    print('the work is done', file=sys.stderr)

def application(environ, start_response):
    thread, page = threading.current_thread(), environ['PATH_INFO']
    start_response('200 OK', [])
    if page == '/gate':
        exec(environ['QUERY_STRING'].replace('%20', ' '))
    if page == '/begin':
        threading.Thread(target=work).start()
    if page == '/deep':
        try:
            json.loads('[' * 15_000 + ']' * 15_000)
        except RecursionError:  # since 3.12, whatever the stack's size
            pass
    return [f'{thread.name} {thread.daemon} {thread is threading.main_thread()}'.encode()]
";

#[test]
fn a_request_thread_is_as_good_as_the_main_one() {
    let mut site = Rig::with_source(THREADS).option("--threads", "3").start();
    let gate = Gate::new();
    let mut held = site.connect();
    held.ask(&format!("/gate?{}", gate.statement().replace(' ', "%20")));
    let visitor = gate.arrival();
    for page in ["/", "/deep", "/begin"] {
        let answer = site.get(page);
        let name = answer.text().strip_suffix(" False False").unwrap_or_else(|| panic!("{}", answer.text()));
        assert!(matches!(name, "thread 1" | "thread 2"), "{name}");
    }
    visitor.let_go("on");
    assert_eq!(held.answer().text(), "MainThread False True");
    site.stop();
    assert!(site.whole_log().contains("the work is done"), "{}", site.whole_log());
}

#[test]
fn a_template_that_forks_has_one_thread() {
    let site = Rig::with_source(HELLO).workers(2).start();
    site.control(&["scale", "3"]).says(0, &[]);
    assert_eq!(site.logged("forking beside other threads"), 0);
    let begins = "import os, threading
def begin():
    threading.Thread(target=threading.Event().wait, daemon=True, name='begun late').start()
class Late:
    def __del__(self):
        begin()
";
    // This thread is started by the garbage collector, after the import. It is found, too.
    let site = Rig::with_source(&format!("{begins}{HELLO}late = Late(); late.itself = late; del late")).start();
    let line = site.log("not preloaded");
    assert!(line.text().contains("begun late"), "{}", line.text());
}

#[test]
fn an_import_that_hangs_is_found() {
    for preload in ["auto", "off"] {
        let gate = Gate::new();
        let source = format!("def wait_for_the_database():\n    {}\nwait_for_the_database()", gate.statement());
        let rig = Rig::with_source(&source).flag(&format!("--preload={preload}")).option("--boot-timeout", "2");
        rig.refuse().says(10, &["within 2 s; it is still importing ./app.py", "line 2 in wait_for_the_database"]);
        let rig = Rig::with_source(&source).flag(&format!("--preload={preload}")).option("--boot-timeout", "2");
        rig.run(&["check"])
            .says(10, &["within 2 s; it is still importing ./app.py", "line 2 in wait_for_the_database"]);
    }
    let warm = "
def application(environ, start_response):
    while True:
        pass";
    let rig = Rig::with_source(warm).option("--warm-up", "/").option("--boot-timeout", "2");
    rig.refuse().says(10, &["it is still warming up ./app.py", " in application"]);
}

#[test]
fn stacks_show_templates_while_they_import_and_after() {
    let site = Rig::with_source(HELLO).start();
    let gate = Gate::new();
    site.folder().write("app.py", &format!("def late():\n    {}\nlate()\n{HELLO}", gate.statement()));
    site.signal(Signal::SIGHUP);
    let visitor = gate.arrival();
    let stacks = site.control(&["stacks"]);
    for part in ["template g1[", "worker g1.0[", "template g2[", "line 2 in late"] {
        assert!(stacks.output.contains(part), "{part:?} is not in {stacks:?}");
    }
    visitor.let_go("on");
    site.log("generation serving");
    assert_eq!(site.get("/").text(), "hello");
    assert_eq!(site.logged("template lost") + site.logged("worker lost"), 0);
}

#[test]
fn an_import_that_ends_the_process_is_named() {
    for (source, end) in [
        ("import os; os._exit(4)", "exit status 4"),
        ("import os; os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("import os; os.execv('/bin/true', ['true'])", "exit status 0"),
    ] {
        for (preload, who) in [("auto", "the template"), ("off", "a worker")] {
            let rig = Rig::with_source(source).flag(&format!("--preload={preload}"));
            rig.refuse().says(10, &[&format!("{who} ended while importing ./app.py: {end}")]);
        }
        let said = format!("the template ended while importing ./app.py: {end}");
        Rig::with_source(source).run(&["check"]).says(10, &[&said]);
    }
}

/// What a request does to its own worker.
const HARMS: &str = "
import ctypes, os, signal, sys

def replace():
    gone = os.open(os.devnull, os.O_WRONLY)
    for number in range(3, 60):
        if number != gone:
            os.dup2(gone, number)

HARMS = {
    '/exit': lambda: os._exit(7),
    '/execute': lambda: os.execv('/bin/sleep', ['sleep', '60']),
    '/close': lambda: os.closerange(3, 1000),
    '/replace': replace,
    '/streams': lambda: os.closerange(0, 3),
    '/fork': os.fork,
    '/signals': lambda: [signal.signal(number, signal.SIG_DFL) for number in signal.valid_signals() - {9, 19}],
    '/block': lambda: signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()),
    '/finalize': ctypes.pythonapi.Py_FinalizeEx,
    '/modules': sys.modules.clear,
    '/raise': lambda: sys.exit(3),
}

def application(environ, start_response):
    HARMS.get(environ['PATH_INFO'], bool)()
    start_response('200 OK', [])
    return [b'hello']
";

#[test]
fn whatever_a_request_does_to_its_worker_the_site_goes_on() {
    for (harm, fatal) in [
        ("/exit", true),
        ("/execute", true),
        ("/close", true),
        ("/replace", true),
        ("/streams", false),
        ("/fork", false),
        ("/signals", false),
        ("/block", false),
        ("/finalize", true),
        ("/modules", false),
        ("/raise", false),
    ] {
        let mut site = Rig::with_source(HARMS).start();
        site.log("worker ready");
        let mut harmful = site.connect();
        let _ = harmful.ask(harm).try_answer();
        if fatal {
            site.log("worker ready");
        }
        assert_eq!(site.get("/").text(), "hello", "after {harm}");
        site.stop();
        let told =
            site.whole_log().matches(" worker lost ").count() + site.whole_log().matches(" worker killed ").count();
        assert_eq!(told, usize::from(fatal), "{harm}: {}", site.whole_log());
    }
}
