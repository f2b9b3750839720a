//! Programs that others have written speak TLS with a site: curl, OpenSSL, Python, Java, Chromium, nginx and HAProxy. One that the machine has not
//! is named, and passed over.

use std::{
    io::{PipeWriter, Write, pipe},
    path::Path,
    process::{Command, Output, Stdio},
};

use ostler_tests::{Authority, Process, Proxy, Python, Rig, Site, installed, repository, shown_by_chromium};

use crate::load::{self, Load};

/// Sends a body back, and tells of the connection where there is none.
const SOURCE: &str = "
def application(environ, start_response):
    body = environ['wsgi.input'].read()
    if not body:
        told = [environ.get(key, '-') for key in ('SSL_PROTOCOL', 'SSL_CLIENT_S_DN', 'REMOTE_PORT')]
        body = f'seen {\" \".join(told)}\\n'.encode()
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', str(len(body)))])
    return [body]
";

const VERSIONS: [(&str, &str); 2] = [("1.2", "TLSv1.2"), ("1.3", "TLSv1.3")];

/// Gives a rig certificates for localhost and for other.test; in its folder there are, too, its authority and the certificate of a
/// client, alice.
fn certified(rig: Rig) -> Rig {
    let authority = Authority::new("authority of the tests");
    for (name, file) in [("localhost", "site"), ("other.test", "other"), ("alice", "alice")] {
        authority.sign(name).write(rig.folder(), file);
    }
    let rig = rig.file("authority.pem", &authority.certificate).option("--certfile", "site.pem");
    rig.option("--keyfile", "site.key").option("--certfile", "other.pem").option("--keyfile", "other.key")
}

fn rig() -> Rig {
    certified(Rig::with_source(SOURCE).workers(2))
}

/// A rig that asks clients for certificates.
fn asking(whether: &str) -> Rig {
    rig().option("--ca-certs", "authority.pem").option("--cert-reqs", whether)
}

/// `127.0.0.1:8443`
fn socket(site: &Site) -> &str {
    site.address().trim_start_matches("https://")
}

/// The address by the name that is in the certificate.
fn named(site: &Site) -> String {
    site.address().replace("127.0.0.1", "localhost")
}

/// Runs a program in the folder of a site, which has its files of PEM, to its end.
fn run(site: &Site, program: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", "60"]).arg(program).args(arguments).current_dir(site.folder().path());
    command.stdin(Stdio::null()).output().expect("timeout(1) is there")
}

/// All that it has written.
fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What curl gets by one version of TLS.
fn curl(site: &Site, program: &Path, version: &str, arguments: &[&str]) -> Output {
    let tls =
        ["--silent", "--show-error", "--cacert", "authority.pem", &format!("--tlsv{version}"), "--tls-max", version];
    run(site, program, &[&tls, arguments].concat())
}

#[test]
fn curl_speaks_both_versions_and_keeps_its_connection() {
    let Some(program) = installed("curl") else { return };
    let site = rig().start();
    let body = b"0123456789abcdef".repeat(1 << 16);
    std::fs::write(site.folder().join("body"), &body).expect("a private folder is writable");
    let address = named(&site);
    for (version, protocol) in VERSIONS {
        let twice = text(&curl(&site, &program, version, &[&address, &address]));
        let lines: Vec<&str> = twice.lines().collect();
        assert!(lines.len() == 2 && lines[0] == lines[1], "{twice}");
        assert!(lines[0].starts_with(&format!("seen {protocol} - ")), "{twice}");
        for framing in ["Expect: 100-continue", "Transfer-Encoding: chunked"] {
            let echoed = curl(&site, &program, version, &["--upload-file", "body", "--header", framing, &address]);
            assert!(echoed.stdout == body, "{framing}: {} bytes of {}", echoed.stdout.len(), body.len());
        }
    }
    let stranger = run(&site, &program, &["--silent", &address]);
    assert_eq!(
        (stranger.status.code(), stranger.stdout.len()),
        (Some(60), 0),
        "its authority is nobody that curl knows"
    );
}

