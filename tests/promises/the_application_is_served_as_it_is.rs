//! What applications do that is odd, large or a liberty does not keep them from being served, nor hides what went wrong.

use ostler_tests::Rig;

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
