//! The smallest applications, as source.

/// Answers every request with a text.
pub fn page(text: &str) -> String {
    page_with(text, "pass")
}

/// The same, after a statement at import.
pub fn page_with(text: &str, statement: &str) -> String {
    format!(
        "import os, random, sys, threading, time
{statement}
def app(environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain')])
    return [str({text:?}).encode()]
"
    )
}

/// Answers with the value of an expression, in which `environ` is known.
pub fn page_that_shows(expression: &str, statement: &str) -> String {
    page_with("TEXT", statement).replace("\"TEXT\"", expression)
}
