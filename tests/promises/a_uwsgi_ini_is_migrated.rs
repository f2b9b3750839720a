//! `ostler migrate FILE` makes an ostler.toml of a configuration of uWSGI's or gunicorn's, and the site comes up with it.

use ostler_tests::{Client, Python, Rig};

use crate::the_uwsgi_protocol_is_spoken::packet as uwsgi_packet;

const APP: &str = "
import os
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [' '.join([os.environ.get('COLOUR', '-'), os.path.basename(os.getcwd())]).encode()]
";

const INI: &str = "
[uwsgi]
# A site as tutorials have it.
project = shop
chdir = %d%(project)
module = %(project):app
master = true
processes = 2
threads = 2
socket = %d%(project)/site.sock
chmod-socket = 660
harakiri = 20
env = COLOUR=blue
static-map = /static=/srv/static
pidfile = %dsite.pid
vacuum
";

#[test]
fn the_site_comes_up_with_what_was_printed() {
    let rig = Rig::bare().file("uwsgi.ini", INI).file("shop/shop.py", APP);
    let made = rig.run(&["migrate", "uwsgi.ini"]);
    assert_eq!((made.code, made.error.as_str()), (0, ""), "{made:?}");
    for part in ["socket = ", "nginx keeps uwsgi_pass", "location /static { alias /srv/static; }", "line 16: vacuum"] {
        assert!(made.output.contains(part), "{part} is not in\n{}", made.output);
    }
    rig.folder().write("ostler.toml", &made.output);
    let rig = rig.python(Python::usual()).without_bind();
    let settings = rig.run(&["settings"]);
    assert_eq!(settings.code, 0, "{settings:?}");
    let site = rig.start_on(1);
    assert!(site.address().ends_with("/shop/site.sock"), "{}", site.address());
    let packet = uwsgi_packet(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/"), ("SERVER_PROTOCOL", "HTTP/1.1")]);
    for _ in 0..4 {
        assert_eq!(Client::connect(site.address()).send(&packet).answer().text(), "blue shop");
    }
    assert_eq!(site.folder().read("site.pid").trim(), site.pid().to_string());
}

#[test]
fn gunicorn_s_file_is_run_and_its_hooks_are_named() {
    let file =
        "import os\nworkers = 1 + 1\nbind = 'unix:a.sock'\nspew = True\ndef post_fork(server, worker):\n    pass\n";
    // The interpreter is found as for a start.
    let python = Python::usual().environment().python.display().to_string();
    let environment = python.split("/bin/").next().expect("it is in a virtual environment");
    let rig = Rig::bare().file("gunicorn.conf.py", file).env("VIRTUAL_ENV", environment);
    let made = rig.run(&["migrate", "gunicorn.conf.py"]);
    assert_eq!(made.code, 0, "{made:?}");
    for part in ["# gunicorn.conf.py, line 2\nworkers = 2\n", "bind = \"unix:a.sock\"", "post_fork", "line 4: spew"] {
        assert!(made.output.contains(part), "{part} is not in\n{}", made.output);
    }
}

#[test]
fn what_cannot_be_read_is_refused_in_one_sentence() {
    let rig = Rig::bare()
        .file("uwsgi.ini", "[uwsgi]\nmodule = shop\nprocesses = lots\n")
        .file("tox.ini", "[tox]\n")
        .file("uwsgi.yaml", "uwsgi:\n  a: {}\n");
    for (file, sentence) in [
        ("uwsgi.ini", "uwsgi.ini, line 3: processes: \"lots\": expected a whole number"),
        ("tox.ini", "tox.ini: there is no section [uwsgi]; it has [tox]"),
        ("uwsgi.yaml", "uwsgi.yaml, line 2: a: migrate reads plain values"),
        ("none.ini", "none.ini: no such file or directory"),
    ] {
        let refused = rig.run(&["migrate", file]);
        refused.says(2, &[sentence]);
        assert_eq!((refused.error.lines().count(), refused.output.as_str()), (1, ""), "{refused:?}");
    }
    rig.run(&["migrate"]).says(2, &["needs the file of uWSGI's or gunicorn's configuration"]);
}
