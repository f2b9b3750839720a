//! What an application forks in a request is a process of its own, and no second worker.

use ostler_tests::{Ending, Gate, Rig};

/// Each page forks; the parent answers with the child's exit status, and with what the child has found out.
const FORKS: &str = "
import multiprocessing, os, signal, socket, sys, threading

def sees(expression):
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.write(writing, repr(eval(expression)).encode())
        os._exit(0)
    os.close(writing)
    return os.read(reading, 4096).decode()

def listening():
    found = []
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            connection = socket.socket(fileno=os.dup(number))
        except OSError:
            continue
        if connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.append(number)
        connection.close()
    return found

def terminated():
    codes = set()
    for _ in range(20):
        child = multiprocessing.get_context('fork').Process(target=signal.pause)
        child.start()
        # It may not have run at all by now.
        child.terminate()
        child.join()
        codes.add(child.exitcode)
    return str(codes)

def app(environ, start_response):
    page = environ['PATH_INFO']
    if page in ('/exit', '/raise', '/return', '/yield'):
        child = os.fork()
        if child == 0 and page == '/exit':
            sys.exit(3)
        if child == 0 and page == '/raise':
            raise ValueError('in the child')
        if child == 0 and page == '/yield':
            start_response('200 OK', [])
            return (block for block in [b'from', b'the child'])
        text = str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])) if child else 'from the child'
    elif page == '/terminate':
        text = terminated()
    elif page == '/listening':
        text = sees('listening()')
    elif page == '/left-behind':
        with socket.socket(socket.AF_UNIX) as gate:
            gate.connect(environ['QUERY_STRING'])
            if os.fork() == 0:
                gate.recv(1)
                os._exit(0)
        text = 'the child goes on'
    elif page == '/hello':
        text = 'hello'
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [text.encode()]
";

#[test]
fn a_child_that_comes_back_ends_and_its_parents_request_goes_on() {
    let site = Rig::with_source(FORKS).start();
    let mut kept = site.connect();
    for (page, status) in [("/exit", "3"), ("/raise", "1"), ("/return", "1"), ("/yield", "1")] {
        assert_eq!(kept.get(page).text(), status, "{page}");
        assert_eq!(kept.get("/hello").text(), "hello", "on the same connection");
    }
    assert!(site.log("application raised").text().contains("/raise"));
    assert_eq!(site.descendants().len(), 2, "the template and the worker");
}

#[test]
fn a_child_has_neither_the_workers_signals_nor_its_listeners() {
    let site = Rig::with_source(FORKS).start();
    assert_eq!(site.get("/terminate").text(), "{-15}");
    assert_eq!(site.get("/listening").text(), "[]");
    assert_eq!(site.logged("replacement asked for"), 0, "TERM was the child's");
}

#[test]
fn a_child_that_goes_on_keeps_no_client_waiting() {
    let site = Rig::with_source(FORKS).start();
    let gate = Gate::new();
    let mut client = site.connect();
    client.send(format!("GET /left-behind?{} HTTP/1.0\r\n\r\n", gate.path()));
    let child = gate.arrival();
    assert_eq!(client.answer().text(), "the child goes on");
    assert_eq!(client.rest(), (vec![], Ending::Closed));
    child.let_go("on");
}
