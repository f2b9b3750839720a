"""The Django page behind a wait of two milliseconds, as for a database: so that no worker can answer everybody by itself."""

import time

from django_page import app as page


def app(environ, start_response):
    time.sleep(0.002)
    return page(environ, start_response)
