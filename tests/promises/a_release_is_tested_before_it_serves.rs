//! `--smoke`: a new generation answers requests before it serves anybody. One that does not answer them as it should reaches no client.

use std::{
    fs,
    sync::atomic::{AtomicBool, Ordering::SeqCst},
    thread,
};

use nix::{
    sys::signal::{
        Signal::{SIGHUP, SIGSTOP, SIGTERM},
        kill,
    },
    unistd::Pid,
};
use ostler_tests::{Gate, Rig, Site};

/// Answers with its version, but for paths that misbehave. Two lines before the application can be replaced.
fn release(version: &str, statement: &str) -> String {
    format!(
        "import os, time
def shown(environ):
    keys = 'REQUEST_METHOD', 'wsgi.url_scheme', 'HTTP_HOST', 'SERVER_PORT', 'PATH_INFO', 'QUERY_STRING', 'REMOTE_ADDR', 'HTTP_USER_AGENT'
    return ' '.join(environ.get(key, '-') for key in keys)
def check(environ):
    {statement}
def app(environ, start_response):
    status = '200 OK'
    if environ.get('HTTP_USER_AGENT', '').startswith('ostler-smoke/'):
        print('asked', os.getpid(), shown(environ), flush=True)
        status = check(environ) or status
    body = {version:?}.encode()
    start_response(status, [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
"
    )
}

/// A site of the first release, whose smoke tests pass.
fn site(rig: Rig) -> Site {
    let site = rig.file("app.py", &release("one", "pass")).start();
    assert_eq!(site.get("/").text(), "one");
    site
}

fn rig(tests: &[&str]) -> Rig {
    tests.iter().fold(Rig::new("./app.py").workers(2), |rig, test| rig.option("--smoke", test))
}

/// Reloads to a release whose smoke test fails with this, and checks that nothing comes of it.
fn is_discarded(site: &Site, statement: &str, told: &[&str]) {
    site.folder().write("app.py", &release("two", statement));
    site.control(&["reload"]).says(15, told);
    let line = site.log("generation discarded");
    assert!(line.text().contains("error"), "{line:?}");
    assert!(line.text().contains(" reason=\"the "), "{line:?}");
    assert_eq!(site.get("/").text(), "one", "after {statement}");
}

#[test]
fn a_release_that_passes_takes_over() {
    let site = site(rig(&["/health=200 o", "HEAD /", "POST /x=2xx"]));
    assert_eq!(site.output("asked").text().split(' ').nth(2), Some("GET"));
    assert_eq!(site.output("asked").text().split(' ').nth(2), Some("HEAD"));
    assert_eq!(site.output("asked").text().split(' ').nth(2), Some("POST"));
    site.folder().write("app.py", &release("two", "pass"));
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.log("smoke tests passed generation=2").number("tests"), 3);
    site.drained(2);
    assert_eq!(site.get("/").text(), "two");
    assert_eq!(site.control(&["rollback"]).code, 0);
    assert_eq!(site.log("smoke tests passed generation=1").number("tests"), 3);
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn whatever_is_wrong_with_an_answer_discards_the_release() {
    let site = site(rig(&["/health=200 one"]).option("--smoke-timeout", "20").file("app.py", ""));
    let asked = "the smoke test \"/health=200 one\" was answered ";
    is_discarded(&site, "return '500 Internal Server Error'", &[asked, "500 Internal Server Error, not 200", "two"]);
    is_discarded(&site, "return '204 No Content'", &[asked, "204 No Content, not 200"]);
    is_discarded(&site, "pass", &[asked, "200 OK, but its body does not hold \"one\"\nThe body of the answer:\ntwo"]);
    let raised = ["500 Internal Server Error, not 200\nTraceback (most recent call last):\n", "KeyError: 'on purpose'"];
    is_discarded(&site, "raise KeyError('on purpose')", &raised);
    let ended = "the worker of the smoke test \"/health=200 one\" ended: exit status 7";
    is_discarded(&site, "os._exit(7)", &[ended]);
    is_discarded(&site, "os.kill(os.getpid(), 9)", &["ended: ", "SIGKILL"]);
    let status = site.control(&["status"]);
    assert!(status.output.contains("the smoke test \"/health=200 one\" ended: "), "{}", status.output);
    assert_eq!(site.logged("generation serving"), 1);
}

#[test]
fn a_request_that_is_not_answered_in_time_discards_the_release() {
    let site = site(rig(&["/health"]).option("--smoke-timeout", "0.5"));
    let hangs = ["the smoke test \"/health\" was not answered within 0.5 s\n", " in check\n", " in app\n"];
    is_discarded(&site, "time.sleep(60)", &hangs);
    site.log("generation gone generation=2");
}

#[test]
fn what_a_framework_has_caught_is_told() {
    let flask = |statement: &str| {
        format!("from flask import Flask\napp = Flask(__name__)\n@app.get('/')\ndef front():\n    {statement}\n")
    };
    let django = |statement: &str| {
        format!(
            "import django.conf, django.http, django.urls, django.core.handlers.wsgi as wsgi
django.conf.settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=['*'], DEBUG=False)
def front(request):
    {statement}
urlpatterns = [django.urls.path('', front)]
django.setup()
app = wsgi.WSGIHandler()
"
        )
    };
    let sources = [(flask("return 'one'"), flask("raise KeyError('on purpose')"))];
    let more = (django("return django.http.HttpResponse('one')"), django("raise KeyError('on purpose')"));
    for (good, bad) in sources.into_iter().chain([more]) {
        let site = rig(&["/"]).file("app.py", &good).start();
        site.folder().write("app.py", &bad);
        let told = [
            "\"/\" was answered 500 ",
            ", not 2xx or 3xx\nTraceback ",
            "in front",
            "\nKeyError: 'on purpose'\nThe body of ",
        ];
        site.control(&["reload"]).says(15, &told);
        assert_eq!(site.get("/").text(), "one");
    }
}

#[test]
fn the_first_start_fails_by_it() {
    let raises = release("one", "raise KeyError('on purpose')");
    let refused = rig(&["/health"]).file("app.py", &raises).refuse();
    refused.says(15, &["was answered 500 Internal Server Error", "KeyError: 'on purpose'"]);
    assert!(!refused.error.contains("generation serving"), "{}", refused.error);
}

#[test]
fn what_cannot_be_asked_is_refused_and_a_reload_keeps_the_old_settings() {
    for (typed, why) in [("/page?id=200", "a part of the query"), ("get /", "no method"), ("/=20", "no status")] {
        rig(&[typed]).file("app.py", "").refuse().says(2, &["--smoke", typed, why]);
    }
    rig(&["/"]).option("--smoke-timeout", "0").file("app.py", "").refuse().says(2, &["--smoke-timeout", "more than 0"]);
    let site = site(rig(&[]).option("--config", "site.toml").file("site.toml", "smoke = [\"/a,b e\"]\n"));
    site.log("smoke tests passed generation=1");
    site.folder().write("site.toml", "smoke = [\"/health\", \"health\"]\n");
    site.folder().write("app.py", &release("two", "pass"));
    site.control(&["reload"]).says(2, &["smoke in ", "\"health\": expected a path"]);
    assert_eq!(site.get("/").text(), "one");
    site.folder().write("site.toml", "smoke = [\"/health=404\"]\n");
    site.control(&["reload"]).says(15, &["was answered 200 OK, not 404"]);
    assert_eq!(site.get("/").text(), "one");
}

#[test]
fn the_application_sees_the_host_the_scheme_and_the_method_that_were_named() {
    for (typed, seen) in [
        ("/a%20b?c=d&e", "GET http localhost 80 /a b c=d&e 127.0.0.1 ostler-smoke/"),
        ("HEAD https://shop.example/cart=200", "HEAD https shop.example 443 /cart  127.0.0.1 ostler-smoke/"),
        ("https://shop.example:8443", "GET https shop.example:8443 8443 /  127.0.0.1 ostler-smoke/"),
    ] {
        let site = rig(&[typed]).file("app.py", &release("one", "pass")).start();
        let asked = site.output("asked").text().to_owned();
        let status = site.control(&["status"]).output;
        assert!(status.contains("since the start: 0 requests, 0 errors"), "it is no client's: {status}");
        assert!(asked.contains(seen), "{seen} is not in {asked}");
    }
}

#[test]
fn it_does_not_matter_how_the_site_serves() {
    let threads = |count| move |rig: Rig| rig.option("--threads", count);
    let variants: [&dyn Fn(Rig) -> Rig; 7] = [
        &|rig| rig.flag("--preload=off"),
        &threads("1"),
        &threads("4"),
        &|rig| rig.option("--keep-alive", "0"),
        &|rig| rig.flag("--proxy-protocol").option("--proxy-allow-from", "*"),
        &|rig| rig.option("--max-requests", "1"),
        &|rig| rig.flag("--no-request-buffering"),
    ];
    for variant in variants {
        let rig = variant(rig(&["https://shop.example/=200", "POST /=200"])).file("app.py", &release("one", "pass"));
        let site = rig.start();
        assert!(site.output("asked").text().contains("GET https"));
        site.folder().write("app.py", &release("two", "raise KeyError('on purpose')"));
        site.control(&["reload"]).says(15, &["KeyError: 'on purpose'"]);
        assert_eq!(site.logged("worker replaced"), 0, "what is tested is not counted");
    }
}

#[test]
fn no_listener_has_to_speak_http() {
    let folder = ostler_tests::Folder::new();
    for bind in [format!("unix:{}", folder.join("site").display()), "uwsgi://127.0.0.1:0".into()] {
        let site = rig(&["https://shop.example/=200"]).file("app.py", &release("one", "pass")).bind(&bind).start();
        assert!(site.output("asked").text().contains(" GET https shop.example 443 / "));
        site.folder().write("app.py", &release("two", "return '503 Service Unavailable'"));
        site.control(&["reload"]).says(15, &["was answered 503 Service Unavailable, not 200"]);
    }
}

#[test]
fn no_client_sees_anything_of_a_release_that_fails() {
    const CLIENTS: usize = 8;
    let site = site(rig(&["/first", "/second"]).option("--access-logfile", "access"));
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (over, site) = (&over, &site);
                scope.spawn(move || {
                    let (mut client, mut count) = (site.connect(), 0);
                    while !over.load(SeqCst) {
                        if number % 2 == 0 {
                            client = site.connect();
                        }
                        assert_eq!(client.get("/").text(), "one");
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        for _ in 0..3 {
            is_discarded(&site, "return environ['PATH_INFO'] == '/second' and '500 No'", &["\"/second\"", "500 No"]);
        }
        over.store(true, SeqCst);
        for client in clients {
            assert!(client.join().expect("each client is answered by the first release") > 0);
        }
    });
    let access = fs::read_to_string(site.folder().join("access")).expect("it was opened");
    assert!(access.contains("GET / ") && !access.contains("/first"), "what is tested is no client's request");
}

#[test]
fn a_worker_that_does_not_go_on_discards_the_release() {
    let site = site(rig(&["/health"]).option("--smoke-timeout", "1"));
    site.output("asked");
    let gate = Gate::new();
    site.folder().write("app.py", &release("two", &gate.statement()));
    thread::scope(|scope| {
        let reload = scope.spawn(|| site.control(&["reload"]));
        let asked = site.output("asked");
        let _visitor = gate.arrival();
        let worker = asked.text().split(' ').nth(1).and_then(|pid| pid.parse().ok()).expect("it says who it is");
        kill(Pid::from_raw(worker), SIGSTOP).expect("it lives");
        reload.join().expect("it ends").says(15, &["\"/health\" was not answered within 1 s"]);
    });
    assert_eq!(site.get("/").text(), "one");
    site.log("generation gone generation=2");
}

#[test]
fn whoever_does_not_wait_for_the_test_is_obeyed() {
    let mut site = site(rig(&["/health"]));
    let gate = Gate::new();
    site.folder().write("app.py", &release("two", &gate.statement()));
    site.signal(SIGHUP);
    let visitor = gate.arrival();
    let status = site.control(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    // It is called off.
    let answer = site.control(&["rollback"]);
    assert!(answer.code == 0 && answer.output.starts_with("generation 1 serves with "), "{answer:?}");
    site.log("generation discarded generation=2 reason=\"a roll-back was asked for\"");
    assert_eq!(site.control(&["status"]).code, 0, "no reload has failed");
    drop(visitor);
    site.signal(SIGHUP);
    let visitor = gate.arrival();
    site.signal(SIGHUP);
    site.log("reload queued");
    visitor.let_go("on");
    gate.arrival().let_go("on");
    site.log("generation serving generation=4");
    site.log("worker drained generation=3");
    assert_eq!(site.get("/").text(), "two");
    site.signal(SIGHUP);
    let visitor = gate.arrival();
    site.signal(SIGTERM);
    site.log("stopping");
    visitor.let_go("on");
    assert_eq!(site.wait(), 0);
}

#[test]
fn an_upgraded_master_tests_as_the_one_before() {
    let site = site(rig(&["https://shop.example/?a=b=200 o"]));
    assert_eq!(site.control(&["upgrade"]).code, 0);
    site.log("smoke tests passed generation=2");
    is_discarded(&site, "return '404 Not Found'", &["/?a=b=200 o\" was answered 404 Not Found, not 200"]);
    assert_eq!(site.control(&["rollback"]).code, 0);
    site.log("smoke tests passed generation=1");
}
