"""The workloads. Each is one request, whose answer is checked before anything is counted."""

from dataclasses import dataclass, field

BROWSER = {
    "Host": "shop.example.com",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "de-AT,de;q=0.8,en-US;q=0.5,en;q=0.3",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Referer": "https://shop.example.com/catalogue/saddles?page=3",
    "Cookie": "sessionid=4vqk8dl5w3m1p0ab; csrftoken=QmFzZTY0IGlzIG5vdCBhIHNlY3JldA; theme=dark; _ga=GA1.2.1849.1700000000",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Mode": "navigate",
    "Cache-Control": "max-age=0",
}


@dataclass(frozen=True)
class Workload:
    """`body` is the length of the request's body, `answer` that of the answer's."""

    title: str
    application: str
    answer: int
    headers: dict = field(default_factory=dict)
    body: int = 0
    access_log: bool = False
    connections: int = 32


WORKLOADS = {
    "hello": Workload("hello, keep-alive", "plain:hello", 13),
    "connect": Workload("hello, a new connection each", "plain:hello", 13, {"Connection": "close"}),
    "browser": Workload("a browser's request: 10 headers, cookies", "plain:browser", 54, BROWSER),
    "post": Workload("POST of 64 KiB", "plain:post", 5, body=65536),
    "large": Workload("answer of 1 MiB", "plain:mebibyte", 1048576),
    "stream": Workload("stream of 100 blocks", "plain:stream", 102400),
    "file": Workload("file of 1 MiB, wsgi.file_wrapper", "plain:download", 1048576),
    "flask": Workload("Flask page", "flask_page:app", 826),
    "django": Workload("Django page, usual middleware", "django_page:app", 827),
    "log": Workload("hello with the access log", "plain:hello", 13, access_log=True),
}