#[test]
fn curl_shows_its_certificate_or_is_refused() {
    let Some(program) = installed("curl") else { return };
    let site = asking("required").start();
    let address = named(&site);
    for (version, protocol) in VERSIONS {
        let alice = curl(&site, &program, version, &["--cert", "alice.pem", "--key", "alice.key", &address]);
        assert!(text(&alice).starts_with(&format!("seen {protocol} CN=alice ")), "{}", text(&alice));
        let nobody = curl(&site, &program, version, &[&address]);
        assert!(!nobody.status.success() && text(&nobody).contains("certificate required"), "{}", text(&nobody));
        site.log("TLS broken off");
    }
}

/// What OpenSSL's client says of a connection with one request, which the site ends.
fn s_client(site: &Site, program: &Path, arguments: &[&str]) -> String {
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    site.folder().write("request", request);
    let script = "exec \"$@\" <request 2>&1";
    let own = ["s_client", "-connect", socket(site), "-CAfile", "authority.pem", "-ign_eof"];
    let command = ["-c", script, "sh", program.to_str().expect("its path is text")];
    text(&run(site, Path::new("/bin/sh"), &[&command, &own[..], arguments].concat()))
}

#[test]
fn openssl_gets_what_is_spoken_and_nothing_else() {
    let Some(program) = installed("openssl") else { return };
    let site = rig().start();
    let refused = ["CONNECTED", "Cipher is (NONE)"];
    let any = "ALL:COMPLEMENTOFALL:@SECLEVEL=0";
    for (arguments, phrases) in [
        (["-tls1_2", "-cipher", "DEFAULT"], ["New, TLSv1.2, Cipher is ECDHE-ECDSA-", "Compression: NONE"]),
        (["-tls1_3", "-cipher", "DEFAULT"], ["New, TLSv1.3, Cipher is TLS_AES_", "seen TLSv1.3 - "]),
        (["-tls1_3", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], ["Cipher is TLS_CHACHA20_POLY1305", "seen"]),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], ["Cipher is ECDHE-ECDSA-CHACHA20", "seen"]),
        (["-tls1", "-cipher", any], refused),
        (["-tls1_1", "-cipher", any], refused),
        // CBC, keys that RSA wraps, finite fields, nobody's name, no encryption.
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"], refused),
        (["-tls1_2", "-cipher", "kRSA:kDHE:aNULL:eNULL:@SECLEVEL=0"], refused),
        (["-tls1_3", "-groups", "P-521"], refused),
        (["-alpn", "h2,http/1.1", "-tls1_3"], ["ALPN protocol: http/1.1", "seen TLSv1.3"]),
        (["-alpn", "h2,http/1.1", "-tls1_2"], ["ALPN protocol: http/1.1", "seen TLSv1.2"]),
        (["-alpn", "h2", "-tls1_3"], ["no application protocol", "No ALPN negotiated"]),
        (["-status", "-servername", "localhost"], ["OCSP response: no response sent", "CN = localhost"]),
        (["-tls1_2", "-servername", "other.test"], ["Secure Renegotiation IS supported", "CN = other.test"]),
        (["-tls1_3", "-servername", "nobody.test"], ["Verify return code: 0 (ok)", "CN = localhost"]),
    ] {
        let said = s_client(&site, &program, &arguments);
        if said.contains("nknown option") {
            eprintln!("NOT TESTED: this OpenSSL has no {arguments:?}");
            continue;
        }
        // Since OpenSSL 3.2 there are no spaces around the sign.
        let said = said.replace("CN=", "CN = ");
        assert!(phrases.iter().all(|phrase| said.contains(phrase)), "{arguments:?} and {phrases:?}:\n{said}");
    }
    let fallback = s_client(&site, &program, &["-tls1_2", "-fallback_scsv"]);
    assert!(fallback.contains("inappropriate fallback"), "{fallback}");
}

