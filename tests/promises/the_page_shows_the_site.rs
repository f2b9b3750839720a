//! At the address of `--metrics` there is a page for people: whole without scripts, live with them, and nothing that a client sends is more
//! than text on it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use ostler_tests::{Client, Folder, PATIENCE, Python, Rig, Signal, Site, shown_by_chromium};

const APP: &str = "
import threading
def application(environ, start_response):
    if environ['PATH_INFO'].startswith('/stuck'):
        threading.Event().wait()
    start_response('200 OK', [('Content-Length', '3')])
    return [b'abc']
";
/// What a client might send so that it is obeyed. Control characters and what is not ASCII are refused there.
const HOSTILE: &str =
    "/stuck/\"'><script>document.title='owned'</script><img/src=x/onerror=document.title='owned'>&lt;";
/// How it is shown in HTML.
const SHOWN: &str = "/stuck/&quot;&#39;&gt;&lt;script&gt;document.title=&#39;owned&#39;&lt;/script&gt;\
                     &lt;img/src=x/onerror=document.title=&#39;owned&#39;&gt;&amp;lt;";

fn seen() -> (Site, String) {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("the loopback has ports");
    let address = free.to_string();
    let rig = Rig::with_source(APP).option("--threads", "4").option("--timeout", "0").option("--graceful-timeout", "0");
    (rig.option("--metrics", &address).start(), address)
}

/// A request that stays in the application.
fn stuck(site: &Site) -> Client {
    let mut client = site.connect();
    client.send(format!("GET {HOSTILE} HTTP/1.1\r\nHost: a\r\n\r\n"));
    client
}

/// All that comes back.
fn ask(address: &str, method: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("the page is there");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the page reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the page answers");
    answer
}

/// The page, once it shows this.
fn until(address: &str, text: &str) -> String {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page = ask(address, "GET");
        if page.contains(text) {
            return page;
        }
        assert!(Instant::now() < deadline, "no {text:?}: {page}");
    }
}

fn within<'a>(page: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = page.split_once(before).unwrap_or_else(|| panic!("no {before} in {page}"));
    rest.split_once(after).unwrap_or_else(|| panic!("no {after} in {page}")).0
}

#[test]
fn it_is_whole_without_scripts_and_shows_what_clients_send_as_text() {
    let (site, address) = seen();
    (0..7).for_each(|_| assert_eq!(site.get("/").status, 200));
    let _stuck = stuck(&site);
    let page = until(&address, SHOWN);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
    let main = within(&page, "<main>", "</main>");
    for part in [
        "<h2>Generation 1 serving, 1 of 1 workers</h2>",
        "<th scope=\"row\">requests</th>",
        "<th scope=\"row\">median time</th>",
        "<th scope=\"row\">99th percentile</th>",
        "<h2>Last events</h2>",
        ">generation serving: g1, workers 1</td>",
        "<h2>Waiting to be accepted</h2>",
        "<td class=\"number\">7</td>",
        "<h3>Memory</h3>",
    ] {
        assert!(main.contains(part), "no {part} in {main}");
    }
    assert!(!main.contains("<script") && !main.contains("<img") && !main.contains("'owned"), "{main}");
    let head = ask(&address, "HEAD");
    assert!(head.contains("text/html") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(&address, "POST").starts_with("HTTP/1.1 405 "));
}

#[test]
fn nothing_runs_there_but_its_own_script_and_nothing_is_fetched_from_elsewhere() {
    let (_site, address) = seen();
    let page = ask(&address, "GET");
    let policy = within(&page, "\r\nContent-Security-Policy: ", "\r\n");
    let digest = "import base64, hashlib, sys; print(base64.b64encode(hashlib.sha256(sys.stdin.buffer.read()).digest()).decode(), end='')";
    for element in ["script", "style"] {
        let folder = Folder::new();
        let text = folder.write("text", within(&page, &format!("<{element}>"), &format!("</{element}>")));
        let mut python = Command::new(&Python::usual().environment().python);
        let hashed = python.args(["-c", digest]).stdin(std::fs::File::open(text).unwrap()).output().unwrap();
        let wanted = format!("; {element}-src 'sha256-{}';", String::from_utf8(hashed.stdout).unwrap());
        assert!(policy.contains(&wanted), "people.rs should have {wanted:?}, and has {policy}");
        assert_eq!(page.matches(&format!("<{element}")).count(), 1);
    }
    for directive in ["default-src 'none'; ", "connect-src 'self'; ", "frame-ancestors 'none'; ", "base-uri 'none'; "] {
        assert!(policy.contains(directive), "{policy}");
    }
    for field in ["Referrer-Policy: no-referrer", "X-Content-Type-Options: nosniff", "Cache-Control: no-store"] {
        assert!(page.contains(&format!("\r\n{field}\r\n")), "{page}");
    }
    let (_, html) = page.split_once("\r\n\r\n").unwrap();
    for other in [" src=", "url(", "@import", "href=\"/", "href=\"h:", "://cdn", "innerHTML"] {
        assert!(!html.contains(other), "{other} in {html}");
    }
    let links = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
    assert_eq!(links.collect::<Vec<_>>(), ["metrics", "status", "health", "health?ready"]);
}

