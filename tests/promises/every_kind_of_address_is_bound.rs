//! Every kind of address can be bound: one for both IPv4 and IPv6, and a Unix socket without a file (an abstract one).

use ostler_tests::{Client, Rig, Site};

/// Answers with the client's address, the server's name and port, and the scheme.
const NAMES: &str = "
def application(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    names = ('REMOTE_ADDR', 'SERVER_NAME', 'SERVER_PORT', 'wsgi.url_scheme')
    return [' '.join(str(environ.get(name)) for name in names).encode()]
";

#[test]
fn every_address_of_ipv6_is_every_address_of_ipv4_unless_that_is_bound_as_well() {
    let port = |site: &Site| site.address().rsplit(':').next().expect("a port").to_owned();
    let from = |address: &str, port: &str| Client::connect(&format!("{address}:{port}")).get("/").text().to_owned();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return eprintln!("NOT TESTED: this machine has no IPv6");
    }
    for bind in [":0", "[::]:0"] {
        let site = Rig::with_source(NAMES).bind(bind).option("--access-logfile", "-").start();
        assert!(site.address().starts_with("http://[::]:"), "{}", site.address());
        assert!(from("127.0.0.1", &port(&site)).starts_with("127.0.0.1 "), "{bind}");
        assert!(from("[::1]", &port(&site)).starts_with("::1 "), "{bind}");
        assert!(site.output("GET / ").text().starts_with("127.0.0.1 "), "{bind}");
    }
    let free = Rig::with_source(NAMES).bind("[::]:0").start();
    let port = port(&free);
    drop(free);
    let site = Rig::with_source(NAMES).bind(&format!("0.0.0.0:{port}")).bind(&format!("[::]:{port}")).start();
    assert_eq!(site.addresses(), [format!("http://0.0.0.0:{port}"), format!("http://[::]:{port}")]);
    assert!(from("127.0.0.1", &port).starts_with("127.0.0.1 "));
    assert!(from("[::1]", &port).starts_with("::1 "));
}

#[test]
fn a_socket_without_a_file_is_a_unix_socket_in_every_other_way() {
    let name = format!("@ostler-test-{}", std::process::id());
    let rig = Rig::with_source(NAMES).bind(&format!("unix:{name}")).option("--access-logfile", "-");
    let site = rig.option("--forwarded-allow-ips", "unix:").start();
    assert_eq!(site.address(), format!("unix:{name}"));
    let forwarded = "GET / HTTP/1.0\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n";
    let answer = site.connect().send(forwarded).answer();
    assert!(answer.text().starts_with(&format!("203.0.113.9 {name} ")), "{}", answer.text());
    assert_eq!(site.control(&["reload"]).code, 0);
    assert_eq!(site.get("/").status, 200);
    assert!(site.control(&["status"]).output.contains(&format!("unix:{name}")));
    let refused = Rig::with_source(NAMES).bind(&format!("unix:{name}")).refuse();
    refused.says(12, &[&format!("could not bind unix:{name}: address already in use")]);
    assert!(!site.folder().join(&name).exists());
    assert_eq!(site.control(&["upgrade"]).code, 0);
    assert_eq!(site.get("/").status, 200);
}

#[test]
fn a_port_that_the_site_itself_has_taken_is_named_as_such() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = free.local_addr().expect("it is bound").port();
    drop(free);
    let bind = |host: &str| format!("bind = \"{host}:{port}\"\n");
    let site = Rig::with_source(NAMES).without_bind().file("ostler.toml", &bind("0.0.0.0")).start_on(1);
    site.folder().write("ostler.toml", &bind("[::]"));
    let refused = site.control(&["reload"]);
    refused.says(12, &[&format!("This ostler listens at http://0.0.0.0:{port}; a restart moves it.")]);
    assert_eq!(Client::connect(&format!("127.0.0.1:{port}")).get("/").status, 200);
}