#[test]
fn openssl_resumes_its_sessions_after_reloads_unless_certificates_are_asked_for() {
    let Some(program) = installed("openssl") else { return };
    let site = rig().start();
    for (flag, protocol) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let first = s_client(&site, &program, &[flag, "-sess_out", "session"]);
        assert!(first.contains(&format!("New, {protocol}")) && first.contains("TLS session ticket:"), "{first}");
        assert_eq!(site.control(&["reload"]).code, 0);
        for _ in 0..3 {
            let again = s_client(&site, &program, &[flag, "-sess_in", "session"]);
            assert!(again.contains(&format!("Reused, {protocol}")) && again.contains("seen"), "{again}");
        }
    }
    let site = asking("optional").start();
    for flag in ["-tls1_2", "-tls1_3"] {
        let said = s_client(&site, &program, &[flag]);
        assert!(said.contains("seen") && !said.contains("TLS session ticket:"), "{said}");
    }
}

/// Starts a program that waits for lines, in the folder of a site.
fn spoken_to(site: &Site, command: &mut Command) -> (Process, PipeWriter) {
    let (reader, writer) = pipe().expect("there are descriptors left");
    let command = command.current_dir(site.folder().path()).stdin(reader);
    let mark = format!("{} {:?}", site.folder().path().display(), command.get_program());
    (Process::start(command, &mark), writer)
}

/// One that OpenSSL's client keeps: without `-ign_eof`, a letter at the beginning of what it reads at once is a command.
fn kept_by_openssl(site: &Site, program: &Path, version: &str) -> (Process, PipeWriter) {
    let mut command = Command::new(program);
    command.args(["s_client", "-connect", socket(site), "-CAfile", "authority.pem", version]);
    let (client, lines) = spoken_to(site, &mut command);
    client.output.find("Verify return code: 0 (ok)");
    (client, lines)
}

#[test]
fn openssl_changes_its_keys_and_keeps_its_connection_through_reloads() {
    let Some(program) = installed("openssl") else { return };
    let site = rig().start();
    let (client, mut lines) = kept_by_openssl(&site, &program, "-tls1_3");
    let mut port = None;
    // K asks for the same of the site.
    for command in ["k\n", "K\n", "k\n"] {
        lines.write_all(command.as_bytes()).expect("s_client reads");
        client.log.find("KEYUPDATE");
        lines.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("s_client reads");
        let seen = client.output.find("seen TLSv1.3 - ").text().to_owned();
        assert_eq!(port.get_or_insert_with(|| seen.clone()), &seen, "it is the same connection");
        assert_eq!(site.control(&["reload"]).code, 0);
    }
}

#[test]
fn openssl_negotiates_nothing_anew() {
    let Some(program) = installed("openssl") else { return };
    let site = rig().start();
    let (client, mut lines) = kept_by_openssl(&site, &program, "-tls1_2");
    lines.write_all(b"R\n").expect("s_client reads");
    client.log.find("RENEGOTIATING");
    client.log.find("no renegotiation");
}

#[test]
fn python_resumes_its_sessions_and_sees_connections_end_in_order() {
    let site = rig().start();
    site.folder().write(
        "client.py",
        "import http.client, socket, ssl, sys, urllib.request
port = int(sys.argv[1])
for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
    context = ssl.create_default_context(cafile='authority.pem')
    context.minimum_version = context.maximum_version = version
    print(urllib.request.urlopen(f'https://localhost:{port}/', context=context).read().split()[:3])
    client = http.client.HTTPSConnection('localhost', port, context=context)
    for length in (1, 100_000, 1_000_000):
        client.request('POST', '/', b'x' * length)
        assert client.getresponse().read() == b'x' * length
    plain = socket.create_connection(('127.0.0.1', port))
    # An end without close_notify would be an exception.
    within = context.wrap_socket(plain, server_hostname='localhost', session=client.sock.session, suppress_ragged_eofs=False)
    within.sendall(b'GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n')
    while within.recv(65536):
        pass
    print(within.version(), within.session_reused)
",
    );
    let port = socket(&site).rsplit(':').next().expect("an address has a port");
    let output = run(&site, &Python::usual().environment().python, &["client.py", port]);
    let expected = "[b'seen', b'TLSv1.2', b'-']\nTLSv1.2 True\n[b'seen', b'TLSv1.3', b'-']\nTLSv1.3 True\n";
    assert_eq!(text(&output), expected);
}

