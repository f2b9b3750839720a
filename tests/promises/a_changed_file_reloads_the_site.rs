//! With --reload, a change of a file of the site is a reload like any other: new code is served, and broken code is named and is not.

use ostler_tests::{Rig, Site};

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