#[test]
fn it_is_at_a_unix_socket_and_says_that_the_site_stops() {
    let rig = Rig::with_source(APP).option("--metrics", "unix:seen.sock").option("--drain-delay", "3600");
    let mut site = rig.start();
    let ask = || {
        let mut stream = UnixStream::connect(site.folder().join("seen.sock")).expect("the page is there");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").expect("the page reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the page answers");
        answer
    };
    assert!(within(&ask(), "<title>", "</title>").starts_with("generation 1 serves, 1 of 1 workers"));
    site.signal(Signal::SIGTERM);
    let deadline = Instant::now() + PATIENCE;
    while !within(&ask(), "<title>", "</title>").contains("the site is stopping") {
        assert!(Instant::now() < deadline, "{}", ask());
    }
    site.signal(Signal::SIGQUIT);
    site.wait();
}

/// Stands before the page: `change` makes of each of its answers what the browser gets, and is told how many there were before.
fn door(address: &str, change: impl Fn(usize, String) -> Option<String> + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has ports");
    let (own, address) = (listener.local_addr().unwrap().to_string(), address.to_owned());
    thread::spawn(move || {
        let (change, answered) = (&change, &AtomicUsize::new(0));
        thread::scope(|scope| {
            for stream in listener.incoming() {
                let (stream, address) = (stream.expect("it listens"), &address);
                scope.spawn(move || {
                    let mut line = String::new();
                    let read = BufReader::new(&stream).read_line(&mut line);
                    if read.is_ok() && line.starts_with("GET / ") {
                        let answer = change(answered.fetch_add(1, Ordering::SeqCst), ask(address, "GET"));
                        // A browser that has gone away wants none.
                        let _ = (&stream).write_all(answer.unwrap_or_default().as_bytes());
                    }
                });
            }
        });
    });
    own
}

#[test]
fn a_browser_shows_what_happens_and_runs_nothing_that_a_client_sent() {
    let (site, address) = seen();
    let site = std::sync::Arc::new(site);
    // The door outlives the test, and is not to keep the site.
    let visited = std::sync::Arc::downgrade(&site);
    let held = std::sync::Mutex::new(Vec::new());
    let door = door(&address.clone(), move |before, answer| {
        assert!(before > 0 || !answer.contains("owned"), "{answer}");
        if let (0, Some(visited)) = (before, visited.upgrade()) {
            (0..5).for_each(|_| assert_eq!(visited.get("/").status, 200));
            held.lock().unwrap().push(stuck(&visited));
            until(&address, SHOWN);
            // The browser's clock runs ahead of the master's, which has to take a second sample.
            until(&address, "<th scope=\"col\">last ");
        }
        Some(answer)
    });
    let Some(page) = shown_by_chromium(&format!("http://{door}/")) else { return };
    let main = within(&page, "<main>", "</main>");
    assert!(page.contains(">live, every 2 seconds<"), "{page}");
    assert!(
        main.contains("<tr><th scope=\"row\">requests</th>") && main.contains("<td class=\"number\">5</td>"),
        "{main}"
    );
    assert!(main.contains("document.title='owned'&lt;/script&gt;&lt;img"), "{main}");
    assert!(!main.contains("<script") && !main.contains("<img"), "{main}");
    assert!(within(&page, "<title>", "</title>").starts_with("generation 1 serves"), "{page}");
    let rates = within(main, "<th scope=\"row\">requests</th>", "</tr>");
    assert!(rates.contains("/s<"), "{rates}");
}

#[test]
fn a_browser_takes_nothing_but_texts_from_an_answer_and_goes_on_after_none() {
    let (_site, address) = seen();
    const INJECTED: &str = "<main><p id=\"x\" onclick=\"document.title='owned'\" class=\"own\">told</p><script>document.title='owned'</script>\
                            <iframe src=\"/\"></iframe><img src=\"x\" onerror=\"document.title='owned'\">";
    let change = |before: usize, answer: String| match before {
        1 | 2 => None,
        3 => {
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            Some(format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n{}", body.replacen("<main>", INJECTED, 1)))
        }
        4.. => None,
        _ => Some(answer),
    };
    let Some(page) = shown_by_chromium(&format!("http://{}/", door(&address, change))) else { return };
    let main = within(&page, "<main>", "</main>");
    assert!(main.starts_with("<p class=\"own\">told</p><h1>"), "{main}");
    assert!(["<script", "<iframe", "<img", "onclick"].iter().all(|bad| !main.contains(bad)), "{main}");
    assert!(within(&page, "<title>", "</title>").starts_with("generation 1 serves"), "{page}");
    assert!(page.contains("<html lang=\"en\" class=\"lost\">") && page.contains(">No answer since "), "{page}");
}
