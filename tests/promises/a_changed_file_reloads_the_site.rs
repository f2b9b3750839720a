//! With --reload, a change of a file of the site is a reload like any other: new code is served, and broken code is named and is not.

use std::time::Instant;

use ostler_tests::{Answer, PATIENCE, Rig, Site};

const APP: &str = "\
import part
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [part.TEXT]
";

/// Two workers, each of which tells of the same change.
fn site(rig: Rig) -> Site {
    let site = rig.workers(2).start();
    assert_eq!(site.get("/").text(), "one");
    site
}

fn rig() -> Rig {
    Rig::with_source(APP).file("part.py", "TEXT = b'one'\n").flag("--reload").option("--log-level", "debug")
}

/// Changes the file, once the workers have looked at it as it was, and waits for what comes of it.
fn change(site: &Site, text: &str, phrase: &str) {
    let path = site.folder().write("part.py", text);
    let named = site.log("file changed");
    assert_eq!(named.key("path"), Some(path.canonicalize().expect("it was written").to_string_lossy().as_ref()));
    site.log(phrase);
}

#[test]
fn new_code_is_served_and_broken_code_is_not() {
    for engine in ["auto", "poll"] {
        let site = site(rig().option("--reload-engine", engine));
        site.log("files looked at");
        site.log("files looked at");
        change(&site, "TEXT = b'second'\n", "generation kept");
        assert_eq!(site.get("/").text(), "second");
        site.log("files looked at");
        site.log("files looked at");
        change(&site, "TEXT = (\n", "SyntaxError");
        assert_eq!(site.get("/").text(), "second");
        change(&site, "TEXT = b'the third'\n", "generation kept");
        assert_eq!(site.get("/").text(), "the third");
        assert_eq!(site.logged("reload asked for"), 3, "one for each change, with {engine}");
    }
}

/// Imports at the first request.
const LAZY: &str = "\
def application(environ, start_response):
    import part
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [part.TEXT]
";

#[test]
fn an_edit_just_after_a_late_import_is_seen() {
    for engine in ["auto", "poll"] {
        let site = Rig::with_source(LAZY).file("part.py", "TEXT = b'one'\n").flag("--reload");
        let site = site.option("--reload-engine", engine).start();
        assert_eq!(site.get("/").text(), "one");
        change(&site, "TEXT = b'two'\n", "generation kept");
        assert_eq!(site.get("/").text(), "two", "of the same length, and perhaps of the same second");
        change(&site, "TEXT = (\n", "generation kept");
        assert_eq!(site.get("/").status, 500, "the import has met no part.py");
        change(&site, "TEXT = b'mended'\n", "generation kept");
        assert_eq!(site.get("/").text(), "mended");
    }
}

#[test]
fn what_the_request_of_warm_up_raises_is_code_that_does_not_come_up() {
    let site = Rig::with_source(LAZY).file("part.py", "TEXT = (\n").flag("--reload").option("--warm-up", "/").start();
    let told = "the request of --warm-up for / raised SyntaxError: ";
    let named = site.log("application not loaded");
    assert!(named.key("reason").is_some_and(|reason| reason.starts_with(told)), "{named:?}");
    assert!(page(&site, "GET").text().contains(told));
    change(&site, "TEXT = b'mended'\n", "generation gone");
    assert_eq!(page(&site, "GET").text(), "mended");
    change(&site, "1 / 0\n", "generation discarded");
    page_that(&site, |page| page.text().contains("for / raised ZeroDivisionError: "));
    assert_eq!(site.get("/").text(), "mended");
}

#[test]
fn files_beside_the_modules_are_looked_at_where_they_are_named() {
    let site = site(
        rig().file("page.html", "a").option("--reload-extra-file", "page.html").option("--reload-extra-file", "*.toml"),
    );
    site.log("files looked at");
    site.log("files looked at");
    site.folder().write("page.html", "another");
    site.log("file changed");
    site.log("generation serving");
    rig()
        .option("--reload-extra-file", "missing.html")
        .refuse()
        .says(2, &["--reload-extra-file", "missing.html", "no such file"]);
}

#[test]
fn without_the_option_nothing_is_looked_at() {
    let site = Rig::with_source(APP).file("part.py", "TEXT = b'one'\n").option("--log-level", "debug").start();
    assert_eq!(site.get("/").text(), "one");
    site.folder().write("part.py", "TEXT = b'second'\n");
    assert_eq!(site.get("/").text(), "one");
    assert_eq!(site.logged("files looked at"), 0);
}