#[test]
fn java_keeps_its_connection_through_reloads() {
    // A machine that can run a file of source has the compiler, too.
    let (Some(java), Some(_)) = (installed("java"), installed("javac")) else { return };
    let site = asking("required").start();
    for (_, protocol) in VERSIONS {
        let mut command = Command::new(&java);
        // One that compiles and runs on as few threads as it can.
        command
            .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg(repository("tests/programs/HttpsClient.java"));
        command.args([&named(&site), protocol, "authority.pem", "alice.pem", "alice.key"]);
        let (client, mut lines) = spoken_to(&site, &mut command);
        let mut connection = None;
        for _ in 0..4 {
            lines.write_all(b"get\n300000\n").expect("it reads");
            let seen = client.output.find(&format!("HTTP_1_1 200 seen {protocol} CN=alice")).text().to_owned();
            assert_eq!(connection.get_or_insert_with(|| seen.clone()), &seen, "it is the same connection");
            client.output.find("HTTP_1_1 200 echoed true");
            assert_eq!(site.control(&["reload"]).code, 0);
        }
    }
}

#[test]
fn chromium_shows_a_page_with_a_file_and_what_is_compressed() {
    let page = "<!doctype html><p>nothing</p><script src='/static/page.js'></script>";
    let script =
        "fetch('/told').then(told => told.text()).then(told => document.querySelector('p').textContent = told)";
    let source = format!(
        "
def application(environ, start_response):
    told = f'told by {{environ[\"SSL_PROTOCOL\"]}}, {{environ[\"HTTP_ACCEPT_ENCODING\"]}}' + ' and on' * 1000
    body = (told if environ['PATH_INFO'] == '/told' else {page:?}).encode()
    start_response('200 OK', [('Content-Type', 'text/html'), ('Content-Length', str(len(body)))])
    return [body]
"
    );
    let rig = certified(Rig::with_source(&source)).file("public/page.js", script).flag("--compress");
    let rig = rig.option("--static", "/static=public").option("--access-logfile", "-");
    let site = rig.option("--access-logformat", "%(U)s %(B)s").start();
    let Some(page) = shown_by_chromium(&format!("{}/", site.address())) else { return };
    assert!(page.contains("<p>told by TLSv1.3, gzip, ") && page.contains(" and on and on</p>"), "{page}");
    let length: usize = site.output("/told ").text().rsplit(' ').next().and_then(|length| length.parse().ok()).unwrap();
    assert!(length < 1000, "{length} bytes went out of more than 7000");
    site.output("/static/page.js ");
}

fn through_reloads(what: &str, site: &Site, proxy: Option<Proxy>) {
    let Some(proxy) = proxy else { return };
    Load::during(what, &proxy, |load| {
        for _ in 0..3 {
            load.goes_on(200);
            assert_eq!(site.control(&["reload"]).code, 0);
        }
        load.goes_on(200);
    });
}

#[test]
fn a_reload_is_not_noticed_by_an_nginx_that_speaks_tls_with_the_site() {
    let site = certified(load::rig()).start();
    for version in ["TLSv1.2", "TLSv1.3"] {
        let tls = format!("proxy_pass https://site; proxy_ssl_protocols {version};");
        let proxy = Proxy::nginx(&[socket(&site)], &[("proxy_pass http://site;", &tls)]);
        through_reloads(&format!("reloads behind nginx by {version}"), &site, proxy);
    }
}

#[test]
fn a_reload_is_not_noticed_by_an_haproxy_that_speaks_tls_with_the_site() {
    let site = certified(load::rig()).start();
    let tls = "default-server check ssl verify none";
    let proxy = Proxy::haproxy(&[socket(&site)], &[("default-server check", tls)]);
    through_reloads("reloads behind HAProxy by TLS", &site, proxy);
}
