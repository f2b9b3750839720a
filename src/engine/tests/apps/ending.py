"""Ends in the way that its query asks for."""

import atexit
import threading
import time


def application(environ, start_response):
    how = environ["QUERY_STRING"]
    if how == "thread":
        threading.Thread(target=lambda: (threading.main_thread().join(), print("the thread has ended"))).start()
    if how == "hang":
        threading.Thread(target=time.sleep, args=(3600,), name="hanging").start()
    atexit.register(print, "atexit was called")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"registered"]