/// As a browser asks for a page.
fn page(site: &Site, method: &str) -> Answer {
    page_of(site, method, "text/html,*/*;q=0.8")
}

fn page_of(site: &Site, method: &str, accept: &str) -> Answer {
    let mut browser = site.connect();
    browser.send(format!("{method} / HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n"));
    if method == "HEAD" { browser.answer_to_head() } else { browser.answer() }
}

/// The page as soon as it is as it should be: a worker shows what failed when it has read the message.
fn page_that(site: &Site, is: impl Fn(&Answer) -> bool) -> Answer {
    let started = Instant::now();
    loop {
        let page = page(site, "GET");
        if is(&page) {
            return page;
        }
        assert!(started.elapsed() < PATIENCE, "{page:?}");
    }
}

#[test]
fn browsers_are_shown_code_that_does_not_come_up() {
    let site = site(rig());
    site.log("files looked at");
    site.log("files looked at");
    site.folder().write("part.py", "import missing  # <script>\n");
    site.log("generation discarded");
    let shown = page_that(&site, |page| page.status == 500);
    assert_eq!(shown.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert_eq!(shown.field("Cache-Control"), Some("no-store"));
    assert!(shown.text().contains("No module named &#x27;missing&#x27;") && shown.text().contains("part.py"));
    assert!(shown.text().contains("&lt;script&gt;") && !shown.text().contains("# <script>"), "{}", shown.text());
    let head = page(&site, "HEAD");
    assert_eq!((head.status, head.field("Content-Length")), (500, shown.field("Content-Length")));
    assert_eq!(site.get("/").text(), "one", "everything but page loads is the old code's");
    assert_eq!(site.connect().post("/", "text/html", b"a=b").text(), "one");
    // A worker that comes later shows it, too.
    assert_eq!(site.control(&["recycle"]).code, 0);
    page_that(&site, |page| page.status == 500);
    // The file that was missing, which the old code does not know.
    site.folder().write("missing.py", "raise KeyError('next')\n");
    site.log("generation discarded");
    page_that(&site, |page| page.text().contains("KeyError"));
    site.folder().write("missing.py", "");
    site.folder().write("part.py", "TEXT = b'mended'\n");
    site.log("generation kept");
    assert_eq!(page(&site, "GET").text(), "mended");
}

#[test]
fn a_start_with_code_that_does_not_come_up_waits_for_a_change() {
    for (preload, broken) in [("on", "TEXT = (\n"), ("off", "1 / 0\n"), ("auto", "import sys; sys.exit('<b>')\n")] {
        let site = rig().file("part.py", broken).flag(&format!("--preload={preload}")).start();
        let named = site.log("application not loaded");
        let reason = named.key("reason").expect("it says why").to_owned();
        assert_eq!(page(&site, "GET").status, 500);
        for (accept, kind) in [
            ("a/b;q=1 , Text/HTML; level=1;q=0.1", "text/html; charset=utf-8"),
            ("text/html;q=0", "text/plain; charset=utf-8"),
            ("*/*, text/html ;Q=0.000", "text/plain; charset=utf-8"),
            ("text/htmlx, a/text/html", "text/plain; charset=utf-8"),
        ] {
            assert_eq!(page_of(&site, "GET", accept).field("Content-Type"), Some(kind), "{accept}");
        }
        let plain = site.get("/");
        assert_eq!((plain.status, plain.field("Content-Type")), (500, Some("text/plain; charset=utf-8")));
        assert!(plain.text().contains(&reason), "{}", plain.text());
        site.folder().write("part.py", "TEXT = b'mended'\n");
        site.log("generation gone");
        assert_eq!(page(&site, "GET").text(), "mended");
    }
}

#[test]
fn without_the_option_broken_code_is_shown_to_nobody() {
    let site = Rig::with_source(APP).file("part.py", "TEXT = b'one'\n").start();
    site.folder().write("part.py", "TEXT = (\n");
    assert_eq!(site.control(&["reload"]).code, 10);
    assert_eq!(page(&site, "GET").text(), "one");
    Rig::with_source(APP).file("part.py", "TEXT = (\n").refuse().says(10, &["SyntaxError"]);
    let broken = rig().file("part.py", "TEXT = (\n");
    broken.run(&["check"]).says(10, &["SyntaxError"]);
}
